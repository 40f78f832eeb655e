"""kafka-topics and kafka-configs."""
import re

from suite import Skip, Suite, expect, holds

SUITE = Suite("topics", "kafka-topics")
CONFIGS = Suite("configs", "kafka-configs")


@SUITE.check("creates a topic with partitions and configuration, lists and describes it")
def create(world):
    world.create("orders", 3, retention_ms=1000000, cleanup_policy="compact")
    expect(world.tool("topics", "--list").split() == ["orders"], "--list")
    told = world.tool("topics", "--describe", "--topic", "orders")
    holds(told, "PartitionCount: 3", "ReplicationFactor: 1", "cleanup.policy=compact", "retention.ms=1000000", "Leader: 1", "Isr: 1")
    topic_id = re.search(r"TopicId: (\S+)", told).group(1)
    holds(world.tool("topics", "--describe", "--topic-id", topic_id), "Topic: orders")


@SUITE.check("names what is wrong with a creation")
def refusals(world):
    holds(world.tool("topics", "--create", "--topic", "orders", ok=False), "already exists")
    world.tool("topics", "--create", "--topic", "orders", "--if-not-exists")
    holds(world.tool("topics", "--create", "--topic", "bad", "--config", "retention.ms=often", ok=False), "retention.ms")
    holds(world.tool("topics", "--create", "--topic", "bad/name", ok=False), "bad/name")
    holds(world.tool("topics", "--create", "--topic", "wide", "--replication-factor", "3", ok=False), "replication factor")
    world.create("a.b")
    holds(world.tool("topics", "--create", "--topic", "a_b", ok=False), "collide")


@SUITE.check("places replicas by hand")
def assignment(world):
    world.tool("topics", "--create", "--topic", "placed", "--replica-assignment", "1,1,1,1")
    holds(world.tool("topics", "--describe", "--topic", "placed"), "PartitionCount: 4")
    world.tool("topics", "--create", "--topic", "misplaced", "--replica-assignment", "7", ok=False)


@SUITE.check("adds partitions, never takes them away")
def alter(world):
    world.tool("topics", "--alter", "--topic", "orders", "--partitions", "6")
    holds(world.tool("topics", "--describe", "--topic", "orders"), "PartitionCount: 6", "Partition: 5")
    world.tool("topics", "--alter", "--topic", "orders", "--partitions", "2", ok=False)
    world.tool("topics", "--alter", "--topic", "missing", "--partitions", "2", ok=False)


@SUITE.check("describes page by page and by health")
def filters(world):
    told = world.tool("topics", "--describe", "--partition-size-limit-per-response", "2")
    expect(told.count("\tTopic: orders") == 6, told)
    for health in ("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"):
        expect(not world.tool("topics", "--describe", health).strip(), health)
    holds(world.tool("topics", "--describe", "--at-min-isr-partitions"), "Topic: orders")
    holds(world.tool("topics", "--describe", "--topics-with-overrides"), "Topic: orders")
    world.produce("orders", ["x"])
    expect("__consumer_offsets" not in world.tool("topics", "--list", "--exclude-internal"), "internal topics")


@SUITE.check("deletes topics, and a new one of the same name is another one")
def delete(world):
    world.tool("topics", "--delete", "--topic", "orders")
    expect("orders" not in world.tool("topics", "--list").split(), "deleted")
    world.tool("topics", "--delete", "--topic", "orders", ok=False)
    world.tool("topics", "--delete", "--topic", "orders", "--if-exists")
    world.create("orders")
    expect(world.offsets("orders") == {0: 0}, "empty")
    world.tool("topics", "--delete", "--topic", "a.b|placed")
    expect(world.tool("topics", "--list").split() == ["orders"], "by pattern")


def entity(world, kind, name, *arguments, **how):
    return world.tool("configs", "--entity-type", kind, "--entity-name", name, *arguments, **how)


