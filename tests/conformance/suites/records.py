"""The console producer and consumer; get-offsets, delete-records, log-dirs."""
import json
import time

from suite import Skip, Suite, expect, holds, objects

SUITE = Suite("records", "console producer and consumer")
OFFSETS = Suite("offsets", "kafka-get-offsets, delete-records, log-dirs")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@SUITE.check("records come back in every codec, and stay compressed on disk")
def codecs(world):
    for codec in CODECS:
        world.create(f"in-{codec}")
        lines = [f"{codec}-{n}-" + "x" * 200 for n in range(500)]
        world.produce(f"in-{codec}", lines, "--compression-codec", codec)
        expect(world.consume(f"in-{codec}", 500) == lines, codec)


@SUITE.check("a topic's compression.type recompresses whatever comes")
def recompressed(world):
    for codec in ("gzip", "snappy", "lz4", "zstd", "uncompressed"):
        world.create(f"kept-{codec}", compression_type=codec)
        lines = [f"{n}-" + "y" * 100 for n in range(200)]
        world.produce(f"kept-{codec}", lines, "--compression-codec", "lz4" if codec != "lz4" else "zstd")
        expect(world.consume(f"kept-{codec}", 200) == lines, codec)


@SUITE.check("keys, headers, timestamps, null values and partitions are shown as they were sent")
def shape(world):
    world.create("shape", 3)
    reader = ["parse.key=true", "parse.headers=true", "null.marker=NULL"]
    world.produce("shape", ["a:1,b:2\tkey\tvalue", "NULL\tkey\tNULL"], *(word for each in reader for word in ("--reader-property", each)))
    show = ["print.key=true", "print.headers=true", "print.partition=true", "print.offset=true", "print.timestamp=true"]
    told = world.consume("shape", 2, *(word for each in show for word in ("--formatter-property", each)))
    expect(len(told) == 2 and "Offset:0" in told[0] and "a:1,b:2" in told[0] and told[0].endswith("key\tvalue"), told)
    expect("NO_HEADERS" in told[1] and told[1].endswith("key\tnull") and "CreateTime:" in told[1], told)
    world.create("stamped", message_timestamp_type="LogAppendTime")
    world.produce("stamped", ["x"])
    holds(world.consume("stamped", 1, "--formatter-property", "print.timestamp=true")[0], "LogAppendTime:")


@SUITE.check("acks 0, 1 and all; synchronous; without idempotence")
def acks(world):
    world.create("acks")
    for acks in ("0", "1", "all"):
        world.produce("acks", [acks], "--request-required-acks", acks, "--command-property", "enable.idempotence=false")
    world.produce("acks", ["s1", "s2"], "--sync")
    expect(sorted(world.consume("acks", 5)) == ["0", "1", "all", "s1", "s2"], "five")


@SUITE.check("reads from an offset, from the end, and topics by pattern")
def where(world):
    world.create("where", 1)
    world.produce("where", range(10))
    told = world.tool("console-consumer", "--topic", "where", "--partition", 0, "--offset", 7, "--max-messages", 3, "--timeout-ms", 30_000)
    expect(told.split()[:3] == ["7", "8", "9"], told)
    with world.beside("console-consumer", "--topic", "where", "--partition", 0, "--offset", "latest", "--max-messages", 1) as consumer:
        time.sleep(2)
        world.produce("where", ["new"])
        consumer.says("new")
    told = world.tool("console-consumer", "--include", "whe.*|acks", "--from-beginning", "--max-messages", 16, "--timeout-ms", 30_000)
    holds(told, "Processed a total of 16 messages")


@SUITE.check("a record of ten megabytes passes where it is allowed, and is refused where it is not")
def large(world):
    world.create("small")
    world.create("large", max_message_bytes=20_000_000)
    line = "z" * 10_000_000
    more = ["--command-property", "max.request.size=20000000", "--max-memory-bytes", 100_000_000]
    world.produce("large", [line], *more)
    expect(world.consume("large", 1) == [line], "it comes back though it is larger than any fetch limit")
    told = world.produce("small", [line], *more)
    holds(told, "RecordTooLargeException")


