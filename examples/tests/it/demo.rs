//! The demo as a user runs it: from beginning to end, and killed with -9 at five random moments.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEMO: &str = env!("CARGO_BIN_EXE_flights");
const WEEK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights-2013-week1.csv");

fn demo(folder: &Path, resume: bool) -> Command {
    let mut command = Command::new(DEMO);
    command.arg("--dir").arg(folder).args(["--data", WEEK]);
    if resume {
        command.arg("--resume");
    }
    command
}

fn finish(mut command: Command) -> String {
    let output = command.output().expect("the demo starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The table of the ten worst carrier-hours.
fn table(stdout: &str) -> &str {
    let from = stdout.find("The ten worst").expect("the table");
    &stdout[from..stdout.find("all ").expect("the verdict")]
}

/// A small generator (splitmix64), from `SEED` or the clock; the seed is printed.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let clock = || {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |t| t.as_millis() as u64)
        };
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(clock);
        println!("SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn the_demo_killed_at_five_random_moments_ends_with_the_same_table() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let (straight, killed) = (home.path().join("straight"), home.path().join("killed"));
    let begun = Instant::now();
    let expected = finish(demo(&straight, false));
    let whole = begun.elapsed();

    let mut random = Random::seeded();
    for round in 0..5 {
        let mut child = demo(&killed, round > 0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the demo starts");
        // Anywhere between "hardly started" and "nearly done"; a run that ended by itself before is fine too.
        let moment = Duration::from_millis(50 + random.below(whole.as_millis() as u64));
        let deadline = Instant::now() + moment;
        while Instant::now() < deadline && child.try_wait().expect("a child can be asked").is_none()
        {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let ended = child.try_wait().expect("a child can be asked");
        println!(
            "round {round}: killed after {moment:?}{}",
            ended.map_or(String::new(), |status| format!(" (had ended: {status})"))
        );
        assert!(
            ended.is_none_or(|status| status.success()),
            "a resumed demo failed by itself"
        );
        child.kill().expect("SIGKILL");
        child.wait().expect("a killed child ends");
    }
    let marked = killed.join(".flumen-demo").exists();
    let resumed = finish(demo(&killed, marked));
    assert_eq!(table(&resumed), table(&expected));
    assert!(resumed.contains("agree with a plain recomputation"));
    lines_are_whole_and_no_update_is_doubled(&killed.join("carrier-delays.jsonl"));
}

/// The file sink's lines: every one parses, and per carrier-hour the count of flights only grows (a doubled or lost line would break that).
fn lines_are_whole_and_no_update_is_doubled(path: &Path) {
    let text = std::fs::read_to_string(path).expect("the sink's file");
    assert!(text.ends_with('\n'));
    let mut last = std::collections::BTreeMap::new();
    for line in text.lines() {
        let row: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let key = (row["carrier"].to_string(), row["hour"].to_string());
        let flights = row["flights"].as_i64().expect("a count");
        if let Some(before) = last.insert(key, flights) {
            assert!(
                flights > before,
                "an update came twice or out of order: {line}"
            );
        }
    }
}
