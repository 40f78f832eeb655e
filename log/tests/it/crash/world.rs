//! A log in a directory, the steps that may be done to it, and a model of what must be there after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flumen_log::disk::Disk;
use flumen_log::{AppendAs, Log, LogConfig, LogDir, OpenError};
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::id::Offset;

use crate::helpers::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// From nobody, this many records.
    Append(usize),
    /// From producer 1, idempotent.
    Idempotent(usize),
    /// From this producer, in a transaction.
    InTxn(i64),
    /// Ends the transaction of this producer.
    End(i64, bool),
    Flush,
    Roll,
    Checkpoint,
    /// Deletes all records but the newest this many.
    KeepNewest(i64),
    Retention,
    /// Cuts this many records off the end.
    Truncate(i64),
    /// A clean stop and start.
    Restart,
}

/// What may be, and what must be, in the log after a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// By base offset: the CRCs of batches that were written there.
    pub(super) written: BTreeMap<Offset, BTreeSet<u32>>,
    /// By base offset: next offset and CRC of batches in the log now, by the model.
    pub(super) live: BTreeMap<Offset, (Offset, u32)>,
    pub(super) acked: BTreeMap<Offset, (Offset, u32)>,
    pub(super) log_start_max: Offset,
    pub(super) log_start_acked: Offset,
    pub(super) sequences: BTreeMap<i64, i32>,
    pub(super) epochs: BTreeMap<i64, i16>,
    pub(super) tag: u64,
}

pub(super) struct World {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: LogConfig,
    /// None only within a restart.
    pub(super) opened: Option<(LogDir, Arc<Log>)>,
}

pub(super) type Stopped = ();

impl World {
    pub(super) fn open(disk: &Arc<dyn Disk>, config: &LogConfig) -> Result<Self, OpenError> {
        let mut world = Self {
            disk: disk.clone(),
            config: config.clone(),
            opened: None,
        };
        world.start()?;
        Ok(world)
    }

    /// As if the process had died. The lock must be gone before the next one opens.
    pub(super) fn reopen(&mut self) -> Result<(), OpenError> {
        self.opened = None;
        self.start()
    }

    fn start(&mut self) -> Result<(), OpenError> {
        let dir = open_dir(&self.disk)?;
        let log = dir.open_log(&partition(), Some(topic_id()), self.config.clone())?;
        self.opened = Some((dir, log));
        Ok(())
    }

    pub(super) fn dir(&self) -> &LogDir {
        &self.opened.as_ref().unwrap().0
    }

    pub(super) fn log(&self) -> &Log {
        &self.opened.as_ref().unwrap().1
    }

    fn append(
        &self,
        model: &mut Model,
        bytes: bytes::Bytes,
        how: Option<AppendAs>,
    ) -> Result<(), Stopped> {
        let crc = RecordBatch::parse(bytes.clone()).unwrap().header().crc;
        let next = self.log().log_end_offset();
        model.written.entry(next).or_default().insert(crc);
        let appended = match how {
            None => append_client(self.log(), bytes, 1_000),
            Some(how) => self.log().append(bytes, &how, 1_000),
        }
        .map_err(|error| assert_stopped(&error))?;
        assert_eq!(appended.base_offset, next);
        model.live.insert(next, (appended.last_offset + 1, crc));
        Ok(())
    }

    pub(super) fn run(&mut self, step: Step, model: &mut Model) -> Result<(), Stopped> {
        model.tag += 1;
        match step {
            Step::Append(_) | Step::Idempotent(_) | Step::InTxn(_) | Step::End(..) => {
                self.write(step, model)
            }
            Step::KeepNewest(_) | Step::Retention | Step::Truncate(_) => {
                self.take_away(step, model)
            }
            Step::Flush => {
                let before = model.live.clone();
                self.log().flush().map_err(|error| assert_stopped(&error))?;
                model.acked = before;
                Ok(())
            }
            Step::Roll => self.log().roll().map_err(|error| assert_stopped(&error)),
            Step::Checkpoint => {
                let before = model.live.clone();
                self.dir()
                    .checkpoint()
                    .map_err(|error| assert_stopped(&error))?;
                if self.log().fenced().is_none() {
                    self.check_flushed(model, before);
                }
                Ok(())
            }
            Step::Restart => self.restart(model),
        }
    }

