//! What lies beneath a store: the sorted rows of one store of one task, in RocksDB or in memory.
//!
//! Called by the cache of a store (misses, spills, scans) and by restore (chunks of a changelog). It never sees an
//! uncommitted row: the cache spills committed epochs only, and the changelog position with them.

use std::fmt::Debug;
use std::ops::ControlFlow;

/// What a scan hands over: key and value of one row; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A backend failed; its engine stops, and restores from what it holds when it starts again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// The disk or the database under it.
    #[error("store {store}: {reason}")]
    Storage {
        /// The store, or the folder of all stores.
        store: String,
        /// What RocksDB or the system said.
        reason: String,
    },
    /// A row that this version did not write. Wipe the store's partition and restore it.
    #[error("store {store}, partition {partition}: {what}")]
    Corrupt {
        /// The store.
        store: String,
        /// The task's partition.
        partition: u16,
        /// What was found.
        what: &'static str,
    },
    /// A key or value that the store's serde cannot read or write: the topology changed its types under its own store.
    #[error("store {store}: {error}")]
    Unreadable {
        /// The store.
        store: String,
        /// The serde's complaint.
        error: crate::error::SerdeError,
    },
}

/// Rows of one store of one task, user keys in byte order, with the changelog position they stand for.
///
/// Implemented by [`MemoryStore`](super::memory::MemoryStore) and [`RocksStore`](super::rocks::RocksStore). Each method
/// fails with [`StateError::Storage`] only (the engine stops), `position` also with [`StateError::Corrupt`].
pub trait StateBackend: Send + Sync + Debug {
    /// The values of `keys`, which are sorted and distinct; one answer a key, in their order.
    ///
    /// # Errors
    /// See the trait.
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError>;

    /// Visits the rows of `[from, upto)` (to the end without `upto`) in key order until `visit` breaks.
    ///
    /// # Errors
    /// See the trait.
    fn scan(
        &self,
        from: &[u8],
        upto: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StateError>;

    /// The largest key. A cache that remembers it knows all keys above as absent without asking.
    ///
    /// # Errors
    /// See the trait.
    fn last_key(&self) -> Result<Option<Vec<u8>>, StateError>;

    /// Applies a batch and moves the position: after a crash either both are there or neither.
    ///
    /// Sorts the batch. A large one is ingested as a file.
    ///
    /// # Errors
    /// See the trait.
    fn write(&self, batch: &mut Batch, position: Option<i64>) -> Result<(), StateError>;

    /// The next changelog offset to replay: rows hold everything before it. `None`: nothing was ever written.
    ///
    /// # Errors
    /// See the trait.
    fn position(&self) -> Result<Option<i64>, StateError>;

    /// Removes all rows and the position.
    ///
    /// # Errors
    /// See the trait.
    fn wipe(&self) -> Result<(), StateError>;

    /// Makes what was written outlive the process; with `wait`, before it returns.
    ///
    /// # Errors
    /// See the trait.
    fn flush(&self, wait: bool) -> Result<(), StateError>;
}

/// Rows to write, in one arena: ranges to drop first, then `(key, value)` or `(key, None)` for a removal.
#[derive(Debug, Default)]
pub struct Batch {
    data: Vec<u8>,
    rows: Vec<Slot>,
    drops: Vec<(Vec<u8>, Vec<u8>)>,
    unsorted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    at: usize,
    key_len: u32,
    value_len: u32,
}

const REMOVED: u32 = u32::MAX;

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row whose value is `head` followed by `tail`; `None` removes the key.
    pub fn push(&mut self, key: &[u8], value: Option<(&[u8], &[u8])>) {
        let at = self.data.len();
        self.data.extend_from_slice(key);
        let value_len = value.map_or(REMOVED, |(head, tail)| {
            self.data.extend_from_slice(head);
            self.data.extend_from_slice(tail);
            length(head.len() + tail.len())
        });
        self.unsorted |= !self.rows.is_empty();
        self.rows.push(Slot {
            at,
            key_len: length(key.len()),
            value_len,
        });
    }

    /// Drops every row of `[from, upto)` before the rows of this batch are written.
    pub fn drop_range(&mut self, from: &[u8], upto: &[u8]) {
        if from < upto {
            self.drops.push((from.to_vec(), upto.to_vec()));
        }
    }

    /// Sorts by key. Of several rows with one key the one pushed last stays.
    pub fn sort(&mut self) {
        if !std::mem::take(&mut self.unsorted) {
            return;
        }
        let data = &self.data;
        self.rows
            .sort_unstable_by(|a, b| a.key(data).cmp(b.key(data)).then(b.at.cmp(&a.at)));
        self.rows
            .dedup_by(|older, newest| older.key(data) == newest.key(data));
    }

    /// The rows in the order they have now: by key after [`sort`](Self::sort).
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows
            .iter()
            .map(|slot| (slot.key(&self.data), slot.value(&self.data)))
    }

    /// The ranges to drop first.
    pub fn drops(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.drops
    }

    /// Rows, removals included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.drops.is_empty()
    }

    /// Bytes of keys and values.
    pub fn size_in_bytes(&self) -> usize {
        self.data.len()
    }

    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.rows.clear();
        self.drops.clear();
        self.unsorted = false;
    }
}

impl Slot {
    fn key<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        &data[self.at..self.at + self.key_len as usize]
    }

    fn value<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        let from = self.at + self.key_len as usize;
        (self.value_len != REMOVED).then(|| &data[from..from + self.value_len as usize])
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes)
        .ok()
        .filter(|len| *len != REMOVED)
        .expect("records are far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_keeps_the_row_pushed_last() {
        let mut batch = Batch::new();
        batch.push(b"b", Some((b"1", b"")));
        batch.push(b"a", Some((b"x", b"y")));
        batch.push(b"b", None);
        batch.push(b"b", Some((b"3", b"")));
        batch.sort();
        let rows: Vec<_> = batch.rows().collect();
        assert_eq!(rows, [(&b"a"[..], Some(&b"xy"[..])), (b"b", Some(b"3"))]);
    }
}
