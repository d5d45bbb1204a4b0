import java.io.File;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.GetMessageResult;
import org.apache.rocketmq.store.QueryMessageResult;
import org.apache.rocketmq.store.SelectMappedBufferResult;

/** Prints every message of every queue of a store, and looks some up by their keys. */
final class Reader {
  private static final int MOST_LOOKUPS_OF_A_QUEUE = 20;

  private Reader() {}

  static void read(File directory) throws Exception {
    DefaultMessageStore store = Stores.open(directory);
    print(store);
    store.shutdown();
  }

  static void print(DefaultMessageStore store) throws Exception {
    Lines.line("log").with("min", store.getMinPhyOffset()).with("max", store.getMaxPhyOffset()).print();
    for (var topic : new TreeMap<>(store.getConsumeQueueTable()).entrySet()) {
      for (int queue : new TreeMap<>(topic.getValue()).keySet()) {
        queue(store, topic.getKey(), queue);
      }
    }
  }

  private static void queue(DefaultMessageStore store, String topic, int queue) throws Exception {
    long min = store.getMinOffsetInQueue(topic, queue);
    long max = store.getMaxOffsetInQueue(topic, queue);
    Lines.line("queue").with("topic", topic).with("queue", queue).with("min", min).with("max", max).print();
    int lookups = 0;
    for (long offset = min; offset < max; ) {
      GetMessageResult result = store.getMessage("reader", topic, queue, offset, 32, null);
      if (result == null || result.getMessageCount() == 0) {
        throw new IllegalStateException(topic + "/" + queue + " has nothing at " + offset + ": "
            + (result == null ? null : result.getStatus()));
      }
      for (SelectMappedBufferResult buffer : result.getMessageMapedList()) {
        MessageExt message = message(buffer.getByteBuffer());
        if (message.getKeys() != null && !message.getKeys().isEmpty() && lookups++ < MOST_LOOKUPS_OF_A_QUEUE) {
          lookup(store, topic, message.getKeys().split(MessageConst.KEY_SEPARATOR)[0]);
        }
        offset = message.getQueueOffset() + 1;
      }
      result.release();
    }
  }

  private static void lookup(DefaultMessageStore store, String topic, String key) {
    QueryMessageResult result = store.queryMessage(topic, key, 64, 0, Long.MAX_VALUE);
    List<Long> found = new ArrayList<>();
    for (SelectMappedBufferResult buffer : result.getMessageMapedList()) {
      found.add(MessageDecoder.decode(buffer.getByteBuffer(), false, false).getCommitLogOffset());
    }
    result.release();
    found.sort(null);
    Lines.line("lookup").with("topic", topic).with("key", key).with("found", found).print();
  }

  private static MessageExt message(ByteBuffer bytes) {
    int magic = bytes.getInt(4);
    MessageExt message = MessageDecoder.decode(bytes.slice(), true, false);
    if (message == null) {
      throw new IllegalStateException("the Java decoder refuses a record of " + bytes.remaining() + " bytes");
    }
    Map<String, String> properties = new TreeMap<>();
    if (message.getProperties() != null) {
      properties.putAll(message.getProperties());
    }
    properties.remove(MessageConst.PROPERTY_CRC32);
    byte[] body = message.getBody() == null ? new byte[0] : message.getBody();
    Lines.line("message")
        .with("topic", message.getTopic())
        .with("queue", message.getQueueId())
        .with("offset", message.getQueueOffset())
        .with("logOffset", message.getCommitLogOffset())
        .with("version", magic == MessageDecoder.MESSAGE_MAGIC_CODE ? 1 : 2)
        .with("body", HexFormat.of().formatHex(body))
        .with("flag", message.getFlag())
        .with("sysFlag", message.getSysFlag())
        .with("bornAt", message.getBornTimestamp())
        .with("bornHost", host(message.getBornHost()))
        .with("storedAt", message.getStoreTimestamp())
        .with("storeHost", host(message.getStoreHost()))
        .with("reconsumeTimes", message.getReconsumeTimes())
        .with("preparedOffset", message.getPreparedTransactionOffset())
        .with("properties", properties)
        .print();
    return message;
  }

  /** As Rust's SocketAddr wants it. */
  private static String host(SocketAddress address) {
    InetSocketAddress inet = (InetSocketAddress) address;
    byte[] ip = inet.getAddress().getAddress();
    String text = inet.getAddress().getHostAddress();
    return (ip.length == 4 ? text : "[" + text + "]") + ":" + inet.getPort();
  }
}
