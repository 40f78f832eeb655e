"""Kafka's DumpLogSegments over the files that this broker wrote."""
import glob
import os
import re

import kafka
from suite import Suite, expect, holds

SUITE = Suite("dump", "kafka-dump-log", log_segment_bytes=1_000_000, transaction_state_log_num_partitions=2, offsets_topic_num_partitions=2)
COMPLAINTS = re.compile(r"Mismatch|mismatch|Found timestamp|out of order|Non-consecutive|non-consecutive|Exception|corrupt|isvalid: false|should be|Error", re.I)


# The tool says so of every segment but the first, of Apache Kafka's own files too: it begins to count at -1.
FIRST_OFFSET = re.compile(r"Non-consecutive offsets in \S+\n  -1 is followed by \d+\n")


def dump(*arguments):
    told = FIRST_OFFSET.sub("", kafka.run("dump-log", *arguments))
    complaint = COMPLAINTS.search(told)
    if complaint:
        raise kafka.Failed(f"{arguments}: {told[max(0, complaint.start() - 300):complaint.end() + 700]}")
    return told


def is_sane(index):
    told = dump("--index-sanity-check", "--files", index)
    # A segment of less than index.interval.bytes has nothing to index.
    expect("passed sanity check" in told or "is empty" in told, told)


def files(world, pattern):
    found = sorted(glob.glob(os.path.join(world.broker.data, pattern)))
    expect(found, pattern)
    return found


@SUITE.check("segments, batches and records of every codec, shallow and deep")
def segments(world):
    world.create("dumped", 2)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        world.tool("producer-perf", "--topic", "dumped", "--num-records", 10_000, "--record-size", 500, "--throughput", -1,
                   "--command-property", f"compression.type={codec}")
    world.tool("producer-perf", "--topic", "dumped", "--num-records", 2000, "--record-size", 100, "--throughput", -1,
               "--transactional-id", "dumper", "--transaction-duration-ms", 20)
    world.tool("consumer-perf", "--topic", "dumped", "--num-records", 10_000, "--group", "dumpers", "--timeout", 20_000)
    logs = files(world, "dumped-*/*.log")
    expect(len(logs) > 4, "several segments")
    for log in logs:
        dump("--files", log)
        told = dump("--deep-iteration", "--files", log)
        holds(told, "starting offset")
    holds(dump("--print-data-log", "--deep-iteration", "--files", logs[0]), "payload:")


# While a broker runs, the indexes of its active segment end in zeros, in Kafka too, and the tool does not like those of the time index.
@SUITE.check("offset and time indexes fit their segments after a clean stop")
def indexes(world):
    world.broker.stop()
    try:
        _indexes(world)
    finally:
        world.broker.start()


def _indexes(world):
    for index in files(world, "*-*/*.index"):
        if "__cluster" not in index:
            dump("--verify-index-only", "--files", index)
            is_sane(index)
    for index in files(world, "dumped-*/*.timeindex"):
        dump("--verify-index-only", "--files", index)
        is_sane(index)


@SUITE.check("after kill -9 and recovery too")
def recovered(world):
    world.tool("producer-perf", "--topic", "dumped", "--num-records", 5000, "--record-size", 500, "--throughput", -1)
    world.broker.kill()
    world.broker.start()
    world.broker.stop()
    _indexes(world)
    world.broker.start()
    for log in files(world, "dumped-*/*.log"):
        dump("--deep-iteration", "--files", log)


@SUITE.check("__consumer_offsets with --offsets-decoder")
def offsets(world):
    told = "".join(dump("--offsets-decoder", "--deep-iteration", "--files", log) for log in files(world, "__consumer_offsets-*/*.log"))
    holds(told, '"group":"dumpers"', '"topic":"dumped"', '"protocolType":"consumer"')


@SUITE.check("__transaction_state with --transaction-log-decoder")
def transactions(world):
    told = "".join(dump("--transaction-log-decoder", "--deep-iteration", "--files", log) for log in files(world, "__transaction_state-*/*.log"))
    holds(told, '"transactionalId":"dumper"')


@SUITE.check("snapshots of producers, indexes of aborted transactions")
def producers(world):
    world.create("aborted")
    with kafka.Process("OpenTransaction", world.broker.address, "aborter", "aborted") as producer:
        producer.says("open at")
        producer.child.stdin.write("abort\n")
        producer.child.stdin.flush()
        producer.end()
    world.broker.stop()
    world.broker.start()
    told = "".join(dump("--files", snapshot) for snapshot in files(world, "*/*.snapshot"))
    holds(told, "producerId:", "producerEpoch:")
    told = "".join(dump("--files", index) for index in files(world, "aborted-0/*.txnindex"))
    holds(told, "lastStableOffset")


@SUITE.check("LogCompactionTester: a compacted topic keeps the newest of each key")
def compaction(world):
    world.tool("log-compaction", "--messages", 20_000, "--duplicates", 5, "--percent-deletes", 10, "--topics", 1, "--sleep", 20)
