"""Partitions written by Apache Kafka are read by this broker, and the reverse: the same files."""
import glob
import os
import shutil

import kafka
from broker import Apache, Flumen
from suite import Suite, expect, holds

SUITE = Suite("directories", "log directories of Apache Kafka and of Flumen", client="Apache Kafka's broker")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def fill(address):
    """The same topics on either broker: codecs in several segments, transactions with an abort."""
    tool = lambda program, *arguments, **how: kafka.run(program, "--bootstrap-server", address, *arguments, **how)
    tool("topics", "--create", "--topic", "codecs", "--config", "segment.bytes=1048576")
    tool("topics", "--create", "--topic", "ended")
    for codec in CODECS:
        lines = "".join(f"{codec}-{n}-{'x' * 300}\n" for n in range(2000))
        tool("console-producer", "--topic", "codecs", "--compression-codec", codec, input=lines)
    for number, how in enumerate(("commit", "abort", "commit")):
        with kafka.Process("OpenTransaction", address, f"mover-{number}", "ended") as producer:
            producer.says("open at")
            producer.child.stdin.write(how + "\n")
            producer.child.stdin.flush()
            producer.end()


def check(address):
    """What `fill` wrote, as clients see it."""
    tool = lambda program, *arguments, **how: kafka.run(program, "--bootstrap-server", address, *arguments, **how)
    read = tool("console-consumer", "--topic", "codecs", "--from-beginning", "--max-messages", 10_000, "--timeout-ms", 60_000)
    expected = [f"{codec}-{n}-{'x' * 300}" for codec in CODECS for n in range(2000)]
    expect(read.out.splitlines()[:10_000] == expected, read[:200])
    read = tool("console-consumer", "--topic", "ended", "--from-beginning", "--timeout-ms", 8000, "--isolation-level", "read_committed", ok=None)
    expect("within mover-0" in read and "within mover-1" not in read and "within mover-2" in read, read)
    holds(tool("get-offsets", "--topic", "codecs"), "codecs:0:10000")
    holds(tool("get-offsets", "--topic", "codecs", "--time", "1000"), "codecs:0:0")
    # Appends go on behind what was there, transactions of the same ids too.
    tool("console-producer", "--topic", "codecs", input="after\n")
    read = tool("console-consumer", "--topic", "codecs", "--partition", 0, "--offset", 10_000, "--max-messages", 1, "--timeout-ms", 30_000)
    expect(read.out.splitlines()[0] == "after", read)


def move(source, target, *topics):
    """Gives the files of partitions to a broker that has topics of these names, all but the topic's id."""
    for topic in topics:
        target_dir = target.partition(topic)
        kept = os.path.join(target_dir, "partition.metadata")
        for file in glob.glob(os.path.join(target_dir, "*")) + glob.glob(os.path.join(target_dir, ".*")):
            if file != kept:
                os.remove(file)
        for file in glob.glob(os.path.join(source.partition(topic), "*")):
            if not file.endswith(("partition.metadata", ".crc32c")):
                shutil.copy2(file, target_dir)
    for name in ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown"):
        for file in (name, name + ".crc32c"):
            if os.path.exists(os.path.join(target.data, file)):
                os.remove(os.path.join(target.data, file))


def apache(world):
    if not hasattr(world, "apache"):
        world.apache = Apache(os.path.join(world.folder, "apache"))
    return world.apache


@SUITE.check("Flumen serves partitions that Apache Kafka wrote and closed cleanly, and goes on behind them")
def from_apache(world):
    fill(apache(world).start().address)
    world.apache.stop()
    _read_by_flumen(world, "clean")


@SUITE.check("and those of an Apache Kafka that was killed")
def from_killed(world):
    world.apache.start()
    kafka.run("console-producer", "--bootstrap-server", world.apache.address, "--topic", "ended", input="more\n" * 1000)
    world.apache.kill()
    _read_by_flumen(world, "killed")


def _read_by_flumen(world, name):
    flumen = Flumen(os.path.join(world.folder, name)).start()
    try:
        for topic in ("codecs", "ended"):
            kafka.run("topics", "--bootstrap-server", flumen.address, "--create", "--topic", topic)
        flumen.stop()
        move(world.apache, flumen, "codecs", "ended")
        flumen.start()
        check(flumen.address)
    finally:
        flumen.kill()


@SUITE.check("Apache Kafka serves partitions that Flumen wrote and closed cleanly, and goes on behind them")
def to_apache(world):
    fill(world.broker.address)
    world.broker.stop()
    _read_by_apache(world, "theirs")
    world.broker.start()


@SUITE.check("and those of a Flumen that was killed")
def killed_to_apache(world):
    kafka.run("console-producer", "--bootstrap-server", world.broker.address, "--topic", "ended", input="more\n" * 1000)
    world.broker.kill()
    _read_by_apache(world, "theirs-killed")
    world.broker.start()


def _read_by_apache(world, name):
    theirs = Apache(os.path.join(world.folder, name))
    try:
        theirs.start()
        for topic in ("codecs", "ended"):
            kafka.run("topics", "--bootstrap-server", theirs.address, "--create", "--topic", topic)
        theirs.stop()
        move(world.broker, theirs, "codecs", "ended")
        theirs.start()
        check(theirs.address)
    finally:
        theirs.kill()
