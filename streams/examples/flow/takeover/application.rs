//! The application that is killed: the last value of every key, in a store, every update sent on. In a process of its own.

use std::time::Duration;

use flumen_streams::{
    Consumed, Grouped, KafkaStreams, Materialized, Produced, StreamsBuilder, StreamsConfig,
    StreamsMetrics, Topology, serdes,
};

use crate::Failure;

fn topology(input: &str) -> Result<Topology, Failure> {
    let builder = StreamsBuilder::new();
    builder
        .stream(input, Consumed::with(serdes::string(), serdes::bytes()))
        .group_by_key(Grouped::with(serdes::string(), serdes::bytes()))
        .reduce(|_, new| new, Materialized::with("last", serdes::bytes()))
        .to_stream()
        .to(
            &format!("{input}-out"),
            Produced::with(serdes::string(), serdes::bytes()),
        );
    Ok(builder.build()?)
}

/// Says what it does in lines until it is killed: `running RECORDS BYTES STORES` (what was restored, and how many stores from nothing), and
/// `read N` after commits.
#[expect(
    clippy::disallowed_methods,
    reason = "counters are looked at from time to time"
)]
pub(crate) async fn run([bootstrap, id, input, state_dir]: [&str; 4]) -> Result<(), Failure> {
    let mut config = StreamsConfig::new(id, bootstrap);
    config.state_dir = state_dir.into();
    let mut streams = KafkaStreams::start(topology(input)?, config).await?;
    let get = StreamsMetrics::get;
    if streams.running().await {
        let metrics = streams.metrics();
        println!(
            "running {} {} {}",
            get(&metrics.restored_records),
            get(&metrics.restored_bytes),
            get(&metrics.full_restores)
        );
    }
    let mut committed = 0;
    loop {
        tokio::select! {
            biased;
            ended = streams.stopped() => return Ok(ended?),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        let metrics = streams.metrics();
        // In this order: what was read before a commit that is counted may be part of it, what is read after it is not.
        let read = get(&metrics.engine.records_in);
        let commits = get(&metrics.commits);
        if commits > committed {
            committed = commits;
            println!("read {read}");
        }
    }
}
