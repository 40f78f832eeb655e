//! A checkpoint: everything durable that lets the next start begin at the logs' ends, for many logs with the syncs of all at once.
//!
//! In this order, and each step for those logs only that came through the one before: batches; indexes; checksums of small files;
//! small files (aborted transactions, leader epochs, a snapshot of the producers). Whoever asked then writes down the recovery points.

use std::path::PathBuf;
use std::sync::Arc;

use flumen_protocol::id::Offset;

use super::Log;
use super::flush::flush_all;
use crate::checkpoint::{self, ReplaceError};
use crate::disk::Dirty;
use crate::error::{Fenced, FlushError};
use crate::sealed;
use crate::segment::Segment;
use crate::snapshot;

/// What a checkpoint makes durable besides the batches.
struct State {
    end: Offset,
    /// None is needed at offset 0: nobody has written anything yet.
    snapshot: Option<Vec<u8>>,
    segments: Vec<Arc<Segment>>,
    /// Aborted transactions that their files do not hold.
    txns: Vec<(Arc<Segment>, Vec<u8>)>,
    epochs: Option<String>,
    /// Nothing was written since the last one.
    unchanged: bool,
}

/// As [`Log::checkpoint`] for each of many logs of one disk, each given once; one result each, in order.
pub(crate) fn checkpoint_many(logs: &[&Log]) -> Vec<Result<Offset, FlushError>> {
    let _checkpointing: Vec<_> = logs.iter().map(|log| log.checkpointing.lock()).collect();
    let states: Vec<Result<State, FlushError>> = logs
        .iter()
        .map(|log| log.state_to_checkpoint().map_err(Into::into))
        .collect();
    let mut going_on: Vec<(usize, State)> = Vec::with_capacity(logs.len());
    let mut results: Vec<Result<Offset, FlushError>> = Vec::with_capacity(logs.len());
    for (i, (state, flushed)) in states.into_iter().zip(flush_all(logs)).enumerate() {
        results.push(flushed.and(state.as_ref().map(|state| state.end).map_err(Clone::clone)));
        if let (Ok(_), Ok(state)) = (&results[i], state)
            && !state.unchanged
        {
            going_on.push((i, state));
        }
    }
    for step in [sync_indexes, write_checksums, write_small_files] {
        for (i, error) in step(logs, &going_on) {
            results[i] = Err(error);
        }
        going_on.retain(|(i, _)| results[*i].is_ok());
    }
    results
}

/// Which logs a step failed for, and how.
type Failed = Vec<(usize, FlushError)>;

fn sync_indexes(logs: &[&Log], states: &[(usize, State)]) -> Failed {
    let (mut whose, mut dirty) = (Vec::new(), Vec::new());
    for (i, state) in states {
        for file in state
            .segments
            .iter()
            .flat_map(|segment| segment.take_dirty_indexes())
        {
            whose.push(*i);
            dirty.push(Dirty::File(file));
        }
    }
    let synced = match states.first() {
        Some((first, _)) => logs[*first].place.disk.flush_many(&dirty),
        None => Vec::new(),
    };
    let failed = whose.into_iter().zip(synced);
    failed
        .filter_map(|(i, synced)| {
            let what = || format!("index sync of {}", logs[i].place.dir.display());
            synced
                .err()
                .map(|error| (i, logs[i].flush_failed(what(), error)))
        })
        .collect()
}

fn write_checksums(logs: &[&Log], states: &[(usize, State)]) -> Failed {
    let mut failed = Vec::new();
    let mut files = Vec::new();
    for (i, state) in states {
        for (path, contents) in state.sealed_files(logs[*i]) {
            match sealed::checksum_file(&*logs[*i].place.disk, &path, &contents) {
                Ok(file) => files.extend(file.map(|file| (*i, file))),
                Err(error) => failed.push((*i, logs[*i].postponed(error.into(), state))),
            }
        }
    }
    failed.extend(replace_all(logs, states, files));
    failed
}

fn write_small_files(logs: &[&Log], states: &[(usize, State)]) -> Failed {
    let mut files = Vec::new();
    for (i, state) in states {
        let snapshot = state.snapshot.iter();
        let snapshot = snapshot.map(|bytes| (logs[*i].snapshot_path(state.end), bytes.clone()));
        let all = state.sealed_files(logs[*i]).into_iter().chain(snapshot);
        files.extend(all.map(|file| (*i, file)));
    }
    let failed = replace_all(logs, states, files);
    for (i, state) in states {
        if failed.iter().all(|(failed, _)| failed != i) {
            let unsaved = state.txns.iter();
            unsaved.for_each(|(segment, bytes)| segment.txns.on_saved(bytes));
        }
    }
    failed
}

