//! The stores operators work with: a typed write-back cache that is record cache, transaction buffer and memtable at once.
//!
//! Called by operators (prefetch, get, update, drain_updates, expire) and by the engine through [`Store`]. The backend only
//! ever receives committed epochs, at a spill. Nothing here decides when an epoch ends, commits by itself or reads a clock.

use std::any::Any;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use flumen_planted::{Bug, planted};

use super::key;
use super::table::Table;
use super::{
    Batch, ChangelogRecord, Epoch, StateBackend, StateError, Store, StoreKind, StoreSerdes,
    StoreSpec, Timestamped,
};
use crate::error::SerdeError;

/// Bounds of a key of a store.
pub trait StoreKey: Hash + Eq + Clone + 'static {}
impl<K: Hash + Eq + Clone + 'static> StoreKey for K {}

/// A key that was looked up: its hash, and what the backend has for it.
type Found<K, V> = (u64, K, Option<Timestamped<V>>);
/// An entry: key, window start if the store has windows, value.
pub(super) type Row<K, V> = (K, Option<i64>, Timestamped<V>);

/// What both kinds of store share: names, bytes, and the position to be stored with the next spill.
pub(super) struct Edge<K, V> {
    spec: StoreSpec,
    serdes: StoreSerdes<K, V>,
    backend: Arc<dyn StateBackend>,
    position: Option<i64>,
    spilled_position: Option<i64>,
    dirty_bytes: usize,
    /// Bytes of all changelog records so far and their number: what an entry takes beside its slot, on average.
    seen: (usize, usize),
    scratch: (Vec<u8>, Vec<u8>),
}

