"""Topics, partitions and configurations: what is wrong, missing, or named twice."""
import uuid

from kafka.protocol import admin, metadata

from wire import ODD_ID

QUESTIONS = []
TOPIC, BROKER = 2, 4


def question(what, asked):
    QUESTIONS.append((what, asked))


def create(broker, *topics, validate=False):
    """Topics as (name, partitions, replicas, configs, assignments), the last two left out at will."""
    asked = admin.CreateTopicsRequest
    made = []
    for name, partitions, replicas, *rest in topics:
        configs, assignments = (rest + [{}, []][len(rest):])[:2]
        made.append(asked.CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=replicas,
            assignments=[asked.CreatableTopic.CreatableReplicaAssignment(partition_index=at, broker_ids=ids) for at, ids in assignments],
            configs=[asked.CreatableTopic.CreatableTopicConfig(name=key, value=value) for key, value in configs.items()]))
    told = broker.ask(asked(topics=made, timeout_ms=10_000, validate_only=validate), 7)["topics"]
    keys = ("name", "error_code", "num_partitions", "replication_factor")
    return sorted([[topic.get(key) for key in keys] + [topic.get("topic_id") is None] for topic in told], key=str)


def one(what, *topic, validate=False, exists=False):
    name = "exists" if exists else f"made{len(QUESTIONS)}"
    question(f"create {what}", lambda broker: [exists and bool(broker.topic(name)), create(broker, (broker.name(name), *topic), validate=validate)])


question("create the same topic twice in a request", lambda b: create(b, (b.name("twice"), 1, 1), (b.name("twice"), 2, 1)))
one("with defaults", -1, -1)
one("what is only validated", 3, 1, validate=True)
one("what exists", 1, 1, exists=True)
one("what exists, only validated", 1, 1, validate=True, exists=True)
for partitions, replicas in ((0, 1), (-2, 1), (1, 0), (1, -2), (1, 2)):
    one(f"{partitions} partitions of {replicas} replicas", partitions, replicas)
for what, assignments in (("a gap", [(0, [1]), (2, [1])]), ("an unknown broker", [(0, [9])]), ("a broker twice", [(0, [1, 1])]), ("no broker", [(0, [])])):
    one(f"assigned by hand with {what}", -1, -1, {}, assignments)
one("assigned by hand, and counted", 2, 1, {}, [(0, [1])])
for key, value in (("retention.ms", None), ("retention.ms", "x"), ("no.such.key", "1")):
    one(f"with {key}={value}", 1, 1, {key: value})
for name in ("", ".", "..", "a b", "x" * 250, "ü", "__consumer_offsets"):
    question(f"create a topic named {name[:20]!r}", lambda b, name=name: create(b, (name, 1, 1)))
question("create nothing", lambda b: create(b))
question("create what collides", lambda b: [create(b, (b.name("col.li"), 1, 1)), create(b, (b.name("col_li"), 1, 1))])


def grow(broker, *topics, validate=False):
    asked = admin.CreatePartitionsRequest
    given = asked.CreatePartitionsTopic
    topics = [given(name=name, count=count, assignments=None if by_hand is None else [given.CreatePartitionsAssignment(broker_ids=ids) for ids in by_hand])
              for name, count, by_hand in topics]
    told = broker.ask(asked(topics=topics, timeout_ms=10_000, validate_only=validate), 3)["results"]
    return sorted((result["name"], result["error_code"]) for result in told)


for what, count, by_hand in (("fewer", 1, None), ("as many", 2, None), ("-1", -1, None), ("more, too many by hand", 4, [[1]]), ("more, on an unknown broker", 3, [[9]]),
                             ("more, nowhere", 3, []), ("more", 3, [[1]])):
    question(f"partitions: {what}", lambda b, count=count, by_hand=by_hand: grow(b, (b.topic("grows", 2), count, by_hand)))
question("partitions of an unknown topic", lambda b: grow(b, (b.name("nobody"), 2, None)))
question("partitions of one topic twice", lambda b: grow(b, (b.name("grows"), 5, None), (b.name("grows"), 6, None)))


def delete(broker, names=(), ids=()):
    asked = admin.DeleteTopicsRequest
    states = [asked.DeleteTopicState(name=name) for name in names] + [asked.DeleteTopicState(name=None, topic_id=topic_id) for topic_id in ids]
    told = broker.ask(asked(topics=states, timeout_ms=10_000), 6)["responses"]
    return sorted({result["error_code"] for result in told})


