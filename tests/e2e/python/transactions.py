"""confluent-kafka (librdkafka of its wheel): idempotent produce, one transaction committed, one aborted, offsets in a transaction, fencing."""
import sys
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]


def read(topic, isolation, count):
    """Every value of the topic's single partition, up to its end as that isolation sees it."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "isolation.level": isolation,
                         "auto.offset.reset": "earliest", "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    while True:
        message = consumer.poll(30)
        assert message is not None, f"no answer for {topic} after {values}"
        if message.error():
            break  # the partition's end
        values.append(message.value().decode())
    consumer.close()
    assert len(values) == count, (topic, isolation, values)
    return values


admin = AdminClient({"bootstrap.servers": bootstrap})
for future in admin.create_topics([NewTopic(t, 1, 1) for t in ("idempotent", "txn-in", "txn-out")]).values():
    future.result(30)

# Idempotent produce: every record acknowledged once, in order, with its offset.
acked = []
producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
for n in range(10_000):
    producer.produce("idempotent", str(n), partition=0, on_delivery=lambda e, m: acked.append((e, m.offset())))
    producer.poll(0)
assert producer.flush(60) == 0
assert [offset for _, offset in acked] == list(range(10_000)) and not any(e for e, _ in acked)
assert read("idempotent", "read_committed", 10_000) == [str(n) for n in range(10_000)]

# One transaction committed, one aborted, one committed.
producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "e2e"})
producer.init_transactions(30)
for n, commit in enumerate((True, False, True)):
    producer.begin_transaction()
    for i in range(5):
        producer.produce("txn-out", f"{n}-{i}", partition=0)
    producer.flush(30)
    producer.commit_transaction(30) if commit else producer.abort_transaction(30)
assert read("txn-out", "read_committed", 10) == [f"{n}-{i}" for n in (0, 2) for i in range(5)]
assert len(read("txn-out", "read_uncommitted", 15)) == 15

# Consume, transform, produce: the input's offset moves with the output, or not at all.
plain = Producer({"bootstrap.servers": bootstrap})
for n in range(4):
    plain.produce("txn-in", str(n), partition=0)
assert plain.flush(30) == 0
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ctp", "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "isolation.level": "read_committed"})
consumer.subscribe(["txn-in"])
first = consumer.consume(1, 30)
assert first and first[0].value() == b"0"
for commit in (False, True):
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition("txn-in", 0, 3)], consumer.consumer_group_metadata(), 30)
    producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    committed = consumer.committed([TopicPartition("txn-in", 0)], 30)[0].offset
    assert committed == (3 if commit else -1001), committed
consumer.close()

# A second producer of the same id fences the first.
other = Producer({"bootstrap.servers": bootstrap, "transactional.id": "e2e"})
other.init_transactions(30)
try:
    producer.begin_transaction()
    producer.produce("txn-out", "zombie", partition=0)
    producer.commit_transaction(30)
    raise SystemExit("a zombie committed")
except KafkaException as error:
    assert error.args[0].fatal() or error.args[0].txn_requires_abort(), error
assert len(read("txn-out", "read_committed", 10)) == 10
print("ok")
