//! Counters of a running application. Plain numbers that only grow; whoever exports them takes differences.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::dataflow::EngineCounters;

/// What an application has done since it started; read by any thread. Shared by its engines.
#[derive(Debug, Default)]
pub struct StreamsMetrics {
    /// Records in and out, and dropped ones.
    pub engine: Arc<EngineCounters>,
    /// Epochs committed with something in them.
    pub commits: AtomicU64,
    /// Microseconds from the close of an epoch to the end of its transaction, in all.
    pub commit_micros: AtomicU64,
    /// Epochs that were aborted: retriable errors, lost partitions.
    pub aborts: AtomicU64,
    /// Changelog records replayed into stores, those of a restoration that is still running too.
    pub restored_records: AtomicU64,
    /// Bytes of the changelog batches that were replayed, as they are in the log.
    pub restored_bytes: AtomicU64,
    /// Stores of tasks that were wiped and restored from nothing, because their position was not in the changelog.
    pub full_restores: AtomicU64,
    /// Times that committed changes were written to RocksDB.
    pub spills: AtomicU64,
    /// Input records that were skipped because their position was lost.
    pub skipped_records: AtomicU64,
    /// Times that partitions came or went.
    pub rebalances: AtomicU64,
}

impl StreamsMetrics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// The current number.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
