import java.io.File;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.compression.CompressorFactory;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExtBatch;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.PutMessageResult;

/** Every kind of record, also those that clients do not easily make. */
final class Records {
  private static final String LONG_TOPIC = "%RETRY%" + "g".repeat(160);
  private static final Random RANDOM = new Random(20250919);
  private static int number;

  private Records() {}

  static void write(File directory) throws Exception {
    DefaultMessageStore store = Stores.open(directory);
    int rounds = Main.number("--rounds", 1);
    for (int round = 0; round < rounds; round++) {
      kinds(store);
    }
    finish(store, directory);
  }

  /** A few more messages into a store that is there. */
  static void append(File directory) throws Exception {
    DefaultMessageStore store = Stores.open(directory);
    String topic = Main.text("--topic", "orders");
    for (int index = 0; index < Main.number("--count", 10); index++) {
      MessageExtBrokerInner message = message(topic, Main.number("--queue", 0), ("java-" + index).getBytes("UTF-8"));
      message.setKeys("java-" + index);
      put(store, message);
    }
    finish(store, directory);
  }

  private static void kinds(DefaultMessageStore store) throws Exception {
    // Plain ones, over several queues, with tags and keys.
    for (int index = 0; index < 8; index++) {
      MessageExtBrokerInner message = message("orders", index % 4, body(40 + index));
      message.setTags(index % 2 == 0 ? "even" : "un\u00e9ven");
      message.setKeys("key-" + number + " shared");
      message.putUserProperty("note", "tab\tand \u4e2d\u6587 and \ud83d\ude80");
      message.setFlag(index * 1_000_003);
      put(store, message);
    }
    // Hosts of both families.
    for (boolean born6 : List.of(false, true)) {
      for (boolean store6 : List.of(false, true)) {
        MessageExtBrokerInner message = message("hosts", 0, body(30));
        message.setBornHost(host(born6, 40_000));
        message.setStoreHost(host(store6, 10_911));
        if (born6) {
          message.setBornHostV6Flag();
        }
        if (store6) {
          message.setStoreHostAddressV6Flag();
        }
        put(store, message);
      }
    }
    // A topic longer than 127 bytes makes a V2 record.
    put(store, message(LONG_TOPIC, 0, body(50)));
    // Compressed bodies, as clients compress them.
    for (CompressionType type : CompressionType.values()) {
      byte[] plain = ("compress me ".repeat(60) + number).getBytes("UTF-8");
      MessageExtBrokerInner message = message("compressed", 0, CompressorFactory.getCompressor(type).compress(plain, 5));
      message.setSysFlag(MessageSysFlag.COMPRESSED_FLAG | type.getCompressionFlag());
      put(store, message);
    }
    batch(store);
    // A transaction's records: prepared and rollback ones are in no queue.
    for (int type : List.of(MessageSysFlag.TRANSACTION_PREPARED_TYPE, MessageSysFlag.TRANSACTION_ROLLBACK_TYPE,
        MessageSysFlag.TRANSACTION_COMMIT_TYPE)) {
      MessageExtBrokerInner message = message("transactions", 0, body(20));
      message.setSysFlag(type);
      message.setPreparedTransactionOffset(type == MessageSysFlag.TRANSACTION_COMMIT_TYPE ? 4711 : 0);
      put(store, message);
    }
    // Odd ones: no properties, an empty body, redelivered, a NUL in a property, old clients' last pair without an end.
    MessageExtBrokerInner bare = message("odd", 0, body(10));
    bare.getProperties().clear();
    bare.setPropertiesString("");
    put(store, bare);
    put(store, message("odd", 0, new byte[0]));
    MessageExtBrokerInner again = message("odd", 0, body(10));
    again.setReconsumeTimes(5);
    put(store, again);
    MessageExtBrokerInner nul = message("odd", 0, body(10));
    nul.putUserProperty("nul", "a\0b");
    put(store, nul);
    MessageExtBrokerInner open = message("odd", 0, body(10));
    open.setPropertiesString("last" + MessageDecoder.NAME_VALUE_SEPARATOR + "open");
    put(store, open);
    MessageExtBrokerInner negative = message("odd", 0, body(10));
    negative.setFlag(-1);
    negative.setBornTimestamp(-1);
    put(store, negative);
  }

  private static void batch(DefaultMessageStore store) throws Exception {
    List<Message> messages = new ArrayList<>();
    for (int index = 0; index < 3; index++) {
      Message message = new Message("batched", "tag", "batch-" + number++, body(25));
      MessageAccessor.putProperty(message, MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX, String.format("%032X", number));
      messages.add(message);
    }
    MessageExtBatch batch = new MessageExtBatch();
    batch.setTopic("batched");
    batch.setQueueId(0);
    batch.setBornTimestamp(System.currentTimeMillis());
    batch.setBornHost(host(false, 40_001));
    batch.setStoreHost(host(false, 10_911));
    batch.setBody(MessageDecoder.encodeMessages(messages));
    check(store.putMessages(batch));
  }

  private static MessageExtBrokerInner message(String topic, int queue, byte[] body) throws Exception {
    MessageExtBrokerInner message = new MessageExtBrokerInner();
    message.setTopic(topic);
    message.setQueueId(queue);
    message.setBody(body);
    message.setBornTimestamp(System.currentTimeMillis());
    message.setBornHost(host(false, 40_000));
    message.setStoreHost(host(false, 10_911));
    MessageAccessor.putProperty(message, MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX, String.format("%032X", ++number));
    return message;
  }

  private static InetSocketAddress host(boolean v6, int port) throws Exception {
    return new InetSocketAddress(InetAddress.getByName(v6 ? "2001:db8::1234:5678" : "192.0.2.7"), port);
  }

  private static byte[] body(int bytes) {
    byte[] body = new byte[bytes];
    RANDOM.nextBytes(body);
    return body;
  }

  private static void put(DefaultMessageStore store, MessageExtBrokerInner message) {
    if (message.getPropertiesString() == null) {
      message.setPropertiesString(MessageDecoder.messageProperties2String(message.getProperties()));
    }
    message.setTagsCode(MessageExtBrokerInner.tagsString2tagsCode(message.getTags()));
    check(store.putMessage(message));
  }

  private static void check(PutMessageResult result) {
    if (!result.isOk()) {
      throw new IllegalStateException("the Java store refuses a message: " + result);
    }
  }

  /** Prints what is there and stops as asked: closed, killed, or with the oldest segments gone. */
  private static void finish(DefaultMessageStore store, File directory) throws Exception {
    Stores.awaitDispatch(store);
    int dropped = Main.number("--drop", 0);
    if (dropped > 0) {
      store.getCommitLog().deleteExpiredFile(0, 0, 0, true, dropped);
      store.getConsumeQueueTable().values().forEach(
          queues -> queues.values().forEach(queue -> queue.correctMinOffset(store.getMinPhyOffset())));
    }
    Reader.print(store);
    if (!Main.flag("--kill")) {
      store.shutdown();
    }
  }
}