@SUITE.check("offsets and group metadata are read from __consumer_offsets")
def internal(world):
    world.tool("console-consumer", "--topic", "where", "--group", "watched", "--from-beginning", "--max-messages", 3, "--timeout-ms", 30_000)
    tools = "org.apache.kafka.tools.consumer"
    told = world.tool("console-consumer", "--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", 5000,
                      "--formatter", f"{tools}.OffsetsMessageFormatter", ok=None)
    rows = objects(told.out)
    mine = [row for row in rows if row["key"]["data"]["group"] == "watched"]
    expect(mine and mine[-1]["value"]["data"]["offset"] == 3 and mine[-1]["key"]["data"]["topic"] == "where", told)
    told = world.tool("console-consumer", "--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", 5000,
                      "--formatter", f"{tools}.GroupMetadataMessageFormatter", ok=None)
    rows = objects(told.out)
    expect([row for row in rows if row["key"]["data"]["group"] == "watched" and row["value"]["data"]["protocolType"] == "consumer"], told)


@OFFSETS.check("get-offsets: every --time")
def every_time(world):
    world.create("t", 2)
    world.produce("t", [f"k{n % 7}:{n}" for n in range(10)], "--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    ends = world.offsets("t")
    expect(sum(ends.values()) == 10, ends)
    for time_, expected in (("-1", ends), ("latest", ends), ("-2", {0: 0, 1: 0}), ("earliest", {0: 0, 1: 0}), ("-4", {0: 0, 1: 0}),
                            ("earliest-local", {0: 0, 1: 0}), ("1000", {0: 0, 1: 0})):
        expect(world.offsets("t", time_) == expected, (time_, world.offsets("t", time_)))
    for time_ in ("-3", "max-timestamp"):
        found = world.offsets("t", time_)
        expect(all(0 <= found[p] < max(1, ends[p]) for p in found), found)
    for time_ in ("-5", "latest-tiered", "-6", "earliest-pending-upload", "4102444800000"):
        told = world.tool("get-offsets", "--topic", "t", "--time", time_)
        expect(all(line.split(":")[2] in ("", "-1") for line in told.splitlines()), (time_, told))


@OFFSETS.check("get-offsets: partitions by pattern, without internal topics")
def patterns(world):
    expect(world.tool("get-offsets", "--topic-partitions", "t:0-1").startswith("t:0:"), "a range excludes its end")
    told = world.tool("get-offsets", "--exclude-internal-topics")
    expect(told.count("t:") == 2 and "__" not in told, told)


@OFFSETS.check("delete-records moves the start of a partition")
def delete_records(world):
    ends = world.offsets("t")
    partition = max(ends, key=ends.get)
    plan = world.file("delete.json", json.dumps({"version": 1, "partitions": [{"topic": "t", "partition": partition, "offset": 3}]}))
    holds(world.tool("delete-records", "--offset-json-file", plan), "low_watermark: 3")
    expect(world.offsets("t", "earliest")[partition] == 3, "earliest")
    plan = world.file("delete.json", json.dumps({"version": 1, "partitions": [{"topic": "t", "partition": partition, "offset": 999}]}))
    holds(world.tool("delete-records", "--offset-json-file", plan, ok=None), "OffsetOutOfRange")
    plan = world.file("delete.json", json.dumps({"version": 1, "partitions": [{"topic": "t", "partition": partition, "offset": -1}]}))
    holds(world.tool("delete-records", "--offset-json-file", plan), f"low_watermark: {ends[partition]}")


@OFFSETS.check("log-dirs tells directories and sizes")
def log_dirs(world):
    told = world.tool("log-dirs", "--describe", "--topic-list", "t")
    found = json.loads(next(line for line in told.splitlines() if line.startswith("{")))
    directory = found["brokers"][0]["logDirs"][0]
    expect(directory["error"] is None and directory["logDir"].endswith("/data"), directory)
    expect(sorted(p["partition"] for p in directory["partitions"]) == ["t-0", "t-1"], directory)
    expect(all(p["size"] > 0 and p["offsetLag"] == 0 and not p["isFuture"] for p in directory["partitions"] if p["partition"] == "t-1"), directory)


@OFFSETS.check("tiered storage")
def tiered(_):
    raise Skip("there is none: latest-tiered and earliest-pending-upload find nothing, as on a Kafka without it")
