//! `TopologyTestDriver`: a topology in one thread, without a broker. The same chains and stores as in production, in memory.
//!
//! Each `pipe_input` is an epoch of its own, so caches flush after it and every update is seen; `pipe_batch` is one epoch for many
//! records. Repartition topics are passed on inside. Every topic has one partition.
//! Source: Kafka `TopologyTestDriver`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::dataflow::{
    BATCH_BYTES, Engine, EngineCounters, EngineOptions, Outbox, Position, RawRecord, SourceInput,
    SourceRecords, TaskStart,
};
use crate::error::EngineError;
use crate::record::{Headers, Record};
use crate::serdes::Serde;
use crate::state::{KeyValueStore, StateBackend, StoreKey, Timestamped, WindowStore};
use crate::topology::{TaskId, Topology};

const APPLICATION_ID: &str = "test";

/// Runs a topology for a test.
///
/// ```
/// use flumen_streams::{Consumed, Produced, StreamsBuilder, TopologyTestDriver, serdes};
/// let builder = StreamsBuilder::new();
/// let words = builder.stream("words", Consumed::with(serdes::string(), serdes::string()));
/// words.map_values(|word| word.to_uppercase()).to("shouted", Produced::with(serdes::string(), serdes::string()));
///
/// let driver = TopologyTestDriver::new(builder.build()?);
/// let input = driver.create_input_topic("words", serdes::string(), serdes::string());
/// let output = driver.create_output_topic("shouted", serdes::string(), serdes::string());
/// input.pipe_input("k".to_owned(), "hello".to_owned(), 0);
/// assert_eq!(output.read_key_value(), Some(("k".to_owned(), "HELLO".to_owned())));
/// # Ok::<(), flumen_streams::TopologyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TopologyTestDriver(Rc<RefCell<Driver>>);

#[derive(Debug)]
struct Driver {
    topology: Arc<Topology>,
    engine: Engine,
    counters: Arc<EngineCounters>,
    now_ms: i64,
    /// Next offset by topic.
    ends: BTreeMap<String, i64>,
    /// Everything written, by topic, until it is read.
    written: BTreeMap<String, VecDeque<RawRecord>>,
    positions: BTreeMap<String, Position>,
}

impl TopologyTestDriver {
    /// Starts every task of `topology` with empty stores, at wall-clock time 0.
    pub fn new(topology: Topology) -> Self {
        Self::start(topology, &BTreeMap::new(), &BTreeMap::new())
    }

    /// Starts with stores and positions left by another run.
    fn start(
        topology: Topology,
        backends: &BTreeMap<String, Arc<dyn StateBackend>>,
        positions: &BTreeMap<String, Position>,
    ) -> Self {
        let topology = Arc::new(topology);
        let counters = Arc::new(EngineCounters::default());
        let options = EngineOptions {
            application_id: APPLICATION_ID.to_owned(),
            partitions: BTreeMap::new(),
            counters: Arc::clone(&counters),
            batch_bytes: BATCH_BYTES,
        };
        let mut engine = Engine::new(Arc::clone(&topology), options);
        for subtopology in topology.subtopologies() {
            let mut start = TaskStart::default();
            for store in &subtopology.stores {
                start.backends.extend(
                    backends
                        .get(&store.name)
                        .map(|backend| (store.name.clone(), Arc::clone(backend))),
                );
            }
            for (index, source) in subtopology.sources.iter().enumerate() {
                start.positions.extend(
                    positions
                        .get(&source.topic(APPLICATION_ID))
                        .map(|position| (index, position.clone())),
                );
            }
            let task = TaskId {
                subtopology: subtopology.id,
                partition: 0,
            };
            engine
                .assign(task, start)
                .expect("each task of a checked topology is assigned once");
        }
        let (ends, written, positions) = (BTreeMap::new(), BTreeMap::new(), positions.clone());
        Self(Rc::new(RefCell::new(Driver {
            topology,
            engine,
            counters,
            now_ms: 0,
            ends,
            written,
            positions,
        })))
    }

