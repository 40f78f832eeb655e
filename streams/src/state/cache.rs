//! Typed write-back cache over a backend: the record cache, the transaction buffer and the memtable at once.
//!
//! Called by operators (get, update, drain_updates) and by the engine through [`Store`]. It never decides when an epoch ends.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{
    ChangelogRecord, Epoch, StateBackend, StateError, Store, StoreSerdes, StoreSpec, Timestamped,
    key,
};
use crate::error::SerdeError;

/// Bounds of a key of a store.
pub trait StoreKey: Hash + Eq + Clone + 'static {}
impl<K: Hash + Eq + Clone + 'static> StoreKey for K {}

struct Entry<V> {
    value: Option<Timestamped<V>>,
    /// The value when the open epoch began; `None`: untouched in it.
    before: Option<Option<Timestamped<V>>>,
    unspilled: bool,
}

/// A store of one value per key.
pub struct KeyValueStore<K, V> {
    table: Table<K, V>,
}

/// A store of one value per key and window.
pub struct WindowStore<K, V> {
    /// By window start.
    segments: BTreeMap<i64, Table<K, V>>,
    expired: Vec<(i64, Table<K, V>)>,
    spec: StoreSpec,
    serdes: StoreSerdes<K, V>,
    backend: Arc<dyn StateBackend>,
    position: Option<i64>,
}

struct Table<K, V> {
    entries: HashMap<K, Entry<V>, FixedState>,
    dirty: Vec<K>,
    spec: StoreSpec,
    serdes: StoreSerdes<K, V>,
    backend: Option<Arc<dyn StateBackend>>,
    position: Option<i64>,
}

impl<K: StoreKey, V: Clone + 'static> KeyValueStore<K, V> {
    /// A store over `backend`, which is restored already.
    pub fn new(spec: StoreSpec, serdes: StoreSerdes<K, V>, backend: Arc<dyn StateBackend>) -> Self {
        Self {
            table: Table::new(spec, serdes, Some(backend)),
        }
    }

    /// Brings `keys` into memory with one sorted read, so that the updates of a batch need no single reads.
    /// # Errors
    /// The backend's.
    pub fn prefetch<'k>(&mut self, keys: impl Iterator<Item = &'k K>) -> Result<(), StateError>
    where
        K: 'k,
    {
        let _ = keys;
        Ok(())
    }

    /// The value of `key`, of the open epoch.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn get(&mut self, key: &K) -> Result<Option<Timestamped<V>>, StateError> {
        Ok(self.table.entry(key, &[])?.value.clone())
    }

    /// Replaces the value of `key` by what `change` makes of it; `None` removes it.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn update(
        &mut self,
        key: &K,
        change: impl FnOnce(Option<Timestamped<V>>) -> Option<Timestamped<V>>,
    ) -> Result<(), StateError> {
        self.table.update(key, &[], change)
    }

    /// Gives every key changed in the open epoch with its value before the epoch and now, in the order of their first change.
    /// Once per epoch, before [`Store::end_epoch`].
    pub fn drain_updates(
        &mut self,
        mut emit: impl FnMut(&K, Option<&Timestamped<V>>, Option<&Timestamped<V>>),
    ) {
        self.table.drain_updates(&mut emit);
    }

    /// Every entry of the open epoch, ordered by the bytes of the key.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn all(&mut self) -> Result<Vec<(K, Timestamped<V>)>, StateError> {
        self.table.load_all()?;
        self.table.sorted()
    }
}

