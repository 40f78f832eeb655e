"""Kafka's Java clients: its own compatibility test, the newer group protocols, the load generators."""
import re

from suite import Skip, Suite, expect, holds

SUITE = Suite("clients", "compatibility test, assignors, newer group protocols", client="Apache Kafka's Java clients")
PERFORMANCE = Suite("load", "producer-perf, consumer-perf, end-to-end-latency")


@SUITE.check("ClientCompatibilityTest: cluster id, offsets by time, large records, topics, configurations, idempotence")
def compatibility(world):
    world.create("compatible", 1)
    told = world.tool("client-compatibility", "--topic", "compatible", "--offsets-for-times-supported", "true", "--cluster-id-supported", "true",
                      "--expect-record-too-large-exception", "false", "--num-cluster-nodes", 1, "--create-topics-supported", "true",
                      "--describe-acls-supported", "false", "--describe-configs-supported", "true", "--idempotent-producer-supported", "true")
    expect("Exception" not in told, told)


@SUITE.check("every assignor of the classic protocol, eager and cooperative, with a static member")
def assignors(world):
    world.create("shared", 4)
    world.produce("shared", range(40))
    for name in ("Range", "RoundRobin", "Sticky", "CooperativeSticky"):
        more = ["--topic", "shared", "--group", f"by-{name}", "--from-beginning", "--command-property",
                f"partition.assignment.strategy=org.apache.kafka.clients.consumer.{name}Assignor", "--command-property"]
        with world.beside("console-consumer", *more, "group.instance.id=one") as one, \
                world.beside("console-consumer", *more, "group.instance.id=two") as two:
            one.until(lambda _: sum(len(member.lines) for member in (one, two)) >= 40, "40 records between two members")
            one.until(lambda _: _two_members(world, f"by-{name}"), "both have partitions")


def _two_members(world, group):
    told = world.tool("consumer-groups", "--describe", "--group", group, "--members")
    rows = [line.split() for line in told.splitlines() if line.startswith(group + " ")]
    return len(rows) == 2 and all(int(row[-1]) == 2 for row in rows)


@SUITE.check("group.protocol=consumer is refused in words that name the way out")
def consumer_protocol(world):
    told = world.tool("console-consumer", "--topic", "compatible", "--command-property", "group.protocol=consumer", "--timeout-ms", 20_000, ok=None)
    holds(told, "UnsupportedVersionException", "group.protocol=classic")


@SUITE.check("share consumers are refused by the client, in words")
def share(world):
    told = world.tool("console-share-consumer", "--topic", "compatible", "--timeout-ms", 20_000, ok=None)
    holds(told, "UnsupportedVersion")


@SUITE.check("client telemetry")
def telemetry(_):
    raise Skip("no receiver, so GetTelemetrySubscriptions is not served: clients go on without")


@PERFORMANCE.check("producer-perf with every acks and codec")
def produce(world):
    world.create("load", 3)
    for more in ("acks=all", "acks=1", "acks=0"):
        told = world.tool("producer-perf", "--topic", "load", "--num-records", 20000, "--record-size", 200, "--throughput", -1,
                          "--command-property", more)
        holds(told, "20000 records sent")
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        told = world.tool("producer-perf", "--topic", "load", "--num-records", 10000, "--record-size", 200, "--throughput", -1,
                          "--command-property", f"compression.type={codec}")
        holds(told, "10000 records sent")
    expect(sum(world.offsets("load").values()) == 100_000, world.offsets("load"))


@PERFORMANCE.check("consumer-perf reads all of it")
def consume(world):
    told = world.tool("consumer-perf", "--topic", "load", "--num-records", 100_000, "--timeout", 60_000)
    expect(re.search(r", 100\d\d\d, ", told), told)


@PERFORMANCE.check("end-to-end-latency measures")
def latency(world):
    world.create("latency")
    told = world.tool("end-to-end-latency", "--topic", "latency", "--num-records", 500, "--producer-acks", "all", "--record-size", 100)
    holds(told, "Percentiles", "Avg latency")
