//! An application of streams: copies `ledger` and counts its values over a repartition, exactly once, with its store in RocksDB.
//!
//! Its folder is a real one. When the host dies the folder stays, is lost, or is what it was when the host started the last time, as a
//! power loss or a backup would leave it. The judgement at the end is this host's own: outputs are a function of the committed
//! input that the application's group has passed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flumen_client::{
    Admin, Client, ClientConfig, ClientError, Consumer, ConsumerConfig, DecompressionLimit,
    Isolation, NewTopic, Poll, Record, TopicPartition,
};
use flumen_streams::{
    Consumed, Grouped, KafkaStreams, Materialized, Produced, StreamsBuilder, StreamsConfig,
    StreamsError, StreamsMetrics, Threads, Topology, serdes,
};

use super::{Stage, number_of};
use crate::dice::Dice;
use crate::recorder::Journal;

const APPLICATION: &str = "flow";
const INPUT: &str = "ledger";
const ECHO: &str = "flow-echo";
const COUNTS: &str = "flow-counts";
const REPARTITION: &str = "flow-classes-repartition";
const CHANGELOG: &str = "flow-counts-changelog";
const PARTITIONS: i32 = 2;
/// Values are counted by their remainder.
const CLASSES: u64 = 7;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    commit_ms: u64,
    spill_ms: u64,
}

impl Options {
    pub(crate) fn of(dice: &mut Dice) -> Options {
        Options {
            commit_ms: *dice.pick(&[20, 100]),
            spill_ms: *dice.pick(&[0, 300, 2_000]),
        }
    }
}

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let values = builder.stream(INPUT, Consumed::with(serdes::nothing(), serdes::bytes()));
    values.to(ECHO, Produced::with(serdes::nothing(), serdes::bytes()));
    values
        .group_by(
            |_, value| class(number_of(Some(value))),
            Grouped::with(serdes::string(), serdes::bytes()).named("classes"),
        )
        .count(Materialized::as_("counts"))
        .to_stream()
        .to(COUNTS, Produced::with(serdes::string(), serdes::i64()));
    builder.build().unwrap()
}

