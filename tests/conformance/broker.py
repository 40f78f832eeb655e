"""The brokers under test as child processes: Flumen's release binary, and Apache Kafka for what both have to read.

Owns processes, folders and ports. A broker lives on a folder of its own and is killed when its test is over.
"""
import os
import signal
import socket
import subprocess
import time

import kafka


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Flumen:
    """`flumen server run` on `folder`; started again on the same port."""
    binary = None  # set by `run`

    def __init__(self, folder, **settings):
        self.folder, self.data, self.port, self.child = folder, os.path.join(folder, "data"), free_port(), None
        self.settings = {"group.initial.rebalance.delay.ms": 0, **{key.replace("_", "."): value for key, value in settings.items()}}
        os.makedirs(folder, exist_ok=True)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        arguments = [self.binary, "server", "run", "--listen", self.address, "--dir", self.data]
        for key, value in self.settings.items():
            arguments += ["--set", f"{key}={value}"]
        self.log_file = open(os.path.join(self.folder, "server.log"), "a")
        self.child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log_file, text=True)
        first = self.child.stdout.readline()
        if "ready on" not in first:
            raise kafka.Failed(f"the broker did not get ready: {first!r}\n{self.log()[-2000:]}")
        return self

    def kill(self):
        """kill -9."""
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child.stdout.close()
            self.log_file.close()
            self.child = None

    def stop(self):
        """SIGTERM, the clean way."""
        self.child.send_signal(signal.SIGTERM)
        code = self.child.wait(kafka.PATIENCE)
        self.kill()
        if code:
            raise kafka.Failed(f"the broker stopped with {code}: {self.log()[-2000:]}")

    def log(self):
        with open(os.path.join(self.folder, "server.log")) as log:
            return log.read()

    def partition(self, topic, number=0):
        return os.path.join(self.data, f"{topic}-{number}")


class Apache:
    """Apache Kafka, one node, broker and controller in one."""

    def __init__(self, folder, **settings):
        self.folder, self.data, self.port, self.process = folder, os.path.join(folder, "data"), free_port(), None
        os.makedirs(folder, exist_ok=True)
        controller = free_port()
        properties = {
            "process.roles": "broker,controller", "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self.data, "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1, "transaction.state.log.min.isr": 1,
            **{key.replace("_", "."): value for key, value in settings.items()},
        }
        self.properties = os.path.join(folder, "server.properties")
        with open(self.properties, "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in properties.items())
        cluster = kafka.run("storage", "random-uuid").split()[-1]
        kafka.run("storage", "format", "-t", cluster, "-c", self.properties, "--standalone")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.process = kafka.Process("server", self.properties, heap="1g")
        deadline = time.monotonic() + kafka.PATIENCE
        while True:
            try:
                kafka.run("broker-api-versions", "--bootstrap-server", self.address)
                return self
            except (kafka.Failed, subprocess.TimeoutExpired):
                if time.monotonic() > deadline or self.process.child.poll() is not None:
                    raise kafka.Failed("Apache Kafka did not get ready: " + "\n".join(self.process.lines[-20:]))

    def stop(self):
        self.process.stop()
        self.process = None

    def kill(self):
        if self.process:
            self.process.kill()
            self.process = None

    def log(self):
        return "\n".join(self.process.lines) if self.process else ""

    def partition(self, topic, number=0):
        return os.path.join(self.data, f"{topic}-{number}")
