"""Groups: members that are nobody, generations that are over, offsets of what is not there."""
from kafka.protocol import admin, consumer, metadata

from wire import ODD_ID

QUESTIONS = []
SUBSCRIPTION = b"\0\1\0\0\0\0\xff\xff\xff\xff"


def question(what, asked):
    QUESTIONS.append((what, asked))


def find(broker, kind, *keys, version=4):
    return broker.ask(metadata.FindCoordinatorRequest(key_type=kind, key=keys[0] if keys else "", coordinator_keys=list(keys)), version)


question("coordinators of groups", lambda b: find(b, 0, b.name("g"), ""))
question("coordinators of transactions", lambda b: find(b, 1, b.name("t"), ""))
question("coordinators of what is unknown", lambda b: [find(b, 9, "x"), find(b, 0)])
question("a coordinator, version 0", lambda b: find(b, 0, b.name("g"), version=0))


def join(broker, group, member="", instance=None, protocols=(("range", SUBSCRIPTION),), kind="consumer", session=10_000):
    asked = consumer.JoinGroupRequest
    protocols = [asked.JoinGroupRequestProtocol(name=name, metadata=data) for name, data in protocols]
    return broker.ask(asked(group_id=group, session_timeout_ms=session, rebalance_timeout_ms=10_000, member_id=member, group_instance_id=instance, protocol_type=kind,
                            protocols=protocols, reason=None), 9)


def joined(broker, group):
    """In its first generation."""
    told = join(broker, group)
    return join(broker, group, told["member_id"])


def sync(broker, group, generation, member, assignments=(), instance=None, kind="consumer", protocol="range"):
    asked = consumer.SyncGroupRequest
    assignments = [asked.SyncGroupRequestAssignment(member_id=member, assignment=assignment) for member, assignment in assignments]
    return broker.ask(asked(group_id=group, generation_id=generation, member_id=member, group_instance_id=instance, protocol_type=kind, protocol_name=protocol,
                            assignments=assignments), 5)


def beat(broker, group, generation, member, instance=None):
    return broker.ask(consumer.HeartbeatRequest(group_id=group, generation_id=generation, member_id=member, group_instance_id=instance), 4)["error_code"]


def leave(broker, group, *members):
    asked = consumer.LeaveGroupRequest
    members = [asked.MemberIdentity(member_id=member, group_instance_id=instance, reason=None) for member, instance in members]
    return broker.ask(asked(group_id=group, members=members), 5)


def describe(broker, *groups):
    told = broker.ask(admin.DescribeGroupsRequest(groups=list(groups), include_authorized_operations=False), 6)["groups"]
    return sorted((group["group_id"], group["error_code"], group["group_state"], group["protocol_type"], group["protocol_data"], len(group["members"])) for group in told)


for what, how in (("no protocols", {"protocols": ()}), ("no kind", {"kind": ""}), ("too short a session", {"session": 10}), ("too long a session", {"session": 2**31 - 1}),
                  ("an unknown member", {"member": "nobody"}), ("an instance with a space", {"instance": "a b"}), ("an instance that is too long", {"instance": "x" * 300}),
                  ("an unknown member and an instance", {"member": "nobody", "instance": "i"})):
    question(f"join with {what}", lambda b, what=what, how=how: join(b, b.name(what), **how))
question("join a group without a name", lambda b: join(b, ""))
question("join", lambda b: joined(b, b.name("first")))


def life(broker):
    """One member from its join to its leave, with every call it may get wrong."""
    group = broker.name("life")
    told = joined(broker, group)
    member, generation = told["member_id"], told["generation_id"]
    yield told
    yield beat(broker, group, generation, member), commit(broker, group, generation, member, (broker.topic("life"), 0, 1))
    yield [sync(broker, group, *wrong)["error_code"] for wrong in ((generation + 1, member), (generation, "nobody"))]
    yield [sync(broker, group, generation, member, **wrong)["error_code"] for wrong in ({"kind": "connect"}, {"protocol": "sticky"})]
    yield sync(broker, group, generation, member, [(member, b"mine")]), sync(broker, group, generation, member)
    yield [beat(broker, *wrong) for wrong in ((group, generation, member), (group, generation + 1, member), (group, -1, member), (group, generation, "nobody"),
                                              (group, generation, member, "i"), (broker.name("nobody"), 1, member), ("", 1, member))]
    yield [join(broker, group, **wrong)["error_code"] for wrong in ({"protocols": (("foo", b""),)}, {"kind": "connect"})]
    yield join(broker, group, member)
    yield describe(broker, group)
    yield leave(broker, group, ("nobody", None)), leave(broker, group, ("", "i")), leave(broker, group, (member, None)), leave(broker, group, (member, None))
    yield beat(broker, group, generation, member), leave(broker, broker.name("nobody"), ("x", None)), describe(broker, group, broker.name("nobody"))


question("the life of a member", lambda b: list(life(b)))


