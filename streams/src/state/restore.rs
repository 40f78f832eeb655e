//! Stores from their changelogs: only what they do not have yet.
//!
//! Called by the application before a task runs. The backend's position says where to begin; under exactly-once only committed
//! records are read, and up to the end of the log as it was when restoration began, so that a commit of the last owner whose
//! markers are still being written is waited for, not missed. A position that the changelog no longer has means that nothing
//! of the store can be trusted: it is wiped and restored from the beginning, with a warning.
//!
//! Records are collected in chunks, the last of each key kept, sorted and given to the backend, which ingests them as files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flumen_client::{
    Admin, Client, ClientError, Consumer, ConsumerConfig, FetchedRecords, Isolation, OffsetReset,
    OffsetSpec, Poll,
};
use flumen_protocol::batch::{BatchError, RecordBatch};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;

use super::backend::{Batch, StateBackend, StateError};
use super::{StoreKind, key};
use crate::commit::Now;
use crate::metrics::StreamsMetrics;
use crate::runtime::{Clock, Threads};

/// Rows and bytes that make a chunk.
const CHUNK_ROWS: usize = 500_000;
const CHUNK_BYTES: usize = 64 << 20;
/// The largest changelog batch after decompression.
const BATCH_BYTES_MAX: usize = 256 << 20;
const POLL: Duration = Duration::from_millis(200);
/// Progress is logged so often at most, by all stores that are restored together.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Why stores could not be restored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RestoreError {
    /// The cluster: wait and start again.
    #[error("changelog {topic}: {error}")]
    Client {
        /// Topic, or topics, that were read.
        topic: String,
        /// The client's complaint.
        error: ClientError,
    },
    /// A batch of the changelog cannot be read.
    #[error("changelog {partition:?}: {error}")]
    Changelog {
        /// Topic and partition.
        partition: TopicPartition,
        /// What is wrong with the batch.
        error: Arc<BatchError>,
    },
    /// The backend.
    #[error(transparent)]
    State(#[from] StateError),
}

/// How far the restoration of one store of one task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Topic and partition of the changelog.
    pub changelog: TopicPartition,
    /// Where it began.
    pub from: i64,
    /// The next offset to be restored.
    pub position: i64,
    /// Where it ends.
    pub end: i64,
    /// Records replayed so far.
    pub records: u64,
    /// Bytes of the batches they came in, compressed as they are in the log.
    pub bytes: u64,
}

/// Told after every chunk, and at the end of each store.
pub type RestoreListener = Arc<dyn Fn(&RestoreProgress) + Send + Sync>;

/// One store of one task, to be restored.
#[derive(Debug, Clone)]
pub(crate) struct StoreRestore {
    pub(crate) kind: StoreKind,
    pub(crate) changelog: TopicPartition,
    pub(crate) backend: Arc<dyn StateBackend>,
}

/// What a restoration came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) stores: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Stores that had to begin anew although they had a position.
    pub(crate) wiped: u64,
}

/// Lets writes through until it is shut. A restoration that is given up may have a write under way on another thread; once
/// [`shut`](Self::shut) returns there is none, and there will be none.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Mutex<bool>>);

impl Gate {
    pub(crate) fn open() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }

    /// Waits for the write under way.
    pub(crate) fn shut(&self) {
        *self.0.lock() = false;
    }

    fn pass(&self, write: impl FnOnce() -> Result<(), StateError>) -> Result<(), StateError> {
        let open = self.0.lock();
        if *open { write() } else { Ok(()) }
    }
}

/// When progress is worth a line: a restoration of hours must be seen to move, one of a thousand stores must not fill the log.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Now>);

impl Pace {
    pub(crate) fn begin(now: Now) -> Self {
        Self(Mutex::new(now))
    }

    /// Whether a line may be written now, which then counts as written.
    fn is_due(&self, now: Now) -> bool {
        let mut last = self.0.lock();
        let due = now.saturating_sub(*last) >= LINE_EVERY;
        if due {
            *last = now;
        }
        due
    }
}

/// How stores are restored.
#[derive(Clone)]
pub(crate) struct RestoreOptions {
    pub(crate) isolation: Isolation,
    pub(crate) gate: Gate,
    pub(crate) listener: Option<RestoreListener>,
    pub(crate) threads: Threads,
    pub(crate) clock: Clock,
    pub(crate) pace: Arc<Pace>,
    pub(crate) metrics: Arc<StreamsMetrics>,
}

impl RestoreOptions {
    /// Does work on a backend where it holds nobody up.
    async fn with(
        &self,
        backend: &Arc<dyn StateBackend>,
        work: impl FnOnce(&dyn StateBackend) -> Result<(), StateError> + Send + 'static,
    ) -> Result<(), StateError> {
        let (gate, backend) = (self.gate.clone(), Arc::clone(backend));
        let work = move || gate.pass(|| work(&*backend));
        self.threads.blocking(work).await
    }

