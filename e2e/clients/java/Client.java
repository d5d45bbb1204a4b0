import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** The official Java client behind the command line in ../README.md. */
public final class Client {
  private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();

  private final List<String> words;

  private Client(String[] words) {
    this.words = Arrays.asList(words);
  }

  public static void main(String[] words) throws Exception {
    Client client = new Client(words);
    switch (words.length == 0 ? "" : words[0]) {
      case "produce": client.produce(); break;
      case "transact": client.transact(); break;
      case "simple": client.simple(); break;
      case "push": client.push(); break;
      case "lite": client.lite(); break;
      default: throw new IllegalArgumentException("produce, transact, simple, push or lite");
    }
    System.exit(0);
  }

  private boolean flag(String name) {
    return words.contains(name);
  }

  private String text(String name, String fallback) {
    int at = words.indexOf(name);
    return at < 0 ? fallback : words.get(at + 1);
  }

  private double number(String name, double fallback) {
    return Double.parseDouble(text(name, Double.toString(fallback)));
  }

  private ClientConfiguration configuration() {
    return ClientConfiguration.newBuilder().setEndpoints(text("--endpoint", null)).enableSsl(flag("--tls")).build();
  }

  private Map<String, FilterExpression> subscriptions() {
    FilterExpression filter = flag("--sql") ? new FilterExpression(text("--sql", null), FilterExpressionType.SQL92)
        : new FilterExpression(text("--tag", "*"), FilterExpressionType.TAG);
    return Collections.singletonMap(text("--topic", null), filter);
  }

  private void produce() throws Exception {
    String topic = text("--topic", null);
    double rate = number("--rate", 0);
    try (Producer producer = PROVIDER.newProducerBuilder().setClientConfiguration(configuration()).setTopics(topic)
        .build()) {
      long start = System.nanoTime();
      for (int index = 0; index < number("--count", 1); index++) {
        if (rate > 0) {
          long wait = start + (long) (index / rate * 1e9) - System.nanoTime();
          Thread.sleep(Math.max(0, wait / 1_000_000));
        }
        String body = text("--prefix", "m-") + index;
        MessageBuilder builder = PROVIDER.newMessageBuilder().setTopic(topic)
            .setBody(padded(body));
        if (flag("--tag")) {
          builder.setTag(text("--tag", null));
        }
        if (flag("--lite")) {
          builder.setLiteTopic(text("--lite", null));
        }
        if (flag("--message-group")) {
          builder.setMessageGroup(text("--message-group", null));
        }
        if (flag("--priority")) {
          builder.setPriority((int) number("--priority", 0));
        }
        if (flag("--key")) {
          builder.setKeys(text("--key", null), text("--key", null) + index);
        }
        builder.addProperty("index", Integer.toString(index));
        if (flag("--delay-ms")) {
          builder.setDeliveryTimestamp(System.currentTimeMillis() + (long) number("--delay-ms", 0));
        }
        Message message = builder.build();
        if (flag("--announce")) {
          say("{\"sending\":" + quoted(new String(padded(body), StandardCharsets.UTF_8)) + "}");
        }
        try {
          SendReceipt receipt = producer.send(message);
          say("{\"sent\":" + quoted(receipt.getMessageId().toString()) + ",\"body\":" + quoted(body) + "}");
          if (flag("--recall") && index % 2 == 1) {
            String recalled = producer.recallMessage(topic, receipt.getRecallHandle()).getMessageId().toString();
            say("{\"recalled\":" + quoted(recalled) + ",\"body\":" + quoted(body) + "}");
          }
        } catch (ClientException | RuntimeException error) {
          say("{\"failed\":" + quoted(error.toString()) + ",\"body\":" + quoted(body) + "}");
        }
      }
    }
  }

  private byte[] padded(String body) {
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    byte[] padded = Arrays.copyOf(bytes, Math.max(bytes.length, (int) number("--bytes", 0)));
    Arrays.fill(padded, bytes.length, padded.length, (byte) 'x');
    return padded;
  }

