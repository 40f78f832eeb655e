//! A streams application that loses its process, its connection or its broker at every request that it sends.
//!
//! Directed, not random: one short run (two rounds of two lines, the second of each while the first commits) is repeated once for every request and every way to
//! fail there. Whatever happens, outputs are those of a run in which nothing happened, what RocksDB holds is what the changelog says
//! up to the position beside it, and a start replays exactly the changelog records that the store did not have.

mod ends;
mod machine;
mod tripwire;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flumen_broker::Broker;
use flumen_broker::config::BrokerConfig;
use flumen_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig,
    ProducerRecord, TopicPartition,
};
use flumen_streams::state::StateBackend;
use flumen_streams::state::restore::{RestoreListener, RestoreProgress};
use flumen_streams::state::rocks::{RocksDatabase, RocksMemory};
use flumen_streams::{
    Consumed, Grouped, KafkaStreams, Materialized, Produced, StreamsBuilder, StreamsConfig,
    StreamsMetrics, Threads, Topology, serdes,
};

use machine::{drivers, wall_ms};
use tripwire::{Api, Trip, Tripwire, Way};

const LINES: usize = 4;
const WORDS: [&str; 5] = ["the", "river", "and", "the", "sea"];
const STORE: &str = "counts";
const CHANGELOG: &str = "app-counts-changelog";
/// Later than any commit of the round before, without faults.
const ROUND: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(120);
/// A step of the simulation: a request is there one step later.
const TICK: Duration = Duration::from_millis(5);
/// Of a transaction: what stays open is aborted by the broker within a run.
const TRANSACTION: Duration = Duration::from_secs(3);

/// Lines are counted by word, over a repartition; and every line is passed on.
fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let lines = builder.stream("lines", Consumed::with(serdes::nothing(), serdes::string()));
    lines
        .flat_map_values(|line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(
            |_, word| word.clone(),
            Grouped::with(serdes::string(), serdes::string()).named("words"),
        )
        .count(Materialized::as_(STORE))
        .to_stream()
        .to("counts", Produced::with(serdes::string(), serdes::i64()));
    lines.to("echo", Produced::with(serdes::nothing(), serdes::string()));
    builder.build().unwrap()
}

/// When the store's committed changes go to RocksDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spill {
    EveryCommit,
    Never,
}

/// What was in RocksDB when the process had ended.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// The changelog's next offset.
    position: Option<i64>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Restorations so far.
    restorations: usize,
}

/// What one run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// What the application sent.
    apis: Vec<Api>,
    /// Where the fault took place.
    tripped: Option<Api>,
    /// Every restoration of the store.
    restored: Vec<RestoreProgress>,
    /// Changelog records replayed, as each incarnation that came to run counts them.
    replayed: Vec<u64>,
    /// After each death, and at the end.
    left: Vec<Left>,
    /// The changelog as it was committed: offset, key, and timestamp and value as they are stored.
    changelog: Vec<(i64, Vec<u8>, Vec<u8>)>,
    counts: Vec<(String, i64)>,
    echo: Vec<String>,
}

fn client_config(seed: u64) -> ClientConfig {
    ClientConfig {
        wall_clock: Some(wall_ms),
        seed: Some(seed),
        transport: Arc::new(tripwire::Plain),
        request_timeout: Duration::from_secs(12),
        ..ClientConfig::new("broker:9092")
    }
}

fn streams_config(folder: &Path, spill: Spill, tripwire: &Tripwire) -> StreamsConfig {
    let mut config = StreamsConfig::new("app", "broker:9092");
    config.client = ClientConfig {
        transport: Arc::new(tripwire.clone()),
        ..client_config(7)
    };
    config.state_dir = folder.join("state");
    config.threads = Threads::Waiting;
    config.transaction_timeout = TRANSACTION;
    config.session_timeout = Duration::from_secs(6);
    config.spill_interval = match spill {
        Spill::EveryCommit => Duration::ZERO,
        Spill::Never => Duration::from_secs(3600),
    };
    config.block_cache_bytes = 1 << 20;
    config.memtable_bytes = 1 << 20;
    config
}

