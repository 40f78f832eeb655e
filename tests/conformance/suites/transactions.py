"""kafka-transactions, and what read_committed shows."""
import re

import kafka
from suite import Suite, expect, holds, objects, until

SUITE = Suite("transactions", "kafka-transactions")


def transactions(world, *arguments, **how):
    return world.tool("transactions", *arguments, **how)


def open_transaction(world, transactional_id, topic):
    """A producer that has written one record in a transaction, and waits for commit or abort on its input."""
    producer = kafka.Process("OpenTransaction", world.broker.address, transactional_id, topic)
    producer.says("open at")
    return producer, int(re.search(r"open at (\d+)", "\n".join(producer.lines)).group(1))


def end(producer, how):
    producer.child.stdin.write(how + "\n")
    producer.child.stdin.flush()
    return producer.end()


@SUITE.check("lists and describes an open transaction, and its producer")
def describe(world):
    world.create("t")
    producer, offset = open_transaction(world, "mover", "t")
    with producer:
        holds(transactions(world, "list"), "mover", "Ongoing")
        holds(transactions(world, "list", "--duration-filter", "0"), "mover")
        expect("mover" not in transactions(world, "list", "--duration-filter", "3600000"), "not that old")
        holds(transactions(world, "list", "--transactional-id-pattern", "mo.*"), "mover")
        told = transactions(world, "describe", "--transactional-id", "mover")
        holds(told, "mover", "Ongoing", "t-0", "60000")
        told = transactions(world, "describe-producers", "--topic", "t", "--partition", 0)
        rows = [line.split() for line in told.splitlines() if line.strip() and line.strip()[0].isdigit()]
        expect(len(rows) == 1 and rows[0][-1] == str(offset), told)
        expect(not transactions(world, "find-hanging", "--broker-id", 1).splitlines()[1:], "it is open, not hanging")
        expect(end(producer, "commit") == 0, producer.lines)
    holds(transactions(world, "list"), "CompleteCommit")
    holds(transactions(world, "describe", "--transactional-id", "nobody", ok=None), "nobody")


@SUITE.check("read_committed waits for the end of a transaction, and skips what was aborted")
def isolation(world):
    world.produce("t", ["plain"])
    producer, _ = open_transaction(world, "mover", "t")
    with producer:
        committed = ["--isolation-level", "read_committed", "--timeout-ms", "5000"]
        told = world.tool("console-consumer", "--topic", "t", "--from-beginning", *committed, ok=None)
        expect("plain" in told and told.count("within") == 1, told)
        told = world.tool("console-consumer", "--topic", "t", "--from-beginning", "--timeout-ms", "5000", ok=None)
        expect(told.count("within") == 2, told)
        expect(end(producer, "abort") == 0, producer.lines)
    told = world.tool("console-consumer", "--topic", "t", "--from-beginning", *committed, ok=None)
    expect(told.count("within") == 1, told)


@SUITE.check("aborts a transaction by its first offset")
def abort(world):
    producer, offset = open_transaction(world, "stuck", "t")
    with producer:
        transactions(world, "abort", "--topic", "t", "--partition", 0, "--start-offset", offset)
        told = transactions(world, "describe-producers", "--topic", "t", "--partition", 0)
        expect("None" in told and str(offset) not in [line.split()[-1] for line in told.splitlines() if line.strip()], told)


@SUITE.check("terminates a transaction by its id; its producer is fenced")
def terminate(world):
    producer, _ = open_transaction(world, "zombie", "t")
    with producer:
        transactions(world, "forceTerminateTransaction", "--transactionalId", "zombie")
        until(lambda: "Ongoing" not in transactions(world, "describe", "--transactional-id", "zombie"), "it is aborted")
        expect(end(producer, "commit") != 0, producer.lines)
        holds("\n".join(producer.lines), "Exception")


@SUITE.check("no hanging transaction is found on any topic")
def hanging(world):
    told = transactions(world, "find-hanging", "--broker-id", 1)
    expect(not told.splitlines()[1:], told)
    holds(transactions(world, "find-hanging", "--topic", "t", "--partition", 0), "Topic")


@SUITE.check("the state of transactions is read from __transaction_state")
def internal(world):
    told = world.tool("console-consumer", "--topic", "__transaction_state", "--from-beginning", "--timeout-ms", 5000,
                      "--formatter", "org.apache.kafka.tools.consumer.TransactionLogMessageFormatter", ok=None)
    rows = objects(told.out)
    expect({row["key"]["data"]["transactionalId"] for row in rows} >= {"mover", "zombie"}, told)


@SUITE.check("a transactional load generator runs")
def load(world):
    told = world.tool("producer-perf", "--topic", "t", "--num-records", 20000, "--record-size", 100, "--throughput", -1,
                      "--transactional-id", "perf", "--transaction-duration-ms", 50)
    holds(told, "20000 records sent")