    /// A topic to pipe records into.
    pub fn create_input_topic<K, V>(
        &self,
        topic: &str,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> TestInputTopic<K, V> {
        TestInputTopic {
            driver: self.clone(),
            topic: topic.to_owned(),
            key: Arc::new(key),
            value: Arc::new(value),
        }
    }

    /// A topic to read results from; also an internal one, under its full name with the application id `test`.
    pub fn create_output_topic<K, V>(
        &self,
        topic: &str,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> TestOutputTopic<K, V> {
        TestOutputTopic {
            driver: self.clone(),
            topic: topic.to_owned(),
            key: Arc::new(key),
            value: Arc::new(value),
        }
    }

    /// Moves the wall clock.
    pub fn advance_wall_clock_time(&self, by: Duration) {
        self.0.borrow_mut().now_ms += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    }

    /// The value of `key` in a store that is not windowed.
    /// # Panics
    /// If the topology has no such store, or it holds other types.
    pub fn get<K: StoreKey, V: Clone + 'static>(
        &self,
        store: &str,
        key: &K,
    ) -> Option<Timestamped<V>> {
        self.with_store(store, |store: &mut KeyValueStore<K, V>| store.get(key))
            .expect("a store in memory answers")
    }

    /// The value of `key` in the window that starts at `start`.
    /// # Panics
    /// As [`TopologyTestDriver::get`].
    pub fn fetch<K: StoreKey, V: Clone + 'static>(
        &self,
        store: &str,
        key: &K,
        start: i64,
    ) -> Option<Timestamped<V>> {
        self.with_store(store, |store: &mut WindowStore<K, V>| {
            store.fetch(key, start)
        })
        .expect("a store in memory answers")
    }

    /// Lets `query` use a store by its type.
    /// # Panics
    /// As [`TopologyTestDriver::get`].
    pub fn with_store<S: crate::state::Store + 'static, R>(
        &self,
        store: &str,
        query: impl FnOnce(&mut S) -> R,
    ) -> R {
        let driver = self.0.borrow();
        let has = |subtopology: &&crate::Subtopology| {
            subtopology.stores.iter().any(|spec| spec.name == store)
        };
        let subtopology = driver.topology.subtopologies().iter().find(has);
        let subtopology = subtopology
            .unwrap_or_else(|| panic!("the topology has no store {store}"))
            .id;
        let found = driver.engine.with_store(
            TaskId {
                subtopology,
                partition: 0,
            },
            store,
            query,
        );
        found.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Records dropped because they were too late for their window.
    pub fn dropped_late(&self) -> u64 {
        self.0
            .borrow()
            .counters
            .dropped_late
            .load(Ordering::Relaxed)
    }

    /// Records dropped because they had no key.
    pub fn dropped_null_keys(&self) -> u64 {
        self.0
            .borrow()
            .counters
            .dropped_null_key
            .load(Ordering::Relaxed)
    }

    /// Records skipped or dead-lettered because they could not be read.
    pub fn dropped_unreadable(&self) -> u64 {
        self.0
            .borrow()
            .counters
            .dropped_unreadable
            .load(Ordering::Relaxed)
    }
}

impl Driver {
    /// One epoch for `records`, then one for each round of repartitioned records, until nothing moves.
    fn pipe(&mut self, topic: &str, records: Vec<RawRecord>) -> Result<(), EngineError> {
        let mut waiting = VecDeque::from([(topic.to_owned(), records)]);
        while let Some((topic, records)) = waiting.pop_front() {
            let Some((task, source)) = self.reader_of(&topic) else {
                continue;
            };
            let next_offset = self.number(&topic, records.len());
            let first = next_offset - records.len() as i64;
            let numbered = (first..)
                .zip(records)
                .map(|(offset, record)| RawRecord { offset, ..record })
                .collect();
            let input = SourceInput {
                source,
                records: SourceRecords::Raw(numbered),
                first_offset: 0,
                next_offset,
            };
            self.engine.feed(task, vec![input], self.now_ms)?;
            let epoch = self.engine.close_epoch();
            self.engine.finish(epoch)?;
            let outbox = self.engine.drain(epoch);
            self.engine.committed(epoch, &BTreeMap::new());
            self.sort_out(outbox, &mut waiting);
        }
        Ok(())
    }

    /// What goes back in, and what waits to be read.
    fn sort_out(&mut self, outbox: Outbox, waiting: &mut VecDeque<(String, Vec<RawRecord>)>) {
        for ((topic, _), position) in outbox.positions {
            self.positions.insert(topic.to_string(), position);
        }
        for ((topic, _), buffer) in outbox.records {
            let records = buffer.records();
            self.written
                .entry(topic.to_string())
                .or_default()
                .extend(records.iter().cloned());
            if self.reader_of(&topic).is_some() {
                waiting.push_back((topic.to_string(), records));
            }
        }
    }

