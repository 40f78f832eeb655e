//! Which logs of a directory are dirty, and up to where each was cleaned.

use std::sync::Arc;

use flumen_protocol::id::{Offset, TopicPartition};

use super::{LogDir, failed};
use crate::error::FlushError;
use crate::log::{Compactable, Compacted, Compaction, CompactionOptions, Log};

/// A log that may be cleaned.
#[derive(Clone, Debug)]
pub struct Dirty {
    /// Whose.
    pub partition: TopicPartition,
    /// The log.
    pub log: Arc<Log>,
    /// What would be found.
    pub found: Compactable,
}

impl LogDir {
    /// All open logs whose topics are compacted, the dirtiest first. `bound` gives the last stable offset of each, `None` to leave it
    /// alone; `now_ms` is the broker's clock in milliseconds since 1970. A log that cannot be looked at is left out.
    pub fn dirty_logs(
        &self,
        now_ms: i64,
        bound: impl Fn(&TopicPartition, &Log) -> Option<Offset>,
    ) -> Vec<Dirty> {
        let clean = self.points.lock().clean.clone();
        let mut dirty = Vec::new();
        for (partition, log) in self.logs() {
            if !log.config().cleanup_policy.compact || log.fenced().is_some() {
                continue;
            }
            let Some(bound) = bound(&partition, &log) else {
                continue;
            };
            match log.compactable(clean.get(&partition).copied(), bound, now_ms) {
                Ok(found) => dirty.push(Dirty {
                    partition,
                    log,
                    found,
                }),
                Err(error) => {
                    tracing::debug!(%partition, %error, "cannot tell whether a log is dirty")
                }
            }
        }
        dirty.sort_by(|a, b| b.found.dirty_ratio().total_cmp(&a.found.dirty_ratio()));
        dirty
    }

    /// Begins to clean a log; its recovery point is moved up first if it is in the way. `None` if there is nothing to clean after all.
    ///
    /// # Errors
    /// As [`LogDir::checkpoint`].
    pub fn begin_compaction(
        &self,
        dirty: &Dirty,
        options: CompactionOptions,
    ) -> Result<Option<Compaction>, FlushError> {
        if dirty.log.recovery_point() < dirty.found.end() {
            let one = [(dirty.partition.clone(), dirty.log.clone())];
            if let Some(failure) = self.checkpoint_logs(&one)? {
                return Err(failure);
            }
        }
        Ok(dirty.log.begin_compaction(&dirty.found, options))
    }

    /// Writes down up to where a log was cleaned, durably: the next cleaning begins there.
    ///
    /// # Errors
    /// [`FlushError::Failed`]: the next cleaning does this one's work once more.
    pub fn compaction_done(
        &self,
        partition: &TopicPartition,
        log: &Arc<Log>,
        compacted: &Compacted,
    ) -> Result<(), FlushError> {
        let mut points = self.points.lock();
        // Deleted meanwhile, or cut off below what was cleaned.
        let same = self
            .get(partition)
            .is_some_and(|open| Arc::ptr_eq(&open, log));
        if !same || compacted.clean_offset > log.log_end_offset() {
            return Ok(());
        }
        points
            .clean
            .insert(partition.clone(), compacted.clean_offset);
        self.write_clean(&points)
            .map_err(failed("writing where cleanings ended"))
    }
}
