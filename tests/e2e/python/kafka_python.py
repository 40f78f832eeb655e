"""kafka-python: its clients and its administration, against the broker named in the first argument."""
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata

broker = sys.argv[1]
admin = KafkaAdminClient(bootstrap_servers=broker)
admin.create_topics([NewTopic("kp", num_partitions=2, replication_factor=1, topic_configs={"retention.ms": "-1"})])
assert "kp" in admin.list_topics()

partition = TopicPartition("kp", 0)

# ---- records: every codec, keys, headers, timestamps --------------------------------------------------------------
written = []
for codec in (None, "gzip", "snappy", "lz4", "zstd"):
    producer = KafkaProducer(bootstrap_servers=broker, compression_type=codec, acks="all")
    for n in range(20):
        value = f"{codec}-{n}".encode()
        told = producer.send("kp", value, key=b"k", headers=[("h", b"1"), ("h", b"2")],
                             partition=0, timestamp_ms=1_700_000_000_000 + len(written)).get(timeout=30)
        assert told.offset == len(written), (told, len(written))
        written.append(value)
    producer.close()

consumer = KafkaConsumer("kp", bootstrap_servers=broker, group_id="kp-group", auto_offset_reset="earliest",
                         enable_auto_commit=False, consumer_timeout_ms=30_000)
read = []
for record in consumer:
    read.append(record.value)
    assert record.key == b"k" and list(record.headers) == [("h", b"1"), ("h", b"2")], record
    if len(read) == len(written):
        break
assert read == written
consumer.commit()
assert consumer.committed(partition) == 100
assert consumer.beginning_offsets([partition]) == {partition: 0}
assert consumer.end_offsets([partition]) == {partition: 100}
found = consumer.offsets_for_times({partition: 1_700_000_000_050})[partition]
assert (found.offset, found.timestamp) == (50, 1_700_000_000_050), found
consumer.seek(partition, 90)
assert next(consumer).offset == 90
consumer.close()

# ---- administration -----------------------------------------------------------------------------------------------
groups = admin.describe_groups(["kp-group"])
assert "kp-group" in str(groups), groups
admin.create_partitions({"kp": NewPartitions(total_count=3)})
deadline = time.monotonic() + 30
while len(admin.describe_topics(["kp"])[0]["partitions"]) != 3:
    assert time.monotonic() < deadline
admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "kp", configs={"retention.ms": "-1", "max.message.bytes": "123456"})])
told = str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "kp")]))
assert "123456" in told, told
admin.delete_records({partition: 10})
assert KafkaConsumer(bootstrap_servers=broker).beginning_offsets([partition]) == {partition: 10}
admin.delete_groups(["kp-group"])
assert "kp-group" not in str(admin.list_groups())

# ---- a transaction that aborts and one that commits ---------------------------------------------------------------
producer = KafkaProducer(bootstrap_servers=broker, transactional_id="kp-txn", acks="all")
producer.init_transactions()
for keep in (False, True):
    producer.begin_transaction()
    producer.send("kp-txn-out", str(keep).encode(), partition=0)
    offsets = {partition: OffsetAndMetadata(1 if keep else 7, "", -1)}
    producer.send_offsets_to_transaction(offsets, "kp-offsets")
    producer.flush()
    producer.commit_transaction() if keep else producer.abort_transaction()
producer.close()
consumer = KafkaConsumer("kp-txn-out", bootstrap_servers=broker, auto_offset_reset="earliest",
                         isolation_level="read_committed", consumer_timeout_ms=30_000)
assert next(consumer).value == b"True"
consumer.close()
consumer = KafkaConsumer(bootstrap_servers=broker, group_id="kp-offsets")
assert consumer.committed(partition) == 1
consumer.close()
admin.delete_topics(["kp"])
assert "kp" not in admin.list_topics()
print("ok")
