import java.io.File;
import java.net.ServerSocket;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.mqclient.DoNothingClientRemotingProcessor;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIExt;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.constant.ConsumeInitMode;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.namesrv.NamesrvConfig;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyServerConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.header.AckMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PopMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.subscription.CustomizedRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.ExponentialRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.GroupRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.GroupRetryPolicyType;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/** What a whole RocketMQ broker writes while RocketMQ's own clients use it. */
final class BrokerScene {
  private static final String BROKER = "java-broker";
  private final NamesrvController nameServer;
  private final BrokerController broker;
  private final String nameServerAddress;

  private BrokerScene(File directory) throws Exception {
    // As BrokerStartup does: without it the name server takes the broker for one of 2013.
    System.setProperty(RemotingCommand.REMOTING_VERSION_KEY, Integer.toString(MQVersion.CURRENT_VERSION));
    int port = freePort();
    NettyServerConfig nameServerNet = new NettyServerConfig();
    nameServerNet.setBindAddress("127.0.0.1");
    nameServerNet.setListenPort(port);
    NamesrvConfig nameServerConfig = new NamesrvConfig();
    nameServerConfig.setKvConfigPath(new File(directory, "../kvConfig.json").getPath());
    nameServer = new NamesrvController(nameServerConfig, nameServerNet);
    nameServer.initialize();
    nameServer.start();
    nameServerAddress = "127.0.0.1:" + port;

    BrokerConfig config = new BrokerConfig();
    config.setBrokerName(BROKER);
    config.setBrokerIP1("127.0.0.1");
    config.setBrokerIP2("127.0.0.1");
    config.setNamesrvAddr(nameServerAddress);
    config.setTransactionCheckInterval(3_600_000);
    NettyServerConfig net = new NettyServerConfig();
    net.setBindAddress("127.0.0.1");
    net.setListenPort(freePort());
    config.setListenPort(net.getListenPort());
    MessageStoreConfig storeConfig = Stores.config(directory);
    storeConfig.setHaListenPort(freePort());
    broker = new BrokerController(config, net, new NettyClientConfig(), storeConfig);
    if (!broker.initialize()) {
      throw new IllegalStateException("the Java broker does not take " + directory);
    }
    broker.start();
  }

  /** A port that nobody else takes meanwhile: the system gives connections others, and those of other scenes are 4 away. */
  private static int freePort() throws Exception {
    while (true) {
      int port = 12_000 + 4 * ThreadLocalRandom.current().nextInt(4_500);
      // A broker's second port is two below its first.
      try (ServerSocket first = new ServerSocket(port); ServerSocket second = new ServerSocket(port - 2)) {
        return first.getLocalPort();
      } catch (java.io.IOException taken) {
        continue;
      }
    }
  }

  private DefaultMessageStore store() {
    return (DefaultMessageStore) broker.getMessageStore();
  }

  static void write(File directory) throws Exception {
    BrokerScene scene = new BrokerScene(directory);
    scene.describe();
    scene.await("its own route", () -> scene.nameServer.getRouteInfoManager().pickupTopicRouteData("orders") != null);
    scene.produce();
    scene.transactions();
    scene.consume();
    scene.pop();
    scene.stop();
  }

  /** Opens a store with a whole broker, says what it took for its own, and consumes with a group that starts anew. */
  static void serve(File directory) throws Exception {
    BrokerScene scene = new BrokerScene(directory);
    String topic = Main.text("--topic", "orders");
    int count = Main.number("--count", 0);
    if (count > 0) {
      scene.await("its own route", () -> scene.nameServer.getRouteInfoManager().pickupTopicRouteData(topic) != null);
      scene.receive(topic, Main.text("--group", "from-java"), count);
    }
    scene.stop();
  }

