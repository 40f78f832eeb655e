"""One connection to a broker, requests as kafka-python encodes them, and answers as plain values that two brokers can be compared by.

Called by the rooms of this folder. What no two brokers share (ids, times, addresses, words) is taken out of an answer here.
"""
import re
import socket
import struct
import time
import uuid

from kafka.protocol import admin, consumer, metadata, producer
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

NOT_COMPARED = {"throttle_time_ms", "error_message", "cluster_id", "host", "port", "node_endpoints", "documentation"}
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ODD_ID = uuid.UUID(int=7)
PATIENCE = 30


def until(fact, what):
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


class Broker:
    """A broker that is asked; `name` makes a name that only this run has."""

    def __init__(self, address, run):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.run, self.asked = run, 0

    def name(self, name):
        return f"{self.run}-{name}"

    def ask(self, request, version, answered=True):
        """The answer as a dictionary; none to what is not answered."""
        self.asked += 1
        request.with_header(correlation_id=self.asked, client_id="answers")
        self.socket.sendall(request.encode(version=version, header=True, framed=True))
        if not answered:
            return None
        body = self._read(struct.unpack(">i", self._read(4))[0])
        name = type(request).__name__.replace("Request", "Response")
        room = next(room for room in (admin, consumer, metadata, producer) if hasattr(room, name))
        return getattr(room, name).decode(body, version=version, header=True, framed=False).to_dict()

    def topic(self, name, partitions=1, **configs):
        """Makes a topic, if it is not there, and waits until it is led."""
        asked = admin.CreateTopicsRequest
        configs = [asked.CreatableTopic.CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()]
        topic = asked.CreatableTopic(name=self.name(name), num_partitions=partitions, replication_factor=1, assignments=[], configs=configs)
        told = self.ask(asked(topics=[topic], timeout_ms=10_000, validate_only=False), 7)["topics"][0]
        assert told["error_code"] in (0, 36), told
        asked = consumer.ListOffsetsRequest
        partitions = [asked.ListOffsetsTopic.ListOffsetsPartition(partition_index=at, current_leader_epoch=-1, timestamp=-1) for at in range(partitions)]
        places = [asked.ListOffsetsTopic(name=self.name(name), partitions=partitions)]
        ready = lambda: {place["error_code"] for place in self.ask(asked(replica_id=-1, isolation_level=0, topics=places), 5)["topics"][0]["partitions"]}
        until(lambda: ready() == {0}, f"{name} is led")
        return self.name(name)

    def topic_id(self, name):
        asked = metadata.MetadataRequest
        topics = [asked.MetadataRequestTopic(name=name)]
        return self.ask(asked(topics=topics, allow_auto_topic_creation=False), 12)["topics"][0]["topic_id"]

    def warm_up(self):
        """Both coordinators answer, and producer ids are there."""
        find, init = metadata.FindCoordinatorRequest, producer.InitProducerIdRequest
        for kind in (0, 1):
            until(lambda: not self.ask(find(key_type=kind, coordinator_keys=["warm"]), 4)["coordinators"][0]["error_code"], "coordinators are there")
        for transactional_id in (None, "warm"):
            until(lambda: not self.ask(init(transactional_id=transactional_id, transaction_timeout_ms=1000), 4)["error_code"], "producer ids are there")
        until(lambda: not self.ask(admin.DescribeGroupsRequest(groups=["warm"]), 5)["groups"][0]["error_code"], "groups are loaded")

    def _read(self, count):
        read = b""
        while len(read) < count:
            more = self.socket.recv(count - len(read))
            if not more:
                raise EOFError
            read += more
        return read


def batch(*values, keys=None, timestamp=None, producer_id=-1, epoch=-1, sequence=-1, transactional=False, **lies):
    """A record batch. `lies` change fields of its header behind the library's back; the CRC is right unless it is one of them."""
    builder = DefaultRecordBatchBuilder(2, 0, transactional, producer_id, epoch, sequence, 1 << 20)
    for at, value in enumerate(values):
        now = int(time.time() * 1000) if timestamp is None else timestamp
        builder.append(at, timestamp=now, key=keys[at] if keys else None, value=value, headers=[])
    made = builder.build()
    places = {"base_offset": (0, ">q"), "length": (8, ">i"), "magic": (16, ">b"), "attributes": (21, ">h"), "last_offset_delta": (23, ">i"),
              "base_timestamp": (27, ">q"), "max_timestamp": (35, ">q"), "producer_id": (43, ">q"), "count": (57, ">i")}
    tail, crc = lies.pop("tail", b""), lies.pop("crc", None)
    made += tail
    if tail:
        struct.pack_into(">i", made, 8, len(made) - 12)
    for name, value in lies.items():
        at, form = places[name]
        struct.pack_into(form, made, at, value)
    struct.pack_into(">I", made, 17, calc_crc32c(memoryview(made)[21:]) if crc is None else crc)
    return bytes(made)


def comparable(value, key=None):
    """Without what differs between any two brokers."""
    if isinstance(value, dict):
        return {name: comparable(part, name) for name, part in value.items() if name not in NOT_COMPARED}
    if isinstance(value, (list, tuple)):
        return [comparable(part, key) for part in value]
    if isinstance(value, uuid.UUID):
        return "an id" if value.int else None
    if isinstance(value, str):
        return ID.sub("an id", value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if key == "producer_id" and value >= 0:
            return "a producer id"
        return "a time" if 10**12 < value < 2**53 else value
    return value
