//! The store of windowed operators: one table per window, dropped whole when the window expires.
//!
//! Called as the other store of `cache.rs`. A window that closes before a spill never touches the backend; one that was
//! spilled leaves it by one range removal. Its keys leave the changelog by tombstones: a topic that retention cleans by
//! record time would lose open windows whenever the event time is older than the retention.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::cache::{Edge, StoreKey, all_rows, fetch, find_or_read};
use super::key;
use super::table::Table;
use super::{
    Batch, ChangelogRecord, Epoch, StateBackend, StateError, Store, StoreSerdes, StoreSpec,
    Timestamped,
};

/// A store of one value per key and window.
pub struct WindowStore<K, V> {
    edge: Edge<K, V>,
    /// By window start.
    windows: BTreeMap<i64, Table<K, V>>,
    /// Starts of the windows that have rows in the backend.
    stored: BTreeSet<i64>,
    stored_known: bool,
    /// Windows that start before are gone.
    floor: i64,
    committed_floor: i64,
    /// Expiries that can still be undone, oldest first; that of the current epoch has no number yet.
    expired: Vec<Expired<K, V>>,
}

struct Expired<K, V> {
    epoch: Option<Epoch>,
    floor_before: i64,
    floor: i64,
    windows: BTreeMap<i64, Table<K, V>>,
}

impl<K: StoreKey, V: Clone + 'static> WindowStore<K, V> {
    /// A store over `backend`, which is restored already.
    pub fn new(spec: StoreSpec, serdes: StoreSerdes<K, V>, backend: Arc<dyn StateBackend>) -> Self {
        Self {
            edge: Edge::new(spec, serdes, backend),
            windows: BTreeMap::new(),
            stored: BTreeSet::new(),
            stored_known: false,
            floor: i64::MIN,
            committed_floor: i64::MIN,
            expired: Vec::new(),
        }
    }

    /// Learns which windows the backend has, once.
    fn know_stored(&mut self) -> Result<(), StateError> {
        if !self.stored_known {
            self.stored = stored_windows(self.edge.backend())?;
            self.stored_known = true;
        }
        Ok(())
    }

    /// Brings keys of windows into memory, with one sorted read a window, so that the updates of a batch need no single reads.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn prefetch<'k>(
        &mut self,
        keys: impl Iterator<Item = (&'k K, i64)>,
    ) -> Result<(), StateError>
    where
        K: 'k,
    {
        self.know_stored()?;
        let mut wanted: BTreeMap<i64, Vec<&K>> = BTreeMap::new();
        for (key, start) in
            keys.filter(|(_, start)| *start >= self.floor && self.stored.contains(start))
        {
            wanted.entry(start).or_default().push(key);
        }
        for (start, keys) in wanted {
            let table = self.windows.entry(start).or_insert_with(Table::new);
            fetch(&self.edge, table, Some(start), keys.into_iter())?;
        }
        Ok(())
    }

    /// The value of `key` in the window that starts at `start`, of the open epoch. Nothing for a window that expired.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn fetch(&mut self, key: &K, start: i64) -> Result<Option<Timestamped<V>>, StateError> {
        if start < self.floor {
            return Ok(None);
        }
        let (table, at) = self.at(key, start)?;
        Ok(table.value(at).cloned())
    }

    /// Replaces the value of `key` in the window that starts at `start`; `None` removes it. A window that expired stays
    /// as it is: gone.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn update(
        &mut self,
        key: &K,
        start: i64,
        change: impl FnOnce(Option<Timestamped<V>>) -> Option<Timestamped<V>>,
    ) -> Result<(), StateError> {
        if start >= self.floor {
            let (table, at) = self.at(key, start)?;
            table.change(at, change);
        }
        Ok(())
    }

    fn at(&mut self, key: &K, start: i64) -> Result<(&mut Table<K, V>, u32), StateError> {
        self.know_stored()?;
        let table = self.windows.entry(start).or_insert_with(Table::new);
        let at = find_or_read(
            &self.edge,
            table,
            Some(start),
            key,
            self.stored.contains(&start),
        )?;
        Ok((table, at))
    }

    /// Gives every key and window start changed in the open epoch with its value before the epoch and now, windows in order of
    /// time. Once per epoch, before [`WindowStore::expire`] and [`Store::end_epoch`].
    pub fn drain_updates(
        &mut self,
        mut emit: impl FnMut(&K, i64, Option<&Timestamped<V>>, Option<&Timestamped<V>>),
    ) {
        for (start, table) in &self.windows {
            table
                .changes()
                .for_each(|(key, before, now)| emit(key, *start, before, now));
        }
    }

    /// Removes the windows that start before `start`, with tombstones in the changelog at the end of the epoch.
    pub fn expire(&mut self, start: i64) {
        if start <= self.floor {
            return;
        }
        let kept = self.windows.split_off(&start);
        let gone = std::mem::replace(&mut self.windows, kept);
        match self
            .expired
            .last_mut()
            .filter(|expired| expired.epoch.is_none())
        {
            Some(current) => {
                current.windows.extend(gone);
                current.floor = start;
            }
            None => {
                let floor_before = self.floor;
                self.expired.push(Expired {
                    epoch: None,
                    floor_before,
                    floor: start,
                    windows: gone,
                });
            }
        }
        self.floor = start;
    }

    /// Every entry of the open epoch, ordered by window and the bytes of the key.
    /// # Errors
    /// The backend's, or an entry that cannot be read.
    pub fn all(&mut self) -> Result<Vec<(K, i64, Timestamped<V>)>, StateError> {
        let tables = self
            .windows
            .iter()
            .map(|(start, table)| (Some(*start), table));
        let from = if self.floor == i64::MIN {
            Vec::new()
        } else {
            key::ordered_start(self.floor).to_vec()
        };
        let all = all_rows(&self.edge, tables, &from)?;
        Ok(all
            .into_iter()
            .map(|(key, start, value)| (key, start.expect("rows of windows have a start"), value))
            .collect())
    }

    /// Tombstones for what the changelog still has of the windows that expired in the epoch that ends.
    fn log_expired(
        &mut self,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        let Some(current) = self
            .expired
            .last()
            .filter(|expired| expired.epoch.is_none())
        else {
            return Ok(());
        };
        for (start, table) in &current.windows {
            for key in table.keys_before_epoch() {
                self.edge
                    .log((key, Some(*start)), None, *start, changelog)?;
            }
        }
        for start in self.stored.range(current.floor_before..current.floor) {
            let table = current.windows.get(start);
            for key in self.edge.stored_keys(*start)? {
                if table.is_none_or(|table| table.find(&key).is_err()) {
                    self.edge
                        .log((&key, Some(*start)), None, *start, changelog)?;
                }
            }
        }
        Ok(())
    }

    fn tables(&self) -> impl Iterator<Item = (&i64, &Table<K, V>)> {
        self.expired
            .iter()
            .flat_map(|expired| &expired.windows)
            .chain(&self.windows)
    }

    fn tables_mut(&mut self) -> impl Iterator<Item = (&i64, &mut Table<K, V>)> {
        self.expired
            .iter_mut()
            .flat_map(|expired| &mut expired.windows)
            .chain(&mut self.windows)
    }
}

