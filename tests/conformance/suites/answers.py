"""The same odd requests to Apache Kafka and to this broker: both answer alike, but for what `answers/differences.py` gives a reason for."""
import json
import os
import subprocess
import sys

import kafka
from broker import Apache
from suite import Skip, Suite, expect

SUITE = Suite("answers", "odd requests, each to Apache Kafka and to Flumen", client="Apache Kafka's broker")
FOLDER = os.path.join(kafka.HERE, "answers")
PYTHON = os.path.join(os.path.dirname(kafka.cache()), "python/bin/python")


def told(world):
    """What the two brokers answered, asked once for all rooms."""
    if not hasattr(world, "told"):
        if not os.path.exists(PYTHON):
            raise Skip("kafka-python is not there; tools/setup test installs it")
        apache = Apache(os.path.join(world.folder, "apache")).start()
        try:
            asked = subprocess.run([PYTHON, "-B", os.path.join(FOLDER, "compare.py"), world.broker.address, apache.address],
                                   capture_output=True, text=True, timeout=kafka.PATIENCE * 5)
        finally:
            apache.kill()
        expect(asked.returncode == 0, asked.stderr)
        world.told = [json.loads(line) for line in asked.stdout.splitlines()]
    return world.told


def on_purpose():
    sys.path.insert(0, FOLDER)
    try:
        from differences import ON_PURPOSE
    finally:
        sys.path.remove(FOLDER)
    return ON_PURPOSE


def room(name, what):
    """One check for each room."""
    @SUITE.check(what)
    def check(world):
        answers = [told for told in told(world) if told["room"] == name]
        expect(len(answers) > 10, f"{len(answers)} questions were asked")
        differ = [f"{answer['asked']}: {answer['ours']}, Kafka: {answer['kafka']}" for answer in answers if "ours" in answer and answer["asked"] not in on_purpose()]
        expect(not differ, "\n".join(differ))


room("topics", "topics, partitions and configurations that are wrong, missing, or named twice")
room("records", "batches that lie, places that are not there")
room("groups", "members that are nobody, generations that are over, offsets of what is not there")
room("transactions", "transactions by whom nobody is, in epochs that are over, of partitions that were not added")


@SUITE.check("where they differ on purpose they still do")
def differences(world):
    asked = {answer["asked"]: "ours" in answer for answer in told(world)}
    expect(all(asked.get(what) for what in on_purpose()), [what for what in on_purpose() if not asked.get(what)])