@CONFIGS.check("sets, describes and removes options of a topic")
def topic(world):
    world.create("t")
    entity(world, "topics", "t", "--alter", "--add-config", "retention.ms=5000,cleanup.policy=[compact,delete]")
    holds(entity(world, "topics", "t", "--describe"), "retention.ms=5000", "cleanup.policy=compact,delete", "DYNAMIC_TOPIC_CONFIG")
    entity(world, "topics", "t", "--alter", "--delete-config", "retention.ms")
    told = entity(world, "topics", "t", "--describe", "--all")
    holds(told, "retention.ms=604800000", "cleanup.policy=compact,delete", "DEFAULT_CONFIG:log.cleanup.policy=delete")
    for line in told.splitlines()[1:]:
        expect("sensitive=false" in line, line)


@CONFIGS.check("refuses what is unknown or wrong, whole")
def wrong(world):
    holds(entity(world, "topics", "t", "--alter", "--add-config", "retention.ms=1,retention.mss=5", ok=False), "retention.mss")
    holds(entity(world, "topics", "t", "--alter", "--add-config", "segment.bytes=-3", ok=False), "segment.bytes")
    expect("retention.ms=1," not in entity(world, "topics", "t", "--describe"), "nothing was changed")
    entity(world, "topics", "missing", "--alter", "--add-config", "retention.ms=1", ok=False)


@CONFIGS.check("reads options from a file")
def file(world):
    path = world.properties("topic.properties", retention_ms=77777)
    entity(world, "topics", "t", "--alter", "--add-config-file", path)
    holds(entity(world, "topics", "t", "--describe"), "retention.ms=77777")


@CONFIGS.check("describes a broker with every option and where it comes from")
def broker(world):
    told = entity(world, "brokers", "1", "--describe", "--all")
    holds(told, "node.id=1", "log.retention.ms", "num.partitions=1", "STATIC_BROKER_CONFIG", "DEFAULT_CONFIG")


@CONFIGS.check("changes options of a broker and of all brokers at run time")
def dynamic_broker(world):
    entity(world, "brokers", "1", "--alter", "--add-config", "log.retention.ms=123456")
    holds(entity(world, "brokers", "1", "--describe"), "log.retention.ms=123456", "DYNAMIC_BROKER_CONFIG")
    holds(entity(world, "topics", "t", "--describe", "--all"), "DYNAMIC_BROKER_CONFIG:log.retention.ms=123456")
    entity(world, "brokers", "1", "--alter", "--delete-config", "log.retention.ms")
    world.tool("configs", "--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "log.retention.ms=654321")
    holds(world.tool("configs", "--entity-type", "brokers", "--entity-default", "--describe"), "log.retention.ms=654321")
    holds(entity(world, "topics", "t", "--describe", "--all"), "DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=654321")
    world.tool("configs", "--entity-type", "brokers", "--entity-default", "--alter", "--delete-config", "log.retention.ms")
    holds(entity(world, "brokers", "1", "--alter", "--add-config", "node.id=2", ok=False), "node.id")


@CONFIGS.check("says that nobody has a quota")
def quotas(world):
    world.tool("configs", "--entity-type", "clients", "--describe")
    world.tool("configs", "--entity-type", "users", "--entity-default", "--describe")


@CONFIGS.check("sets quotas")
def set_quotas(world):
    told = entity(world, "clients", "c", "--alter", "--add-config", "producer_byte_rate=1", ok=None)
    if "Completed" in told:
        return
    holds(told, "UnsupportedVersionException")
    raise Skip("AlterClientQuotas is not served, and the tool says so: no quotas yet")


@CONFIGS.check("changes levels of loggers")
def loggers(world):
    told = entity(world, "broker-loggers", "1", "--describe", ok=None)
    if "INVALID" in told.upper() or "UNSUPPORTED" in told.upper():
        raise Skip("loggers are no resource of this broker, and the tool is told so")
    holds(told, "ROOT" if "ROOT" in told else "root")