impl<K: StoreKey, V: Clone + 'static> Store for WindowStore<K, V> {
    fn name(&self) -> &str {
        self.edge.name()
    }

    fn end_epoch(
        &mut self,
        epoch: Epoch,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError> {
        self.know_stored()?;
        self.log_expired(changelog)?;
        for (start, table) in &self.windows {
            for (key, before, now) in table.changes() {
                self.edge
                    .log_change((key, Some(*start)), before, now, changelog)?;
            }
        }
        if let Some(current) = self.expired.last_mut() {
            current.epoch.get_or_insert(epoch);
        }
        self.tables_mut()
            .for_each(|(_, table)| table.end_epoch(epoch));
        Ok(())
    }

    fn committed(&mut self, epoch: Epoch, position: Option<i64>) {
        let done = self
            .expired
            .iter()
            .take_while(|expired| expired.epoch.is_some_and(|ended| ended <= epoch))
            .count();
        for expired in self.expired.drain(..done) {
            self.committed_floor = expired.floor;
        }
        self.tables_mut()
            .for_each(|(_, table)| table.committed(epoch));
        self.edge.set_position(position);
    }

    fn abort(&mut self) {
        while let Some(expired) = self.expired.pop() {
            self.floor = expired.floor_before;
            self.windows.extend(expired.windows);
        }
        self.windows.values_mut().for_each(Table::abort);
    }

    fn spill(&mut self) -> Result<(), StateError> {
        self.know_stored()?;
        let (mut batch, mut row, mut scratch) = (Batch::new(), Vec::new(), Vec::new());
        if self
            .stored
            .first()
            .is_some_and(|first| *first < self.committed_floor)
        {
            batch.drop_range(b"", &key::ordered_start(self.committed_floor));
        }
        let (edge, mut spilled) = (&self.edge, Vec::new());
        for (start, table) in self.tables() {
            let rows = batch.len();
            table.spill(|key, value| {
                edge.row_key(Some(*start), key, &mut row)?;
                edge.push_row(&mut batch, &row, value, &mut scratch)
            })?;
            if batch.len() > rows {
                spilled.push(*start);
            }
        }
        self.edge.write(&mut batch)?;
        self.tables_mut().for_each(|(_, table)| table.spilled());
        self.stored = self.stored.split_off(&self.committed_floor);
        self.stored.extend(spilled);
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.edge.dirty_bytes()
    }

    fn cached_bytes(&self) -> usize {
        self.tables().map(|(_, table)| table.len()).sum::<usize>() * self.edge.entry_bytes()
    }

    fn evict(&mut self, keep_bytes: usize) {
        let (cached, keep) = (self.cached_bytes(), keep_bytes);
        if cached > keep {
            for table in self.windows.values_mut() {
                table.evict(table.len() * (keep >> 10) / (cached >> 10).max(1));
            }
            self.windows.retain(|_, table| table.len() > 0);
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

fn stored_windows(backend: &dyn StateBackend) -> Result<BTreeSet<i64>, StateError> {
    let (mut stored, mut from) = (BTreeSet::new(), Vec::new());
    loop {
        let mut next = None;
        backend.scan(&from, None, &mut |row, _| {
            next = key::split_window_key(row).map(|(_, start)| start);
            ControlFlow::Break(())
        })?;
        let Some(start) = next else { return Ok(stored) };
        stored.insert(start);
        let Some(behind) = start.checked_add(1) else {
            return Ok(stored);
        };
        from = key::ordered_start(behind).to_vec();
    }
}

impl<K, V> std::fmt::Debug for WindowStore<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowStore({})", self.edge.name())
    }
}
