"""Transactions: by whom nobody is, in epochs that are over, of partitions that were not added; and what is told of them."""
import time

from kafka.protocol import admin, producer

from groups import committed
from records import list_offsets
from wire import batch

QUESTIONS = []
CONCURRENT = 51


def question(what, asked):
    QUESTIONS.append((what, asked))


def init(broker, transactional_id, timeout=60_000, producer_id=-1, epoch=-1):
    request = producer.InitProducerIdRequest
    return broker.ask(request(transactional_id=transactional_id, transaction_timeout_ms=timeout, producer_id=producer_id, producer_epoch=epoch), 4)


def again(act, code=lambda told: told):
    """Until the transaction before is completed, which takes either broker a moment."""
    while True:
        told = act()
        if code(told) != CONCURRENT:
            return told
        time.sleep(0.02)


for what, given in (("an empty id", ("", 60_000)), ("no time", ("t", 0)), ("a negative time", ("t", -1)), ("too much time", ("t", 10**8)), ("no id", (None, 60_000)),
                    ("a producer id without an epoch", ("t", 60_000, 5, -1)), ("the producer id of somebody", ("other", 60_000, 500_000, 0))):
    question(f"init with {what}", lambda b, given=given: init(b, given[0] and b.name(given[0]), *given[1:]) if given[0] != "" else init(b, *given))


class Work:
    """A producer that may say everything wrong."""

    def __init__(self, broker, name):
        self.broker, self.id = broker, broker.name(name)
        told = again(lambda: init(broker, self.id), lambda told: told["error_code"])
        self.producer_id, self.epoch = told["producer_id"], told["producer_epoch"]
        self.topics = {name: broker.topic(name, 2) for name in ("t", "u")}

    def add(self, *partitions, producer_id=0, epoch=0, name=None):
        """Partitions as (topic, numbers)."""
        asked = producer.AddPartitionsToTxnRequest
        topics = [asked.AddPartitionsToTxnTopic(name=self.topics.get(topic, self.broker.name(topic)), partitions=numbers) for topic, numbers in partitions]
        told = self.broker.ask(asked(v3_and_below_transactional_id=name or self.id, v3_and_below_producer_id=self.producer_id + producer_id,
                                     v3_and_below_producer_epoch=self.epoch + epoch, v3_and_below_topics=topics), 3)
        return sorted(one["partition_error_code"] for topic in told["results_by_topic_v3_and_below"] for one in topic["results_by_partition"])

    def send(self, topic, number, sequence, version=9, epoch=0, transactional=True):
        asked = producer.ProduceRequest
        records = batch(b"v", producer_id=self.producer_id, epoch=self.epoch + epoch, sequence=sequence, transactional=transactional)
        data = asked.TopicProduceData
        data = [data(name=self.topics[topic], partition_data=[data.PartitionProduceData(index=number, records=records)])]
        told = self.broker.ask(asked(transactional_id=self.id, acks=-1, timeout_ms=5000, topic_data=data), version)
        return told["responses"][0]["partition_responses"][0]["error_code"]

    def add_offsets(self, group, epoch=0):
        request = producer.AddOffsetsToTxnRequest
        return self.broker.ask(request(transactional_id=self.id, producer_id=self.producer_id, producer_epoch=self.epoch + epoch, group_id=group), 3)["error_code"]

    def commit_offset(self, group, number=0, epoch=0, generation=-1, member="", version=3):
        asked = producer.TxnOffsetCommitRequest
        given = asked.TxnOffsetCommitRequestTopic
        topics = [given(name=self.topics["t"], partitions=[given.TxnOffsetCommitRequestPartition(partition_index=number, committed_offset=3, committed_leader_epoch=-1, committed_metadata="")])]
        told = self.broker.ask(asked(transactional_id=self.id, group_id=group, producer_id=self.producer_id, producer_epoch=self.epoch + epoch, generation_id=generation,
                                     member_id=member, group_instance_id=None, topics=topics), version)
        return told["topics"][0]["partitions"][0]["error_code"]

    def end(self, commits, version=3, epoch=0):
        request = producer.EndTxnRequest
        ask = lambda: self.broker.ask(request(transactional_id=self.id, producer_id=self.producer_id, producer_epoch=self.epoch + epoch, committed=commits), version)
        told = again(ask, lambda told: told["error_code"])
        return told["error_code"], told.get("producer_epoch") if version >= 5 else None

    def described(self):
        states = self.broker.ask(admin.DescribeTransactionsRequest(transactional_ids=[self.id, self.broker.name("nobody")]), 0)["transaction_states"]
        return [(state["error_code"], state["transaction_state"], len(state["topics"])) for state in states]


