"""confluent-kafka: records in every codec, every acks, administration, offsets by place and by time, against the broker named first."""
import sys

from confluent_kafka import (Consumer, ConsumerGroupTopicPartitions, ElectionType, IsolationLevel, KafkaException, OFFSET_BEGINNING,
                             Producer, TopicCollection, TopicPartition)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
                                   ResourceType)

broker = sys.argv[1]
admin = AdminClient({"bootstrap.servers": broker})
topics = [NewTopic("records", 1, 1), NewTopic("acks", 1, 1), NewTopic("admin", 2, 1, config={"retention.ms": "3600000"})]
for future in admin.create_topics(topics).values():
    future.result(30)


def refused(call):
    """The name of the error that the broker answered."""
    try:
        call()
    except KafkaException as error:
        return error.args[0].name()
    raise SystemExit("not refused")


# ---- records ------------------------------------------------------------------------------------------------------
codecs = ("none", "gzip", "snappy", "lz4", "zstd")
for codec in codecs:
    producer = Producer({"bootstrap.servers": broker, "compression.type": codec, "linger.ms": 5})
    for n in range(200):
        producer.produce("records", f"{codec}-{n}", key="k", headers=[("h", b"1"), ("h", None)], timestamp=1_700_000_000_000 + n)
    assert producer.flush(30) == 0
consumer = Consumer({"bootstrap.servers": broker, "group.id": "records", "auto.offset.reset": "earliest", "check.crcs": True,
                     "enable.auto.commit": False, "fetch.message.max.bytes": 2_000})
consumer.assign([TopicPartition("records", 0, OFFSET_BEGINNING)])
read = []
while len(read) < 1_000:
    message = consumer.poll(30)
    assert message is not None and not message.error(), message and message.error()
    read.append(message)
assert [m.value().decode() for m in read] == [f"{codec}-{n}" for codec in codecs for n in range(200)]
assert [m.offset() for m in read] == list(range(1_000))
assert {tuple(m.headers()) for m in read} == {(("h", b"1"), ("h", None))} and {m.key() for m in read} == {b"k"}
assert read[7].timestamp() == (1, 1_700_000_000_007), read[7].timestamp()
assert consumer.get_watermark_offsets(TopicPartition("records", 0), 30) == (0, 1_000)
assert consumer.offsets_for_times([TopicPartition("records", 0, 1_700_000_000_150)], 30)[0].offset == 150
assert consumer.offsets_for_times([TopicPartition("records", 0, 4_000_000_000_000)], 30)[0].offset == -1
consumer.commit(offsets=[TopicPartition("records", 0, 321, "note")], asynchronous=False)
found = consumer.committed([TopicPartition("records", 0)], 30)[0]
assert (found.offset, found.metadata) == (321, "note"), found
consumer.close()
for acks in ("0", "1", "all"):
    producer = Producer({"bootstrap.servers": broker, "acks": acks})
    producer.produce("acks", acks)
    assert producer.flush(30) == 0
large = Producer({"bootstrap.servers": broker, "message.max.bytes": 5_000_000})
told = []
large.produce("acks", b"x" * 2_000_000, on_delivery=lambda error, _: told.append(error.name()))
large.flush(30)
assert told == ["MSG_SIZE_TOO_LARGE"], told

# ---- administration -----------------------------------------------------------------------------------------------
cluster = admin.describe_cluster(include_authorized_operations=True).result(30)
assert cluster.controller.id == 1 and len(cluster.nodes) == 1 and cluster.cluster_id
described = admin.describe_topics(TopicCollection(["admin"]))["admin"].result(30)
assert len(described.partitions) == 2 and described.partitions[0].leader.id == 1
admin.create_partitions([NewPartitions("admin", 4)])["admin"].result(30)
resource = ConfigResource(ResourceType.TOPIC, "admin", incremental_configs=[
    ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET),
    ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND)])
admin.incremental_alter_configs([resource])[resource].result(30)
configs = admin.describe_configs([ConfigResource(ResourceType.TOPIC, "admin")])
configs = next(iter(configs.values())).result(30)
assert configs["retention.ms"].value == "7200000" and configs["cleanup.policy"].value == "delete,compact", configs
wrong = ConfigResource(ResourceType.TOPIC, "admin", incremental_configs=[
    ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)])
assert refused(lambda: admin.incremental_alter_configs([wrong])[wrong].result(30)) == "INVALID_CONFIG"
assert refused(lambda: admin.create_topics([NewTopic("admin", 1, 1)])["admin"].result(30)) == "TOPIC_ALREADY_EXISTS"
assert refused(lambda: admin.create_topics([NewTopic("wide", 1, 3)])["wide"].result(30)) == "INVALID_REPLICATION_FACTOR"

at = TopicPartition("records", 0)
for spec, expected in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 1_000), (OffsetSpec.for_timestamp(1_700_000_000_150), 150)):
    listed = admin.list_offsets({at: spec}, isolation_level=IsolationLevel.READ_COMMITTED)[at].result(30)
    assert listed.offset == expected, (spec, listed.offset)
assert admin.list_offsets({at: OffsetSpec.max_timestamp()})[at].result(30).timestamp == 1_700_000_000_199
deleted = admin.delete_records([TopicPartition("records", 0, 100)])
assert next(iter(deleted.values())).result(30).low_watermark == 100
admin.elect_leaders(ElectionType.PREFERRED, [at]).result(30)

groups = admin.list_consumer_groups().result(30)
assert "records" in {group.group_id for group in groups.valid} and not groups.errors
assert admin.describe_consumer_groups(["records"])["records"].result(30).state.name == "EMPTY"
wanted = ConsumerGroupTopicPartitions("records", [TopicPartition("records", 0, 500)])
admin.alter_consumer_group_offsets([wanted])["records"].result(30)
found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("records")])["records"].result(30)
assert [(p.topic, p.partition, p.offset) for p in found.topic_partitions] == [("records", 0, 500)], found.topic_partitions
admin.delete_consumer_groups(["records"])["records"].result(30)
assert refused(lambda: admin.delete_consumer_groups(["records"])["records"].result(30)) == "GROUP_ID_NOT_FOUND"
for future in admin.delete_topics(["records", "acks", "admin"]).values():
    future.result(30)
assert refused(lambda: admin.delete_topics(["admin"])["admin"].result(30)) == "UNKNOWN_TOPIC_OR_PART"
print("ok")
