"""features, metadata-quorum, cluster, broker-api-versions, leader-election, and the tools for what this broker does not have."""
import json
import re

import kafka
from suite import Skip, Suite, expect, holds

SUITE = Suite("cluster", "kafka-features, metadata-quorum, cluster, broker-api-versions, leader-election")


@SUITE.check("features: described, upgraded, downgraded, refused out of range")
def features(world):
    told = world.tool("features", "describe")
    holds(told, "Feature: metadata.version", "Feature: transaction.version", "FinalizedVersionLevel: 2")
    expect("FinalizedVersionLevel: 4.3" in told, told)
    world.tool("features", "downgrade", "--feature", "transaction.version=1", "--dry-run")
    world.tool("features", "downgrade", "--feature", "transaction.version=1")
    holds(world.tool("features", "describe"), "FinalizedVersionLevel: 1")
    world.tool("features", "upgrade", "--feature", "transaction.version=2")
    holds(world.tool("features", "upgrade", "--feature", "transaction.version=9", ok=False), "transaction.version")
    world.tool("features", "version-mapping", "--release-version", "4.3")


@SUITE.check("a producer works at every level of transaction.version")
def levels(world):
    world.create("levels")
    for level, how in ((1, "downgrade"), (0, "downgrade"), (2, "upgrade")):
        world.tool("features", how, "--feature", f"transaction.version={level}")
        told = world.tool("producer-perf", "--topic", "levels", "--num-records", 100, "--record-size", 10, "--throughput", -1,
                          "--transactional-id", f"level-{level}", "--transaction-duration-ms", 20)
        holds(told, "100 records sent")
    told = world.tool("console-consumer", "--topic", "levels", "--from-beginning", "--max-messages", 300, "--timeout-ms", 20_000,
                      "--isolation-level", "read_committed")
    holds(told, "Processed a total of 300 messages")


@SUITE.check("metadata-quorum: status and replication of one voter")
def quorum(world):
    told = world.tool("metadata-quorum", "describe", "--status")
    holds(told, "LeaderId:", "ClusterId:", "CurrentVoters:", "HighWatermark:")
    expect(re.search(r"LeaderId:\s+1\b", told), told)
    holds(world.tool("metadata-quorum", "describe", "--replication"), "Leader")
    holds(world.tool("metadata-quorum", "describe", "--replication", "--human-readable"), "Leader")


@SUITE.check("cluster: id and endpoints")
def cluster(world):
    told = _cluster(world, "cluster-id")
    cluster_id = re.search(r"Cluster ID: (\S+)", told).group(1)
    holds(world.tool("metadata-quorum", "describe", "--status"), cluster_id)
    holds(_cluster(world, "list-endpoints"), "127.0.0.1", str(world.broker.port))


def _cluster(world, verb, *arguments, **how):
    return kafka.run("cluster", verb, "--bootstrap-server", world.broker.address, *arguments, **how)


@SUITE.check("broker-api-versions: every version the tools use is one that this broker has")
def api_versions(world):
    told = world.tool("broker-api-versions")
    for api, newest in (("Produce", 13), ("Fetch", 18), ("Metadata", 13), ("OffsetCommit", 10), ("EndTxn", 5), ("DescribeTopicPartitions", 0)):
        holds(told, f"{api}(") and expect(re.search(rf"{api}\(\d+\): (\d+ to )?{newest} \[usable: {newest}\]", told), told)
    expect("[unusable" not in told.split("UNSUPPORTED")[0], told)


@SUITE.check("leader-election: nothing to do on one node, and it says so")
def election(world):
    told = world.tool("leader-election", "--election-type", "preferred", "--all-topic-partitions")
    expect("Error" not in told, told)
    told = world.tool("leader-election", "--election-type", "preferred", "--topic", "levels", "--partition", 0)
    holds(told, "Valid replica already elected for partitions levels-0")
    world.tool("leader-election", "--election-type", "unclean", "--topic", "levels", "--partition", 0)
    world.tool("leader-election", "--election-type", "preferred", "--topic", "missing", "--partition", 0, ok=False)


@SUITE.check("reassign-partitions")
def reassign(world):
    topics = world.file("topics.json", json.dumps({"version": 1, "topics": [{"topic": "levels"}]}))
    told = world.tool("reassign-partitions", "--topics-to-move-json-file", topics, "--broker-list", "1", "--generate")
    holds(told, "Proposed partition reassignment configuration")
    holds(world.tool("reassign-partitions", "--list", ok=False), "UnsupportedVersion")
    raise Skip("one node has nowhere to move a partition to: the APIs are not served, and the tool says so")


@SUITE.check("acls")
def acls(world):
    holds(world.tool("acls", "--list", ok=None), "UnsupportedVersion")
    raise Skip("no authorizer yet: DescribeAcls is not served, and the tool says so")


@SUITE.check("unregister a broker")
def unregister(world):
    holds(_cluster(world, "unregister", "--id", 1, ok=None), "not support")
    raise Skip("one node has no registrations, and the tool says so")