def before_kip_890(broker):
    work, group = Work(broker, "v1"), broker.name("with-offsets")
    yield work.epoch, work.end(True), work.end(False), work.send("t", 0, 0)
    yield work.add(("t", [0]), ("u", [0, 1])), work.add(("t", [0]), ("nobody", [0])), work.add(("t", [7])), work.add()
    yield work.add(("t", [0]), epoch=1), work.add(("t", [0]), epoch=-1), work.add(("t", [0]), producer_id=1), work.add(("t", [0]), name=broker.name("nobody"))
    yield work.send("t", 0, 0), work.send("t", 0, 0), work.send("t", 0, 5), work.send("t", 0, 1, transactional=False), work.send("t", 1, 0)
    yield work.add_offsets(group), work.add_offsets(""), work.add_offsets(group, epoch=-1)
    yield work.commit_offset(group), work.commit_offset(group, 8), work.commit_offset(group, epoch=-1), work.commit_offset(group, generation=5, member="x"), work.commit_offset(broker.name("other"))
    yield [committed(broker, (group, [(work.topics["t"], [0])]), stable=stable) for stable in (False, True)]
    yield work.described(), work.end(True), work.end(True), work.end(False)
    yield committed(broker, (group, [(work.topics["t"], [0])]), stable=True)
    successor = Work(broker, "v1")
    yield successor.epoch - work.epoch, successor.producer_id == work.producer_id, work.send("t", 0, 1), work.end(True), successor.described()


def since_kip_890(broker):
    work = Work(broker, "v2")
    yield work.end(True, 5), work.end(False, 5)
    work = Work(broker, "v2")
    yield work.send("t", 0, 0, 12), work.send("t", 0, 1, 12), work.send("t", 1, 5, 12), work.commit_offset(broker.name("with-offsets"), version=5)
    yield work.described(), work.end(True, 5), work.end(True, 5), work.end(False, 5), work.send("t", 0, 2, 12)
    work.epoch += 1
    yield work.send("t", 0, 0, 12), work.end(True, 5, epoch=1), work.end(False, 5), work.end(False, 5)
    work.epoch += 1
    yield work.end(False, 5), work.end(True, 5, epoch=1), work.described()


def late_commit(broker):
    work = Work(broker, "late")
    yield work.send("t", 0, 0, 12), work.end(False, 5), work.end(True, 5)


question("a transaction of the old protocol", lambda b: list(before_kip_890(b)))
question("a transaction of KIP-890", lambda b: list(since_kip_890(b)))
question("a commit behind the abort of its transaction", lambda b: list(late_commit(b)))
question("nothing of either is open", lambda b: [list_offsets(b, b.topic("t", 2), (number, -1, -1)) for number in (0, 1)])


def listed(broker, states=(), longer_than=-1, pattern=None):
    request = admin.ListTransactionsRequest
    more = {} if pattern is None else {"transactional_id_pattern": pattern}
    told = broker.ask(request(state_filters=list(states), producer_id_filters=[], duration_filter=longer_than, **more), 1 if pattern is None else 2)
    ours = [(state["transactional_id"], state["transaction_state"]) for state in told["transaction_states"] if broker.run in state["transactional_id"]]
    return told["error_code"], told["unknown_state_filters"], sorted(ours)


question("transactions listed", lambda b: [listed(b), listed(b, ["Ongoing"]), listed(b, ["Foo", "Empty"]), listed(b, pattern=".*v1"), listed(b, pattern="((")])


def producers(broker, topic, *numbers):
    asked = admin.DescribeProducersRequest
    told = broker.ask(asked(topics=[asked.TopicRequest(name=topic, partition_indexes=list(numbers))]), 0)["topics"][0]["partitions"]
    state = lambda producer: (producer["producer_epoch"], producer["last_sequence"], producer["current_txn_start_offset"])
    return sorted((one["partition_index"], one["error_code"], sorted(map(state, one["active_producers"]))) for one in told)


question("producers described", lambda b: [producers(b, b.topic("t", 2), 0, 9), producers(b, b.name("nobody"), 0)])
