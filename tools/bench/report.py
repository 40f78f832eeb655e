"""What a bench found, as Markdown: a row for each figure, and the goals with met or missed."""

import os
import platform
import re
import time


def number(x):
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def cell(values):
    if not values:
        return "-"
    middle = sorted(values)[len(values) // 2]
    return number(middle) if min(values) == max(values) else f"{number(middle)} ({number(min(values))}-{number(max(values))})"


def machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    memory = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read()).group(1)) / 2**20
    return f"{os.cpu_count()} cores ({model.group(1) if model else platform.machine()}), {memory:.0f} GiB, Linux {platform.release()}"


def table(bench, options):
    lines = [
        f"{machine()}; {time.strftime('%Y-%m-%d')}; {options.rounds} rounds, alternating; median (min-max)\n",
        "| test | figure | Kafka 4.3.1 | Flumen | Flumen / Kafka |",
        "|---|---|---:|---:|---:|",
    ]
    limits = []
    for test, figures in bench.figures.items():
        for figure, by_broker in figures.items():
            if "limit" in by_broker:
                limits.append(f"| {test} | {figure} | {cell(by_broker['limit'])} |")
                continue
            kafka, flumen = (bench.median(test, figure, name) for name in ("Kafka", "Flumen"))
            ratio = f"{flumen / kafka:.2f}" if kafka and flumen is not None and figure != "others' CPU %" else "-"
            lines.append(f"| {test} | {figure} | {cell(by_broker.get('Kafka'))} | {cell(by_broker.get('Flumen'))} | {ratio} |")
    if limits:
        lines += ["\n| limit of the machine | figure | |", "|---|---|---:|", *limits]
    return "\n".join(lines)


def goals(bench, binary_mb):
    """The goals of the broker: each is a figure of Flumen against one of Kafka's, or against a number."""

    def ratio(test, figure, against=None):
        ours, theirs = bench.median(test, figure, "Flumen"), bench.median(against or test, figure, "Kafka")
        return ours / theirs if ours is not None and theirs else None

    def ours(test, figure):
        return bench.median(test, figure, "Flumen")

    half = next((test for test in bench.figures if test.startswith("half of") and not test.endswith("on disk")), "")
    rows = [
        ("broker CPU, produce 1 KiB", ratio("produce 1024 B, rdkafka", "broker CPU s/GB"), "<=", 1 / 3, "of Kafka's"),
        ("produce rate, page cache on both", ratio("produce 1024 B, rdkafka", "MB/s"), ">=", 1.5, "of Kafka's"),
        ("produce rate, on disk on both", ratio("produce 1024 B, rdkafka, on disk", "MB/s"), ">=", 1.8, "of Kafka's"),
        ("produce rate, ours on disk, Kafka's in the page cache",
         ratio("produce 1024 B, rdkafka, on disk", "MB/s", "produce 1024 B, rdkafka"), ">=", 1, "of Kafka's"),
        ("broker CPU, consume (kcat)", ratio("consume 1024 B, kcat", "broker CPU s/GB"), "<=", 2 / 3, "of Kafka's"),
        ("consume rate (kcat)", ratio("consume 1024 B, kcat", "MB/s"), ">=", 1, "of Kafka's"),
        ("p99 at half of Kafka's top rate, ours on disk, Kafka's in the page cache", ratio(half, "p99 ms"), "<=", 2 / 3, "of Kafka's"),
        ("start to the first acknowledged record", ours("start", "to the first acknowledged record, ms"), "<=", 100, "ms"),
        ("resident when idle", ours("start", "resident when idle, MB"), "<=", 25, "MB"),
        ("binary", binary_mb, "<=", 40, "MB"),
        ("start with 1,000 partitions", ours("crowd", "start with 1,000 partitions, ms"), "<=", 2000, "ms"),
        ("one of 2,000 idle connections", ours("crowd", "one of 2,000 idle connections, KiB"), "<=", 64, "KiB"),
    ]
    lines = ["\n| goal | wanted | found | |", "|---|---:|---:|---|"]
    for what, found, sign, wanted, unit in rows:
        if found is not None:
            met = found <= wanted if sign == "<=" else found >= wanted
            lines.append(f"| {what} | {sign} {number(wanted)} {unit} | {number(found)} | {'met' if met else '**missed**'} |")
    return "\n".join(lines)