fn replace_all(
    logs: &[&Log],
    states: &[(usize, State)],
    files: Vec<(usize, (PathBuf, Vec<u8>))>,
) -> Failed {
    let Some((first, _)) = states.first() else {
        return Vec::new();
    };
    let (whose, files): (Vec<usize>, Vec<_>) = files.into_iter().unzip();
    let written = checkpoint::replace_many(&*logs[*first].place.disk, &files);
    let mut failed: Failed = Vec::new();
    for (i, written) in whose.into_iter().zip(written) {
        if let Err(error) = written
            && failed.iter().all(|(failed, _)| *failed != i)
        {
            let state = states.iter().find(|(of, _)| *of == i);
            let (_, state) = state.expect("its files were its state's");
            failed.push((i, logs[i].postponed(error, state)));
        }
    }
    failed
}

impl State {
    /// Small files in Kafka's formats, which have no checksum in them.
    fn sealed_files(&self, log: &Log) -> Vec<(PathBuf, Vec<u8>)> {
        let txns = self.txns.iter();
        let txns = txns.map(|(segment, bytes)| (segment.txns.path().clone(), bytes.clone()));
        let epochs = self.epochs.iter().map(|text| {
            let path = log.place.dir.join(crate::recovery::LEADER_EPOCH_FILE);
            (path, text.as_bytes().to_vec())
        });
        txns.chain(epochs).collect()
    }
}

impl Log {
    /// Flushes, and makes durable all that lets the next start begin at the log's end: indexes, producers, leader epochs. Returns
    /// the new recovery point, which holds once the caller has written it down; then it calls [`Log::recovery_point_recorded`].
    ///
    /// # Errors
    /// As [`Log::flush`]; but if only a small file could not be written, the log is not fenced and the old recovery point holds.
    pub fn checkpoint(&self) -> Result<Offset, FlushError> {
        let mut results = checkpoint_many(&[self]);
        results.pop().expect("one result for one log")
    }

    fn state_to_checkpoint(&self) -> Result<State, Fenced> {
        let mut writer = self.writer.lock();
        self.check_fenced()?;
        let end = self.log_end_offset();
        let mut segments = std::mem::take(&mut writer.sealed);
        segments.push(writer.active.clone());
        let mut epochs = self.epochs.write();
        let changed = std::mem::take(&mut epochs.dirty);
        let text = changed.then(|| checkpoint::encode_epochs(&epochs.known));
        let unchanged = end == writer.checkpointed
            && (end == 0 || writer.snapshots.contains(&end))
            && segments.len() == 1
            && !changed;
        let needed = !unchanged && end > 0;
        let snapshot = needed.then(|| snapshot::encode(&self.producers.lock()));
        let unsaved = |segment: &Arc<Segment>| Some((segment.clone(), segment.txns.unsaved()?));
        let txns = segments.iter().filter_map(unsaved).collect();
        Ok(State {
            txns,
            end,
            snapshot,
            segments,
            epochs: text,
            unchanged,
        })
    }

    /// A small file could not be written, for lack of space perhaps: no harm, the old recovery point holds. What was taken off the
    /// lists is put back.
    fn postponed(&self, error: ReplaceError, state: &State) -> FlushError {
        let error = match error {
            ReplaceError::Refused(error) => error,
            ReplaceError::NamesLost(error) => {
                return self.flush_failed("directory sync".into(), error);
            }
        };
        let mut writer = self.writer.lock();
        let sealed = &state.segments[..state.segments.len() - 1];
        writer.sealed.splice(..0, sealed.iter().cloned());
        self.epochs.write().dirty |= state.epochs.is_some();
        FlushError::Failed {
            what: "checkpoint".into(),
            error: Arc::new(error),
        }
    }

    /// The recovery point that [`Log::checkpoint`] returned is on the disk: the snapshot of producers it replaces is not needed.
    pub fn recovery_point_recorded(&self, recovery_point: Offset) {
        let mut writer = self.writer.lock();
        writer.checkpointed = recovery_point;
        if recovery_point > 0 {
            writer.snapshots.insert(recovery_point);
        }
        let segments = self.segments();
        let begins_segment = |offset| segments.iter().any(|segment| segment.base_offset == offset);
        self.remove_snapshots(&mut writer, |offset| {
            offset < recovery_point && !begins_segment(offset)
        });
    }
}
