"""kill -9 of the broker, and of copiers, under Kafka's verifiable programs."""
import random
import time

import kafka
from suite import Suite, events, expect, until

SUITE = Suite("kills", "verifiable clients under kill -9", client="Apache Kafka's verifiable clients")
RECORDS = 30_000


@SUITE.check("what a verifiable producer got acknowledged is there once, in order, after two kills of the broker")
def producer(world):
    world.create("verified", 1)
    safe = world.properties("producer.properties", retries=2147483647, delivery_timeout_ms=120000, request_timeout_ms=5000,
                            reconnect_backoff_max_ms=200)
    consumer = world.beside("verifiable-consumer", "--topic", "verified", "--group-id", "verified", "--max-messages", RECORDS, "--verbose",
                            "--session-timeout", 10_000)
    producer = world.beside("verifiable-producer", "--topic", "verified", "--max-messages", RECORDS, "--throughput", 4000,
                            "--acks", -1, "--command-config", safe)
    with consumer, producer:
        for at in (RECORDS // 5, RECORDS // 2):
            producer.until(lambda lines: len(lines) > at, f"{at} records")
            world.broker.kill()
            time.sleep(0.5)
            world.broker.start()
        producer.end()
        sent = events(producer.lines, "producer_send_success")
        told = events(producer.lines, "tool_data")[0]
        expect(told["sent"] == told["acked"] == len(sent) == RECORDS, told)
        offsets = {event["offset"]: event["value"] for event in sent}
        expect(sorted(offsets) == list(range(RECORDS)), f"{len(offsets)} offsets")
        consumer.until(lambda lines: any("shutdown_complete" in line for line in lines), "all of it in the consumer")
        read = [(event["offset"], event["value"]) for event in events(consumer.lines, "record_data")]
        # A record may come twice where the broker died between poll and commit; the offset says that it is the same.
        expect(all(offsets[offset] == value for offset, value in read) and len({offset for offset, _ in read}) == RECORDS, len(read))
    expect(world.consume("verified", RECORDS) == [offsets[n] for n in range(RECORDS)], "the log")


@SUITE.check("a transactional copier with random aborts copies exactly once, killed three times, and the broker twice")
def copier(world):
    seed = random.SystemRandom().randrange(1 << 32)
    dice, total = random.Random(seed), 20_000
    world.create("source", 1)
    world.create("copy", 2)
    world.tool("verifiable-producer", "--topic", "source", "--max-messages", total)
    arguments = ["--broker-list", world.broker.address, "--input-topic", "source", "--input-partition", 0, "--output-topic", "copy",
                 "--transactional-id", "copier", "--consumer-group", "copier", "--transaction-size", 200, "--enable-random-aborts",
                 "--transaction-timeout", 10_000, "--use-group-metadata", "--group-mode"]

    def copying():
        return kafka.Process("transactional-copier", *arguments)
    for victim in ("copier", "broker", "copier", "broker", "copier"):
        with copying() as process:
            process.until(lambda lines: sum("progress" in line or "consumed" in line for line in lines) > 2, "progress")
            time.sleep(dice.random() * 0.5)
            if victim == "broker":
                world.broker.kill()
                world.broker.start()
                time.sleep(0.3)
    with copying() as process:
        def copied():
            told = world.tool("consumer-groups", "--describe", "--group", "copier", ok=None)
            rows = [line.split() for line in told.splitlines() if line.startswith("copier ")]
            return rows and rows[0][3] == str(total)
        until(copied, f"the whole input is copied (seed {seed}); it says {process.lines[-3:]}")
        process.stop()
    committed = ["--isolation-level", "read_committed"]
    copies = world.consume("copy", total, *committed)
    expect(sorted(copies, key=int) == [str(n) for n in range(total)], f"{len(set(copies))} of {len(copies)} distinct, seed {seed}")
    told = world.tool("console-consumer", "--topic", "copy", "--from-beginning", "--timeout-ms", 5000, *committed, ok=None)
    expect(f"Processed a total of {total} messages" in told, told[-200:])


@SUITE.check("a group of verifiable consumers goes on after the broker's death: nothing is skipped")
def group(world):
    world.create("many", 4)
    members = [world.beside("verifiable-consumer", "--topic", "many", "--group-id", "many", "--verbose", "--session-timeout", 10_000)
               for _ in range(3)]
    try:
        for round_ in range(3):
            world.tool("verifiable-producer", "--topic", "many", "--max-messages", 2000, "--value-prefix", round_)
            world.broker.kill()
            world.broker.start()

        def seen():
            found = [event for member in members for event in events(list(member.lines), "record_data")]
            return len({(event["partition"], event["offset"]) for event in found}) == 6000
        until(seen, "every record in some member")
    finally:
        for member in members:
            member.kill()