def static(broker):
    """A static member that comes back, and its former self."""
    group, instance = broker.name("static"), "the-one"
    told = join(broker, group, instance=instance)
    old, generation = told["member_id"], told["generation_id"]
    yield sync(broker, group, generation, old, [(old, b"mine")], instance)
    told = join(broker, group, instance=instance)
    new = told["member_id"]
    yield told
    yield beat(broker, group, generation, old, instance), sync(broker, group, generation, old, instance=instance)["error_code"], join(broker, group, old, instance)["error_code"]
    yield commit(broker, group, generation, old, (broker.topic("life"), 0, 1), instance=instance), leave(broker, group, (old, instance))
    yield sync(broker, group, told["generation_id"], new, instance=instance), beat(broker, group, told["generation_id"], new, instance)
    yield leave(broker, group, ("", instance)), describe(broker, group)


question("a static member that comes back", lambda b: list(static(b)))


def commit(broker, group, generation, member, *offsets, instance=None, note="note"):
    """Offsets as (topic, partition, offset)."""
    asked = consumer.OffsetCommitRequest
    given = asked.OffsetCommitRequestTopic
    topics = [given(name=topic, partitions=[given.OffsetCommitRequestPartition(partition_index=number, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=note)])
              for topic, number, offset in offsets]
    told = broker.ask(asked(group_id=group, generation_id_or_member_epoch=generation, member_id=member, group_instance_id=instance, topics=topics), 8)["topics"]
    return sorted((partition["partition_index"], partition["error_code"]) for topic in told for partition in topic["partitions"])


def simple(what, *where, group="simple", generation=-1, member="", **how):
    question(f"commit {what}", lambda b: commit(b, group and b.name(group), generation, member, *[(b.topic("life") if topic else b.name("nobody"), *place) for topic, *place in where], **how))


simple("outside of a generation", (True, 0, 5), (True, 7, 1), (False, 0, 1))
simple("a negative offset", (True, 0, -5))
simple("without a group", (True, 0, 5), group="")
simple("to a group that is not there, in a generation", (True, 0, 5), group="nobody", generation=3, member="m")
simple("as an unknown member", (True, 0, 5), member="nobody")
simple("as an instance", (True, 0, 5), instance="i")
simple("with too long a note", (True, 0, 5), note="x" * 5000)
simple("nothing")
simple("in a group that has members", (True, 0, 5), group="first")


def committed(broker, *groups, stable=False):
    """Groups as (name, topics or None)."""
    asked = consumer.OffsetFetchRequest
    given = asked.OffsetFetchRequestGroup
    places = lambda topics: [given.OffsetFetchRequestTopics(name=topic, partition_indexes=numbers) for topic, numbers in topics]
    groups = [given(group_id=group, member_id=None, member_epoch=-1, topics=None if topics is None else places(topics)) for group, topics in groups]
    told = broker.ask(asked(groups=groups, require_stable=stable), 8)["groups"]
    offsets = lambda topic: [(one["partition_index"], one["committed_offset"], one["committed_leader_epoch"], one["metadata"], one["error_code"]) for one in topic["partitions"]]
    return [(group["group_id"], group["error_code"], sorted((topic["name"], offsets(topic)) for topic in group["topics"] if broker.run in topic["name"])) for group in told]


question("offsets committed", lambda b: committed(b, (b.name("simple"), [(b.name("life"), [0, 1, 7]), (b.name("nobody"), [0])])))
question("offsets committed, all", lambda b: [committed(b, (group, None)) for group in (b.name("simple"), b.name("nobody"), "")])


def forget(broker, group, *offsets):
    asked = consumer.OffsetDeleteRequest
    given = asked.OffsetDeleteRequestTopic
    topics = [given(name=topic, partitions=[given.OffsetDeleteRequestPartition(partition_index=number)]) for topic, number in offsets]
    told = broker.ask(asked(group_id=group, topics=topics), 0)
    return told["error_code"], sorted((one["partition_index"], one["error_code"]) for topic in told["topics"] for one in topic["partitions"])


question("offsets deleted", lambda b: [forget(b, group, (b.name("life"), 0), (b.name("life"), 9), (b.name("nobody"), 0)) for group in (b.name("simple"), b.name("nobody"), "")])


def delete(broker, *groups):
    told = broker.ask(admin.DeleteGroupsRequest(groups_names=list(groups)), 2)["results"]
    return sorted((result["group_id"], result["error_code"]) for result in told)


question("groups deleted", lambda b: delete(b, b.name("nobody"), b.name("first"), b.name("life"), b.name("life")))
question("offsets committed by the id of no topic", lambda b: b.ask(consumer.OffsetCommitRequest(
    group_id=b.name("simple"), generation_id_or_member_epoch=-1, member_id="", topics=[consumer.OffsetCommitRequest.OffsetCommitRequestTopic(
        topic_id=ODD_ID, partitions=[consumer.OffsetCommitRequest.OffsetCommitRequestTopic.OffsetCommitRequestPartition(partition_index=0, committed_offset=1, committed_metadata="")])]), 10))
