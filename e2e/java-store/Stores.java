import java.io.File;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

/** RocketMQ's store without a broker. */
final class Stores {
  private Stores() {}

  static MessageStoreConfig config(File directory) {
    MessageStoreConfig config = new MessageStoreConfig();
    config.setStorePathRootDir(directory.getPath());
    config.setStorePathCommitLog(new File(directory, "commitlog").getPath());
    config.setMappedFileSizeCommitLog(segmentBytes(directory));
    if (!Main.flag("--default-sizes")) {
      config.setMappedFileSizeConsumeQueue(20 * 1024);
      config.setMaxHashSlotNum(1024);
      config.setMaxIndexNum(4096);
    }
    config.setMappedFileSizeTimerLog(1 << 20);
    config.setDiskMaxUsedSpaceRatio(99);
    config.setDeleteWhen("99");
    config.setHaListenPort(0);
    config.setEnabledAppendPropCRC(Main.flag("--crc"));
    config.setForceVerifyPropCRC(Main.flag("--crc"));
    return config;
  }

  /** That of the segments that are there, else as asked for. */
  private static int segmentBytes(File directory) {
    File[] segments = new File(directory, "commitlog").listFiles((dir, name) -> name.matches("\\d{20}"));
    boolean empty = segments == null || segments.length == 0;
    return empty ? Main.number("--segment", 1 << 20) : Math.toIntExact(segments[0].length());
  }

  static DefaultMessageStore open(File directory) throws Exception {
    BrokerConfig broker = new BrokerConfig();
    BrokerStatsManager stats = new BrokerStatsManager(broker.getBrokerClusterName(), false);
    DefaultMessageStore store = new DefaultMessageStore(
        config(directory), stats, (topic, queue, next, tags, stored, map, properties) -> {}, broker, new ConcurrentHashMap<>());
    if (!store.load()) {
      throw new IllegalStateException("the Java store does not load " + directory);
    }
    store.start();
    awaitDispatch(store);
    return store;
  }

  /** Until consume queues and index hold everything that the log holds. */
  static void awaitDispatch(DefaultMessageStore store) throws InterruptedException {
    long deadline = System.currentTimeMillis() + 60_000;
    while (store.dispatchBehindBytes() > 0) {
      if (System.currentTimeMillis() > deadline) {
        throw new IllegalStateException("the Java store does not catch up with its log");
      }
      Thread.sleep(5);
    }
  }
}
