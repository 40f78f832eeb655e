"""The two brokers under test: how each is started on a folder of its own, stopped, and what it has used so far.

Both listen on loopback only. Kafka gets the JVM flags of its own start script and a heap of 1 GB, all else is its default. Nothing
here measures; see measure.py.
"""

import base64
import os
import re
import shutil
import socket
import struct
import subprocess
import time
import uuid

TICKS = os.sysconf("SC_CLK_TCK")
CACHE = os.environ.get("FLUMEN_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "flumen")
CACHE = os.path.join(CACHE, "kafka")
JVM = ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-Djava.awt.headless=true"]
LOGGING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/conformance/log4j2.yaml")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def produce_one(topic):
    """A whole Produce request, version 3: the record `x` to partition 0 with acks=all, outside of any producer's sequence."""
    now = int(time.time() * 1000)
    record = b"\x0e\0\0\0\x01\x02x\0"  # length, attributes, two deltas, no key, `x`, no headers
    checked = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    batch = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    batch = struct.pack(">qi", 0, len(batch)) + batch
    name = struct.pack(">h", len(topic)) + topic.encode()
    body = struct.pack(">hhih", 0, 3, 1, -1)  # api, version, correlation, no client id
    body += struct.pack(">hhii", -1, -1, 30_000, 1) + name + struct.pack(">iii", 1, 0, len(batch)) + batch
    return struct.pack(">i", len(body)) + body


class Failed(Exception):
    """A broker or a client did not do what was asked of it."""


def java(main, *arguments, heap="1g"):
    """The command line that runs a class, or a source file, with Kafka's jars."""
    return ["java", f"-Xms{heap}", f"-Xmx{heap}", *JVM, f"-Dlog4j2.configurationFile={LOGGING}", "-cp", f"{CACHE}/jars/*", main, *map(str, arguments)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A broker process. `page_cache` and `on_disk` are the topic settings by which acks=all means the one or the other."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        self.address = f"127.0.0.1:{self.port}"
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)

    def start(self):
        """Starts it on what its folder holds; returns when the port takes connections."""
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{self.name} does not start: see {self.folder}/log") from None
                time.sleep(0.002)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu(self):
        """CPU seconds of all threads since the start."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{self.process.pid}/status").read()).group(1)) * 1024 / 1e6


class Kafka(Broker):
    name, page_cache, on_disk = "Kafka", {}, {"flush.messages": "1"}

    def __init__(self, folder):
        super().__init__(folder)
        controller = free_port()
        properties = {
            "process.roles": "broker,controller", "node.id": 1, "log.dirs": f"{folder}/data",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER", "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1, "group.initial.rebalance.delay.ms": 0,
        }
        with open(f"{folder}/server.properties", "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in properties.items())
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().strip("=").replace("-", "A")
        tool = java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", f"{folder}/server.properties", heap="256m")
        done = subprocess.run(tool, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"Kafka's folder cannot be formatted: {done.stderr or done.stdout}")

    def command(self):
        return java("kafka.Kafka", f"{self.folder}/server.properties")


class Flumen(Broker):
    name, page_cache, on_disk = "Flumen", {"flush.mode": "async"}, {}

    def __init__(self, folder, binary):
        super().__init__(folder)
        self.binary = binary

    def command(self):
        return [self.binary, "server", "run", "--dir", f"{self.folder}/data", "--listen", self.address, "--set", "max.connections.per.ip=10000"]


def first_acknowledged(broker, topic):
    """Starts the broker, which has the topic, and returns the milliseconds until a record sent to it is acknowledged."""
    request, error_at = produce_one(topic), 4 + 4 + 2 + len(topic) + 4 + 4
    begun = time.monotonic()
    broker.start()
    while time.monotonic() < begun + 60:
        try:
            with socket.create_connection(("127.0.0.1", broker.port), 5) as peer:
                peer.sendall(request)
                size = int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big")
                answer = peer.recv(size, socket.MSG_WAITALL)
            if answer[error_at : error_at + 2] == b"\0\0":
                return (time.monotonic() - begun) * 1e3
        except OSError:
            pass
        time.sleep(0.001)
    raise Failed(f"{broker.name} acknowledged nothing within a minute")