impl<K, V> Edge<K, V> {
    pub(super) fn new(
        spec: StoreSpec,
        serdes: StoreSerdes<K, V>,
        backend: Arc<dyn StateBackend>,
    ) -> Self {
        Self {
            spec,
            serdes,
            backend,
            position: None,
            spilled_position: None,
            dirty_bytes: 0,
            seen: (0, 0),
            scratch: (Vec::new(), Vec::new()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn backend(&self) -> &dyn StateBackend {
        &*self.backend
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    pub(super) fn set_position(&mut self, position: Option<i64>) {
        self.position = position.or(self.position);
        if planted(Bug::ChangelogPositionAhead) {
            // Wrong: the rows of the epoch follow only at the next spill.
            let _ = self.backend.write(&mut Batch::new(), self.position);
        }
    }

    fn broken(&self, error: SerdeError) -> StateError {
        StateError::Unreadable {
            store: self.spec.name.clone(),
            error,
        }
    }

    pub(super) fn row_key(
        &self,
        start: Option<i64>,
        key: &K,
        into: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        into.clear();
        into.extend_from_slice(
            start
                .map(key::ordered_start)
                .as_ref()
                .map_or(&[][..], |start| start),
        );
        self.serdes
            .key
            .serialize(key, into)
            .map_err(|error| self.broken(error))
    }

    /// The keys of the rows of one window.
    pub(super) fn stored_keys(&self, start: i64) -> Result<Vec<K>, StateError> {
        let (from, upto) = (
            key::ordered_start(start),
            start.checked_add(1).map(key::ordered_start),
        );
        let mut keys = Vec::new();
        self.backend.scan(
            &from,
            upto.as_ref().map(<[u8; 8]>::as_slice),
            &mut |row, _| {
                keys.push(Bytes::copy_from_slice(&row[key::START_LEN..]));
                ControlFlow::Continue(())
            },
        )?;
        keys.iter()
            .map(|bytes| {
                self.serdes
                    .key
                    .deserialize(bytes)
                    .map_err(|error| self.broken(error))
            })
            .collect()
    }

    fn decode(&self, row: Vec<u8>) -> Result<Timestamped<V>, StateError> {
        let row = Bytes::from(row);
        let Some((timestamp, _)) = row.split_first_chunk::<8>() else {
            return Err(self.broken(SerdeError::Length {
                expected: 8,
                actual: row.len(),
            }));
        };
        let timestamp = i64::from_be_bytes(*timestamp);
        let value = self
            .serdes
            .value
            .deserialize(&row.slice(8..))
            .map_err(|error| self.broken(error))?;
        Ok(Timestamped { value, timestamp })
    }

    /// Rows for keys that are not in memory: one sorted read. `start` is the window's, if there is one.
    fn read(
        &self,
        start: Option<i64>,
        mut keys: Vec<(u64, K)>,
    ) -> Result<Vec<Found<K, V>>, StateError> {
        let mut rows = Vec::with_capacity(keys.len());
        for (at, (_, key)) in keys.iter().enumerate() {
            let mut row = Vec::new();
            self.row_key(start, key, &mut row)?;
            rows.push((row, at));
        }
        rows.sort_unstable();
        let sorted: Vec<&[u8]> = rows.iter().map(|(row, _)| row.as_slice()).collect();
        let mut values: Vec<Option<Vec<u8>>> = vec![None; keys.len()];
        for ((_, at), value) in rows.iter().zip(self.backend.multi_get(&sorted)?) {
            values[*at] = value;
        }
        let found = keys.drain(..).zip(values).map(|((hash, key), value)| {
            Ok((hash, key, value.map(|row| self.decode(row)).transpose()?))
        });
        found.collect()
    }

    /// One changelog record of one changed key; the key's layout is that of the store's kind.
    pub(super) fn log(
        &mut self,
        (key, start): (&K, Option<i64>),
        value: Option<&Timestamped<V>>,
        timestamp: i64,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        let (mut key_bytes, mut value_bytes) = std::mem::take(&mut self.scratch);
        key_bytes.clear();
        value_bytes.clear();
        self.serdes
            .key
            .serialize(key, &mut key_bytes)
            .map_err(|error| self.broken(error))?;
        if let Some(start) = start {
            key::append_window_suffix(&mut key_bytes, start);
        }
        if let Some(value) = value {
            self.serdes
                .value
                .serialize(&value.value, &mut value_bytes)
                .map_err(|error| self.broken(error))?;
        }
        let bytes = key_bytes.len() + value_bytes.len() + 8;
        self.dirty_bytes += bytes;
        self.seen = (self.seen.0 + bytes, self.seen.1 + 1);
        changelog(ChangelogRecord {
            key: &key_bytes,
            value: value.map(|_| value_bytes.as_slice()),
            timestamp,
        });
        self.scratch = (key_bytes, value_bytes);
        Ok(())
    }

    /// The change of one key in one epoch, unless it came and went within it.
    pub(super) fn log_change(
        &mut self,
        key: (&K, Option<i64>),
        before: Option<&Timestamped<V>>,
        now: Option<&Timestamped<V>>,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        match now.or(before) {
            Some(either) => self.log(key, now, either.timestamp, changelog),
            None => Ok(()),
        }
    }

    pub(super) fn push_row(
        &self,
        batch: &mut Batch,
        row_key: &[u8],
        value: Option<&Timestamped<V>>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        let Some(value) = value else {
            batch.push(row_key, None);
            return Ok(());
        };
        scratch.clear();
        self.serdes
            .value
            .serialize(&value.value, scratch)
            .map_err(|error| self.broken(error))?;
        batch.push(row_key, Some((&value.timestamp.to_be_bytes(), scratch)));
        Ok(())
    }

    pub(super) fn write(&mut self, batch: &mut Batch) -> Result<(), StateError> {
        if !batch.is_empty() || self.position != self.spilled_position {
            self.backend.write(batch, self.position)?;
            self.backend.flush(false)?;
            self.spilled_position = self.position;
        }
        self.dirty_bytes = 0;
        Ok(())
    }

    pub(super) fn entry_bytes(&self) -> usize {
        let heap = self.seen.0.checked_div(self.seen.1).unwrap_or(0);
        std::mem::size_of::<K>() + std::mem::size_of::<Timestamped<V>>() + 64 + heap
    }
}

/// A store of one value per key.
pub struct KeyValueStore<K, V> {
    edge: Edge<K, V>,
    table: Table<K, V>,
    /// Whether the backend has any row: where it has none, nothing needs to be asked for. Unknown before the first miss.
    rows_stored: Option<bool>,
}

impl<K: StoreKey, V: Clone + 'static> KeyValueStore<K, V> {
    /// A store over `backend`, which is restored already.
    pub fn new(spec: StoreSpec, serdes: StoreSerdes<K, V>, backend: Arc<dyn StateBackend>) -> Self {
        Self {
            edge: Edge::new(spec, serdes, backend),
            table: Table::new(),
            rows_stored: None,
        }
    }

    fn rows_stored(&mut self) -> Result<bool, StateError> {
        match self.rows_stored {
            Some(stored) => Ok(stored),
            None => Ok(*self
                .rows_stored
                .insert(self.edge.backend.last_key()?.is_some())),
        }
    }

    /// Brings `keys` into memory with one sorted read, so that the updates of a batch need no single reads.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn prefetch<'k>(&mut self, keys: impl Iterator<Item = &'k K>) -> Result<(), StateError>
    where
        K: 'k,
    {
        if !self.rows_stored()? {
            return Ok(());
        }
        fetch(&self.edge, &mut self.table, None, keys)
    }

    /// The value of `key`, of the open epoch.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn get(&mut self, key: &K) -> Result<Option<Timestamped<V>>, StateError> {
        let at = self.at(key)?;
        Ok(self.table.value(at).cloned())
    }

    /// Replaces the value of `key` by what `change` makes of it; `None` removes it.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn update(
        &mut self,
        key: &K,
        change: impl FnOnce(Option<Timestamped<V>>) -> Option<Timestamped<V>>,
    ) -> Result<(), StateError> {
        let at = self.at(key)?;
        self.table.change(at, change);
        Ok(())
    }

    fn at(&mut self, key: &K) -> Result<u32, StateError> {
        let rows_stored = self.rows_stored()?;
        find_or_read(&self.edge, &mut self.table, None, key, rows_stored)
    }

    /// Gives every key changed in the open epoch with its value before the epoch and now, in the order of their first change.
    /// Once per epoch, before [`Store::end_epoch`].
    pub fn drain_updates(
        &mut self,
        mut emit: impl FnMut(&K, Option<&Timestamped<V>>, Option<&Timestamped<V>>),
    ) {
        self.table
            .changes()
            .for_each(|(key, before, now)| emit(key, before, now));
    }

    /// Every entry of the open epoch, ordered by the bytes of the key.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn all(&mut self) -> Result<Vec<(K, Timestamped<V>)>, StateError> {
        let all = all_rows(&self.edge, [(None, &self.table)].into_iter(), &[])?;
        Ok(all
            .into_iter()
            .map(|(key, _, value)| (key, value))
            .collect())
    }
}