question("delete an unknown topic", lambda b: delete(b, [b.name("nobody")]))
question("delete a topic twice in a request", lambda b: delete(b, [b.topic("gone")] * 2))
question("delete a topic by name and by id", lambda b: delete(b, [b.name("gone")], [b.topic_id(b.name("gone"))]))
question("it is still there", lambda b: delete(b, [b.name("gone")]))
question("delete an unknown id", lambda b: delete(b, ids=[ODD_ID]))
question("delete no id", lambda b: delete(b, ids=[uuid.UUID(int=0)]))


def describe(broker, *names, version=12):
    asked = metadata.MetadataRequest
    topics = [asked.MetadataRequestTopic(name=name) for name in names]
    return broker.ask(asked(topics=topics, allow_auto_topic_creation=False), version)["topics"]


for version in (0, 9, 12):
    question(f"metadata of what exists, version {version}", lambda b, version=version: describe(b, b.topic("seen"), version=version))
question("metadata of what does not exist", lambda b: describe(b, b.name("nobody")))
question("metadata of names that nothing can have", lambda b: [describe(b, "a b"), describe(b, "")])
question("metadata of one topic twice", lambda b: describe(b, b.name("seen"), b.name("seen")))


def alter(broker, *resources, validate=False):
    """Resources as (type, name, (key, operation, value)...)."""
    asked = admin.IncrementalAlterConfigsRequest
    given = asked.AlterConfigsResource
    resources = [given(resource_type=kind, resource_name=name, configs=[given.AlterableConfig(name=key, config_operation=how, value=value) for key, how, value in changes])
                 for kind, name, *changes in resources]
    told = broker.ask(asked(resources=resources, validate_only=validate), 1)["responses"]
    return sorted((result["resource_name"], result["error_code"]) for result in told)


def configs(broker, kind, name, *keys):
    asked = admin.DescribeConfigsRequest
    resource = asked.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys))
    told = broker.ask(asked(resources=[resource], include_synonyms=False, include_documentation=False), 4)["results"][0]
    return told["error_code"], sorted((config["name"], config["value"], config["config_source"], config["config_type"]) for config in told["configs"])


SET, DELETE, APPEND, SUBTRACT = range(4)
for what, *changes in (  # one after the other, of the same topic
        ("set", ("retention.ms", SET, "7000")),
        ("a key twice", ("retention.ms", SET, "1"), ("retention.ms", DELETE, None)),
        ("append to a list", ("cleanup.policy", APPEND, "compact")),
        ("append what is there", ("cleanup.policy", APPEND, "compact")),
        ("subtract", ("cleanup.policy", SUBTRACT, "delete")),
        ("subtract the rest", ("cleanup.policy", SUBTRACT, "compact")),
        ("append to a number", ("retention.ms", APPEND, "1")),
        ("an unknown operation", ("retention.ms", 9, "1")),
        ("set to null", ("retention.ms", SET, None)),
        ("take back", ("retention.ms", DELETE, None)),
        ("take back an unknown key", ("no.such.key", DELETE, None)),
        ("an empty number", ("retention.ms", SET, "")),
        ("an unknown key", ("no.such.key", SET, "1")),
        ("a number out of bounds", ("retention.ms", SET, "-2")),
        ("nothing",)):
    question(f"configuration: {what}", lambda b, changes=changes: [
        alter(b, (TOPIC, b.topic("set"), *changes)), configs(b, TOPIC, b.name("set"), "retention.ms", "cleanup.policy")])
question("configuration: only validated", lambda b: [alter(b, (TOPIC, b.name("set"), ("retention.ms", SET, "9")), validate=True), configs(b, TOPIC, b.name("set"), "retention.ms")])
question("configuration of an unknown topic", lambda b: [alter(b, (TOPIC, b.name("nobody"), ("retention.ms", SET, "1"))), configs(b, TOPIC, b.name("nobody"))])
question("configuration of no topic", lambda b: [alter(b, (TOPIC, "", ("retention.ms", SET, "1"))), configs(b, TOPIC, "a b")])
question("configuration of one topic twice", lambda b: alter(b, *[(TOPIC, b.name("set"), ("retention.ms", SET, "1"))] * 2))
question("configuration of what has none", lambda b: [alter(b, (3, "x", ("a", SET, "1"))), configs(b, 77, "x")])
question("configuration of another broker", lambda b: [alter(b, (BROKER, "9", ("log.retention.ms", SET, "3"))), configs(b, BROKER, "9"), alter(b, (BROKER, "x", ("log.retention.ms", SET, "3")))])
question("configuration that a broker keeps from its start", lambda b: [alter(b, (BROKER, "1", (key, SET, "3"))) for key in ("num.partitions", "log.dirs")])
