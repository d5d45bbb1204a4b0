import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Loads for Apache Kafka by its own client, in the shapes of `gantry bench`: closed loops of acknowledged sends, and a backlog
 * that is read with its offsets committed. Prints what `gantry bench -o json` prints, as far as bench-compare reads it.
 *
 * <pre>
 * first ADDRESS TOPIC                                 makes it, until a send is acknowledged
 * topics ADDRESS TOPIC...                             makes them
 * send ADDRESS TOPIC CONNECTIONS IN_FLIGHT SECONDS    the first two seconds more are not measured
 * fill ADDRESS TOPIC CONNECTIONS IN_FLIGHT COUNT      the same by their number
 * receive ADDRESS TOPIC CONNECTIONS BATCH COUNT       each connection reads its part of the partitions
 * </pre>
 */
public final class KafkaLoad {
    private static final long WARM_UP = TimeUnit.SECONDS.toNanos(2);
    private static final long LIMIT = TimeUnit.MINUTES.toNanos(2);
    /** A backlog that stops coming for so long is not whole. */
    private static final long PATIENCE = TimeUnit.SECONDS.toNanos(30);
    private static final int BODY_SIZE = 1024;
    private static final int PARTITIONS = 8;

    private final String address;
    private final String topic;

    private KafkaLoad(String address, String topic) {
        this.address = address;
        this.topic = topic;
    }

    public static void main(String[] arguments) throws Exception {
        String usage = "first, topics, send, fill or receive, ADDRESS TOPIC ...: see the head of KafkaLoad.java";
        if (arguments.length < 3) {
            throw new IllegalArgumentException(usage);
        }
        KafkaLoad load = new KafkaLoad(arguments[1], arguments[2]);
        if (arguments[0].equals("first") || arguments[0].equals("topics")) {
            load.makeTopics(Arrays.asList(arguments).subList(2, arguments.length));
            if (arguments[0].equals("first")) {
                long now = System.nanoTime();
                load.send(1, 1, now, now + LIMIT, 1);
            }
            return;
        }
        if (arguments.length != 6) {
            throw new IllegalArgumentException(usage);
        }
        int[] numbers = Arrays.stream(arguments).skip(3).mapToInt(Integer::parseInt).toArray();
        long now = System.nanoTime();
        String result = switch (arguments[0]) {
            case "send" -> {
                long start = now + WARM_UP;
                yield load.send(numbers[0], numbers[1], start, start + TimeUnit.SECONDS.toNanos(numbers[2]), Long.MAX_VALUE);
            }
            case "fill" -> load.send(numbers[0], numbers[1], now, now + LIMIT, numbers[2]);
            case "receive" -> load.receive(numbers[0], numbers[1], numbers[2]);
            default -> throw new IllegalArgumentException(usage);
        };
        System.out.println(result);
    }

    /** A topic that is made by the first send to it can leave one of several producers waiting. */
    private void makeTopics(List<String> topics) throws Exception {
        try (Admin admin = Admin.create(properties())) {
            admin.createTopics(topics.stream().map(name -> new NewTopic(name, PARTITIONS, (short) 1)).toList()).all().get();
        }
    }