  private void describe() {
    topic("orders", 4, 6, Map.of());
    topic("fifo", 2, 6, Map.of("+message.type", "FIFO"));
    topic("delayed", 1, 6, Map.of("+message.type", "DELAY"));
    topic("paid", 1, 6, Map.of("+message.type", "TRANSACTION"));
    topic("frozen", 3, 4, Map.of());
    topic("picked", 1, 6, Map.of());
    SubscriptionGroupConfig billing = group("billing");
    billing.setRetryMaxTimes(3);
    billing.setGroupRetryPolicy(policy(GroupRetryPolicyType.EXPONENTIAL));
    billing.getGroupRetryPolicy().setExponentialRetryPolicy(new ExponentialRetryPolicy(2_000, 60_000, 3));
    SubscriptionGroupConfig shipping = group("shipping");
    shipping.setConsumeMessageOrderly(true);
    shipping.setGroupRetryPolicy(policy(GroupRetryPolicyType.CUSTOMIZED));
    shipping.getGroupRetryPolicy().setCustomizedRetryPolicy(new CustomizedRetryPolicy(new long[] {500, 1_500}));
    SubscriptionGroupConfig paused = group("paused");
    paused.setConsumeEnable(false);
    for (SubscriptionGroupConfig group : List.of(billing, shipping, paused, group("picking"))) {
      broker.getSubscriptionGroupManager().updateSubscriptionGroupConfig(group);
    }
    broker.registerBrokerAll(true, false, true);
  }

  private void topic(String name, int queues, int perm, Map<String, String> attributes) {
    TopicConfig topic = new TopicConfig(name, queues, queues, perm);
    topic.setAttributes(attributes);
    broker.getTopicConfigManager().updateTopicConfig(topic);
  }

  private static SubscriptionGroupConfig group(String name) {
    SubscriptionGroupConfig group = new SubscriptionGroupConfig();
    group.setGroupName(name);
    return group;
  }

  private static GroupRetryPolicy policy(GroupRetryPolicyType type) {
    GroupRetryPolicy policy = new GroupRetryPolicy();
    policy.setType(type);
    return policy;
  }

  private void produce() throws Exception {
    DefaultMQProducer producer = new DefaultMQProducer("producers");
    producer.setNamesrvAddr(nameServerAddress);
    producer.setInstanceName("producer");
    producer.start();
    for (int index = 0; index < 24; index++) {
      Message message = new Message("orders", index % 3 == 0 ? "A" : "B", "order-" + index, ("order " + index).getBytes("UTF-8"));
      message.putUserProperty("region", index % 2 == 0 ? "north" : "south");
      producer.send(message, queue("orders", index % 4));
    }
    List<Message> batch = new ArrayList<>();
    for (int index = 0; index < 5; index++) {
      batch.add(new Message("orders", "batch", "batch-" + index, ("batch " + index).getBytes("UTF-8")));
    }
    producer.send(batch, queue("orders", 1));
    for (CompressionType type : CompressionType.values()) {
      producer.setCompressMsgBodyOverHowmuch(64);
      producer.setCompressType(type);
      producer.send(new Message("orders", "big", type.name(), "compressible ".repeat(40).getBytes("UTF-8")), queue("orders", 2));
    }
    for (int index = 0; index < 6; index++) {
      Message message = new Message("fifo", "step", "step-" + index, ("step " + index).getBytes("UTF-8"));
      message.putUserProperty("__SHARDINGKEY", "customer-" + index % 2);
      producer.send(message, queue("fifo", index % 2));
    }
    for (int index = 0; index < 4; index++) {
      producer.send(new Message("picked", "tag", "pick-" + index, ("pick " + index).getBytes("UTF-8")), queue("picked", 0));
    }
    Message soon = new Message("delayed", "soon", "delay-soon", "a second".getBytes("UTF-8"));
    soon.setDelayTimeLevel(1);
    producer.send(soon);
    Message late = new Message("delayed", "late", "delay-late", "two hours".getBytes("UTF-8"));
    late.setDelayTimeLevel(18);
    producer.send(late);
    Message timed = new Message("delayed", "timed", "delay-timed", "a day".getBytes("UTF-8"));
    timed.setDelayTimeSec(86_400);
    producer.send(timed);
    producer.shutdown();
    await("the delayed message", () -> store().getMaxOffsetInQueue("delayed", 0) == 1);
  }

