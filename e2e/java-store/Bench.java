import java.io.File;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

/** Times the store with its default settings, for {@code bench/}. */
final class Bench {
  private Bench() {}

  static void run(File directory, String what) throws Exception {
    Files.createDirectories(directory.toPath());
    MessageStoreConfig config = new MessageStoreConfig();
    config.setStorePathRootDir(directory.getPath());
    config.setStorePathCommitLog(new File(directory, "commitlog").getPath());
    config.setMappedFileSizeCommitLog(Main.number("--segment", 1 << 30));
    config.setDiskMaxUsedSpaceRatio(99);
    config.setHaListenPort(0);
    BrokerConfig broker = new BrokerConfig();
    DefaultMessageStore store = new DefaultMessageStore(
        config, new BrokerStatsManager(broker.getBrokerClusterName(), false),
        (topic, queue, next, tags, stored, map, properties) -> {}, broker, new ConcurrentHashMap<>());
    long started = System.nanoTime();
    if (!store.load()) {
      throw new IllegalStateException("the Java store does not load " + directory);
    }
    store.start();
    long took = System.nanoTime() - started;
    if (what.equals("append")) {
      took = append(store);
      if (Main.flag("--kill")) {
        // What it had dispatched lies in its consume queues, so that recovery has as little to do as can be.
        Stores.awaitDispatch(store);
      }
    }
    Lines.line(what).with("nanos", took).print();
    if (!Main.flag("--kill")) {
      store.shutdown();
    }
  }

  private static long append(DefaultMessageStore store) {
    byte[] body = new byte[Main.number("--body", 1024)];
    Arrays.fill(body, (byte) 'x');
    int count = Main.number("--count", 1 << 20);
    long started = 0;
    // The first tenth once more before, so that the code is compiled.
    for (int number = -count / 10; number < count; number++) {
      if (number == 0) {
        started = System.nanoTime();
      }
      MessageExtBrokerInner message = new MessageExtBrokerInner();
      message.setTopic("rate");
      message.setQueueId(Math.floorMod(number, 8));
      message.setBody(body);
      message.setBornTimestamp(1);
      message.setBornHost(new InetSocketAddress("127.0.0.1", 8081));
      message.setStoreHost(new InetSocketAddress("127.0.0.1", 8081));
      MessageAccessor.putProperty(
          message, MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX, "01A2B3C4D5E6F7000105A1B2C300000001");
      MessageAccessor.putProperty(message, MessageConst.PROPERTY_TAGS, "a");
      message.setTagsCode(MessageExtBrokerInner.tagsString2tagsCode("a"));
      message.setPropertiesString(MessageDecoder.messageProperties2String(message.getProperties()));
      PutMessageResult result = store.putMessage(message);
      if (!result.isOk()) {
        throw new IllegalStateException("not stored: " + result.getPutMessageStatus());
      }
    }
    return System.nanoTime() - started;
  }
}