    /** Keeps so many sends under way on each connection: each acknowledgement is followed by the next. */
    private String send(int connections, int inFlight, long start, long end, long count) throws Exception {
        AtomicLong begun = new AtomicLong();
        AtomicLong acknowledged = new AtomicLong();
        AtomicReference<Exception> failure = new AtomicReference<>();
        ConcurrentLinkedQueue<Long> took = new ConcurrentLinkedQueue<>();
        inParallel(connections, connection -> {
            Semaphore free = new Semaphore(inFlight);
            byte[] body = new byte[BODY_SIZE];
            try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties())) {
                while (System.nanoTime() < end && failure.get() == null && begun.incrementAndGet() <= count) {
                    free.acquire();
                    long at = System.nanoTime();
                    producer.send(new ProducerRecord<>(topic, body), (place, error) -> {
                        free.release();
                        if (error != null) {
                            failure.compareAndSet(null, error);
                            return;
                        }
                        acknowledged.incrementAndGet();
                        if (at >= start) {
                            took.add(System.nanoTime() - at);
                        }
                    });
                }
                free.acquire(inFlight);
            }
        });
        double seconds = (System.nanoTime() - start) / 1e9;
        if (failure.get() != null) {
            throw failure.get();
        }
        long[] all = took.stream().mapToLong(Long::longValue).toArray();
        String sent = "{\"acknowledged\": %d, \"rate\": %f, \"unsent\": 0}".formatted(acknowledged.get(), all.length / seconds);
        return "{\"sent\": %s, \"latencies\": [%s], \"errors\": []}".formatted(sent, percentiles("send", all));
    }

    /** Reads so many messages from the beginning of a topic, and commits the offsets behind each batch. */
    private String receive(int connections, int batch, long count) throws Exception {
        AtomicLong came = new AtomicLong();
        long start = System.nanoTime();
        AtomicLong last = new AtomicLong(start);
        inParallel(connections, connection -> {
            Properties properties = properties();
            properties.putAll(Map.of("group.id", "bench", "enable.auto.commit", "false", "max.poll.records", batch));
            try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
                List<TopicPartition> mine = new ArrayList<>();
                consumer.partitionsFor(topic).stream()
                        .filter(partition -> partition.partition() % connections == connection)
                        .forEach(partition -> mine.add(new TopicPartition(topic, partition.partition())));
                consumer.assign(mine);
                consumer.seekToBeginning(mine);
                while (came.get() < count && System.nanoTime() - last.get() < PATIENCE) {
                    int read = consumer.poll(Duration.ofMillis(100)).count();
                    if (read > 0) {
                        consumer.commitSync();
                        came.addAndGet(read);
                        last.set(System.nanoTime());
                    }
                }
            }
        });
        double rate = came.get() / ((last.get() - start) / 1e9);
        String received = "{\"distinct\": %d, \"duplicates\": 0, \"rate\": %f, \"missing\": %d}"
                .formatted(came.get(), rate, count - came.get());
        return "{\"received\": %s, \"latencies\": [], \"errors\": []}".formatted(received);
    }

    private interface Connection {
        void run(int index) throws Exception;
    }

    private static void inParallel(int connections, Connection connection) throws Exception {
        AtomicReference<Exception> failure = new AtomicReference<>();
        List<Thread> threads = new ArrayList<>();
        for (int index = 0; index < connections; index++) {
            int own = index;
            Thread thread = new Thread(() -> {
                try {
                    connection.run(own);
                } catch (Exception error) {
                    failure.compareAndSet(null, error);
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
    }

    /** The client's defaults, but for: nothing waits for more of a batch, and a server that starts is asked again soon. */
    private Properties properties() {
        Properties properties = new Properties();
        properties.putAll(Map.of(
                "bootstrap.servers", address,
                "acks", "all",
                "linger.ms", "0",
                "default.api.timeout.ms", String.valueOf(TimeUnit.NANOSECONDS.toMillis(LIMIT)),
                "max.block.ms", String.valueOf(TimeUnit.NANOSECONDS.toMillis(LIMIT)),
                "reconnect.backoff.ms", "5",
                "reconnect.backoff.max.ms", "5",
                "retry.backoff.ms", "5",
                "retry.backoff.max.ms", "5"));
        for (String side : List.of("key", "value")) {
            properties.put(side + ".serializer", ByteArraySerializer.class.getName());
            properties.put(side + ".deserializer", ByteArrayDeserializer.class.getName());
        }
        return properties;
    }

    private static String percentiles(String of, long[] took) {
        Arrays.sort(took);
        double[] at = Arrays.stream(new double[] {0.5, 0.99, 0.999, 1})
                .map(share -> took.length == 0 ? 0 : took[Math.min((int) (took.length * share), took.length - 1)] / 1e6)
                .toArray();
        return "{\"of\": \"%s\", \"p50\": %f, \"p99\": %f, \"p999\": %f, \"max\": %f}".formatted(of, at[0], at[1], at[2], at[3]);
    }
}