impl<K: StoreKey, V: Clone + 'static> Store for KeyValueStore<K, V> {
    fn name(&self) -> &str {
        &self.edge.spec.name
    }

    fn end_epoch(
        &mut self,
        epoch: Epoch,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        for (key, before, now) in self.table.changes() {
            self.edge.log_change((key, None), before, now, changelog)?;
        }
        self.table.end_epoch(epoch);
        Ok(())
    }

    fn committed(&mut self, epoch: Epoch, position: Option<i64>) {
        self.table.committed(epoch);
        self.edge.set_position(position);
    }

    fn abort(&mut self) {
        self.table.abort();
    }

    fn spill(&mut self) -> Result<(), StateError> {
        let (mut batch, mut row, mut scratch) = (Batch::new(), Vec::new(), Vec::new());
        let edge = &self.edge;
        self.table.spill(|key, value| {
            edge.row_key(None, key, &mut row)?;
            edge.push_row(&mut batch, &row, value, &mut scratch)
        })?;
        if !batch.is_empty() {
            self.rows_stored = Some(true);
        }
        self.edge.write(&mut batch)?;
        self.table.spilled();
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.edge.dirty_bytes()
    }

    fn cached_bytes(&self) -> usize {
        self.table.len() * self.edge.entry_bytes()
    }

    fn evict(&mut self, keep_bytes: usize) {
        self.table.evict(keep_bytes / self.edge.entry_bytes());
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Brings those of `keys` that are not in `table` in, with one sorted read.
pub(super) fn fetch<'k, K: StoreKey, V: Clone>(
    edge: &Edge<K, V>,
    table: &mut Table<K, V>,
    start: Option<i64>,
    keys: impl Iterator<Item = &'k K>,
) -> Result<(), StateError> {
    let mut missing: Vec<(u64, K)> = keys
        .filter_map(|key| table.find(key).err().map(|hash| (hash, key.clone())))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable_by_key(|(hash, _)| *hash);
    missing.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    for (hash, key, value) in edge.read(start, missing)? {
        // Two keys of one hash may stand between two equal ones: ask again.
        if table.find(&key).is_err() {
            table.insert(hash, key, value);
        }
    }
    Ok(())
}

/// Where `key` is in `table`, read from the backend if it is not there and the backend may have it.
pub(super) fn find_or_read<K: StoreKey, V: Clone>(
    edge: &Edge<K, V>,
    table: &mut Table<K, V>,
    start: Option<i64>,
    key: &K,
    rows_stored: bool,
) -> Result<u32, StateError> {
    match table.find(key) {
        Ok(at) => Ok(at),
        Err(hash) if !rows_stored => Ok(table.insert(hash, key.clone(), None)),
        Err(hash) => {
            let found = edge.read(start, vec![(hash, key.clone())])?;
            let value = found.into_iter().next().and_then(|(_, _, value)| value);
            Ok(table.insert(hash, key.clone(), value))
        }
    }
}

/// Rows of the backend from `from` on, with what `tables` (of windows, if they have a start) say instead; by row key.
pub(super) fn all_rows<'t, K: StoreKey, V: Clone + 't>(
    edge: &Edge<K, V>,
    tables: impl Iterator<Item = (Option<i64>, &'t Table<K, V>)>,
    from: &[u8],
) -> Result<Vec<Row<K, V>>, StateError> {
    let windowed = matches!(edge.spec.kind, StoreKind::Window { .. });
    let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    edge.backend.scan(from, None, &mut |row, value| {
        rows.insert(row.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    })?;
    let mut all = BTreeMap::new();
    for (row, value) in rows {
        let start = key::split_window_key(&row)
            .map(|(_, start)| start)
            .filter(|_| windowed);
        let key_bytes = Bytes::copy_from_slice(if windowed {
            &row[key::START_LEN..]
        } else {
            &row
        });
        let key = edge
            .serdes
            .key
            .deserialize(&key_bytes)
            .map_err(|error| edge.broken(error))?;
        all.insert(row, (key, start, edge.decode(value)?));
    }
    for (start, table) in tables {
        for (key, value) in table.entries() {
            let mut row = Vec::new();
            edge.row_key(start, key, &mut row)?;
            match value {
                Some(value) => all.insert(row, (key.clone(), start, value.clone())),
                None => all.remove(&row),
            };
        }
    }
    Ok(all.into_values().collect())
}

impl<K, V> std::fmt::Debug for KeyValueStore<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyValueStore({})", self.edge.name())
    }
}