    /// A store has come further. A line now and then; the listener always, after a chunk and at the end.
    fn note(&self, progress: &RestoreProgress, told: bool) {
        if self.pace.is_due(self.clock.now()) {
            tracing::info!(
                changelog = progress.changelog.topic,
                partition = progress.changelog.partition,
                from = progress.from,
                position = progress.position,
                end = progress.end,
                records = progress.records,
                bytes = progress.bytes,
                "restoring a store"
            );
        }
        if let Some(listener) = self.listener.as_ref().filter(|_| told) {
            listener(progress);
        }
    }
}

/// Where to begin, from the stored position and the bounds of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The log's tail, or all of it for a store that is new.
    From(i64),
    /// Position unknown to the log: forget the store.
    Wiped,
}

fn start(stored: Option<i64>, log_start: i64, log_end: i64) -> Start {
    match stored {
        None => Start::From(log_start),
        Some(position) if (log_start..=log_end).contains(&position) => Start::From(position),
        Some(_) => Start::Wiped,
    }
}

/// A store while its changelog is read. Pure, but for the backend.
struct Replay {
    store: StoreRestore,
    batch: Batch,
    row: Vec<u8>,
    progress: RestoreProgress,
}

impl Replay {
    /// Takes what was fetched: how many records and bytes it was.
    fn take(&mut self, batches: &[RecordBatch]) -> Result<(u64, u64), RestoreError> {
        let before = (self.progress.records, self.progress.bytes);
        let partition = &self.store.changelog;
        let unreadable = |error| RestoreError::Changelog {
            partition: partition.clone(),
            error: Arc::new(error),
        };
        for batch in batches {
            for record in batch
                .records(DecompressionLimit(BATCH_BYTES_MAX))
                .map_err(unreadable)?
            {
                let record = record.map_err(unreadable)?;
                if record.offset < self.progress.position {
                    continue; // a batch may begin before the position
                }
                let Some(logged) = &record.key else { continue };
                let row = match self.store.kind {
                    StoreKind::KeyValue => &logged[..],
                    StoreKind::Window { .. } => {
                        let Some((key, start)) = key::split_window_changelog_key(logged) else {
                            continue;
                        };
                        key::window_key(&mut self.row, key, start);
                        &self.row
                    }
                };
                let timestamp = record.timestamp.to_be_bytes();
                self.batch.push(
                    row,
                    record
                        .value
                        .as_ref()
                        .map(|value| (&timestamp[..], &value[..])),
                );
                self.progress.records += 1;
            }
            self.progress.bytes += batch.bytes().len() as u64;
        }
        Ok((
            self.progress.records - before.0,
            self.progress.bytes - before.1,
        ))
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= CHUNK_ROWS || self.batch.size_in_bytes() >= CHUNK_BYTES
    }

    async fn write(&mut self, options: &RestoreOptions) -> Result<(), StateError> {
        let position = self.progress.position;
        let mut batch = std::mem::take(&mut self.batch);
        options
            .with(&self.store.backend, move |backend| {
                backend.write(&mut batch, Some(position))
            })
            .await
    }
}