fn database(folder: &Path) -> PathBuf {
    folder.join("state/app/engine-0")
}

/// The store as a process that died has left it.
fn left(folder: &Path, restorations: usize) -> Option<Left> {
    if !database(folder).join("CURRENT").exists() {
        return None;
    }
    let memory = RocksMemory::new(1 << 20, 1 << 20);
    let opened = RocksDatabase::open(&database(folder), &[STORE.to_owned()], &memory);
    let store = opened.expect("it opens after any crash").store(STORE, 0);
    let mut rows = BTreeMap::new();
    let mut note = |row: &[u8], value: &[u8]| {
        rows.insert(row.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    store.scan(b"", None, &mut note).unwrap();
    Some(Left {
        position: store.position().unwrap(),
        rows,
        restorations,
    })
}

/// The broker, on a disk that keeps what it was given.
fn broker(sim: &mut turmoil::Sim<'_>, log: &Path) {
    let log = log.to_str().unwrap().to_owned();
    // Each start of it has chance of its own: ids that come twice are ids of two things.
    let starts = AtomicU64::new(0);
    sim.host("broker", move || {
        let log = log.clone();
        let seed = starts.fetch_add(1, Ordering::Relaxed);
        async move {
            let properties = [
                ("log.dirs", log.as_str()),
                ("listeners", "PLAINTEXT://0.0.0.0:9092"),
                ("advertised.listeners", "PLAINTEXT://broker:9092"),
                (
                    "transaction.abort.timed.out.transaction.cleanup.interval.ms",
                    "1000",
                ),
                ("transaction.state.log.num.partitions", "1"),
                ("offsets.topic.num.partitions", "1"),
                ("group.initial.rebalance.delay.ms", "0"),
            ];
            let config = BrokerConfig::from_properties(properties)?;
            let _broker = Broker::start(config, drivers(seed)).await?;
            std::future::pending::<()>().await;
            Ok(())
        }
    });
}

struct Run {
    folder: tempfile::TempDir,
    spill: Spill,
    tripwire: Tripwire,
    outcome: Arc<Mutex<Outcome>>,
}

impl Run {
    fn hosts(&self, sim: &mut turmoil::Sim<'_>) {
        broker(sim, &self.folder.path().join("log"));
        let (folder, spill) = (self.folder.path().to_owned(), self.spill);
        let (tripwire, outcome) = (self.tripwire.clone(), Arc::clone(&self.outcome));
        sim.host("app", move || {
            let config = streams_config(&folder, spill, &tripwire);
            let outcome = Arc::clone(&outcome);
            let notes = Arc::clone(&outcome);
            let listener: RestoreListener = Arc::new(move |progress| {
                notes.lock().unwrap().restored.push(progress.clone());
            });
            async move {
                let mut streams = loop {
                    let listener = Some(Arc::clone(&listener));
                    match KafkaStreams::start_with(topology(), config.clone(), listener).await {
                        Ok(streams) => break streams,
                        Err(error) => println!("not started: {error}"),
                    }
                };
                if streams.running().await {
                    let replayed = StreamsMetrics::get(&streams.metrics().restored_records);
                    outcome.lock().unwrap().replayed.push(replayed);
                }
                streams.stopped().await?;
                Ok(())
            }
        });
        let outcome = Arc::clone(&self.outcome);
        sim.client("judge", async move {
            judge(&outcome).await;
            Ok(())
        });
    }

    /// Notes what RocksDB has; the process must not run.
    fn look(&self) {
        let mut outcome = self.outcome.lock().unwrap();
        let restorations = outcome.restored.len();
        outcome.left.extend(left(self.folder.path(), restorations));
    }

    /// Runs to the end, with the fault where the tripwire is.
    fn run(self) -> Outcome {
        let mut sim = turmoil::Builder::new()
            .rng_seed(1)
            .simulation_duration(Duration::from_secs(300))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(1))
            .build();
        self.hosts(&mut sim);
        let mut fall: Option<Duration> = None;
        let mut again: Option<(&str, Duration)> = None;
        while !sim.step().unwrap() {
            if let Some(trip) = self.tripwire.tripped() {
                self.outcome.lock().unwrap().tripped = Some(trip.api);
                match trip.way {
                    Way::KillBefore | Way::KillAfter => {
                        sim.crash("app");
                        self.look();
                        again = Some(("app", sim.elapsed() + Duration::from_millis(500)));
                    }
                    Way::BrokerBefore => fall = Some(sim.elapsed()),
                    // Until then it has carried the request out.
                    Way::BrokerAfter => fall = Some(sim.elapsed() + 4 * TICK),
                    Way::CutBefore | Way::CutAfter | Way::Stall(_) => {}
                }
            }
            if fall.is_some_and(|at| sim.elapsed() >= at) {
                fall = None;
                sim.crash("broker");
                again = Some(("broker", sim.elapsed() + Duration::from_secs(2)));
            }
            if let Some((host, at)) = again
                && sim.elapsed() >= at
            {
                again = None;
                sim.bounce(host);
            }
        }
        drop(sim);
        self.look();
        let mut outcome = std::mem::take(&mut *self.outcome.lock().unwrap());
        outcome.apis = self.tripwire.apis();
        outcome
    }
}

fn run(spill: Spill, trip: Option<Trip>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let outcome = Arc::default();
    let tripwire = Tripwire::new(trip);
    Run {
        folder,
        spill,
        tripwire,
        outcome,
    }
    .run()
}

/// Writes the input, reads what comes of it until all is there, then reads a moment longer: nothing more may come.
async fn judge(outcome: &Mutex<Outcome>) {
    let client = loop {
        match Client::connect(client_config(3)).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let topics = ["lines", "counts", "echo"].map(|topic| NewTopic::new(topic, 1));
    while Admin::new(&client).ensure_topics(&topics).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let producer = Producer::new(&client, ProducerConfig::default())
        .await
        .unwrap();
    for line in 0..LINES {
        let record = ProducerRecord::new("lines", WORDS.join(" "));
        producer.send(record).await.unwrap().await.unwrap();
        // The second line of a round comes while the epoch of the first commits.
        let pause = if line % 2 == 0 { SOON } else { ROUND };
        tokio::time::sleep(pause).await;
    }
    let all = i64::try_from(LINES).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let complete = |outcome: &Outcome| {
        let last: BTreeMap<&str, i64> = outcome
            .counts
            .iter()
            .map(|(word, count)| (word.as_str(), *count))
            .collect();
        let expected = [("the", 2 * all), ("river", all), ("and", all), ("sea", all)];
        last == expected.into() && outcome.echo.len() >= LINES
    };
    while Admin::new(&client).describe_topic(CHANGELOG).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let consumer = Consumer::new(&client, ConsumerConfig::default())
        .await
        .unwrap();
    let read = ["counts", "echo", CHANGELOG].map(|topic| TopicPartition::new(topic, 0));
    consumer.assign(read.into()).await.unwrap();
    let mut quiet = 0;
    while quiet < 4 {
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "not complete: {:?}", outcome.lock().unwrap());
        let records = consumer.poll(Duration::from_millis(300)).await.unwrap();
        let mut outcome = outcome.lock().unwrap();
        quiet = if records.is_empty() && complete(&outcome) {
            quiet + 1
        } else {
            0
        };
        for record in records {
            let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            match &*record.topic {
                "counts" => {
                    let count = i64::from_be_bytes(value[..].try_into().unwrap());
                    outcome.counts.push((text(&key), count));
                }
                "echo" => outcome.echo.push(text(&value)),
                _ => {
                    let stored = [&record.timestamp.to_be_bytes()[..], &value].concat();
                    outcome
                        .changelog
                        .push((record.offset, key.to_vec(), stored));
                }
            }
        }
    }
}

/// What must hold whatever happened.
fn check(outcome: &Outcome, spill: Spill, what: &str) {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for (word, count) in &outcome.counts {
        let before = last.insert(word, *count);
        assert!(
            before < Some(*count),
            "{what}: {word} {count} after {before:?}"
        );
    }
    assert_eq!(outcome.echo, vec![WORDS.join(" "); LINES], "{what}");
    for left in &outcome.left {
        let upto = left.position.unwrap_or(0);
        let mut expected = BTreeMap::new();
        for (_, key, stored) in outcome.changelog.iter().filter(|(at, ..)| *at < upto) {
            expected.insert(key.clone(), stored.clone());
        }
        assert_eq!(left.rows, expected, "{what}: rows at position {upto}");
        if let Some(next) = outcome.restored.get(left.restorations) {
            assert_eq!(next.from, upto, "{what}: only the tail is replayed");
        }
    }
    for restored in &outcome.restored {
        let range = restored.from..restored.position;
        let tail = outcome
            .changelog
            .iter()
            .filter(|(offset, ..)| range.contains(offset));
        assert_eq!(
            restored.records,
            tail.count() as u64,
            "{what}: {restored:?}"
        );
    }
    let replayed: u64 = outcome
        .restored
        .iter()
        .map(|restored| restored.records)
        .sum();
    if spill == Spill::EveryCommit {
        // Words that differ in a line.
        let of_one_commit = 4;
        assert!(replayed <= of_one_commit, "{what}: {replayed} replayed");
    }
}

/// Requests of the transaction protocol: Produce, FindCoordinator, InitProducerId, EndTxn, TxnOffsetCommit.
const TRANSACTIONAL: [Api; 5] = [0, 10, 22, 26, 28];

/// Repeats the run with each of `ways` at each of the requests that `at` chooses, in order. `STEPS=all` chooses all.
fn at_each_request(spill: Spill, ways: &[Way], at: impl Fn(Api) -> bool) {
    let calm = run(spill, None);
    check(&calm, spill, "without a fault");
    let all = std::env::var("STEPS").is_ok_and(|steps| steps == "all");
    let mut tripped = 0;
    for (request, api) in calm.apis.iter().enumerate() {
        if !all && !at(*api) {
            continue;
        }
        for way in ways {
            let what = format!("{spill:?}, request {request} (api {api}), {way:?}");
            println!("{what}");
            let trip = Trip { request, way: *way };
            let outcome = run(spill, Some(trip));
            check(&outcome, spill, &what);
            assert_eq!(
                outcome.tripped,
                Some(*api),
                "{what}: another run than the calm one"
            );
            tripped += 1;
        }
    }
    println!("{tripped} faults");
    assert!(tripped >= 20, "{tripped}");
}

#[test]
fn a_process_that_dies_at_any_request_loses_and_doubles_nothing() {
    at_each_request(Spill::EveryCommit, &[Way::KillBefore], |_| true);
    let after = |api| TRANSACTIONAL.contains(&api);
    at_each_request(Spill::EveryCommit, &[Way::KillAfter], after);
}

#[test]
fn a_store_that_never_spilled_is_restored_from_all_that_was_committed() {
    let ways = [Way::KillBefore, Way::KillAfter];
    at_each_request(Spill::Never, &ways, |api| TRANSACTIONAL.contains(&api));
}

#[test]
fn an_epoch_that_is_aborted_at_any_request_leaves_nothing() {
    let ways = [Way::CutBefore, Way::CutAfter, Way::Stall(2 * TRANSACTION)];
    at_each_request(Spill::EveryCommit, &ways, |api| {
        TRANSACTIONAL.contains(&api)
    });
}

#[test]
fn a_broker_that_dies_at_any_request_of_a_commit_stops_nothing_for_good() {
    let ways = [Way::BrokerBefore, Way::BrokerAfter];
    at_each_request(Spill::EveryCommit, &ways, |api| {
        TRANSACTIONAL.contains(&api)
    });
}
