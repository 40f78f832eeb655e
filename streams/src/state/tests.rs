//! The stores against a model: whatever is written, aborted, spilled or lost in a crash, the backend holds exactly a
//! committed state, and its position says which one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::memory::MemoryStore;
use super::rocks::{RocksDatabase, RocksMemory};
use super::*;
use crate::serdes;

const KEYS: u64 = 12;
const RETENTION: i64 = 40;
const WINDOW: i64 = 10;

#[derive(Debug, Clone)]
enum Step {
    Put(u64, i64, u64),
    Remove(u64, i64),
    Expire(i64),
    EndEpoch,
    Commit,
    Abort,
    Spill,
    Evict(usize),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let start = (0i64..12).prop_map(|n| n * WINDOW - 20);
    prop_oneof![
        14 => (0..KEYS, start.clone(), any::<u64>()).prop_map(|(key, start, value)| Step::Put(key, start, value)),
        3 => (0..KEYS, start.clone()).prop_map(|(key, start)| Step::Remove(key, start)),
        1 => start.prop_map(Step::Expire),
        4 => Just(Step::EndEpoch),
        4 => Just(Step::Commit),
        2 => Just(Step::Abort),
        3 => Just(Step::Spill),
        1 => (0usize..1500).prop_map(Step::Evict),
        1 => Just(Step::Crash),
    ]
}

type Rows = BTreeMap<(i64, u64), (i64, u64)>;
/// Key and value as bytes, timestamp.
type Logged = (Vec<u8>, Option<Vec<u8>>, i64);

/// A store under test: key-value stores take the window start as part of nothing (always 0).
enum Subject {
    Plain(KeyValueStore<u64, u64>),
    Windowed(WindowStore<u64, u64>),
}

impl Subject {
    fn open(windowed: bool, backend: Arc<dyn StateBackend>) -> Self {
        let kind = if windowed {
            StoreKind::Window {
                size_ms: WINDOW,
                retention_ms: RETENTION,
            }
        } else {
            StoreKind::KeyValue
        };
        let spec = StoreSpec {
            name: "subject".to_owned(),
            kind,
            caching: true,
            logging: true,
        };
        let serdes = StoreSerdes {
            key: Arc::new(serdes::u64()) as _,
            value: Arc::new(serdes::u64()) as _,
        };
        if windowed {
            Self::Windowed(WindowStore::new(spec, serdes, backend))
        } else {
            Self::Plain(KeyValueStore::new(spec, serdes, backend))
        }
    }

    fn store(&mut self) -> &mut dyn Store {
        match self {
            Self::Plain(store) => store,
            Self::Windowed(store) => store,
        }
    }

    fn set(&mut self, (start, key): (i64, u64), value: Option<(i64, u64)>) {
        let change = |_: Option<Timestamped<u64>>| {
            value.map(|(timestamp, value)| Timestamped { value, timestamp })
        };
        match self {
            Self::Plain(store) => store.update(&key, change).unwrap(),
            Self::Windowed(store) => store.update(&key, start, change).unwrap(),
        }
    }

    fn all(&mut self) -> Rows {
        let all = match self {
            Self::Plain(store) => store
                .all()
                .unwrap()
                .into_iter()
                .map(|(key, value)| (key, 0, value))
                .collect(),
            Self::Windowed(store) => store.all().unwrap(),
        };
        all.into_iter()
            .map(|(key, start, value)| ((start, key), (value.timestamp, value.value)))
            .collect()
    }

