//! Seeded simulation: the broker that ships and our own client, on a simulated network, disk and clock.
//!
//! `SEED=42 cargo test -p flumen --test sim` repeats a seed; the same seed twice prints the same bytes.
#![allow(clippy::unwrap_used, reason = "an unexpected answer fails the test")]
#![allow(clippy::disallowed_methods, reason = "tests are drivers")]

mod dice;
mod disk;
mod drivers;
mod nemesis;
mod network;
mod plan;
mod recorder;
mod summary;
mod workload;
mod world;

use plan::Plan;

fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(42);
    println!("SEED={seed}");
    seed
}

#[test]
fn one_seed() {
    let seed = seed();
    let plan = Plan::of(seed);
    println!("{plan}");
    let started = std::time::Instant::now();
    let outcome = world::run(plan);
    println!("{outcome}");
    println!("took {:?}; stuck {:?}", started.elapsed(), outcome.stuck);
}