/// Brings every store up to the end of its changelog.
///
/// # Errors
/// [`RestoreError`]; what was restored so far stays, with its position.
pub(crate) async fn restore(
    client: &Client,
    stores: Vec<StoreRestore>,
    options: &RestoreOptions,
) -> Result<Restored, RestoreError> {
    let mut result = Restored::default();
    let topics = topics_of(&stores);
    let mut replays = begin_all(client, stores, options, &mut result).await?;
    if replays.is_empty() {
        return Ok(result);
    }
    let failed = |error| RestoreError::Client {
        topic: topics.clone(),
        error,
    };
    let config = ConsumerConfig {
        isolation: options.isolation,
        auto_offset_reset: OffsetReset::None,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(client, config).await.map_err(failed)?;
    let partitions = replays.keys().cloned().collect();
    consumer.assign(partitions).await.map_err(failed)?;
    for (partition, replay) in &replays {
        let position = replay.progress.position;
        consumer.seek(partition, position).map_err(failed)?;
    }
    while !replays.is_empty() {
        match consumer.poll_batches(POLL).await.map_err(failed)? {
            Poll::Records(fetched) => {
                for fetched in fetched {
                    let partition = fetched.partition.clone();
                    if take(&mut replays, fetched, options, &mut result).await? {
                        let done = std::slice::from_ref(&partition);
                        consumer.pause(done).map_err(failed)?;
                    }
                }
            }
            other => lost(other, &mut replays, &consumer, (options, &mut result)).await?,
        }
    }
    consumer.close().await;
    Ok(result)
}

/// Finds where each store has to begin and to end. Those that have everything are done.
async fn begin_all(
    client: &Client,
    stores: Vec<StoreRestore>,
    options: &RestoreOptions,
    result: &mut Restored,
) -> Result<BTreeMap<TopicPartition, Replay>, RestoreError> {
    let mut replays: BTreeMap<TopicPartition, Replay> = BTreeMap::new();
    if stores.is_empty() {
        return Ok(replays);
    }
    let topic = topics_of(&stores);
    let failed = |error| RestoreError::Client {
        topic: topic.clone(),
        error,
    };
    let partitions: Vec<TopicPartition> =
        stores.iter().map(|store| store.changelog.clone()).collect();
    let admin = Admin::new(client);
    let starts = admin.list_offsets(&partitions, OffsetSpec::Earliest);
    let starts = starts.await.map_err(failed)?;
    let ends = OffsetSpec::Latest(Isolation::ReadUncommitted);
    let ends = admin
        .list_offsets(&partitions, ends)
        .await
        .map_err(failed)?;
    for store in stores {
        let log_start = starts.get(&store.changelog).map_or(0, |found| found.offset);
        let end = ends
            .get(&store.changelog)
            .map_or(log_start, |found| found.offset);
        let from = begin(&store, (log_start, end), options, result).await?;
        let progress = RestoreProgress {
            changelog: store.changelog.clone(),
            from,
            position: from,
            end,
            records: 0,
            bytes: 0,
        };
        let replay = Replay {
            store,
            batch: Batch::new(),
            row: Vec::new(),
            progress,
        };
        if from < end {
            replays.insert(replay.progress.changelog.clone(), replay);
        } else {
            finish(replay, options, result).await?;
        }
    }
    Ok(replays)
}

/// Takes what was fetched; true when that store has everything now.
async fn take(
    replays: &mut BTreeMap<TopicPartition, Replay>,
    fetched: FetchedRecords,
    options: &RestoreOptions,
    result: &mut Restored,
) -> Result<bool, RestoreError> {
    let Some(replay) = replays.get_mut(&fetched.partition) else {
        return Ok(false);
    };
    let (records, bytes) = replay.take(&fetched.batches)?;
    StreamsMetrics::add(&options.metrics.restored_records, records);
    StreamsMetrics::add(&options.metrics.restored_bytes, bytes);
    replay.progress.position = fetched.next_offset;
    if replay.progress.position >= replay.progress.end {
        let replay = replays.remove(&fetched.partition).expect("looked up above");
        finish(replay, options, result).await?;
        return Ok(true);
    }
    let full = replay.is_full();
    if full {
        replay.write(options).await?;
    }
    options.note(&replay.progress, full);
    Ok(false)
}

/// Where to begin with one store; wipes it if its position is not in the log.
async fn begin(
    store: &StoreRestore,
    (log_start, log_end): (i64, i64),
    options: &RestoreOptions,
    result: &mut Restored,
) -> Result<i64, StateError> {
    let stored = store.backend.position()?;
    if let Start::From(position) = start(stored, log_start, log_end) {
        return Ok(position);
    }
    warn_wiped(&store.changelog, stored.unwrap_or(0), log_start, log_end);
    result.wiped += 1;
    options
        .with(&store.backend, |backend| backend.wipe())
        .await?;
    Ok(log_start)
}

fn warn_wiped(changelog: &TopicPartition, position: i64, log_start: i64, log_end: i64) {
    let TopicPartition { topic, partition } = changelog;
    tracing::warn!(
        changelog = topic,
        partition,
        position,
        log_start,
        log_end,
        "the store's position is not in its changelog (deleted, truncated or made anew): the store is wiped and restored from the beginning"
    );
}

async fn finish(
    mut replay: Replay,
    options: &RestoreOptions,
    result: &mut Restored,
) -> Result<(), StateError> {
    let stored = replay.store.backend.position()?;
    if !replay.batch.is_empty() || stored != Some(replay.progress.position) {
        replay.write(options).await?;
        options
            .with(&replay.store.backend, |backend| backend.flush(false))
            .await?;
    }
    result.stores += 1;
    result.records += replay.progress.records;
    result.bytes += replay.progress.bytes;
    options.note(&replay.progress, true);
    Ok(())
}

/// The changelog lost its head under the reader: that store begins anew.
async fn lost(
    polled: Poll,
    replays: &mut BTreeMap<TopicPartition, Replay>,
    consumer: &Consumer,
    (options, result): (&RestoreOptions, &mut Restored),
) -> Result<(), RestoreError> {
    let Poll::PositionLost {
        partition,
        log_start,
        log_end,
        position,
    } = polled
    else {
        return Ok(());
    };
    let Some(replay) = replays.get_mut(&partition) else {
        return Ok(());
    };
    warn_wiped(&partition, position, log_start, log_end);
    result.wiped += 1;
    options
        .with(&replay.store.backend, |backend| backend.wipe())
        .await?;
    replay.batch.clear();
    replay.progress.from = log_start;
    replay.progress.position = log_start;
    let seek = consumer.seek(&partition, log_start);
    seek.map_err(|error| RestoreError::Client {
        topic: partition.topic.clone(),
        error,
    })
}

fn topics_of(stores: &[StoreRestore]) -> String {
    let topics: std::collections::BTreeSet<&str> = stores
        .iter()
        .map(|store| store.changelog.topic.as_str())
        .collect();
    topics.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use flumen_protocol::builder::{BatchBuilder, BatchOptions};

    use super::super::memory::MemoryStore;
    use super::*;

    #[test]
    fn a_position_in_the_log_is_where_the_tail_begins() {
        assert_eq!(start(None, 10, 100), Start::From(10));
        assert_eq!(start(Some(10), 10, 100), Start::From(10));
        assert_eq!(start(Some(100), 10, 100), Start::From(100));
    }

    #[test]
    fn a_position_outside_the_log_wipes_the_store() {
        assert_eq!(
            start(Some(9), 10, 100),
            Start::Wiped,
            "records after it were deleted"
        );
        assert_eq!(
            start(Some(101), 10, 100),
            Start::Wiped,
            "the log was cut or is another one"
        );
    }

    fn replay(kind: StoreKind, position: i64) -> Replay {
        let changelog = TopicPartition::new("log", 0);
        let store = StoreRestore {
            kind,
            changelog: changelog.clone(),
            backend: Arc::new(MemoryStore::new()),
        };
        let progress = RestoreProgress {
            changelog,
            from: position,
            position,
            end: 100,
            records: 0,
            bytes: 0,
        };
        Replay {
            store,
            batch: Batch::new(),
            row: Vec::new(),
            progress,
        }
    }

    fn batch(base_offset: i64, records: &[(&[u8], Option<&[u8]>)]) -> RecordBatch {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset,
            ..BatchOptions::default()
        });
        (0i64..)
            .zip(records)
            .for_each(|(at, (key, value))| builder.push(1000 + at, Some(key), *value, &[]));
        RecordBatch::parse(builder.build()).unwrap()
    }

    fn rows(replay: &mut Replay) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        replay
            .store
            .backend
            .write(&mut replay.batch, Some(replay.progress.position))
            .unwrap();
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        replay.store.backend.scan(b"", None, &mut visit).unwrap();
        rows
    }

    #[test]
    fn only_records_from_the_position_on_count_and_the_last_of_a_key_wins() {
        let mut replay = replay(StoreKind::KeyValue, 11);
        let records: [(&[u8], Option<&[u8]>); 4] = [
            (b"old", Some(b"x")),
            (b"a", Some(b"1")),
            (b"b", Some(b"2")),
            (b"a", None),
        ];
        replay.take(&[batch(10, &records)]).unwrap();
        assert_eq!(replay.progress.records, 3);
        let value = [&1002i64.to_be_bytes()[..], b"2"].concat();
        assert_eq!(rows(&mut replay), [(b"b".to_vec(), value)]);
    }

    #[test]
    fn progress_is_a_line_every_five_seconds_at_most() {
        let at = Duration::from_millis;
        let pace = Pace::begin(at(1000));
        let due: Vec<u64> = (1000..20_000).filter(|now| pace.is_due(at(*now))).collect();
        assert_eq!(due, [6000, 11_000, 16_000]);
    }

    #[test]
    fn progress_counts_the_bytes_of_whole_batches_and_the_records_that_count() {
        let mut replay = replay(StoreKind::KeyValue, 11);
        let batch = batch(10, &[(b"old", Some(b"x")), (b"a", Some(b"1"))]);
        let bytes = batch.bytes().len() as u64;
        assert_eq!(replay.take(&[batch]).unwrap(), (1, bytes));
    }

    #[test]
    fn window_keys_come_back_in_the_order_of_windows() {
        let mut replay = replay(
            StoreKind::Window {
                size_ms: 10,
                retention_ms: 100,
            },
            0,
        );
        let mut keys = [Vec::new(), Vec::new()];
        key::window_changelog_key(&mut keys[0], b"a", 20);
        key::window_changelog_key(&mut keys[1], b"z", 10);
        replay
            .take(&[batch(
                0,
                &[
                    (&keys[0], Some(b"1")),
                    (&keys[1], Some(b"2")),
                    (b"short", Some(b"3")),
                ],
            )])
            .unwrap();
        let found: Vec<_> = rows(&mut replay)
            .iter()
            .map(|(row, _)| {
                key::split_window_key(row)
                    .map(|(key, start)| (key.to_vec(), start))
                    .unwrap()
            })
            .collect();
        assert_eq!(found, [(b"z".to_vec(), 10), (b"a".to_vec(), 20)]);
    }
}
