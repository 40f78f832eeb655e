"""Produce, Fetch, ListOffsets, OffsetForLeaderEpoch and DeleteRecords: batches that lie, places that are not there."""
import time

from kafka.protocol import admin, consumer, producer

from wire import ODD_ID, batch

QUESTIONS = []
HOUR_MS = 3_600_000


def question(what, asked):
    QUESTIONS.append((what, asked))


def produce(broker, topic, *partitions, acks=-1, version=9):
    """Partitions as (number, records). Per partition: error, first offset, the records that are wrong."""
    asked = producer.ProduceRequest
    data = asked.TopicProduceData
    told = broker.ask(asked(transactional_id=None, acks=acks, timeout_ms=5000, topic_data=[data(
        name=topic, topic_id=broker.topic_id(topic) if version >= 13 else None,
        partition_data=[data.PartitionProduceData(index=number, records=records) for number, records in partitions])]), version)
    of = lambda told: (told["index"], told["error_code"], told["base_offset"], [wrong["batch_index"] for wrong in told.get("record_errors") or []])
    return sorted(of(partition) for topic in told["responses"] for partition in topic["partition_responses"])


def refused(what, records, **configs):
    """Each on a topic of its own, which is written to once more: nothing of what was refused may be there."""
    name = f"p{len(QUESTIONS)}"
    question(f"produce {what}", lambda b: [produce(b, b.topic(name, **configs), (0, records())), produce(b, b.name(name), (0, batch(b"after", keys=[b"k"])))])


def now(more=0):
    return int(time.time() * 1000) + more


refused("no bytes", lambda: b"")
refused("two batches", lambda: batch(b"a") + batch(b"b"))
refused("a wrong CRC", lambda: batch(b"a", crc=5))
refused("the format before", lambda: batch(b"a", magic=1))
refused("more records than there are", lambda: batch(b"a", count=5))
refused("no records", lambda: batch(b"a", count=0))
refused("a last offset that lies", lambda: batch(b"a", b"b", last_offset_delta=5))
refused("a negative last offset", lambda: batch(b"a", b"b", last_offset_delta=-5))
refused("bytes behind the records", lambda: batch(b"a", tail=b"xx"))
refused("a length that is too long", lambda: batch(b"a", length=2000))
refused("a first offset that is not 0", lambda: batch(b"a", base_offset=7))
refused("a control batch", lambda: batch(b"a", attributes=0x20))
refused("a transaction without an id", lambda: batch(b"a", producer_id=5, epoch=0, sequence=0, transactional=True))
refused("no timestamp", lambda: batch(b"a", base_timestamp=-1, max_timestamp=-1))
refused("a timestamp in two hours", lambda: batch(b"a", b"b", timestamp=now(2 * HOUR_MS)))
refused("a timestamp before the oldest allowed", lambda: batch(b"a", timestamp=1000), message_timestamp_before_max_ms="1000")
refused("a record without key to a compacted topic", lambda: batch(b"a", b"b", keys=[b"k", None]), cleanup_policy="compact")
refused("more than max.message.bytes", lambda: batch(b"x" * 600), max_message_bytes="500")
question("produce too few replicas", lambda b: [produce(b, b.topic("isr", min_insync_replicas="2"), (0, batch(b"a")), acks=acks) for acks in (-1, 1)])
question("produce with acks=2", lambda b: produce(b, b.topic("acks"), (0, batch(b"a")), acks=2))
question("produce to an unknown topic", lambda b: produce(b, b.name("nobody"), (0, batch(b"a"))))
question("produce to unknown partitions", lambda b: produce(b, b.topic("few"), (0, batch(b"a")), (9, batch(b"a")), (-1, batch(b"a"))))
question("produce by topic id", lambda b: produce(b, b.topic("few"), (0, batch(b"a")), version=13))
question("produce to the group coordinator's topic", lambda b: produce(b, "__consumer_offsets", (0, batch(b"a", keys=[b"k"]))))
question("produce sequences", lambda b: [
    produce(b, b.topic("sequences"), (0, batch(b"a", b"b", producer_id=77, epoch=epoch, sequence=sequence)))
    for epoch, sequence in ((0, 5), (0, 0), (0, 9), (0, 7), (0, 7), (0, 8), (1, 9), (1, 0), (0, 2), (-1, -1))])


def fetch(broker, topic, *partitions, version=12, **how):
    """Partitions as (number, offset). Per partition: error, bytes that came; and the marks, where it is no error."""
    asked = consumer.FetchRequest
    given = asked.FetchTopic
    epoch, last_epoch, limit = how.pop("epoch", -1), how.pop("last_epoch", -1), how.pop("limit", 1 << 20)
    terms = {"max_wait_ms": 100, "min_bytes": 1, "max_bytes": 1 << 20, "isolation_level": 0, "session_id": 0, "session_epoch": -1, **how}
    told = broker.ask(asked(replica_id=-1, forgotten_topics_data=[], rack_id="", topics=[given(
        topic=topic, topic_id=(ODD_ID if topic is None else broker.topic_id(topic)) if version >= 13 else None,
        partitions=[given.FetchPartition(partition=number, current_leader_epoch=epoch, fetch_offset=offset, last_fetched_epoch=last_epoch, log_start_offset=-1,
                                         partition_max_bytes=limit) for number, offset in partitions])], **terms), version)
    marks = lambda told: [told[name] for name in ("high_watermark", "last_stable_offset", "log_start_offset") if not told["error_code"] and name in told]
    of = lambda told: (told["partition_index"], told["error_code"], len(told.get("records") or b""), marks(told))
    return told.get("error_code"), [of(partition) for topic in told["responses"] for partition in topic["partitions"]]


