"""Kafka Connect: a standalone and a distributed worker with the file connectors."""
import json
import os
import time
import urllib.error
import urllib.request

import kafka
from broker import free_port
from suite import Suite, expect, until

SUITE = Suite("connect", "file connectors, standalone and distributed", client="Kafka Connect")
CONVERTERS = {"key.converter": "org.apache.kafka.connect.storage.StringConverter", "value.converter": "org.apache.kafka.connect.storage.StringConverter"}


def properties(world, name, pairs):
    return world.file(name, "".join(f"{key}={value}\n" for key, value in pairs.items()))


def rest(port, path, body=None, method=None):
    """JSON of an answer; None while there is no worker or it says 404 or 409."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return json.loads(text) if text else {}
    except urllib.error.HTTPError as error:
        if error.code in (404, 409, 500, 503):
            return None
        raise kafka.Failed(f"{path}: {error.code} {error.read()[:500]}")
    except OSError:
        return None


def append(path, numbers):
    with open(path, "a") as file:
        file.writelines(f"line {n}\n" for n in numbers)


def lines(path):
    return open(path).read().splitlines() if os.path.exists(path) else []


def source(name, file, topic):
    return {"name": name, "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1", "file": file, "topic": topic}


def sink(name, file, topic):
    return {"name": name, "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "1", "file": file, "topics": topic}


@SUITE.check("a standalone worker copies a file through a topic into a file, over a kill -9 of the broker and a clean restart of its own")
def standalone(world):
    path = lambda name: os.path.join(world.folder, name)
    port = free_port()
    worker = properties(world, "worker.properties", {
        "bootstrap.servers": world.broker.address, "offset.storage.file.filename": path("offsets"), "offset.flush.interval.ms": 500,
        "listeners": f"http://127.0.0.1:{port}", "plugin.discovery": "service_load", **CONVERTERS})
    source_file = properties(world, "source.properties", source("in", path("in.txt"), "lines"))
    sink_file = properties(world, "sink.properties", sink("out", path("out.txt"), "lines"))
    append(path("in.txt"), range(1000))
    for part in (1, 2):
        with kafka.Process("connect-standalone", worker, source_file, sink_file) as process:
            until(lambda: len(set(lines(path("out.txt")))) >= 1000 * (2 * part - 1), f"the first lines: {process.lines[-5:]}")
            expect(rest(port, "/connectors/in/status")["tasks"][0]["state"] == "RUNNING", "the source runs")
            world.broker.kill()
            world.broker.start()
            append(path("in.txt"), range(1000 * (2 * part - 1), 2000 * part))
            until(lambda: len(set(lines(path("out.txt")))) >= 2000 * part, f"the lines after the broker's death: {process.lines[-5:]}")
            time.sleep(1)
            process.stop()
        append(path("in.txt"), range(2000 * part, 2000 * part + 1000))
    found = lines(path("out.txt"))
    expect(list(dict.fromkeys(found)) == [f"line {n}" for n in range(4000)], f"{len(set(found))} lines, in their order")


@SUITE.check("a distributed worker keeps its connectors in compacted topics, with an exactly-once source, over its own kill -9")
def distributed(world):
    path = lambda name: os.path.join(world.folder, name)
    port = free_port()
    worker = properties(world, "distributed.properties", {
        "bootstrap.servers": world.broker.address, "group.id": "connect", "listeners": f"http://127.0.0.1:{port}",
        "config.storage.topic": "connect-configs", "offset.storage.topic": "connect-offsets", "status.storage.topic": "connect-status",
        **{f"{kind}.storage.replication.factor": 1 for kind in ("config", "offset", "status")},
        "exactly.once.source.support": "enabled", "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000,
        "scheduled.rebalance.max.delay.ms": 0, "plugin.discovery": "service_load", **CONVERTERS})
    append(path("once.txt"), range(2000))
    with kafka.Process("connect-distributed", worker) as process:
        until(lambda: rest(port, "/connectors") == [], f"the worker answers: {process.lines[-5:]}")
        until(lambda: rest(port, "/connectors", {"name": "once", "config": source("once", path("once.txt"), "once")}), "the source is made")
        until(lambda: rest(port, "/connectors", {"name": "file", "config": {**sink("file", path("once-out.txt"), "once"),
              "consumer.override.isolation.level": "read_committed"}}) , "the sink is made")
        until(lambda: len(lines(path("once-out.txt"))) >= 2000, f"the first lines: {process.lines[-5:]}")
        append(path("once.txt"), range(2000, 4000))
        process.kill()
    with kafka.Process("connect-distributed", worker) as process:
        until(lambda: len(set(lines(path("once-out.txt")))) == 4000, f"all lines after the worker's death: {process.lines[-5:]}")
        expect(rest(port, "/connectors/once/offsets")["offsets"], "offsets of the source are known")
        until(lambda: rest(port, "/connectors/once", method="DELETE") == {}, "the source is deleted")
        process.stop()
    read = world.consume("once", 4000, "--isolation-level", "read_committed")
    expect(read == [f"line {n}" for n in range(4000)], f"{len(set(read))} distinct lines of {len(read)}: exactly once, in order")
    told = world.tool("topics", "--describe", "--topic", "connect-.*")
    expect(told.count("cleanup.policy=compact") == 3, told)
