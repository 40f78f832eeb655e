//! Rows in a sorted map in memory: for tests, the TopologyTestDriver, and stores declared in-memory.
//!
//! Same promises as RocksDB while the process lives, none after it: such a store is restored from its whole changelog.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::Mutex;

use super::backend::{Batch, StateBackend, StateError, Visit};

/// An in-memory [`StateBackend`].
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Box<[u8]>, Box<[u8]>>,
    position: Option<i64>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StateBackend for MemoryStore {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let state = self.state.lock();
        Ok(keys
            .iter()
            .map(|key| state.rows.get(*key).map(|value| value.to_vec()))
            .collect())
    }

    fn scan(
        &self,
        from: &[u8],
        upto: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StateError> {
        if upto.is_some_and(|upto| upto <= from) {
            return Ok(()); // BTreeMap panics on an inverted range
        }
        let upto = upto.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state.lock();
        for (key, value) in state.rows.range::<[u8], _>((Bound::Included(from), upto)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self
            .state
            .lock()
            .rows
            .last_key_value()
            .map(|(key, _)| key.to_vec()))
    }

    fn write(&self, batch: &mut Batch, position: Option<i64>) -> Result<(), StateError> {
        batch.sort();
        let mut state = self.state.lock();
        for (from, upto) in batch.drops() {
            state
                .rows
                .retain(|key, _| **key < **from || **key >= **upto);
        }
        for (key, value) in batch.rows() {
            match value {
                Some(value) => state.rows.insert(key.into(), value.into()),
                None => state.rows.remove(key),
            };
        }
        state.position = position.or(state.position);
        Ok(())
    }

    fn position(&self) -> Result<Option<i64>, StateError> {
        Ok(self.state.lock().position)
    }

    fn wipe(&self) -> Result<(), StateError> {
        *self.state.lock() = State::default();
        Ok(())
    }

    fn flush(&self, _wait: bool) -> Result<(), StateError> {
        Ok(())
    }
}