    fn write(&self, step: Step, model: &mut Model) -> Result<(), Stopped> {
        let timestamp = 1_000 + (model.tag as i64 * 7919) % 500;
        let of = |id: i64, model: &Model| {
            (
                model.epochs.get(&id).copied().unwrap_or(0),
                model.sequences.get(&id).copied().unwrap_or(0),
            )
        };
        match step {
            Step::Idempotent(count) => {
                let (epoch, sequence) = of(1, model);
                self.append(
                    model,
                    batch_of(
                        model.tag,
                        count,
                        timestamp,
                        From::producer(1, epoch, sequence),
                    ),
                    None,
                )?;
                model.sequences.insert(1, sequence + count as i32);
            }
            Step::InTxn(id) => {
                let (epoch, sequence) = of(id, model);
                self.append(
                    model,
                    batch_of(model.tag, 2, timestamp, From::in_txn(id, epoch, sequence)),
                    None,
                )?;
                model.sequences.insert(id, sequence + 2);
            }
            Step::End(id, commit) => {
                let epoch = of(id, model).0 + 1;
                let how = AppendAs::Marker {
                    leader_epoch: 0,
                    transaction_version: 2,
                };
                self.append(model, marker(id, epoch, commit, timestamp), Some(how))?;
                model.epochs.insert(id, epoch);
                model.sequences.insert(id, 0);
            }
            Step::Append(count) => self.append(
                model,
                batch_of(model.tag, count, timestamp, From::nobody()),
                None,
            )?,
            _ => unreachable!("not a write"),
        }
        Ok(())
    }

    fn take_away(&self, step: Step, model: &mut Model) -> Result<(), Stopped> {
        let log = self.log();
        match step {
            Step::KeepNewest(count) => {
                let start = (log.log_end_offset() - count).max(0);
                model.log_start_max = model.log_start_max.max(start);
                self.dir()
                    .delete_records(&partition(), log, start)
                    .map_err(|error| assert_stopped(&error))?;
                model.log_start_acked = model.log_start_acked.max(start);
            }
            Step::Truncate(count) => {
                let to = (log.log_end_offset() - count).max(log.log_start_offset());
                model.acked.retain(|_, (next, _)| *next <= to);
                let end = self
                    .dir()
                    .truncate(&partition(), log, to)
                    .map_err(|error| assert_stopped(&error))?;
                model.live.retain(|_, (next, _)| *next <= end);
                model.sequences.clear();
            }
            _ => {
                if let Some(start) = log
                    .retention_start(1 << 40, log.flushed_offset())
                    .map_err(|error| assert_stopped(&error))?
                {
                    model.log_start_max = model.log_start_max.max(start);
                }
                self.dir()
                    .retention_pass(1 << 40, |_, log| log.flushed_offset())
                    .map_err(|error| assert_stopped(&error))?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, model: &mut Model) -> Result<(), Stopped> {
        let before = model.live.clone();
        self.dir()
            .close(5)
            .map_err(|error| assert_stopped(&error))?;
        model.acked = before;
        // The lock must be gone before the next one opens.
        self.opened = None;
        self.start().map_err(|error| assert_stopped(&error))?;
        assert_eq!(self.dir().clean_stop(), Some(5));
        assert_eq!(self.log().flushed_offset(), self.log().log_end_offset());
        Ok(())
    }

    fn check_flushed(&self, model: &mut Model, before: BTreeMap<Offset, (Offset, u32)>) {
        if before
            .values()
            .last()
            .is_none_or(|(next, _)| *next <= self.log().flushed_offset())
        {
            model.acked = before;
        }
    }
}

/// Only the power may stop a workload.
fn assert_stopped(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(
        text.contains("the power is off") || text.contains("fenced"),
        "{text}"
    );
}

/// Runs the workload until it ends or the power goes.
pub(super) fn run(disk: &Arc<dyn Disk>, config: &LogConfig, steps: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok(mut world) = World::open(disk, config) else {
        return model;
    };
    for step in steps {
        if world.run(*step, &mut model).is_err() {
            break;
        }
    }
    model
}
