//! Seeded simulation: the broker that ships and our own client, on a simulated network, disk and clock.
//!
//! `SEED=42 cargo test -p flumen --test sim one_seed -- --nocapture` repeats a seed; the same seed twice prints the same bytes.
#![allow(clippy::unwrap_used, reason = "an unexpected answer fails the test")]
#![allow(clippy::disallowed_methods, reason = "tests are drivers")]

mod dice;
mod disk;
mod drivers;
mod nemesis;
mod network;
mod oracle;
mod panics;
mod plan;
mod recorder;
mod runs;
mod steps;
mod summary;
mod workload;
mod world;

use plan::Plan;

/// Seeds of every day.
const SEEDS: u64 = 8;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
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
    if variable("SEED").is_some() {
        return;
    }
    let from = variable("FROM").unwrap_or(0);
    let count = variable("SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = (from..from + count).collect();
    let (counters, failure) = runs::run_all(&seeds, |number, _| {
        if number % 10 == 0 {
            eprintln!("{number} of {count} seeds");
        }
    });
    println!("{counters}");
    if let Some(failure) = failure {
        panic!("{failure}");
    }
}

#[test]
fn the_same_seed_prints_the_same_bytes() {
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
