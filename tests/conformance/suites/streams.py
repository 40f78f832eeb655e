"""A Kafka Streams word count under exactly_once_v2, killed with -9 and started again."""
import collections
import os
import random
import time

import kafka
from suite import Suite, expect, holds, until

SUITE = Suite("streams", "word count, exactly_once_v2", client="Kafka Streams", transaction_abort_timed_out_transaction_cleanup_interval_ms=1000)
WORDS = "river delta stone flood ferry oxbow source mouth".split()


@SUITE.check("word counts are exact after three kills of the application and one of the broker")
def word_count(world):
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    lines = [" ".join(dice.choices(WORDS, k=6)) for _ in range(20_000)]
    world.create("words", 2)
    world.create("counts", 2)
    late = [" ".join(dice.choices(WORDS, k=6)) for _ in range(1000)]
    total = sum(len(line.split()) for line in lines + late)
    state = os.path.join(world.folder, "state")

    def application():
        return kafka.Process("WordCount", world.broker.address, state)

    def written():
        return sum(world.offsets("counts").values())
    quarter = len(lines) // 4
    for part, victim in enumerate(("application", "broker", "application", "application")):
        world.produce("words", lines[part * quarter:(part + 1) * quarter])
        before = written()
        with application() as process:
            process.says("state RUNNING")
            until(lambda: written() > before + 1000, f"counts in part {part}, seed {seed}: {process.lines[-5:]}")
            time.sleep(dice.random())
            if victim == "broker":
                world.broker.kill()
                world.broker.start()
                before = written()
                world.produce("words", late)
                until(lambda: written() > before + 1000, f"counts after the broker's death, seed {seed}: {process.lines[-5:]}")
    with application() as process:
        read = until(lambda: _read(world, total), f"all {total} updates, seed {seed}: {process.lines[-5:]}", 240)
        process.stop()
    counts = collections.defaultdict(list)
    for line in read:
        word, count = line.split("\t")
        counts[word].append(int(count))
    expected = collections.Counter(word for line in lines + late for word in line.split())
    for word in WORDS:
        expect(counts[word] == list(range(1, expected[word] + 1)), f"{word}: {len(counts[word])} updates, {expected[word]} words, seed {seed}")


def _read(world, total):
    told = world.tool("console-consumer", "--topic", "counts", "--from-beginning", "--timeout-ms", 5000, "--isolation-level", "read_committed",
                      "--formatter-property", "print.key=true", ok=None)
    lines = [line for line in told.splitlines() if line.split("\t")[0] in WORDS]
    expect(len(lines) <= total, f"{len(lines)} updates for {total} words")
    return lines if len(lines) == total else None


@SUITE.check("its internal topics have the settings that Streams wants, and repartitioned records are deleted")
def internal_topics(world):
    told = world.tool("topics", "--describe", "--exclude-internal")
    changelog = [line for line in told.splitlines() if "changelog" in line and "Configs:" in line]
    repartition = [line for line in told.splitlines() if "repartition" in line and "Configs:" in line]
    expect(len(changelog) == 1 and "cleanup.policy=compact" in changelog[0], told)
    expect(len(repartition) == 1 and "cleanup.policy=delete" in repartition[0], told)


@SUITE.check("the application is reset and its topics deleted")
def reset(world):
    until(lambda: "no active members" in world.tool("consumer-groups", "--describe", "--group", "word-count", ok=None), "nobody is left")
    told = world.tool("streams-reset", "--application-id", "word-count", "--input-topics", "words")
    holds(told, "changelog", "repartition")
    expect("word-count" not in world.tool("topics", "--list"), "internal topics are gone")


@SUITE.check("group.protocol=streams is refused in words")
def streams_protocol(world):
    with kafka.Process("WordCount", world.broker.address, os.path.join(world.folder, "other"), "application.id=newer", "group.protocol=streams") as process:
        process.until(lambda lines: any("Exception" in line for line in lines), "a refusal")
        holds("\n".join(process.lines), "UnsupportedVersion")