  private void transact() throws Exception {
    String topic = text("--topic", null);
    int count = (int) number("--count", 1);
    CountDownLatch asked = new CountDownLatch((int) number("--asks", 0));
    try (Producer producer = PROVIDER.newProducerBuilder().setClientConfiguration(configuration()).setTopics(topic)
        .setTransactionChecker(message -> {
          say("{\"asked\":" + quoted(message.getMessageId().toString()) + ",\"body\":" + quoted(body(message)) + "}");
          asked.countDown();
          return flag("--rollback") ? TransactionResolution.ROLLBACK : TransactionResolution.COMMIT;
        }).build()) {
      for (int index = 0; index < count; index++) {
        String body = text("--prefix", "m-") + index;
        try {
          Transaction transaction = producer.beginTransaction();
          SendReceipt receipt = producer.send(PROVIDER.newMessageBuilder().setTopic(topic)
              .setBody(body.getBytes(StandardCharsets.UTF_8)).build(), transaction);
          if (flag("--rollback") && !flag("--orphan")) {
            transaction.rollback();
          } else if (!flag("--orphan")) {
            transaction.commit();
          }
          say("{\"sent\":" + quoted(receipt.getMessageId().toString()) + ",\"body\":" + quoted(body) + "}");
        } catch (ClientException | RuntimeException error) {
          say("{\"failed\":" + quoted(error.toString()) + ",\"body\":" + quoted(body) + "}");
        }
      }
      if (asked.getCount() > 0) {
        asked.await((long) number("--idle-seconds", 15), TimeUnit.SECONDS);
        // The answer to the last question is on its way.
        Thread.sleep(500);
      }
    }
  }

  private static String body(MessageView message) {
    ByteBuffer body = message.getBody();
    byte[] bytes = new byte[body.remaining()];
    body.get(bytes);
    return new String(bytes, StandardCharsets.UTF_8);
  }

  private void simple() throws Exception {
    Progress progress = new Progress();
    try (SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder().setClientConfiguration(configuration())
        .setConsumerGroup(text("--group", null)).setAwaitDuration(Duration.ofSeconds(5))
        .setSubscriptionExpressions(subscriptions()).build()) {
      while (!progress.over()) {
        List<MessageView> messages;
        try {
          messages = consumer.receive(32, Duration.ofSeconds((long) number("--invisible", 30)));
        } catch (ClientException | RuntimeException error) {
          System.err.println("receive: " + error);
          Thread.sleep(200);
          continue;
        }
        for (MessageView message : messages) {
          progress.received(message);
          if (!flag("--no-ack")) {
            try {
              consumer.ack(message);
            } catch (ClientException | RuntimeException error) {
              System.err.println("ack: " + error);
            }
          }
        }
      }
    }
  }

  private void push() throws Exception {
    Progress progress = new Progress();
    try (PushConsumer consumer = PROVIDER.newPushConsumerBuilder().setClientConfiguration(configuration())
        .setConsumerGroup(text("--group", null)).setSubscriptionExpressions(subscriptions())
        .setMessageListener(message -> {
          progress.received(message);
          boolean fails = flag("--no-ack") || message.getDeliveryAttempt() <= number("--fail", 0);
          return fails ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
        }).build()) {
      while (!progress.over()) {
        Thread.sleep(20);
      }
    }
  }

  private void lite() throws Exception {
    Progress progress = new Progress();
    try (LitePushConsumer consumer = PROVIDER.newLitePushConsumerBuilder().setClientConfiguration(configuration())
        .setConsumerGroup(text("--group", null)).bindTopic(text("--topic", null))
        .setMessageListener(message -> {
          progress.received(message);
          return flag("--no-ack") ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
        }).build()) {
      for (String lite : text("--lite", null).split(",")) {
        consumer.subscribeLite(lite);
      }
      while (!progress.over()) {
        Thread.sleep(20);
      }
    }
  }

  /** Prints each delivery and knows when the program has seen enough. */
  private final class Progress {
    private final Set<String> seen = new HashSet<>();
    private long last = System.nanoTime();

    synchronized void received(MessageView message) {
      last = System.nanoTime();
      String id = message.getMessageId().toString();
      seen.add(id);
      say("{\"received\":" + quoted(id) + ",\"body\":" + quoted(body(message))
          + ",\"attempt\":" + message.getDeliveryAttempt() + ",\"tag\":"
          + message.getTag().map(Client::quoted).orElse("null") + "}");
    }

    synchronized boolean over() {
      return seen.size() >= number("--count", Double.POSITIVE_INFINITY)
          || System.nanoTime() >= last + number("--idle-seconds", 15) * 1e9;
    }
  }

  private static void say(String line) {
    System.out.println(line);
  }

  private static String quoted(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') {
        out.append('\\').append(c);
      } else if (c < ' ') {
        out.append(' ');
      } else {
        out.append(c);
      }
    }
    return out.append('"').toString();
  }
}