fn class(value: u64) -> String {
    format!("class-{}", value % CLASSES)
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    // Segments of a run may be smaller than what the application sends at once. Internal topics are taken as they are found.
    let topics = [ECHO, COUNTS, REPARTITION, CHANGELOG].map(|topic| {
        let topic = NewTopic::new(topic, PARTITIONS);
        topic.config("segment.bytes", "65536")
    });
    while let Err(error) = Admin::new(&client).ensure_topics(&topics).await {
        stage.recorder.note(format_args!("no topics yet: {error}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut dice = stage.dice("topology");
    let folder = stage.folder();
    let identity = revive(&stage, &folder, &mut dice);
    let config = config(&stage, &options, &folder, identity);
    while !stage.stops() {
        let journal = stage.process();
        match KafkaStreams::start(topology(), config.clone()).await {
            Ok(streams) => watch(&stage, &journal, streams).await,
            Err(error) => judge(&stage, &journal, &error),
        }
        stage.pause(Duration::from_millis(100)).await;
    }
    let flaw = loop {
        match audit(&client).await {
            Ok(flaw) => break flaw,
            Err(error) => stage.recorder.note(format_args!("not audited: {error}")),
        }
    };
    if let Some(flaw) = flaw {
        stage.recorder.flaw(format!("topology: {flaw}"));
    }
    Ok(())
}

fn config(stage: &Stage, options: &Options, folder: &Path, identity: u64) -> StreamsConfig {
    StreamsConfig {
        client: ClientConfig {
            seed: Some(identity),
            ..stage.client_config()
        },
        state_dir: folder.join("state"),
        commit_interval: Some(Duration::from_millis(options.commit_ms)),
        session_timeout: stage.plan.session_timeout,
        heartbeat_interval: stage.plan.session_timeout / 6,
        transaction_timeout: stage.plan.transaction_timeout,
        spill_interval: Duration::from_millis(options.spill_ms),
        cache_bytes: 2_000,
        block_cache_bytes: 1 << 20,
        memtable_bytes: 1 << 20,
        threads: Threads::Waiting,
        ..StreamsConfig::new(APPLICATION, super::BROKER)
    }
}

/// Until it stops by itself, or the run does.
async fn watch(stage: &Stage, journal: &Journal, mut streams: KafkaStreams) {
    let mut commits = 0;
    while !stage.stops() {
        tokio::select! {
            biased;
            ended = streams.stopped() => {
                if let Err(error) = ended {
                    judge(stage, journal, &error);
                }
                return;
            }
            () = stage.pause(Duration::from_millis(100)) => {}
        }
        let now = StreamsMetrics::get(&streams.metrics().commits);
        if now > commits {
            commits = now;
            journal.moved();
        }
    }
    let metrics = streams.metrics();
    journal.note(format_args!(
        "streams: {commits} commits, {} aborts, {} records restored",
        StreamsMetrics::get(&metrics.aborts),
        StreamsMetrics::get(&metrics.restored_records)
    ));
    if let Err(error) = streams.close().await {
        judge(stage, journal, &error);
    }
}

/// The cluster may be away, or give the place to a successor; nothing else may stop an application.
fn judge(stage: &Stage, journal: &Journal, error: &StreamsError) {
    journal.note(format_args!("the application stopped: {error}"));
    if !matches!(error, StreamsError::Client(_) | StreamsError::Fenced { .. }) {
        stage.recorder.flaw(format!("topology: stopped by {error}"));
    }
}

/// What a new process finds on its disk; the number from which it takes its name.
fn revive(stage: &Stage, folder: &Path, dice: &mut Dice) -> u64 {
    let (state, backup, lost) = (
        folder.join("state"),
        folder.join("backup"),
        folder.join("lost"),
    );
    let mut losses = fs::read(&lost).map_or(0, |bytes| bytes.len() as u64);
    if stage.life > 1 {
        match dice.below(10) {
            0 => {
                let _ = fs::remove_dir_all(&state);
                losses += 1;
                fs::write(&lost, vec![b'.'; losses as usize]).unwrap();
                stage.recorder.note("the state folder is lost");
            }
            1..4 if backup.exists() => {
                let _ = fs::remove_dir_all(&state);
                copy(&backup, &state);
                stage.recorder.note("the state folder is an older one");
            }
            _ => {}
        }
    }
    let _ = fs::remove_dir_all(&backup);
    if state.exists() {
        copy(&state, &backup);
    }
    Dice::new(stage.plan.seed, &format!("{}/{losses}", stage.name)).next()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// All committed records of a partition, when no transaction is open in it.
pub(super) async fn committed(
    client: &Client,
    topic: &str,
    partition: i32,
) -> Result<Vec<Record>, ClientError> {
    let at = TopicPartition::new(topic, partition);
    let consumer = Consumer::new(client, ConsumerConfig::default()).await?;
    consumer.assign(vec![at.clone()]).await?;
    let only = std::slice::from_ref(&at);
    let end = consumer
        .end_offsets_as(only, Isolation::ReadUncommitted)
        .await?[&at];
    let mut next = consumer.beginning_offsets(only).await?[&at];
    let mut records = Vec::new();
    while next < end {
        if let Poll::Records(pieces) = consumer.poll_batches(Duration::from_secs(1)).await? {
            for piece in pieces {
                for record in piece.records(DecompressionLimit::DEFAULT) {
                    records.push(record?);
                }
                next = piece.next_offset;
            }
        }
    }
    Ok(records)
}

/// Values and where each was read: source partition and offset.
type Passed = BTreeMap<u64, (i32, i64)>;

/// The first output that is not what the passed input says.
async fn audit(client: &Client) -> Result<Option<String>, ClientError> {
    let offsets = Admin::new(client).group_offsets(APPLICATION).await?;
    let upto = |topic: &str, partition| {
        let at = TopicPartition::new(topic, partition);
        offsets.get(&at).copied().unwrap_or(0)
    };
    let mut passed = Passed::new();
    for partition in 0..PARTITIONS {
        let end = upto(INPUT, partition);
        for record in committed_upto(client, INPUT, partition, end).await? {
            passed.insert(number_of(record.value.as_ref()), (partition, record.offset));
        }
    }
    for topic in [ECHO, REPARTITION] {
        if passed.is_empty() {
            continue; // perhaps it never came to make its topics
        }
        if let Some(flaw) = copied(client, topic, &passed).await? {
            return Ok(Some(flaw));
        }
    }
    for partition in 0..PARTITIONS {
        let end = upto(REPARTITION, partition);
        if end == 0 {
            continue;
        }
        let mut expected: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for record in committed_upto(client, REPARTITION, partition, end).await? {
            *expected.entry(record.key.unwrap().to_vec()).or_default() += 1;
        }
        let mut counts = BTreeMap::new();
        for record in committed(client, COUNTS, partition).await? {
            let (key, value) = (record.key.unwrap().to_vec(), record.value.unwrap());
            let count = i64::from_be_bytes(value[..].try_into().unwrap());
            let before = counts.insert(key.clone(), count);
            if before >= Some(count) {
                let class = String::from_utf8_lossy(&key);
                return Ok(Some(format!("{class} is {count} after {before:?}")));
            }
        }
        if counts != expected {
            return Ok(Some(format!(
                "counts of partition {partition} are {counts:?}, not {expected:?}"
            )));
        }
    }
    Ok(None)
}

/// The same below an offset; what lies behind may still be open.
async fn committed_upto(
    client: &Client,
    topic: &str,
    partition: i32,
    end: i64,
) -> Result<Vec<Record>, ClientError> {
    let mut records = committed(client, topic, partition).await?;
    records.retain(|record| record.offset < end);
    Ok(records)
}

/// The first value that is not in `topic` exactly once, in the order of its source.
async fn copied(
    client: &Client,
    topic: &str,
    passed: &Passed,
) -> Result<Option<String>, ClientError> {
    let mut missing = passed.clone();
    for partition in 0..PARTITIONS {
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        for record in committed(client, topic, partition).await? {
            let value = number_of(record.value.as_ref());
            let place = format!("{topic}-{partition} offset {}", record.offset);
            let Some((source, offset)) = missing.remove(&value) else {
                let why = match passed.get(&value) {
                    Some(_) => "is there twice",
                    None => "was not passed",
                };
                return Ok(Some(format!("{value} at {place} {why}")));
            };
            if last.insert(source, offset) > Some(offset) {
                return Ok(Some(format!("{value} at {place} comes after a later one")));
            }
        }
    }
    let first = missing.first_key_value();
    Ok(first.map(|(value, from)| format!("{value}, passed at {from:?}, is not in {topic}")))
}
