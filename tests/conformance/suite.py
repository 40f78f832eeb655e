"""A suite: checks in the order of their file, on one broker; each check is a sentence and a function.

`suites/*.py` make one each; `run` carries them out.
"""
import json
import os
import shutil
import tempfile
import time

import kafka


class Skip(Exception):
    """A check that does not apply; the text says why."""


class Suite:
    """`name` is for the command line, `title` and `client` for the table; `settings` are the broker's."""

    def __init__(self, name, title, client="Apache Kafka's tools", **settings):
        self.name, self.title, self.client, self.settings, self.checks = name, title, client, settings, []

    def check(self, what):
        """Adds a check."""
        def add(function):
            self.checks.append((what, function))
            return function
        return add


class World:
    """What a check works with: a running broker, a folder, Kafka's programs."""

    def __init__(self, suite, broker):
        self.folder = tempfile.mkdtemp(prefix="flumen-conformance-")
        self.broker = broker(os.path.join(self.folder, "broker"), **suite.settings).start()

    def close(self, keep):
        self.broker.kill()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def tool(self, program, *arguments, **how):
        """Runs a tool against the broker."""
        return kafka.run(program, "--bootstrap-server", self.broker.address, *arguments, **how)

    def beside(self, program, *arguments, **how):
        """Starts a tool that goes on beside the test."""
        return kafka.Process(program, "--bootstrap-server", self.broker.address, *arguments, **how)

    def file(self, name, text):
        """A file in the folder of this suite."""
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def properties(self, name, **pairs):
        return self.file(name, "".join(f"{key.replace('_', '.')}={value}\n" for key, value in pairs.items()))

    def create(self, topic, partitions=1, **configs):
        arguments = ["--create", "--topic", topic, "--partitions", partitions]
        for key, value in configs.items():
            arguments += ["--config", f"{key.replace('_', '.')}={value}"]
        return self.tool("topics", *arguments)

    def produce(self, topic, lines, *arguments):
        """One record a line."""
        return self.tool("console-producer", "--topic", topic, *arguments, input="".join(f"{line}\n" for line in lines))

    def consume(self, topic, count, *arguments):
        """The next `count` records from the beginning, one line each."""
        return self.tool("console-consumer", "--topic", topic, "--from-beginning", "--max-messages", count,
                         "--timeout-ms", 60_000, *arguments).out.splitlines()

    def offsets(self, topic, time="latest"):
        """Offset by partition, as `get-offsets` tells them."""
        told = self.tool("get-offsets", "--topic", topic, "--time", time)
        return {int(p): int(offset) if offset else None for _, p, offset in (line.split(":") for line in told.splitlines() if line.count(":") == 2)}


def events(lines, name):
    """The JSON lines that the verifiable clients print."""
    found = []
    for line in lines:
        if line.startswith("{"):
            event = json.loads(line)
            if event.get("name") == name:
                found.append(event)
    return found


def objects(text):
    """The JSON objects in a text that follow each other without separators, as Kafka's formatters write them."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def expect(fact, told):
    """Fails with what was told instead."""
    if not fact:
        raise kafka.Failed(f"not as expected: {told}")


def holds(text, *parts):
    """Every part stands in the text."""
    for part in parts:
        if str(part) not in text:
            raise kafka.Failed(f"{part!r} is not in: {text.strip()[-1500:]}")
    return text


def until(fact, what, patience=kafka.PATIENCE):
    """Waits for a fact."""
    deadline = time.monotonic() + patience
    while not (found := fact()):
        if time.monotonic() > deadline:
            raise kafka.Failed(f"waited in vain: {what}")
        time.sleep(0.2)
    return found