impl<K: StoreKey, V: Clone + 'static> Table<K, V> {
    fn new(
        spec: StoreSpec,
        serdes: StoreSerdes<K, V>,
        backend: Option<Arc<dyn StateBackend>>,
    ) -> Self {
        Self {
            entries: HashMap::with_hasher(FixedState::default()),
            dirty: Vec::new(),
            spec,
            serdes,
            backend,
            position: None,
        }
    }

    fn key_bytes(&self, prefix: &[u8], key: &K) -> Result<Vec<u8>, StateError> {
        let mut bytes = prefix.to_vec();
        self.serdes
            .key
            .serialize(key, &mut bytes)
            .map_err(|error| self.broken(error))?;
        Ok(bytes)
    }

    fn broken(&self, error: SerdeError) -> StateError {
        StateError::Unreadable {
            store: self.spec.name.clone(),
            error,
        }
    }

    fn entry(&mut self, key: &K, prefix: &[u8]) -> Result<&mut Entry<V>, StateError> {
        if !self.entries.contains_key(key) {
            let stored = match &self.backend {
                Some(backend) => backend
                    .multi_get(&[&self.key_bytes(prefix, key)?])?
                    .pop()
                    .flatten(),
                None => None,
            };
            let value = match stored {
                Some(bytes) => {
                    Some(decode(&self.serdes, &bytes).map_err(|error| self.broken(error))?)
                }
                None => None,
            };
            self.entries.insert(
                key.clone(),
                Entry {
                    value,
                    before: None,
                    unspilled: false,
                },
            );
        }
        Ok(self.entries.get_mut(key).expect("inserted above"))
    }

    fn update(
        &mut self,
        key: &K,
        prefix: &[u8],
        change: impl FnOnce(Option<Timestamped<V>>) -> Option<Timestamped<V>>,
    ) -> Result<(), StateError> {
        let entry = self.entry(key, prefix)?;
        let first = entry.before.is_none();
        if first {
            entry.before = Some(entry.value.clone());
        }
        entry.unspilled = true;
        entry.value = change(entry.value.take());
        if first {
            self.dirty.push(key.clone());
        }
        Ok(())
    }

    fn drain_updates(
        &mut self,
        emit: &mut impl FnMut(&K, Option<&Timestamped<V>>, Option<&Timestamped<V>>),
    ) {
        for key in &self.dirty {
            let entry = &self.entries[key];
            emit(
                key,
                entry.before.as_ref().and_then(Option::as_ref),
                entry.value.as_ref(),
            );
        }
    }

    fn load_all(&mut self) -> Result<(), StateError> {
        let Some(backend) = &self.backend else {
            return Ok(());
        };
        let mut found = Vec::new();
        backend.scan(&[], None, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        for (key, value) in found {
            let key = self
                .serdes
                .key
                .deserialize(&key)
                .map_err(|error| self.broken(error))?;
            let value = decode(&self.serdes, &value).map_err(|error| self.broken(error))?;
            self.entries.entry(key).or_insert(Entry {
                value: Some(value),
                before: None,
                unspilled: false,
            });
        }
        Ok(())
    }

    fn sorted(&self) -> Result<Vec<(K, Timestamped<V>)>, StateError> {
        let mut all = Vec::new();
        for (key, entry) in &self.entries {
            if let Some(value) = &entry.value {
                all.push((self.key_bytes(&[], key)?, key.clone(), value.clone()));
            }
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(all
            .into_iter()
            .map(|(_, key, value)| (key, value))
            .collect())
    }

    fn end_epoch(
        &mut self,
        suffix: &[u8],
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        let mut value_bytes = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let mut key_bytes = self.key_bytes(&[], &key)?;
            key_bytes.extend_from_slice(suffix);
            let entry = self.entries.get_mut(&key).expect("dirty keys have entries");
            entry.before = None;
            match &entry.value {
                Some(value) => {
                    value_bytes.clear();
                    let written = self.serdes.value.serialize(&value.value, &mut value_bytes);
                    let timestamp = value.timestamp;
                    written.map_err(|error| self.broken(error))?;
                    changelog(ChangelogRecord {
                        key: &key_bytes,
                        value: Some(&value_bytes),
                        timestamp,
                    });
                }
                None => changelog(ChangelogRecord {
                    key: &key_bytes,
                    value: None,
                    timestamp: 0,
                }),
            }
        }
        Ok(())
    }
}

fn decode<K, V>(serdes: &StoreSerdes<K, V>, stored: &[u8]) -> Result<Timestamped<V>, SerdeError> {
    let Some((timestamp, value)) = stored.split_first_chunk::<8>() else {
        return Err(SerdeError::Length {
            expected: 8,
            actual: stored.len(),
        });
    };
    Ok(Timestamped {
        value: serdes.value.deserialize(value)?,
        timestamp: i64::from_be_bytes(*timestamp),
    })
}

