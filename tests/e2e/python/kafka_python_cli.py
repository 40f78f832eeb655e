"""kafka-python's command line (`python -m kafka.admin`), verb by verb, against the broker named in the first argument."""
import contextlib
import io
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.cli.admin import run_cli

broker = sys.argv[1]


def cli(*arguments, ok=True):
    """Runs one command as the shell would; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run_cli(["-b", broker, "-l", "CRITICAL", *map(str, arguments)])
    text = printed.getvalue()
    assert (code == 0) == ok, (arguments, code, text)
    return text


def has(text, *parts):
    """Every part stands somewhere in the answer."""
    for part in parts:
        assert str(part) in text, (part, text)


# ---- topics, partitions, configurations ---------------------------------------------------------------------------
cli("topics", "create", "-t", "cli", "--num-partitions", 2, "--replication-factor", 1)
cli("topics", "create", "-t", "cli", ok=False)
has(cli("topics", "list"), "cli")
has(cli("topics", "describe", "-t", "cli"), "cli")
cli("partitions", "create", "-p", "cli:3")
has(cli("partitions", "describe", "-t", "cli"), "cli")
cli("configs", "alter", "-r", "topic", "-n", "cli", "-c", "retention.ms=123456")
has(cli("configs", "describe", "-r", "topic", "-n", "cli", "--modified"), "123456")
cli("configs", "reset", "-r", "topic", "-n", "cli", "-c", "retention.ms")
assert "123456" not in cli("configs", "describe", "-r", "topic", "-n", "cli")
has(cli("configs", "describe", "-r", "broker", "-n", "1"), "log.retention.ms")
cli("configs", "list")

# ---- records and groups -------------------------------------------------------------------------------------------
producer = KafkaProducer(bootstrap_servers=broker)
for n in range(10):
    producer.send("cli", b"%d" % n, partition=0, timestamp_ms=1_700_000_000_000 + n)
producer.close()
has(cli("partitions", "list-offsets", "-p", "cli:0:latest"), 10)
has(cli("partitions", "list-offsets", "-p", "cli:0:max-timestamp"), 9)
cli("partitions", "delete-records", "-r", "cli:0:2")
has(cli("partitions", "list-offsets", "-p", "cli:0:earliest"), 2)
cli("groups", "alter-offsets", "-g", "cli-group", "-o", "cli:0:5", "-o", "cli:1:0")
has(cli("groups", "list"), "cli-group")
has(cli("groups", "describe", "-g", "cli-group"), "cli-group")


def committed():
    consumer = KafkaConsumer(bootstrap_servers=broker, group_id="cli-group")
    try:
        return consumer.committed(TopicPartition("cli", 0))
    finally:
        consumer.close()


# --shift-by and --to-current of 3.0.12 look for their partitions where they are not, at any broker.
for how, expected in ((("-s", "earliest"), 2), (("-s", "latest"), 10), (("--to-offset", 4), 4), (("--by-duration", "PT1S"), 10),
                      (("--to-datetime", "2023-11-14T22:13:20.006+00:00"), 6)):
    cli("groups", "reset-offsets", "-g", "cli-group", "-p", "cli:0", *how)
    assert committed() == expected, (how, committed())
has(cli("groups", "list-offsets", "-g", "cli-group"), 6)
cli("groups", "delete-offsets", "-g", "cli-group", "-p", "cli:0")
assert committed() is None
cli("groups", "delete", "-g", "cli-group")
assert "cli-group" not in cli("groups", "list")

# ---- the cluster, transactions ------------------------------------------------------------------------------------
has(cli("cluster", "describe"), broker.split(":")[1])
cli("cluster", "describe-quorum")
cli("cluster", "api-versions")
cli("cluster", "broker-version", "--broker", 1)
has(cli("cluster", "describe-features"), "transaction.version")
has(cli("cluster", "describe-log-dirs"), "cli")
cli("partitions", "elect-leaders", "-t", "cli", "--no-raise-errors")
producer = KafkaProducer(bootstrap_servers=broker, transactional_id="cli-txn", acks="all")
producer.init_transactions()
producer.begin_transaction()
producer.send("cli", b"open", partition=1).get(timeout=30)
has(cli("transactions", "list"), "cli-txn")
has(cli("transactions", "describe", "--transactional-id", "cli-txn"), "cli-txn", "Ongoing")
cli("transactions", "describe-producers", "-t", "cli", "-p", 1)
assert "cli-txn" not in cli("transactions", "find-hanging")
producer.commit_transaction()
producer.close()
cli("topics", "delete", "-t", "cli")
assert "cli" not in cli("topics", "list")
print("ok")