    fn number(&mut self, topic: &str, records: usize) -> i64 {
        let end = self.ends.entry(topic.to_owned()).or_insert(0);
        *end += records as i64;
        *end
    }

    fn reader_of(&self, topic: &str) -> Option<(TaskId, usize)> {
        self.topology
            .subtopologies()
            .iter()
            .find_map(|subtopology| {
                let source = subtopology
                    .sources
                    .iter()
                    .position(|source| source.topic(APPLICATION_ID) == topic)?;
                Some((
                    TaskId {
                        subtopology: subtopology.id,
                        partition: 0,
                    },
                    source,
                ))
            })
    }
}

/// A topic that a test writes to.
pub struct TestInputTopic<K, V> {
    driver: TopologyTestDriver,
    topic: String,
    key: Arc<dyn Serde<K>>,
    value: Arc<dyn Serde<V>>,
}

impl<K, V> TestInputTopic<K, V> {
    /// Pipes one record with event time `timestamp` in ms, and everything that follows from it.
    /// # Panics
    /// If the topology fails on it; [`TestInputTopic::try_pipe`] returns the error instead.
    pub fn pipe_input(&self, key: K, value: V, timestamp: i64) {
        self.pipe_batch(&[Record {
            key,
            value,
            timestamp,
            headers: Headers::none(),
        }]);
    }

    /// Pipes records in one epoch: of several updates of a cached key only the last goes on.
    /// # Panics
    /// As [`TestInputTopic::pipe_input`].
    pub fn pipe_batch(&self, records: &[Record<K, V>]) {
        self.try_pipe(records)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`TestInputTopic::pipe_batch`].
    /// # Errors
    /// Why the topology failed; the driver is of no use after it.
    pub fn try_pipe(&self, records: &[Record<K, V>]) -> Result<(), EngineError> {
        let raw = records.iter().map(|record| RawRecord {
            offset: 0,
            timestamp: record.timestamp,
            key: write(&*self.key, &record.key),
            value: write(&*self.value, &record.value),
            headers: record.headers.clone(),
        });
        self.driver.0.borrow_mut().pipe(&self.topic, raw.collect())
    }
}

fn write<T>(serde: &dyn Serde<T>, value: &T) -> Option<Bytes> {
    if serde.is_null(value) {
        return None;
    }
    let mut bytes = Vec::new();
    serde
        .serialize(value, &mut bytes)
        .expect("the test's own serde writes the test's own values");
    Some(Bytes::from(bytes))
}

/// A topic that a test reads.
pub struct TestOutputTopic<K, V> {
    driver: TopologyTestDriver,
    topic: String,
    key: Arc<dyn Serde<K>>,
    value: Arc<dyn Serde<V>>,
}

impl<K, V> TestOutputTopic<K, V> {
    /// Takes the next record, if there is one.
    /// # Panics
    /// If the serdes of the topic are not those it was written with.
    pub fn read_record(&self) -> Option<Record<K, V>> {
        let raw = self
            .driver
            .0
            .borrow_mut()
            .written
            .get_mut(&self.topic)?
            .pop_front()?;
        let key = read(&*self.key, raw.key.as_ref());
        let value = read(&*self.value, raw.value.as_ref());
        Some(Record {
            key,
            value,
            timestamp: raw.timestamp,
            headers: raw.headers,
        })
    }

    /// Takes the next key and value.
    /// # Panics
    /// As [`TestOutputTopic::read_record`].
    pub fn read_key_value(&self) -> Option<(K, V)> {
        self.read_record().map(|record| (record.key, record.value))
    }

    /// Takes all keys and values.
    /// # Panics
    /// As [`TestOutputTopic::read_record`].
    pub fn read_key_values(&self) -> Vec<(K, V)> {
        std::iter::from_fn(|| self.read_key_value()).collect()
    }
}

fn read<T>(serde: &dyn Serde<T>, bytes: Option<&Bytes>) -> T {
    let value = match bytes {
        Some(bytes) => serde.deserialize_shared(bytes, bytes),
        None => serde.null(),
    };
    value.unwrap_or_else(|error| panic!("the output topic's serde cannot read the record: {error}"))
}

impl<K, V> std::fmt::Debug for TestInputTopic<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestInputTopic({})", self.topic)
    }
}

impl<K, V> std::fmt::Debug for TestOutputTopic<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestOutputTopic({})", self.topic)
    }
}