def filled(broker):
    """Two partitions of three batches each; the same on either broker."""
    topic = broker.topic("filled", 2)
    if list_offsets(broker, topic, (0, -1, -1))[0][3] == 0:
        for number in (0, 1):
            for at in range(3):
                produce(broker, topic, (number, batch(b"a", b"b", timestamp=1_000_000_000 + 10 * at)))
    return topic


for version in (4, 11, 12, 13, 17):
    question(f"fetch, version {version}", lambda b, version=version: fetch(b, filled(b), (0, 0), (1, 3), version=version))
question("fetch from an unknown topic", lambda b: [fetch(b, b.name("nobody"), (0, 0)), fetch(b, None, (0, 0), version=13)])
question("fetch from unknown partitions", lambda b: fetch(b, filled(b), (7, 0), (-2, 0)))
for offset in (-1, 6, 7, 9999):
    question(f"fetch from offset {offset} of 6", lambda b, offset=offset: fetch(b, filled(b), (0, offset)))
for epoch, last_epoch in ((9, -1), (-1, 0), (-1, 9)):
    question(f"fetch in epoch {epoch}, the last seen {last_epoch}", lambda b, epoch=epoch, last=last_epoch: fetch(b, filled(b), (0, 2), epoch=epoch, last_epoch=last))
question("fetch one byte a partition", lambda b: fetch(b, filled(b), (0, 0), (1, 0), limit=1))
question("fetch one byte in all", lambda b: fetch(b, filled(b), (0, 0), (1, 0), max_bytes=1))
question("fetch in a session that is not there", lambda b: fetch(b, filled(b), (0, 0), session_id=99, session_epoch=3))
question("fetch with a negative wait", lambda b: fetch(b, filled(b), (0, 6), max_wait_ms=-1))


def list_offsets(broker, topic, *partitions, version=11):
    """Partitions as (number, time, epoch)."""
    asked = consumer.ListOffsetsRequest
    given = asked.ListOffsetsTopic
    topics = [given(name=topic, partitions=[given.ListOffsetsPartition(partition_index=number, current_leader_epoch=epoch, timestamp=at) for number, at, epoch in partitions])]
    told = broker.ask(asked(replica_id=-1, isolation_level=0, topics=topics, timeout_ms=1000), version)["topics"][0]["partitions"]
    return sorted((one["partition_index"], one["error_code"], one["timestamp"], one["offset"], one.get("leader_epoch")) for one in told)


for at in (-1, -2, -3, -4, -5, -6, -7, 0, 1_000_000_000, 1_000_000_011, 2**50):
    question(f"offsets at {at}", lambda b, at=at: list_offsets(b, filled(b), (0, at, -1)))
for at, version in ((-3, 6), (-4, 7), (-5, 8), (-6, 10)):
    question(f"offsets at {at}, version {version}", lambda b, at=at, version=version: list_offsets(b, filled(b), (0, at, -1), version=version))
question("offsets of one partition twice", lambda b: list_offsets(b, filled(b), (0, -1, -1), (1, -1, -1), (0, -2, -1)))
question("offsets of what is not there", lambda b: [list_offsets(b, b.name("nobody"), (0, -1, -1)), list_offsets(b, filled(b), (9, -1, -1))])
question("offsets in a later epoch", lambda b: list_offsets(b, filled(b), (0, -1, 9)))
question("offsets of an empty partition", lambda b: [list_offsets(b, b.topic("empty"), (0, at, -1)) for at in (-1, -2, -3, 0)])


def lying_time(broker):
    produce(broker, broker.topic("lies"), (0, batch(b"a", timestamp=1_000_000, max_timestamp=5)))
    return [list_offsets(broker, broker.name("lies"), (0, at, -1)) for at in (1000, 1_000_000, 1_000_001, -3)]


question("offsets where a producer lied about its newest timestamp", lying_time)


def end_of_epoch(broker, topic, epoch, current=-1):
    asked = consumer.OffsetForLeaderEpochRequest
    given = asked.OffsetForLeaderTopic
    partition = given.OffsetForLeaderPartition(partition=0, current_leader_epoch=current, leader_epoch=epoch)
    return broker.ask(asked(replica_id=-1, topics=[given(topic=topic, partitions=[partition])]), 4)


question("the end of epochs", lambda b: [end_of_epoch(b, filled(b), epoch) for epoch in (0, 5, -1)] + [end_of_epoch(b, filled(b), 0, 9), end_of_epoch(b, b.name("nobody"), 0)])


def delete_records(broker, topic, *partitions):
    asked = admin.DeleteRecordsRequest
    given = asked.DeleteRecordsTopic
    topics = [given(name=topic, partitions=[given.DeleteRecordsPartition(partition_index=number, offset=offset) for number, offset in partitions])]
    told = broker.ask(asked(topics=topics, timeout_ms=3000), 2)["topics"][0]["partitions"]
    return sorted((one["partition_index"], one["error_code"], one["low_watermark"]) for one in told)


question("delete records", lambda b: [delete_records(b, filled(b), (0, offset)) for offset in (2, 1, 99, -2)] + [delete_records(b, filled(b), (1, -1))])
question("delete records of what is not there", lambda b: [delete_records(b, b.name("nobody"), (0, 0)), delete_records(b, filled(b), (9, 0))])
question("delete records of a compacted topic", lambda b: delete_records(b, b.topic("compacted", cleanup_policy="compact"), (0, 0)))
