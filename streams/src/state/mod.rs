//! State stores: what an operator sees (typed, in memory) and what lies beneath (bytes, committed epochs only).
//!
//! ```text
//! operator → KeyValueStore<K, V> / WindowStore<K, V>      cache.rs, windows.rs: typed write-back cache; table.rs: dirty list, undo per open epoch
//!                → changelog records at the end of an epoch (one per changed key)
//!                → StateBackend, at a spill, with what is committed         memory.rs, rocks.rs
//! ```
//! Operators call the stores; the engine calls [`Store`] at the edges of an epoch; the application hands in the backends, already
//! restored. A store never commits by itself and never reads a clock.

pub mod backend;
mod cache;
pub mod key;
pub mod memory;
pub mod restore;
pub mod rocks;
mod table;
mod windows;

use std::any::Any;
use std::sync::Arc;

pub use backend::{Batch, StateBackend, StateError};
pub use cache::{KeyValueStore, StoreKey};
pub use windows::WindowStore;

use crate::serdes::Serde;

/// The number of a commit: everything an engine did in epoch `e` becomes visible in one transaction, or none of it.
pub type Epoch = u64;

/// A value and the event time of the last record that changed it, in ms (Kafka: `ValueAndTimestamp`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamped<V> {
    /// The value.
    pub value: V,
    /// Event time in ms since 1970.
    pub timestamp: i64,
}

/// One store of a topology, as known before a task runs: enough to make its topic and to restore it from bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSpec {
    /// Name given by `Materialized`; the changelog topic is `<application>-<name>-changelog`.
    pub name: String,
    /// What its keys are.
    pub kind: StoreKind,
    /// Whether updates are passed on once per epoch (true) or one by one.
    pub caching: bool,
    /// Whether it has a changelog topic. Without one it is empty after a move to another machine.
    pub logging: bool,
}

/// What the keys of a store are; [`key`] has the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// One value per key.
    KeyValue,
    /// One value per key and window start.
    Window {
        /// Length of a window in ms.
        size_ms: i64,
        /// Windows that start this long before stream time are removed, by tombstones in the changelog too.
        retention_ms: i64,
    },
}

/// The serdes of a store, shared by all its tasks.
pub struct StoreSerdes<K, V> {
    /// Writes and reads keys.
    pub key: Arc<dyn Serde<K>>,
    /// Writes and reads values.
    pub value: Arc<dyn Serde<V>>,
}

impl<K, V> Clone for StoreSerdes<K, V> {
    fn clone(&self) -> Self {
        Self {
            key: Arc::clone(&self.key),
            value: Arc::clone(&self.value),
        }
    }
}

impl<K, V> std::fmt::Debug for StoreSerdes<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreSerdes")
    }
}

/// One changed entry on its way to the changelog topic.
#[derive(Clone, Copy, Debug)]
pub struct ChangelogRecord<'a> {
    /// Key in the layout of [`StoreKind`].
    pub key: &'a [u8],
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Event time in ms.
    pub timestamp: i64,
}

/// A store as the engine sees it, whatever its types. Epochs are ended in order; at most two are open.
pub trait Store {
    /// Name in the topology.
    fn name(&self) -> &str;

    /// Ends `epoch`: gives every entry changed in it to `changelog`, once.
    /// # Errors
    /// A key or value that cannot be written.
    fn end_epoch(
        &mut self,
        epoch: Epoch,
        changelog: &mut dyn FnMut(ChangelogRecord<'_>),
    ) -> Result<(), StateError>;

    /// `epoch` and all before it are committed: their undo values go. `position` is the changelog's next offset, if known.
    fn committed(&mut self, epoch: Epoch, position: Option<i64>);

    /// Gives every committed change to the backend.
    /// # Errors
    /// The backend's.
    fn spill(&mut self) -> Result<(), StateError>;

    /// Takes back every epoch that is not committed.
    fn abort(&mut self);

    /// Bytes (about) that are changed and not yet in the backend.
    fn dirty_bytes(&self) -> usize;

    /// Bytes (about) in memory.
    fn cached_bytes(&self) -> usize;

    /// Lets entries that are in the backend go from memory until about `keep_bytes` are left. Best right after a spill.
    fn evict(&mut self, keep_bytes: usize);

    /// For queries by type: downcast to the store.
    fn as_any(&mut self) -> &mut dyn Any;
}

#[cfg(test)]
mod tests;
