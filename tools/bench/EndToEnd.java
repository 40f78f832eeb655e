import java.time.Duration;
import java.util.*;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * From send to poll, in milliseconds: EndToEnd BOOTSTRAP TOPIC RECORDS SIZE RATE, clients at their defaults with acks=all.
 *
 * RATE 0: one record at a time (linger 0), the next when a consumer has it; 2,000 go before the first that counts. Else so many
 * records a second whatever happens; a record's time begins when it was due, so that a stall counts for all who wait behind it.
 * As many go before at the same rate, and all of them have arrived before the first that counts is due: what is measured is not
 * how the virtual machine of the clients warms up, nor the queue that grew meanwhile.
 */
public class EndToEnd {
    public static void main(String[] a) throws Exception {
        int records = Integer.parseInt(a[2]), size = Integer.parseInt(a[3]), rate = Integer.parseInt(a[4]);
        Map<String, Object> p = new HashMap<>(Map.of("bootstrap.servers", a[0], "acks", "all"));
        if (rate == 0) p.put("linger.ms", "0");
        Map<String, Object> c = Map.of("bootstrap.servers", a[0], "enable.auto.commit", "false");
        try (Producer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
             Consumer<byte[], byte[]> consumer = new KafkaConsumer<>(c, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            TopicPartition one = new TopicPartition(a[1], 0);
            consumer.assign(List.of(one));
            consumer.seekToEnd(List.of(one));
            consumer.position(one);
            int uncounted = rate == 0 ? 2_000 : records;
            if (rate > 0) sender(() -> send(producer, a[1], uncounted, size, rate));
            long[] micros = new long[records];
            for (int seen = 0; seen < uncounted + records; ) {
                if (rate == 0) producer.send(record(a[1], size, System.nanoTime(), seen));
                ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofSeconds(30));
                if (polled.isEmpty()) throw new IllegalStateException("a record did not arrive within 30 s");
                long now = System.nanoTime();
                for (ConsumerRecord<byte[], byte[]> record : polled) {
                    if (seen >= uncounted) micros[seen - uncounted] = (now - java.nio.ByteBuffer.wrap(record.value()).getLong()) / 1000;
                    seen++;
                }
                if (rate > 0 && seen == uncounted) sender(() -> send(producer, a[1], records, size, rate));
            }
            Arrays.sort(micros);
            for (double q : new double[] {.5, .99, .999}) System.out.printf(Locale.ROOT, "%.3f ", micros[(int) (records * q)] / 1e3);
            System.out.println();
        }
    }

    static void sender(Runnable work) {
        Thread sender = new Thread(work);
        sender.setDaemon(true);
        sender.start();
    }

    static void send(Producer<byte[], byte[]> producer, String topic, int records, int size, int rate) {
        long begun = System.nanoTime();
        for (int i = 0; i < records; i++) {
            long due = begun + i * 1_000_000_000L / rate;
            for (long wait = due - System.nanoTime(); wait > 0; wait = due - System.nanoTime()) LockSupport.parkNanos(wait);
            producer.send(record(topic, size, due, i));
        }
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int size, long time, int seed) {
        byte[] value = new byte[size];
        new SplittableRandom(seed).nextBytes(value);
        java.nio.ByteBuffer.wrap(value).putLong(time);
        return new ProducerRecord<>(topic, 0, null, value);
    }
}
