// A producer that writes one record in a transaction, prints `open at OFFSET`, and ends the transaction as its input says: commit or abort.

import java.util.Map;
import java.util.Scanner;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class OpenTransaction {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> properties = Map.of("bootstrap.servers", arguments[0], "transactional.id", arguments[1]);
        try (var producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            var written = producer.send(new ProducerRecord<>(arguments[2], 0, "key", "within " + arguments[1])).get();
            System.out.println("open at " + written.offset());
            if (new Scanner(System.in).nextLine().equals("commit")) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
            System.out.println("ended");
        }
    }
}
