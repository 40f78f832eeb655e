"""What came out: lines on the terminal while it runs, and the table in docs/compatibility.md.

Owns the marked part of that page. Never decides whether a check passed.
"""
import datetime
import os
import re

import kafka

BEGIN, END = "<!-- made by `make conformance` -->", "<!-- end of what `make conformance` makes -->"


class Result:
    def __init__(self, suite, what, outcome, reason=""):
        self.suite, self.what, self.outcome, self.reason = suite, what, outcome, reason


def line(result, seconds):
    """One line for the terminal."""
    reason = f": {result.reason}" if result.reason else ""
    return f"{result.outcome:7} {result.suite.name}: {result.what} ({seconds:.1f} s){reason}"


def table(results):
    """The rows of the page: one per suite."""
    rows = ["| client | version | suite | passed | failed | skipped, why |", "|---|---|---|---|---|---|"]
    suites = list(dict.fromkeys(result.suite for result in results))
    for suite in suites:
        own = [result for result in results if result.suite is suite]
        count = {outcome: sum(r.outcome == outcome for r in own) for outcome in ("passed", "failed", "skipped")}
        failed = ": ".join([str(count["failed"]), "; ".join(r.what for r in own if r.outcome == "failed")]) if count["failed"] else "0"
        reasons = "; ".join(f"{r.what}: {r.reason}" for r in own if r.outcome == "skipped")
        skipped = f"{count['skipped']}: {reasons}" if count["skipped"] else "0"
        rows.append(f"| {suite.client} | {kafka.VERSION} | {suite.title} | {count['passed']} | {failed} | {skipped} |")
    return rows


def write(path, results):
    """Replaces the marked part of the page."""
    with open(path) as page:
        text = page.read()
    total = {outcome: sum(r.outcome == outcome for r in results) for outcome in ("passed", "failed", "skipped")}
    head = f"Run on {datetime.date.today().isoformat()}: {total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped."
    body = "\n".join([BEGIN, "", head, "", *table(results), "", "What each suite checks:", ""] + sentences(results) + ["", END])
    text = re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: body, text, flags=re.S)
    with open(path + ".tmp", "w") as page:
        page.write(text)
    os.replace(path + ".tmp", path)


def sentences(results):
    """What each suite checks, so that a row can be judged."""
    lines = []
    for suite in dict.fromkeys(result.suite for result in results):
        own = "; ".join(result.what for result in results if result.suite is suite)
        lines.append(f"- **{suite.title}**: {own}.")
    return lines