  private static MessageQueue queue(String topic, int id) {
    return new MessageQueue(topic, BROKER, id);
  }

  private void transactions() throws Exception {
    TransactionMQProducer producer = new TransactionMQProducer("payers");
    producer.setNamesrvAddr(nameServerAddress);
    producer.setInstanceName("payer");
    producer.setTransactionListener(new TransactionListener() {
      @Override public LocalTransactionState executeLocalTransaction(Message message, Object outcome) {
        return (LocalTransactionState) outcome;
      }

      @Override public LocalTransactionState checkLocalTransaction(MessageExt message) {
        return LocalTransactionState.UNKNOW;
      }
    });
    producer.start();
    for (LocalTransactionState outcome : LocalTransactionState.values()) {
      String name = outcome.name();
      producer.sendMessageInTransaction(new Message("paid", "tx", name, name.getBytes("UTF-8")), outcome);
    }
    await("the committed message", () -> store().getMaxOffsetInQueue("paid", 0) == 1);
    producer.shutdown();
  }

  /** Group billing reads all of orders, and gives two of them back: one waits in its retry topic, one until later. */
  private void consume() throws Exception {
    CountDownLatch seen = new CountDownLatch(32);
    CountDownLatch begun = new CountDownLatch(1);
    DefaultMQPushConsumer consumer = consumer("billing");
    consumer.subscribe("orders", "*");
    consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
      await(begun);
      MessageExt message = messages.get(0);
      seen.countDown();
      return switch (message.getKeys()) {
        case "order-5" -> later(context, 1);
        case "order-6" -> later(context, 16);
        default -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
      };
    });
    consumer.start();
    // What it gave back is due in a second, and must not come to it again however slow this machine is.
    consumer.unsubscribe("%RETRY%billing");
    consumer.getDefaultMQPushConsumerImpl().doRebalance();
    begun.countDown();
    if (!seen.await(60, TimeUnit.SECONDS)) {
      throw new IllegalStateException("the Java consumer still misses " + seen.getCount() + " messages");
    }
    // The two come back to the broker after their listeners returned.
    await("the messages given back", () -> {
      long waiting = 0;
      for (int queue = 0; queue < 18; queue++) {
        waiting += store().getMaxOffsetInQueue("SCHEDULE_TOPIC_XXXX", queue);
      }
      return waiting == 4;
    });
    // A consumer that is shut down while its last listener returns forgets that one.
    await("how far billing has read", () -> {
      consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset();
      boolean all = true;
      for (int queue = 0; queue < 4; queue++) {
        long read = broker.getConsumerOffsetManager().queryOffset("billing", "orders", queue);
        all &= read == store().getMaxOffsetInQueue("orders", queue);
      }
      return all;
    });
    consumer.shutdown();
    await("the retry topic", () -> store().getMaxOffsetInQueue("%RETRY%billing", 0) == 1);
    broker.getConsumerOffsetManager().commitOffset("test", "shipping", "fifo", 0, 2);
    broker.getConsumerOffsetManager().commitOffset("test", "shipping", "fifo", 1, 1);
  }

  /** Group picking pops three messages, as the proxy does it for the newer clients, and acknowledges the middle one. */
  private void pop() throws Exception {
    String address = "127.0.0.1:" + broker.getBrokerConfig().getListenPort();
    ClientConfig config = new ClientConfig();
    config.setNamesrvAddr(nameServerAddress);
    MQClientAPIExt client = new MQClientAPIExt(config, new NettyClientConfig(), new DoNothingClientRemotingProcessor(null), null);
    client.start();
    PopMessageRequestHeader pop = new PopMessageRequestHeader();
    pop.setConsumerGroup("picking");
    pop.setTopic("picked");
    pop.setQueueId(0);
    pop.setMaxMsgNums(3);
    pop.setInvisibleTime(300_000);
    pop.setPollTime(10_000);
    pop.setBornTime(System.currentTimeMillis());
    pop.setInitMode(ConsumeInitMode.MIN);
    pop.setOrder(false);
    PopResult popped = client.popMessageAsync(address, BROKER, pop, 20_000).get();
    if (popped.getMsgFoundList() == null || popped.getMsgFoundList().size() != 3) {
      throw new IllegalStateException("the Java broker does not pop three messages: " + popped);
    }
    MessageExt middle = popped.getMsgFoundList().get(1);
    AckMessageRequestHeader ack = new AckMessageRequestHeader();
    ack.setConsumerGroup("picking");
    ack.setTopic("picked");
    ack.setQueueId(0);
    ack.setOffset(middle.getQueueOffset());
    ack.setExtraInfo(middle.getProperty(MessageConst.PROPERTY_POP_CK));
    client.ackMessageAsync(address, ack, 20_000).get();
    client.shutdown();
  }

  private DefaultMQPushConsumer consumer(String group) {
    DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
    consumer.setNamesrvAddr(nameServerAddress);
    consumer.setInstanceName(group);
    consumer.setConsumeThreadMin(1);
    consumer.setConsumeThreadMax(1);
    consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
    return consumer;
  }

  private static ConsumeConcurrentlyStatus later(ConsumeConcurrentlyContext context, int level) {
    context.setDelayLevelWhenNextConsume(level);
    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
  }

  private void receive(String topic, String group, int count) throws Exception {
    CountDownLatch seen = new CountDownLatch(count);
    DefaultMQPushConsumer consumer = consumer(group);
    consumer.subscribe(topic, "*");
    consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
      for (MessageExt message : messages) {
        Lines.line("received").with("queue", message.getQueueId()).with("offset", message.getQueueOffset())
            .with("body", new String(message.getBody(), java.nio.charset.StandardCharsets.UTF_8)).print();
        seen.countDown();
      }
      return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    });
    consumer.start();
    boolean all = seen.await(60, TimeUnit.SECONDS);
    consumer.shutdown();
    if (!all) {
      throw new IllegalStateException("the Java consumer still misses " + seen.getCount() + " messages");
    }
  }

  private void stop() throws Exception {
    Stores.awaitDispatch(store());
    for (TopicConfig topic : new TreeMap<>(broker.getTopicConfigManager().getTopicConfigTable()).values()) {
      Lines.line("topic").with("topic", topic.getTopicName()).with("readQueues", topic.getReadQueueNums())
          .with("writeQueues", topic.getWriteQueueNums()).with("perm", topic.getPerm())
          .with("attributes", topic.getAttributes()).print();
    }
    for (String group : new TreeMap<>(broker.getSubscriptionGroupManager().getSubscriptionGroupTable()).keySet()) {
      Lines.line("group").with("group", group).print();
    }
    for (var offsets : new TreeMap<>(broker.getConsumerOffsetManager().getOffsetTable()).entrySet()) {
      Lines.line("offsets").with("of", offsets.getKey()).with("next", offsets.getValue()).print();
    }
    Reader.print(store());
    if (Main.flag("--kill")) {
      // What a live broker writes every few seconds.
      broker.getConsumerOffsetManager().persist();
      broker.getScheduleMessageService().persist();
      return;
    }
    broker.shutdown();
    nameServer.shutdown();
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
    }
  }

  private void await(String what, Callable<Boolean> isThere) throws Exception {
    long deadline = System.currentTimeMillis() + 60_000;
    while (!isThere.call()) {
      if (System.currentTimeMillis() > deadline) {
        throw new IllegalStateException("the Java broker never had " + what);
      }
      Thread.sleep(20);
    }
  }
}
