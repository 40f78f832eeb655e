//! kill -9 of the real binary under load: what was acknowledged is there once, in order, after each restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::{PATIENCE, Server, run};
use crate::{have, python, random};

/// `(number, offset)` per partition, as the producer was told.
fn acknowledged(path: &Path) -> BTreeMap<i32, Vec<(u64, i64)>> {
    let mut all: BTreeMap<i32, Vec<(u64, i64)>> = BTreeMap::new();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line without its end is still being written.
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = fields[1].parse().expect("a number");
        all.entry(fields[0].parse().expect("a partition"))
            .or_default()
            .push((number, fields[2].parse().expect("an offset")));
    }
    all
}

/// `(number, offset)` of the first `count` records of a partition, or of all, read by kcat.
fn stored(server: &Server, partition: i32, count: Option<i64>) -> Vec<(u64, i64)> {
    let (partition, address) = (partition.to_string(), server.address());
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &address, "-C", "-t", "load", "-p", &partition]);
    kcat.args(["-o", "beginning", "-e", "-q", "-f", "%s %o\n"]);
    if let Some(count) = count {
        // While the producer goes on there is no end to wait for.
        kcat.args(["-c", &count.to_string()]);
    }
    let read = run(&mut kcat, b"");
    assert!(read.ok, "{}", read.stderr);
    let pair = |line: &str| {
        let (number, offset) = line.split_once(' ')?;
        Some((number.parse().ok()?, offset.parse().ok()?))
    };
    let parsed = |line| pair(line).unwrap_or_else(|| panic!("not a record of this test: {line:?}"));
    read.stdout.lines().map(parsed).collect()
}

/// Everything acknowledged so far is where the producer was told, and nothing before it is doubled or out of order.
fn check(server: &Server, told: &BTreeMap<i32, Vec<(u64, i64)>>, to_the_end: bool) {
    for (partition, told) in told {
        let last = told.iter().map(|(_, offset)| offset + 1).max();
        let found = stored(server, *partition, last.filter(|_| !to_the_end));
        let in_order = found.is_sorted_by(|a, b| a.0 < b.0);
        assert!(in_order, "partition {partition}: doubled or out of order");
        let at: BTreeMap<u64, i64> = found.into_iter().collect();
        for (number, offset) in told {
            let found = at.get(number);
            assert_eq!(
                found,
                Some(offset),
                "partition {partition}: record {number} was acknowledged"
            );
        }
    }
}

#[test]
fn ten_kills_under_load_lose_and_double_nothing() {
    let Some(python) = python() else { return };
    if !have("kcat") {
        return;
    }
    let mut random = random::seeded("ten_kills_under_load_lose_and_double_nothing");
    let mut server = Server::with(&["num.partitions=3", "log.segment.bytes=1048576"]);
    let (acked, stop) = (server.folder().join("acked"), server.folder().join("stop"));
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/e2e/python/produce_until.py"
    );
    let producer = Command::new(python)
        .args([script, &server.address(), "load"])
        .args([&acked, &stop])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut producer = Killed(producer);
    for _ in 0..10 {
        let before: usize = acknowledged(&acked).values().map(Vec::len).sum();
        let more = 200 + random.below(3_000);
        wait_until("the producer goes on", || {
            acknowledged(&acked).values().map(Vec::len).sum::<usize>() >= before + more
        });
        server.kill();
        let told = acknowledged(&acked);
        server.restart();
        check(&server, &told, false);
    }
    std::fs::write(&stop, b"").expect("the stop file");
    let output = {
        let status = producer.0.wait().expect("python ends");
        (
            status.success(),
            std::io::read_to_string(producer.0.stderr.take().expect("piped")).unwrap_or_default(),
        )
    };
    assert!(output.0, "the producer failed: {}", output.1);
    check(&server, &acknowledged(&acked), true);
}

#[test]
fn a_clean_stop_keeps_everything_and_says_goodbye() {
    if !have("kcat") {
        return;
    }
    let mut server = Server::with(&["num.partitions=3"]);
    let lines: String = (0..3_000).map(|n| format!("{n}\n")).collect();
    let produced = run(
        Command::new("kcat").args(["-b", &server.address(), "-P", "-t", "load", "-p", "1"]),
        lines.as_bytes(),
    );
    assert!(produced.ok, "{}", produced.stderr);
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    server.restart();
    let numbers: Vec<u64> = stored(&server, 1, None)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, (0..3_000).collect::<Vec<u64>>());
}

/// A child that does not outlive a failed test.
#[derive(Debug)]
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a fact; panics with its name after [`PATIENCE`].
fn wait_until(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