impl<K: StoreKey, V: Clone + 'static> Store for KeyValueStore<K, V> {
    fn name(&self) -> &str {
        &self.table.spec.name
    }

    fn end_epoch(
        &mut self,
        _epoch: Epoch,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        self.table.end_epoch(&[], changelog)
    }

    fn committed(&mut self, _epoch: Epoch, position: Option<i64>) {
        self.table.position = position.or(self.table.position);
    }

    fn spill(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        0
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl<K: StoreKey, V: Clone + 'static> WindowStore<K, V> {
    /// A store over `backend`, which is restored already.
    pub fn new(spec: StoreSpec, serdes: StoreSerdes<K, V>, backend: Arc<dyn StateBackend>) -> Self {
        Self {
            segments: BTreeMap::new(),
            expired: Vec::new(),
            spec,
            serdes,
            backend,
            position: None,
        }
    }

    /// The value of `key` in the window that starts at `start`, of the open epoch.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn fetch(&mut self, key: &K, start: i64) -> Result<Option<Timestamped<V>>, StateError> {
        Ok(self
            .segment(start)
            .entry(key, &key::ordered_start(start))?
            .value
            .clone())
    }

    fn segment(&mut self, start: i64) -> &mut Table<K, V> {
        let (spec, serdes) = (&self.spec, &self.serdes);
        self.segments
            .entry(start)
            .or_insert_with(|| Table::new(spec.clone(), serdes.clone(), None))
    }

    /// Replaces the value of `key` in the window that starts at `start`; `None` removes it.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn update(
        &mut self,
        key: &K,
        start: i64,
        change: impl FnOnce(Option<Timestamped<V>>) -> Option<Timestamped<V>>,
    ) -> Result<(), StateError> {
        self.segment(start)
            .update(key, &start.to_be_bytes(), change)
    }

    /// Gives every key and window start changed in the open epoch with its value before the epoch and now, windows in order of
    /// time. Once per epoch, before [`WindowStore::expire`] and [`Store::end_epoch`].
    pub fn drain_updates(
        &mut self,
        mut emit: impl FnMut(&K, i64, Option<&Timestamped<V>>, Option<&Timestamped<V>>),
    ) {
        for (start, segment) in &mut self.segments {
            segment.drain_updates(&mut |key, before, now| emit(key, *start, before, now));
        }
    }

    /// Removes the windows that start before `start`, with tombstones in the changelog at the end of the epoch.
    pub fn expire(&mut self, start: i64) {
        let kept = self.segments.split_off(&start);
        self.expired
            .extend(std::mem::replace(&mut self.segments, kept));
    }

    /// Every entry of the open epoch, ordered by window and the bytes of the key.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn all(&mut self) -> Result<Vec<(K, i64, Timestamped<V>)>, StateError> {
        let mut all = Vec::new();
        for (start, segment) in &self.segments {
            all.extend(
                segment
                    .sorted()?
                    .into_iter()
                    .map(|(key, value)| (key, *start, value)),
            );
        }
        Ok(all)
    }
}

impl<K: StoreKey, V: Clone + 'static> Store for WindowStore<K, V> {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn end_epoch(
        &mut self,
        _epoch: Epoch,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        let suffix = |start: i64| [&start.to_be_bytes()[..], &[0; 4]].concat();
        for (start, segment) in std::mem::take(&mut self.expired) {
            for (key, _) in segment.sorted()? {
                let mut bytes = segment.key_bytes(&[], &key)?;
                bytes.extend_from_slice(&suffix(start));
                changelog(ChangelogRecord {
                    key: &bytes,
                    value: None,
                    timestamp: start,
                });
            }
        }
        for (start, segment) in &mut self.segments {
            segment.end_epoch(&suffix(*start), changelog)?;
        }
        Ok(())
    }

    fn committed(&mut self, _epoch: Epoch, position: Option<i64>) {
        self.position = position.or(self.position);
    }

    fn spill(&mut self) -> Result<(), StateError> {
        let _ = &self.backend;
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        0
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl<K, V> std::fmt::Debug for KeyValueStore<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyValueStore({})", self.table.spec.name)
    }
}

impl<K, V> std::fmt::Debug for WindowStore<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowStore({})", self.spec.name)
    }
}
