"""Members of different clients in one group: librdkafka and kafka-python share six partitions, each read by one of them."""
import sys
import threading
import time

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.range import RangePartitionAssignor

broker, partitions, records = sys.argv[1], 6, 300
admin = AdminClient({"bootstrap.servers": broker})
admin.create_topics([NewTopic("mixed", partitions, 1)])["mixed"].result(30)

stop, seen, owned, failed, lock = threading.Event(), {}, {}, [], threading.Lock()


def librdkafka(name):
    member = confluent_kafka.Consumer({"bootstrap.servers": broker, "group.id": "mixed", "auto.offset.reset": "earliest",
                                       "partition.assignment.strategy": "range", "session.timeout.ms": 10_000})
    member.subscribe(["mixed"])
    while not stop.is_set():
        record = member.poll(0.1)
        with lock:
            owned[name] = {p.partition for p in member.assignment()}
            if record and not record.error():
                seen.setdefault((record.partition(), record.offset()), name)
    member.close()


def kafka_python(name):
    member = KafkaConsumer("mixed", bootstrap_servers=broker, group_id="mixed", auto_offset_reset="earliest",
                           partition_assignment_strategy=[RangePartitionAssignor], session_timeout_ms=10_000)
    # Without this a leader that joins before it knows the topic assigns nothing and joins again when it does. If a poll's 100 ms end within
    # that second join, kafka-python 3.0.12 takes it for done (the leader's snapshot agrees by then), never reads its answer and is put out.
    assert member.partitions_for_topic("mixed") == set(range(partitions))
    while not stop.is_set():
        polled = member.poll(100)
        with lock:
            owned[name] = {p.partition for p in member.assignment()}
            for partition, found in polled.items():
                for record in found:
                    seen.setdefault((partition.partition, record.offset), name)
    member.close()


def run(kind, name):
    try:
        kind(name)
    except Exception as error:
        with lock:
            failed.append((name, error))
        raise


members = [threading.Thread(target=run, args=(kind, f"{kind.__name__}-{n}"), daemon=True) for kind in (librdkafka, kafka_python) for n in (1, 2)]
for member in members:
    member.start()


def until(fact, what):
    deadline = time.monotonic() + 60
    while True:
        with lock:
            assert not failed, failed
            if fact():
                return
        assert time.monotonic() < deadline, (what, owned, len(seen))
        time.sleep(0.05)


def shared():
    return len(owned) == 4 and all(owned.values()) and sorted(p for mine in owned.values() for p in mine) == list(range(partitions))


until(shared, "every partition has one owner")
producer = KafkaProducer(bootstrap_servers=broker)
for n in range(records):
    producer.send("mixed", b"%d" % n, partition=n % partitions)
producer.flush()
until(lambda: len(seen) == records, "everything is read")
with lock:
    readers = set(seen.values())
stop.set()
for member in members:
    member.join(30)
    assert not member.is_alive(), f"{member.name} does not end"
assert not failed, failed
assert len(readers) == 4, readers
print("ok")
