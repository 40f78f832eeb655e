"""kafka-consumer-groups and kafka-groups."""
import time

from suite import Suite, expect, holds, until

SUITE = Suite("groups", "kafka-consumer-groups, kafka-groups")


def groups(world, *arguments, **how):
    return world.tool("consumer-groups", *arguments, **how)


def committed(world, group="g"):
    """Committed offset by partition, as `--describe` tells it."""
    told = groups(world, "--describe", "--group", group)
    rows = [line.split() for line in told.splitlines() if line.startswith(group + " ")]
    return {int(row[2]): int(row[3]) for row in rows if row[3] != "-"}


def planned(told):
    """Partition and new offset of every row that a reset prints."""
    rows = [line.split() for line in told.splitlines() if line.startswith("g ")]
    return {int(row[2]): int(row[3]) for row in rows}


@SUITE.check("describes a group with members: offsets, lag, members, state")
def active(world):
    world.create("t", 2)
    lines = [f"k{n}:v{n}" for n in range(20)]
    world.produce("t", lines, "--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    consumer = ["--topic", "t", "--group", "g", "--from-beginning", "--command-property", "auto.commit.interval.ms=100"]
    with world.beside("console-consumer", *consumer) as member:
        member.until(lambda lines: sum(line.startswith("v") for line in lines) == 20, "20 records")
        told = until(lambda: (text := groups(world, "--describe", "--group", "g")) and text.count("console-consumer-") == 2
                     and sum(committed(world).values()) == 20 and text, "committed offsets")
        holds(told, "CURRENT-OFFSET", "LAG", "/127.0.0.1")
        holds(groups(world, "--describe", "--group", "g", "--members", "--verbose"), "t:0,1", "console-consumer")
        holds(groups(world, "--describe", "--group", "g", "--state"), "Stable", "range", "127.0.0.1:")
        holds(groups(world, "--describe", "--group", "g", "--offsets", "--verbose"), "LEADER-EPOCH")
        holds(groups(world, "--list", "--state"), "g", "Stable")
        holds(groups(world, "--list", "--type"), "Classic")
        holds(groups(world, "--list", "--state", "Stable"), "g")
        expect("g " not in groups(world, "--list", "--state", "Empty"), "not empty")
        holds(groups(world, "--reset-offsets", "--group", "g", "--topic", "t", "--to-earliest", "--execute", ok=None), "inactive")
        holds(groups(world, "--delete", "--group", "g", ok=None), "not empty")
        holds(groups(world, "--delete-offsets", "--group", "g", "--topic", "t", ok=None), "subscribed")
        member.stop()
    until(lambda: "Empty" in groups(world, "--describe", "--group", "g", "--state"), "the group is empty")
    holds(groups(world, "--describe", "--all-groups"), "no active members")


@SUITE.check("resets to earliest, latest, an offset, by shifting, to now; without --execute nothing changes")
def reset(world):
    ends = world.offsets("t")

    def reset(*how, only="t"):
        return planned(groups(world, "--reset-offsets", "--group", "g", "--topic", only, *how, "--execute"))
    dry = groups(world, "--reset-offsets", "--group", "g", "--topic", "t", "--to-earliest", "--dry-run")
    expect(planned(dry) == {0: 0, 1: 0} and committed(world) == ends, dry)
    for how, to in ((["--to-earliest"], {0: 0, 1: 0}), (["--to-offset", 4], {0: 4, 1: 4}), (["--shift-by", 3], {0: 7, 1: 7}),
                    (["--shift-by", -5], {0: 2, 1: 2}), (["--to-current"], {0: 2, 1: 2}), (["--to-latest"], ends),
                    (["--shift-by", 100], ends), (["--to-offset", 100], ends)):
        to = {partition: min(offset, ends[partition]) for partition, offset in to.items()}
        expect(reset(*how) == to and committed(world) == to, (how, to, committed(world)))
    expect(reset("--to-offset", 1, only="t:0") == {0: 1}, "one partition")
    expect(committed(world) == {0: 1, 1: ends[1]}, "the other one stays")


@SUITE.check("resets by duration and by date")
def by_time(world):
    def reset(*how):
        told = planned(groups(world, "--reset-offsets", "--group", "g", "--topic", "t", *how, "--execute"))
        expect(committed(world) == told, (how, told))
        return told
    ends = world.offsets("t")
    expect(reset("--by-duration", "PT1H") == {0: 0, 1: 0}, "an hour ago")
    expect(reset("--by-duration", "PT0S") == ends, "now")
    expect(reset("--to-datetime", "2020-01-01T00:00:00.000Z") == {0: 0, 1: 0}, "long ago")
    expect(reset("--to-datetime", "2099-01-01T00:00:00.000Z") == ends, "in future")
    time.sleep(1.1)
    middle = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time()))
    world.produce("t", ["late:late"], "--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    expect(sorted(reset("--to-datetime", middle).values()) == sorted(ends.values()), "between two records")


@SUITE.check("exports a reset and applies it from the file, for one group and for several")
def files(world):
    plan = groups(world, "--reset-offsets", "--group", "g", "--topic", "t", "--to-offset", 3, "--export", "--dry-run")
    rows = [line.strip() for line in plan.splitlines() if line.count(",") >= 2]
    path = world.file("plan.csv", "\n".join(rows) + "\n")
    groups(world, "--reset-offsets", "--group", "g", "--from-file", path, "--execute")
    expect(committed(world) == {0: 3, 1: 3}, (plan, committed(world)))
    path = world.file("many.csv", 'g,t,0,5\nh,t,1,6\n')
    groups(world, "--reset-offsets", "--group", "g", "--group", "h", "--from-file", path, "--execute")
    expect(committed(world)[0] == 5 and committed(world, "h") == {1: 6}, "two groups")


@SUITE.check("a group that was only reset is there, and goes on from there")
def made_by_reset(world):
    groups(world, "--reset-offsets", "--group", "h", "--all-topics", "--to-earliest", "--execute")
    holds(world.tool("groups", "--list"), "g", "h")
    holds(world.tool("groups", "--list", "--consumer"), "g")
    read = world.tool("console-consumer", "--topic", "t", "--group", "h", "--max-messages", 3, "--timeout-ms", 30_000)
    holds(read, "Processed a total of 3 messages")


@SUITE.check("deletes offsets, groups, all groups")
def delete(world):
    groups(world, "--delete-offsets", "--group", "g", "--topic", "t:0")
    expect(list(committed(world)) == [1], committed(world))
    until(lambda: "Empty" in groups(world, "--describe", "--group", "h", "--state"), "h is empty")
    holds(groups(world, "--delete", "--group", "h"), "successful")
    expect("h" not in groups(world, "--list").split(), "h is gone")
    holds(groups(world, "--delete", "--group", "h", ok=None), "does not exist")
    groups(world, "--delete", "--all-groups")
    expect(not groups(world, "--list").strip(), "none left")
    holds(groups(world, "--describe", "--group", "g", ok=None), "not found")


@SUITE.check("lists groups of the newer kinds: there are none")
def newer_kinds(world):
    expect(not world.tool("share-groups", "--list").strip(), "share groups")
    expect(not world.tool("streams-groups", "--list").strip(), "streams groups")
    expect(len(world.tool("groups", "--list", "--group-type", "consumer").splitlines()) <= 1, "consumer groups")
