"""What came out: lines on the terminal while it runs, and the table in docs/compatibility.md.

Owns the marked part of that page, and the last results of each suite in the cache: a suite that runs alone replaces its own row.
Never decides whether a check passed.
"""
import datetime
import json
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


def remember(suite, results):
    """Keeps what a suite came to, for the page."""
    path = os.path.join(kafka.cache(), "results.json")
    known = json.load(open(path)) if os.path.exists(path) else {}
    known[suite.name] = {"client": suite.client, "title": suite.title, "on": datetime.date.today().isoformat(),
                         "checks": [[r.what, r.outcome, r.reason if r.outcome == "skipped" else ""] for r in results]}
    with open(path + ".tmp", "w") as file:
        json.dump(known, file, indent=1)
    os.replace(path + ".tmp", path)
    return known


def row(known):
    """One suite: how many of each, which failed, why others were skipped."""
    of = {outcome: [(what, why) for what, o, why in known["checks"] if o == outcome] for outcome in ("passed", "failed", "skipped")}
    failed = "; ".join([str(len(of["failed"]))] + [what for what, _ in of["failed"]])
    skipped = "; ".join([str(len(of["skipped"]))] + [f"{what}: {why}" for what, why in of["skipped"]])
    return f"| {known['client']} | {kafka.VERSION} | {known['title']} | {known['on']} | {len(of['passed'])} | {failed} | {skipped} |"


def write(path, known, order):
    """Replaces the marked part of the page by the last results of every suite."""
    with open(path) as page:
        text = page.read()
    suites = [known[name] for name in order if name in known]
    lines = ["| client | version | suite | run on | passed | failed | skipped, why |", "|---|---|---|---|---|---|---|", *map(row, suites)]
    checks = [f"- **{suite['title']}**: {'; '.join(what for what, _, _ in suite['checks'])}." for suite in suites]
    body = "\n".join([BEGIN, "", *lines, "", "What each suite checks:", "", *checks, "", END])
    text = re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: body, text, flags=re.S)
    with open(path + ".tmp", "w") as page:
        page.write(text)
    os.replace(path + ".tmp", path)
