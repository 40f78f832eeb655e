//! Seeded simulation: the broker that ships and our own client, on a simulated network, disk and clock.
//!
//! `SEED=42 cargo test -p flumen --test sim one_seed -- --nocapture` repeats a seed; the same seed twice prints the same bytes.
#![allow(clippy::unwrap_used, reason = "an unexpected answer fails the test")]
#![allow(clippy::disallowed_methods, reason = "tests are drivers")]

mod dice;
mod disk;
mod drivers;
mod ledger;
mod nemesis;
mod network;
mod oracle;
mod panics;
mod plan;
mod planted;
mod recorder;
mod regressions;
mod runs;
mod steps;
mod summary;
mod workload;
mod world;

use flumen_planted::Bug;

use plan::Plan;
use regressions::REGRESSIONS;

/// Seeds of every day.
const SEEDS: u64 = 300;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `SEEDS` seeds from `FROM` on; those that have found something before come first.
fn seeds() -> Vec<u64> {
    let from = variable("FROM").unwrap_or(0);
    let count = variable("SEEDS").unwrap_or(SEEDS);
    let known = REGRESSIONS.iter().map(|(seed, _)| *seed);
    known.chain(from..from + count).collect()
}

/// Whether this process is one that only repeats a seed, or only looks for one bug.
fn has_another_task() -> bool {
    variable("SEED").is_some() || flumen_planted::current().is_some()
}

/// With `SEED`: that one, with everything that happened.
#[test]
fn one_seed() {
    let Some(seed) = variable("SEED") else { return };
    // `RUST_LOG=flumen_broker=debug,turmoil=trace` shows what happened inside.
    let log = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_ansi(false)
        .without_time()
        .with_writer(std::io::stdout)
        .finish();
    let _log = tracing::subscriber::set_default(log);
    let outcome = world::run(Plan::of(seed));
    println!("{outcome}");
    if let Some(failure) = runs::judge(seed, &outcome) {
        panic!("{failure}");
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    if has_another_task() {
        return;
    }
    let seeds = seeds();
    let (counters, failure) = runs::run_all(&seeds, |number, counters| {
        if number % 10 == 0 {
            let crashes = counters.broker_crashes();
            eprintln!(
                "{number} of {} seeds, {crashes} crashes of the broker",
                seeds.len()
            );
        }
    });
    println!("{counters}");
    if let Some(failure) = failure {
        panic!("{failure}");
    }
    if seeds.len() as u64 >= SEEDS {
        let idle: Vec<_> = counters
            .all()
            .into_iter()
            .filter(|(_, n)| *n == 0)
            .collect();
        assert!(idle.is_empty(), "these never happened: {idle:?}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    if has_another_task() {
        return;
    }
    let (found, missed) = planted::hunt_all(Bug::ALL);
    println!(
        "bug, seeds until it was found, how it showed:\n{}",
        found.join("\n")
    );
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}

/// With `FLUMEN_PLANTED_BUG`: that one.
#[test]
fn the_planted_bug_of_this_process_is_found() {
    if let Some(bug) = flumen_planted::current() {
        planted::hunt(bug, &seeds());
    }
}

#[test]
fn the_same_seed_prints_the_same_bytes() {
    if flumen_planted::current().is_some() {
        return;
    }
    let seed = variable("SEED").unwrap_or(1);
    let first = world::run(Plan::of(seed)).to_string();
    let second = world::run(Plan::of(seed)).to_string();
    if first != second {
        let differs = first.lines().zip(second.lines()).position(|(a, b)| a != b);
        let at = differs.unwrap_or(0);
        let around = |text: &str| {
            let lines: Vec<&str> = text.lines().skip(at.saturating_sub(3)).take(6).collect();
            lines.join("\n")
        };
        panic!(
            "SEED={seed}: line {at} differs\n{}\n---\n{}",
            around(&first),
            around(&second)
        );
    }
}
