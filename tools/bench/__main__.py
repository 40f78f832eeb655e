"""Apache Kafka and Flumen on this machine, with the same clients, in alternation: figures as Markdown, and the goals they are held to.

    python3 tools/bench --flumen target/dist/flumen --limits target/release/examples/limits [--rounds 3] [--mb 512] [--only REGEX]

Both brokers stay up and are warm; rounds alternate which comes first. `make bench` builds and fetches what is missing, then runs this.
"""

import argparse
import os
import re
import shutil
import socket
import sys
import tempfile
import time

from brokers import Failed, Flumen, Kafka, first_acknowledged
from measure import RDKAFKA, Topics, consume, end_to_end, produce, run
from report import goals, table

CACHED, DURABLE = "page_cache", "on_disk"


def log(text):
    print(text, file=sys.stderr, flush=True)


def touch_memory(path, megabytes):
    """Fills the page cache and empties it again. A virtual machine's free memory may have gone back to its host, and whoever touches it first
    pays for it: several CPU seconds per GB, which would be the luck of the draw."""
    with open(path, "wb") as file:
        for _ in range(megabytes):
            file.write(bytes(1_000_000))
    os.unlink(path)


class Bench:
    """All runs of one bench and what they gave: `figures[test][figure][broker]` is the list of its rounds."""

    def __init__(self, options, brokers):
        self.options, self.brokers = options, brokers
        self.topics = Topics(options.flumen)
        self.figures, self.failures = {}, []

    def note(self, test, broker, figures):
        for figure, value in figures.items():
            self.figures.setdefault(test, {}).setdefault(figure, {}).setdefault(broker.name, []).append(value)
        log(f"  {test:24} {broker.name:7} " + ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items()))

    def median(self, test, figure, broker):
        values = sorted(self.figures.get(test, {}).get(figure, {}).get(broker, []))
        return values[len(values) // 2] if values else None

    def rounds(self, test, measure):
        """`measure` on each broker, so often as asked for; who comes first alternates."""
        if not re.search(self.options.only, test):
            return
        for round_ in range(self.options.rounds):
            for broker in self.brokers if round_ % 2 == 0 else self.brokers[::-1]:
                touch_memory(f"{self.options.dir}/touched", int(self.options.mb * 1.5))
                try:
                    self.note(test, broker, measure(broker))
                except (Failed, OSError, IndexError, AttributeError) as problem:
                    self.failures.append(f"{test} on {broker.name}: {problem}")
                    log(f"  {test} on {broker.name} FAILED: {problem}")

    def on_topic(self, durability, measure):
        def on(broker):
            topic = self.topics.create(broker, getattr(broker, durability))
            try:
                return measure(broker, topic)
            finally:
                self.topics.delete(broker, topic)

        return on

    # -- the plan -------------------------------------------------------------------------------------------------------

    def warm_up(self):
        """A JVM that compiles costs several times what it does later: nobody is measured cold but in `start`."""
        for broker in self.brokers if self.options.warm_up else []:
            topic = self.topics.create(broker, broker.page_cache)
            for client in ("java", "java batched", "rdkafka"):
                produce(broker, topic, client, 1000, self.options.warm_up, check=False)
            consume(broker, topic, "java", 1000, self.options.warm_up * 3000)
            self.topics.delete(broker, topic)

    def produce_tests(self):
        for durability, size, client, share in (
            (CACHED, 1024, "rdkafka", 1), (CACHED, 1024, "java", 1), (CACHED, 1024, "java batched", 1),
            (CACHED, 100, "rdkafka", 0.5), (CACHED, 100, "java", 0.25),
            (DURABLE, 1024, "rdkafka", 1), (DURABLE, 1024, "java batched", 0.5), (DURABLE, 100, "rdkafka", 0.5),
        ):
            test = f"produce {size} B, {client}" + (", on disk" if durability == DURABLE else "")
            amount = self.options.mb * share
            self.rounds(test, self.on_topic(durability, lambda b, t, c=client, s=size, a=amount: produce(b, t, c, s, a)))

    def consume_tests(self):
        tests = [client for client in ("kcat", "rdkafka", "java") if re.search(self.options.only, f"consume 1024 B, {client}")]
        if not tests:
            return
        records, filled = int(self.options.mb * 2e6 / 1024), {}
        for broker in self.brokers:
            filled[broker.name] = self.topics.create(broker, broker.page_cache)
            produce(broker, filled[broker.name], "java batched", 1024, self.options.mb * 2)
        for client in tests:
            self.rounds(f"consume 1024 B, {client}", lambda b, c=client: consume(b, filled[b.name], c, 1024, records))
        for broker in self.brokers:
            self.topics.delete(broker, filled[broker.name])

    def latency_tests(self):
        for durability in (CACHED, DURABLE):
            test = "one at a time, 100 B" + (", on disk" if durability == DURABLE else "")
            self.rounds(test, self.on_topic(durability, lambda b, t: end_to_end(b, t, 100, 10_000)))
        top = self.median("produce 1024 B, java", "records/s", "Kafka")
        if top is None:
            return
        rate = int(top / 2)
        kafka, flumen = self.brokers
        sides = {kafka.name: CACHED, flumen.name: DURABLE}
        test = f"half of Kafka's top rate, {rate:,} records/s"
        self.rounds(test, lambda b: self.on_topic(sides[b.name], lambda b, t: end_to_end(b, t, 1024, rate * 10, rate))(b))
        self.rounds(f"{test}, on disk", self.on_topic(DURABLE, lambda b, t: end_to_end(b, t, 1024, rate * 10, rate)))

    def start_tests(self):
        """Start on existing data to the first acknowledged record, and memory after ten idle seconds. Brokers of their own."""
        if not re.search(self.options.only, "start"):
            return
        for broker in (Kafka(f"{self.options.dir}/start-kafka"), Flumen(f"{self.options.dir}/start-flumen", self.options.flumen)):
            broker.start()
            run([self.options.flumen, "-b", broker.address, "topic", "create", "start", "--partitions", "1"])
            broker.stop()
            for _ in range(self.options.rounds):
                took = first_acknowledged(broker, "start")
                time.sleep(10)
                self.note("start", broker, {"to the first acknowledged record, ms": took, "resident when idle, MB": broker.resident_mb()})
                broker.stop()

    def crowd_test(self):
        """1,000 partitions and 2,000 connections that each asked one thing and say nothing more."""
        if not re.search(self.options.only, "crowd"):
            return
        broker = Flumen(f"{self.options.dir}/crowd", self.options.flumen)
        broker.start()
        run([self.options.flumen, "-b", broker.address, "topic", "create", "crowd", "--partitions", "1000"])
        run([self.options.flumen, "-b", broker.address, "topic", "create", "start", "--partitions", "1"])
        broker.stop()
        took = first_acknowledged(broker, "start")
        time.sleep(2)
        before, peers = broker.resident_mb(), []
        for _ in range(2000):
            peer = socket.create_connection(("127.0.0.1", broker.port))
            peer.sendall(bytes.fromhex("0000000a0012000000000001ffff"))  # ApiVersions, version 0
            peer.recv(int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big"), socket.MSG_WAITALL)
            peers.append(peer)
        time.sleep(2)
        each = (broker.resident_mb() - before) * 1e6 / 1024 / len(peers)
        self.note("crowd", broker, {"start with 1,000 partitions, ms": took, "one of 2,000 idle connections, KiB": each})
        broker.stop()

    def limits(self):
        """What this machine does without any broker: see broker/examples/limits.rs."""
        if self.options.limits and re.search(self.options.only, "limits"):
            for _ in range(self.options.rounds):
                touch_memory(f"{self.options.dir}/touched", self.options.mb * 2)
                printed, _, _ = run([self.options.limits, self.options.dir, str(self.options.mb * 2)])
                for line in printed.splitlines():
                    what, rate, cpu = line.split("\t")
                    self.figures.setdefault(what, {}).setdefault("MB/s", {}).setdefault("limit", []).append(float(rate))
                    self.figures[what].setdefault("CPU s/GB", {}).setdefault("limit", []).append(float(cpu))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flumen", required=True, help="the binary")
    parser.add_argument("--limits", help="the example `limits` of the broker; without it that part is left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mb", type=int, default=512, help="payload of one run of 1 KiB records")
    parser.add_argument("--warm-up", type=int, default=150, help="MB that each client sends before anything is measured; 0 for none")
    parser.add_argument("--only", default="", help="regular expression over the names of the tests")
    parser.add_argument("--dir", help="folder of the data; a temporary one if not given")
    options = parser.parse_args()
    for tool in ("kcat", "java"):
        shutil.which(tool) or sys.exit(f"{tool} is missing; `make bench` says how to get it")
    os.path.exists(RDKAFKA) or sys.exit("rdkafka_performance is missing: run tools/bench/fetch")
    with tempfile.TemporaryDirectory(prefix="flumen-bench-", dir=options.dir) as folder:
        options.dir = folder
        brokers = [Kafka(f"{folder}/kafka"), Flumen(f"{folder}/flumen", options.flumen)]
        bench = Bench(options, brokers)
        try:
            bench.limits()
            for broker in brokers:
                broker.start()
            bench.warm_up()
            bench.produce_tests()
            bench.consume_tests()
            bench.latency_tests()
            for broker in brokers:
                bench.note("after all this", broker, {"resident, MB": broker.resident_mb()})
        except KeyboardInterrupt:
            log("interrupted: the table holds what was measured")
        finally:
            for broker in brokers:
                broker.stop()
        bench.start_tests()
        bench.crowd_test()
    print(table(bench, options))
    print(goals(bench, os.path.getsize(options.flumen) / 1e6))
    for failure in bench.failures:
        print(f"\nFAILED: {failure}")
    sys.exit(bool(bench.failures))


main()
