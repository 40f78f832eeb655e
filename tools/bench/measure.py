"""One measurement: a client's run against one broker, its rate, and what broker and client paid for it.

The clients are Kafka's and librdkafka's, never ours: the same process drives both brokers. A run that does not store or deliver
exactly what was sent is no result.
"""

import os
import re
import subprocess
import tempfile
import threading
import time

from brokers import CACHE, TICKS, Failed, java

HERE = os.path.dirname(os.path.abspath(__file__))
RDKAFKA = os.path.join(CACHE, "rdkafka_performance")
CLIENT_SECONDS_MAX = 600
BATCHED = ("linger.ms=10", "batch.size=131072")


def run(command, keep=True):
    """Runs a client to its end: what it printed if it is to be kept, wall seconds, its own CPU seconds (the start of a JVM included)."""
    with tempfile.TemporaryFile() as out:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out if keep else subprocess.DEVNULL, stderr=out)
        give_up = threading.Timer(CLIENT_SECONDS_MAX, child.kill)
        give_up.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        give_up.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        printed = out.read().decode(errors="replace")
    if child.returncode:
        tail = "\n".join(printed.strip().splitlines()[-6:])
        raise Failed(f"exit {child.returncode}: {' '.join(command[-6:])}\n{tail}")
    return printed, wall, usage.ru_utime + usage.ru_stime


def machine_busy():
    """CPU seconds that all processors have been busy since boot, the kernel's own threads included."""
    fields = [int(field) for field in open("/proc/stat").readline().split()[1:]]
    return sum(fields[i] for i in (0, 1, 2, 5, 6, 7)) / TICKS


def priced(broker, payload_bytes, work):
    """Figures of `work`, which returns figures and the client's CPU seconds, with what it cost in CPU seconds per GB of payload."""
    begun, busy, before = time.monotonic(), machine_busy(), broker.cpu()
    figures, client_cpu = work()
    time.sleep(0.3)  # what the broker still does for the last bytes
    broker_cpu = broker.cpu() - before
    others = machine_busy() - busy - broker_cpu - client_cpu
    if payload_bytes:
        figures["broker CPU s/GB"] = broker_cpu / payload_bytes * 1e9
        figures["client CPU s/GB"] = client_cpu / payload_bytes * 1e9
    figures["others' CPU %"] = max(0.0, 100 * others / (os.cpu_count() * (time.monotonic() - begun)))
    return figures


class Topics:
    """Topics of one bench, made and removed with our command line tool, on either broker."""

    def __init__(self, flumen):
        self.flumen, self.made = flumen, 0

    def create(self, broker, configs, partitions=1):
        self.made += 1
        name = f"bench-{self.made}"
        settings = [word for key, value in configs.items() for word in ("--config", f"{key}={value}")]
        run([self.flumen, "-b", broker.address, "topic", "create", name, "--partitions", str(partitions), *settings])
        return name

    def delete(self, broker, name):
        run([self.flumen, "-b", broker.address, "topic", "delete", name, "--yes"])


def check_stored(broker, topic, records):
    printed, _, _ = run(["kcat", "-Q", "-b", broker.address, "-t", f"{topic}:0:-1"])
    stored = int(re.search(r"offset (\d+)", printed).group(1))
    if stored != records:
        raise Failed(f"{broker.name} holds {stored} records, {records} were acknowledged")


def produce(broker, topic, client, size, megabytes, check=True):
    """Sends records of `size` bytes with acks=all as fast as they are acknowledged."""
    records = int(megabytes * 1e6 / size)

    def work():
        if client == "rdkafka":
            _, wall, cpu = run(
                [RDKAFKA, "-P", "-t", topic, "-b", broker.address, "-s", str(size), "-c", str(records), "-a", "-1", "-q", "-X", "linger.ms=5"]
            )
            rate, figures = records / wall, {}
        else:
            extra = BATCHED if client == "java batched" else ()
            command = ["--bootstrap-server", broker.address, "--topic", topic, "--num-records", records, "--record-size", size]
            command += ["--throughput", -1, "--command-property", "acks=all", *extra]
            printed, _, cpu = run(java("org.apache.kafka.tools.ProducerPerformance", *command))
            last = [line for line in printed.splitlines() if "records sent" in line][-1]
            rate = float(re.search(r"([\d.]+) records/sec", last).group(1))
        return {"MB/s": rate * size / 1e6, "records/s": rate}, cpu

    figures = priced(broker, records * size, work)
    if check:
        check_stored(broker, topic, records)
    return figures


def consume(broker, topic, client, size, records):
    """Reads a topic from its beginning to its end. kcat and librdkafka: wall time of the process; Java: without the group's join."""

    def work():
        if client == "java":
            command = ["--bootstrap-server", broker.address, "--topic", topic, "--num-records", records, "--hide-header", "--timeout", 60_000]
            printed, _, cpu = run(java("org.apache.kafka.tools.ConsumerPerformance", *command))
            fields = [line for line in printed.splitlines() if line.count(",") >= 9][-1].split(",")
            if int(fields[4]) < records:
                raise Failed(f"{broker.name} delivered {fields[4]} of {records} records")
            return {"MB/s": float(fields[8]) * 1.048576}, cpu
        command = {
            "kcat": ["kcat", "-C", "-b", broker.address, "-t", topic, "-o", "beginning", "-c", str(records), "-q"],
            "rdkafka": [RDKAFKA, "-C", "-t", topic, "-p", "0", "-b", broker.address, "-o", "beginning", "-c", str(records), "-q"],
        }[client]
        _, wall, cpu = run(command, keep=False)
        return {"MB/s": records * size / wall / 1e6}, cpu

    return priced(broker, records * size, work)


def end_to_end(broker, topic, size, records, rate=0):
    """Latency from send to poll: one record at a time, or at `rate` records a second. See EndToEnd.java."""

    def work():
        printed, _, cpu = run(java(os.path.join(HERE, "EndToEnd.java"), broker.address, topic, records, size, rate))
        p50, p99, p999 = map(float, printed.split()[-3:])
        return {"p50 ms": p50, "p99 ms": p99, "p99.9 ms": p999}, cpu

    return priced(broker, 0, work)