    fn get(&mut self, (start, key): (i64, u64)) -> Option<(i64, u64)> {
        let found = match self {
            Self::Plain(store) => store.get(&key).unwrap(),
            Self::Windowed(store) => store.fetch(&key, start).unwrap(),
        };
        found.map(|found| (found.timestamp, found.value))
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

fn backend_rows(windowed: bool, backend: &dyn StateBackend) -> Rows {
    let mut rows = Rows::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        let (key, start) = if windowed {
            key::split_window_key(key).unwrap()
        } else {
            (key, 0)
        };
        let (timestamp, value) = value.split_first_chunk().unwrap();
        rows.insert(
            (start, number(key)),
            (i64::from_be_bytes(*timestamp), number(value)),
        );
        ControlFlow::Continue(())
    };
    backend.scan(b"", None, &mut visit).unwrap();
    rows
}

fn replay(windowed: bool, rows: &mut Rows, log: &[Logged]) {
    for (key, value, timestamp) in log {
        let (key, start) = if windowed {
            key::split_window_changelog_key(key).unwrap()
        } else {
            (key.as_slice(), 0)
        };
        match value {
            Some(value) => rows.insert((start, number(key)), (*timestamp, number(value))),
            None => rows.remove(&(start, number(key))),
        };
    }
}

/// The store, and what it has to be at each epoch.
struct World<F> {
    windowed: bool,
    open_backend: F,
    backend: Arc<dyn StateBackend>,
    subject: Subject,
    now: Rows,
    floor: i64,
    committed: (Rows, i64),
    ended: Vec<(Epoch, Rows, i64, Vec<Logged>)>,
    log: Vec<Logged>,
    next: Epoch,
    aborts: usize,
}

impl<F: Fn(&mut Option<Arc<dyn StateBackend>>) -> Arc<dyn StateBackend>> World<F> {
    fn new(windowed: bool, open_backend: F) -> Self {
        let backend = open_backend(&mut None);
        let subject = Subject::open(windowed, Arc::clone(&backend));
        let (now, ended, log) = (Rows::new(), Vec::new(), Vec::new());
        let committed = (Rows::new(), i64::MIN);
        Self {
            windowed,
            open_backend,
            backend,
            subject,
            now,
            floor: i64::MIN,
            committed,
            ended,
            log,
            next: 1,
            aborts: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Put(key, start, value) => self.set(*key, *start, Some((*start + 1, *value))),
            Step::Remove(key, start) => self.set(*key, *start, None),
            Step::Expire(start) => self.expire(*start),
            Step::EndEpoch if self.ended.len() < 3 => self.end_epoch(),
            Step::Commit if !self.ended.is_empty() => self.commit(),
            Step::Abort => self.abort(),
            Step::Spill => self.spill(),
            Step::Evict(keep) => self.subject.store().evict(*keep),
            Step::Crash => self.crash(),
            Step::EndEpoch | Step::Commit => {}
        }
    }

    fn set(&mut self, key: u64, start: i64, value: Option<(i64, u64)>) {
        let at = if self.windowed {
            (start, key)
        } else {
            (0, key)
        };
        self.subject.set(at, value);
        if at.0 < self.floor {
            return;
        }
        match value {
            Some(value) => self.now.insert(at, value),
            None => self.now.remove(&at),
        };
        assert_eq!(self.subject.get(at), value);
    }

    fn expire(&mut self, start: i64) {
        if let Subject::Windowed(store) = &mut self.subject {
            store.expire(start);
            self.floor = self.floor.max(start);
            self.now = self.now.split_off(&(self.floor, 0));
        }
    }

    fn end_epoch(&mut self) {
        let mut logged = Vec::new();
        let mut push = |record: ChangelogRecord<'_>| {
            logged.push((
                record.key.to_vec(),
                record.value.map(<[u8]>::to_vec),
                record.timestamp,
            ));
        };
        self.subject
            .store()
            .end_epoch(self.next, &mut push)
            .unwrap();
        let keys: std::collections::BTreeSet<_> = logged.iter().map(|(key, ..)| key).collect();
        assert_eq!(keys.len(), logged.len(), "a key is logged once an epoch");
        self.ended
            .push((self.next, self.now.clone(), self.floor, logged));
        self.next += 1;
    }

    fn commit(&mut self) {
        let (epoch, rows, floor, logged) = self.ended.remove(0);
        self.log.extend(logged);
        self.committed = (rows, floor);
        self.subject
            .store()
            .committed(epoch, Some(self.log.len() as i64));
        let mut all = Rows::new();
        replay(self.windowed, &mut all, &self.log);
        assert_eq!(
            all, self.committed.0,
            "the whole changelog is the committed state"
        );
    }

    fn abort(&mut self) {
        self.aborts += 1;
        self.subject.store().abort();
        self.ended.clear();
        (self.now, self.floor) = self.committed.clone();
    }

    fn spill(&mut self) {
        self.subject.store().spill().unwrap();
        assert_eq!(
            backend_rows(self.windowed, &*self.backend),
            self.committed.0,
            "committed rows, and only those"
        );
        assert_eq!(
            self.backend.position().unwrap().unwrap_or(0),
            self.log.len() as i64
        );
    }

