"""confluent-kafka: cooperative-sticky members share a topic, static members come back without a rebalance, offsets by time."""
import sys
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("work", 6, 1, config={"retention.ms": "-1"})])["work"].result(30)
producer = Producer({"bootstrap.servers": bootstrap})
for n in range(600):
    producer.produce("work", str(n), partition=n % 6, timestamp=1_000_000 + n)
assert producer.flush(30) == 0


def member(**more):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "team", "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 10_000, **more})
    consumer.subscribe(["work"])
    return consumer


def commit(member, message):
    """A commit that crosses a rebalance is refused, as by any broker: the record belongs to whoever gets the partition."""
    try:
        member.commit(message, asynchronous=False)
    except KafkaException as refused:
        if refused.args[0].code() not in (KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS):
            raise


def settle(members, seen):
    """Polls all members until every partition is owned once."""
    for _ in range(600):
        for m in members:
            message = m.poll(0.05)
            if message and not message.error():
                seen.add(message.value())
                commit(m, message)
        owned = [(p.topic, p.partition) for m in members for p in m.assignment()]
        if sorted(owned) == [("work", p) for p in range(6)] and all(m.assignment() for m in members):
            return
    raise SystemExit(f"no balance: {[m.assignment() for m in members]}")


seen = set()
one = member(**{"partition.assignment.strategy": "cooperative-sticky"})
settle([one], seen)
two = member(**{"partition.assignment.strategy": "cooperative-sticky"})
settle([one, two], seen)
one.close()
settle([two], seen)
for _ in range(2000):
    message = two.poll(0.5)
    if message is None and len(seen) == 600:
        break
    if message and not message.error():
        seen.add(message.value())
assert len(seen) == 600, len(seen)
found = two.offsets_for_times([TopicPartition("work", 0, 1_000_300)], 30)[0]
assert found.offset == 50, found
two.close()

# A static member that leaves without a word and returns keeps its partitions.
static = {"group.id": "static", "group.instance.id": "the-one", "partition.assignment.strategy": "range"}
first = member(**static)
settle([first], set())
first.close()
again = member(**static)
settle([again], set())
again.close()
print("ok")
