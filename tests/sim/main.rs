//! Seeded simulation: the broker that ships, on a simulated network and in virtual time.
//!
//! `SEED=42 cargo test -p flumen --test sim` repeats a seed; the same seed twice gives the same trace.
#![allow(clippy::unwrap_used, reason = "an unexpected answer fails the test")]
#![allow(clippy::disallowed_methods, reason = "tests are drivers")]

mod wire;
mod world;

use std::time::Duration;

use flumen_broker::Broker;
use flumen_broker::config::BrokerConfig;

use wire::Wire;
use world::{Trace, drivers};

const PORT: u16 = 9092;

fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(42);
    println!("SEED={seed}");
    seed
}

/// One broker, one reader that waits, one writer: what each saw and when.
fn produce_and_fetch(seed: u64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let trace = Trace::default();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(120))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .build();

    let path = dir.path().to_str().unwrap().to_owned();
    sim.host("broker", move || {
        let path = path.clone();
        async move {
            let properties = [
                ("log.dirs", path.as_str()),
                ("listeners", "PLAINTEXT://0.0.0.0:9092"),
            ];
            let config = BrokerConfig::from_properties(properties)?;
            let _broker = Broker::start(config, drivers(seed)).await?;
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let notes = trace.clone();
    sim.client("reader", async move {
        let mut wire = Wire::connect("broker", PORT).await;
        wire.create_topic("t").await;
        notes.note("reader waits");
        let values = wire.fetch("t", 0, Duration::from_secs(60)).await;
        notes.note(format_args!("reader got {values:?}"));
        assert_eq!(values, ["hello"]);
        Ok(())
    });
    let notes = trace.clone();
    sim.client("writer", async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut wire = Wire::connect("broker", PORT).await;
        let offset = wire.produce("t", "hello").await;
        notes.note(format_args!("writer was told offset {offset}"));
        assert_eq!(offset, 0);
        Ok(())
    });
    sim.run().unwrap();
    trace.lines()
}

#[test]
fn a_record_reaches_a_waiting_reader_in_virtual_time() {
    let lines = produce_and_fetch(seed());
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let seed = seed();
    assert_eq!(produce_and_fetch(seed), produce_and_fetch(seed));
}