    /// The process dies; the backend comes back with what it had, the tail of the changelog brings the rest.
    fn crash(&mut self) {
        self.subject = Subject::open(self.windowed, Arc::new(MemoryStore::new()));
        let mut old = Some(std::mem::replace(
            &mut self.backend,
            Arc::new(MemoryStore::new()),
        ));
        self.backend = (self.open_backend)(&mut old);
        let position = self.backend.position().unwrap().unwrap_or(0) as usize;
        let mut rows = backend_rows(self.windowed, &*self.backend);
        replay(self.windowed, &mut rows, &self.log[position..]);
        assert_eq!(
            rows, self.committed.0,
            "backend and tail are the committed state"
        );
        let mut batch = Batch::new();
        for (key, value, timestamp) in &self.log[position..] {
            let mut row = key.clone();
            if self.windowed {
                let (key, start) = key::split_window_changelog_key(key).unwrap();
                key::window_key(&mut row, key, start);
            }
            let timestamp = timestamp.to_be_bytes();
            batch.push(
                &row,
                value
                    .as_ref()
                    .map(|value| (&timestamp[..], value.as_slice())),
            );
        }
        self.backend
            .write(&mut batch, Some(self.log.len() as i64))
            .unwrap();
        self.subject = Subject::open(self.windowed, Arc::clone(&self.backend));
        self.ended.clear();
        // The floor is not stored: the operator expires again by stream time.
        (self.now, self.floor) = (self.committed.0.clone(), i64::MIN);
        self.committed.1 = i64::MIN;
    }

    fn check(&mut self) {
        assert_eq!(self.subject.all(), self.now);
    }
}

fn same(old: &mut Option<Arc<dyn StateBackend>>) -> Arc<dyn StateBackend> {
    old.take().unwrap_or_else(|| Arc::new(MemoryStore::new()))
}

fn rocks(folder: &Path) -> Arc<dyn StateBackend> {
    let database = RocksDatabase::open(
        folder,
        &["subject".to_owned()],
        &RocksMemory::new(1 << 20, 4 << 20),
    )
    .unwrap();
    Arc::new(database.store("subject", 3))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_never_shows_its_backend_anything_uncommitted(windowed: bool, steps in prop::collection::vec(step(), 1..160)) {
        let mut world = World::new(windowed, same);
        for step in &steps {
            world.run(step);
            world.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_over_rocks(windowed: bool, steps in prop::collection::vec(step(), 1..160)) {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new(windowed, |old: &mut Option<Arc<dyn StateBackend>>| {
            drop(old.take()); // closes the database
            rocks(folder.path())
        });
        for step in &steps {
            world.run(step);
            world.check();
        }
    }
}

#[test]
fn thirty_aborts_in_a_long_run_leave_the_committed_state() {
    let mut world = World::new(false, same);
    let mut seed = 42u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    while world.aborts < 30 {
        (0..200).for_each(|_| world.run(&Step::Put(random(KEYS * 40), 0, random(1000))));
        world.run(&Step::EndEpoch);
        match random(4) {
            0 => world.run(&Step::Abort),
            1 => world.run(&Step::Commit),
            _ => (0..3).for_each(|_| world.run(&Step::Commit)),
        }
        if random(3) == 0 {
            world.run(&Step::Spill);
        }
        world.check();
    }
    assert!(
        world.next > 60 && world.log.len() > 2000,
        "{} epochs, {} records",
        world.next,
        world.log.len()
    );
}

#[test]
fn a_window_that_closes_before_a_spill_never_reaches_the_backend() {
    let backend = Arc::new(MemoryStore::new());
    let mut subject = Subject::open(true, Arc::clone(&backend) as _);
    subject.set((0, 1), Some((5, 1)));
    subject.set((100, 1), Some((105, 1)));
    let mut logged = 0;
    subject.store().end_epoch(1, &mut |_| logged += 1).unwrap();
    subject.store().committed(1, Some(2));
    let Subject::Windowed(store) = &mut subject else {
        unreachable!()
    };
    store.expire(50);
    store
        .end_epoch(2, &mut |record| assert!(record.value.is_none()))
        .unwrap();
    store.committed(2, Some(3));
    store.spill().unwrap();
    assert_eq!(logged, 2);
    assert_eq!(
        backend_rows(true, &*backend)
            .into_keys()
            .collect::<Vec<_>>(),
        [(100, 1)]
    );
}

#[test]
fn prefetch_reads_only_what_is_missing_and_eviction_keeps_what_is_not_committed() {
    let backend = Arc::new(MemoryStore::new());
    let mut subject = Subject::open(false, Arc::clone(&backend) as _);
    (0..100).for_each(|key| subject.set((0, key), Some((1, key))));
    subject.store().end_epoch(1, &mut |_| {}).unwrap();
    subject.store().committed(1, Some(100));
    subject.store().spill().unwrap();
    subject.set((0, 7), Some((2, 70)));
    subject.store().evict(0);
    assert_eq!(
        subject.store().cached_bytes() / subject.store().cached_bytes().max(1),
        1,
        "one entry is not committed"
    );
    assert_eq!(subject.get((0, 7)), Some((2, 70)));
    let Subject::Plain(store) = &mut subject else {
        unreachable!()
    };
    store.prefetch([1, 2, 2, 7, 500].iter()).unwrap();
    assert_eq!(store.get(&2).unwrap().map(|found| found.value), Some(2));
    assert_eq!(store.get(&500).unwrap(), None);
}
