//! Making things durable: flush (the batches), and close. What recovery relies on besides is in `checkpoint.rs`.
//!
//! A flush takes the list of what is dirty under the writer's lock and works on it outside: appends go on meanwhile. The new
//! durable end is the log's end at the moment the list was taken. If one file of the list cannot be synced, the log is fenced: the
//! kernel may have dropped the pages, and the next sync would call that a success.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flumen_planted::{Bug, planted};
use flumen_protocol::id::Offset;
use parking_lot::MutexGuard;

use super::Log;
use crate::dir::renew;
use crate::disk::{self, Dirty, OpenMode};
use crate::error::{Fenced, FlushError};

/// What one log has to be flushed.
struct Plan<'a> {
    log: &'a Log,
    /// No other flush of this log until this one is over: it would find nothing dirty and call it durable.
    _flushing: MutexGuard<'a, ()>,
    dirty: Vec<Dirty>,
    end: Offset,
}

/// Flushes many logs of one disk in one round. One result per log, in order; each as that of [`Log::flush`].
pub fn flush_many(logs: &[Arc<Log>]) -> Vec<Result<Offset, FlushError>> {
    flush_all(&logs.iter().map(|log| &**log).collect::<Vec<_>>())
}

pub(super) fn flush_all(logs: &[&Log]) -> Vec<Result<Offset, FlushError>> {
    // Locks in one order, whoever calls; a log that is named twice is locked once.
    let mut order: Vec<usize> = (0..logs.len()).collect();
    order.sort_by_key(|i| (logs[*i].dir(), *i));
    order.dedup_by_key(|i| std::ptr::from_ref(logs[*i]));
    let plans: Vec<Result<Plan<'_>, FlushError>> =
        order.iter().map(|i| logs[*i].plan_flush()).collect();
    let dirty: Vec<Dirty> = plans
        .iter()
        .flatten()
        .flat_map(|plan| plan.dirty.iter().cloned())
        .collect();
    let mut synced = match logs.first() {
        Some(log) if !dirty.is_empty() => log.place.disk.flush_many(&dirty),
        _ => Vec::new(),
    }
    .into_iter();
    let mut results: Vec<(usize, Result<Offset, FlushError>)> = Vec::with_capacity(order.len());
    for (i, plan) in order.into_iter().zip(plans) {
        results.push((i, plan.and_then(|plan| plan.finish(&mut synced))));
    }
    let result_of = |log: &&Log| {
        let found = results.iter().find(|(i, _)| std::ptr::eq(logs[*i], *log));
        found.expect("every log has a plan").1.clone()
    };
    logs.iter().map(result_of).collect()
}

impl Plan<'_> {
    /// Takes as many results as it has files.
    fn finish(
        self,
        synced: &mut impl Iterator<Item = io::Result<()>>,
    ) -> Result<Offset, FlushError> {
        let mut failed = None;
        for (dirty, result) in self
            .dirty
            .iter()
            .zip(synced.by_ref().take(self.dirty.len()))
        {
            if let Err(error) = result {
                // Planted, wrong: the kernel calls the second try a success, having dropped what the first could not write.
                if planted(Bug::FsyncRetried) && dirty.sync(&*self.log.place.disk).is_ok() {
                    continue;
                }
                failed = Some((dirty, error));
            }
        }
        match failed {
            Some((dirty, error)) => {
                if let Dirty::Dir(dir) = dirty {
                    // The name of the log itself may be what got lost.
                    renew::ask(&*self.log.place.disk, dir);
                }
                Err(self.log.flush_failed(format!("sync of {dirty:?}"), error))
            }
            None => {
                self.log
                    .flushed_offset
                    .fetch_max(self.end, Ordering::AcqRel);
                Ok(self.end)
            }
        }
    }
}

impl Log {
    /// Makes all batches durable that were appended before the call; returns the offset below which all is durable. Appends go on
    /// meanwhile.
    ///
    /// # Errors
    /// [`FlushError`]; the log is fenced for good then. What lay above [`Log::flushed_offset`] must be taken for lost.
    pub fn flush(&self) -> Result<Offset, FlushError> {
        let plan = self.plan_flush()?;
        let synced: Vec<_> = plan
            .dirty
            .iter()
            .map(|dirty| dirty.sync(&*self.place.disk))
            .collect();
        plan.finish(&mut synced.into_iter())
    }

    fn plan_flush(&self) -> Result<Plan<'_>, FlushError> {
        let flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        self.check_fenced()?;
        let mut dirty = Vec::new();
        for segment in std::mem::take(&mut writer.dirty) {
            match segment.file() {
                Ok(file) => dirty.push(Dirty::File(file)),
                Err(error) => {
                    return Err(
                        self.flush_failed(format!("open of {}", segment.path().display()), error)
                    );
                }
            }
        }
        dirty.extend(
            std::mem::take(&mut writer.dirty_files)
                .into_iter()
                .map(Dirty::File),
        );
        if std::mem::take(&mut writer.dirty_dir) {
            dirty.push(Dirty::Dir(self.place.dir.to_path_buf()));
        }
        dirty.extend(
            std::mem::take(&mut writer.dirty_parents)
                .into_iter()
                .map(Dirty::Dir),
        );
        let end = self.log_end_offset();
        drop(writer);
        Ok(Plan {
            log: self,
            _flushing: flushing,
            dirty,
            end,
        })
    }

    pub(super) fn flush_failed(&self, what: String, error: io::Error) -> FlushError {
        self.fence(format!("{what} failed: {error}"));
        FlushError::Failed {
            what,
            error: Arc::new(error),
        }
    }

    /// Writes a snapshot of producers without making it durable.
    pub(super) fn put_snapshot(&self, offset: Offset, bytes: &[u8]) -> io::Result<()> {
        let file = self
            .place
            .disk
            .open(&self.snapshot_path(offset), OpenMode::Create)?;
        file.set_len(0)?;
        disk::write_all_at(&*file, &mut [io::IoSlice::new(bytes)], 0)
    }

    /// Checkpoints, cuts the index files to what they hold, and refuses all writes from now on. Returns the log's end, which is
    /// the recovery point; with that on the disk, and a note that the stop was a clean one, the next start scans nothing.
    ///
    /// # Errors
    /// As [`Log::checkpoint`].
    pub fn close(&self) -> Result<Offset, FlushError> {
        self.trim().map_err(|error| FlushError::Failed {
            what: "cutting the indexes".into(),
            error: Arc::new(error),
        })?;
        let end = self.checkpoint()?;
        self.retire();
        Ok(end)
    }

    /// Cuts the index files to what they hold, once for each end of the log, without making that durable. A log without batches
    /// has none.
    pub(crate) fn trim(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let end = self.log_end_offset();
        if writer.trimmed == Some(end) {
            return Ok(());
        }
        if writer.active.extent().size > 0 {
            writer.active.trim()?;
            writer.dirty_dir = true;
        }
        writer.trimmed = Some(end);
        Ok(())
    }

    /// No writes from now on: it is closed, or its directory is going away.
    pub(crate) fn retire(&self) {
        let closed = Fenced {
            dir: PathBuf::from(self.dir()),
            reason: "it was closed".into(),
        };
        // An earlier reason stays.
        let _ = self.fenced.set(closed);
        // A step of a cleaning that has begun may still write in the directory: the next one will not.
        drop(self.compacting.lock());
    }
}
