//! Appending: check, assign offsets, roll if due, write, remember, publish.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flumen_protocol::batch::{ControlRecord, HEADER_BYTES, TimestampType};
use flumen_protocol::id::{LeaderEpoch, Offset};

use super::{Log, Writer};
use crate::config::LogConfig;
use crate::error::AppendError;
use crate::producers::{Check, Origin, VerificationGuard};
use crate::recovery::io_error;
use crate::segment::{Exists, Segment, Stamped};
use crate::snapshot;
use crate::validate::{self, Pace, Terms, Valid};

/// Who appends, and so which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendAs {
    /// The leader, for a producer: exactly one batch, every rule.
    Client {
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// Permission to begin a transaction: see [`Log::start_verification`].
        guard: VerificationGuard,
    },
    /// The leader, for a coordinator that writes its own topic: any number of batches, no rules on records and sequences.
    Coordinator {
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// Permission to begin a transaction, for offsets committed in one.
        guard: VerificationGuard,
    },
    /// The leader, for the transaction coordinator: markers.
    Marker {
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// `transaction.version` of the transaction: from 2 on the marker's epoch is above the producer's.
        transaction_version: i16,
    },
    /// A follower: batches keep the offsets and epochs that the leader gave them.
    Replica,
}

impl AppendAs {
    /// A producer's batch outside of any transaction, or inside one that is open here.
    pub fn client(leader_epoch: LeaderEpoch) -> Self {
        Self::Client {
            leader_epoch,
            guard: VerificationGuard::NONE,
        }
    }

    /// A coordinator's batches outside of any transaction.
    pub fn coordinator(leader_epoch: LeaderEpoch) -> Self {
        Self::Coordinator {
            leader_epoch,
            guard: VerificationGuard::NONE,
        }
    }

    fn leader_epoch(&self) -> Option<LeaderEpoch> {
        match self {
            Self::Client { leader_epoch, .. }
            | Self::Coordinator { leader_epoch, .. }
            | Self::Marker { leader_epoch, .. } => Some(*leader_epoch),
            Self::Replica => None,
        }
    }

    fn origin(&self) -> Option<Origin> {
        match self {
            Self::Client { guard, .. } => Some(Origin::Client(*guard)),
            Self::Coordinator { guard, .. } => Some(Origin::Coordinator(*guard)),
            Self::Marker {
                transaction_version,
                ..
            } => Some(Origin::Marker(*transaction_version)),
            Self::Replica => None,
        }
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record. The record is durable once [`Log::flushed_offset`] is above it.
    pub last_offset: Offset,
    /// Largest timestamp, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// The broker's timestamp if the topic asks for it, else -1.
    pub log_append_time: i64,
    /// First offset of the log.
    pub log_start_offset: Offset,
    /// Bytes written; 0 for a duplicate.
    pub size_bytes: usize,
    /// The producer had sent it before: the offsets are those of then, nothing was written. They may not be durable yet.
    pub duplicate: bool,
}

/// All batches of one append together, offsets assigned.
struct Incoming {
    base_offset: Offset,
    last_offset: Offset,
    max_timestamp: i64,
    size_bytes: usize,
}

impl Incoming {
    fn of(valid: &[Valid]) -> Option<Self> {
        Some(Self {
            base_offset: valid.first()?.header.base_offset,
            last_offset: valid.last()?.header.last_offset(),
            max_timestamp: valid.iter().map(|batch| batch.header.max_timestamp).max()?,
            size_bytes: valid.iter().map(|batch| batch.bytes.len()).sum(),
        })
    }
}

impl Log {
    /// Appends whole batches. They are in the system's memory when this returns, not yet durable: see [`Log::flush`].
    ///
    /// The batches' bytes are not changed (base offset, epoch and log append time go into a copy of the header), so a slice of a
    /// request serves. `now_ms`: the broker's clock, milliseconds since 1970.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then.
    /// Source: Kafka `UnifiedLog.append`.
    pub fn append(
        &self,
        batches: Bytes,
        how: &AppendAs,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.append_at(Pace::Any, batches, how, now_ms)
    }

    /// The same on a thread for which others wait: a client's batch that would have to be opened or compressed for longer than about a
    /// millisecond is left to [`Log::append`].
    ///
    /// # Errors
    /// [`AppendError::Costly`], beside those of [`Log::append`].
    pub fn append_quickly(
        &self,
        batches: Bytes,
        how: &AppendAs,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.append_at(Pace::Quick, batches, how, now_ms)
    }

    fn append_at(
        &self,
        pace: Pace,
        batches: Bytes,
        how: &AppendAs,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.check_fenced()?;
        let config = self.config();
        let terms = Terms {
            config: &config,
            now_ms,
            pace,
        };
        let mut valid = validate::validate(batches, how, terms)?;
        let mut writer = self.writer.lock();
        // Again, under the lock: a flush may have failed meanwhile.
        self.check_fenced()?;
        if let Some(origin) = how.origin()
            && let Some(duplicate) = self.check_producers(&valid, origin, &config)?
        {
            return Ok(duplicate);
        }
        let log_end_offset = self.log_end_offset();
        assign_offsets(&mut valid, how, log_end_offset)?;
        let Some(incoming) = Incoming::of(&valid) else {
            return Ok(self.appended_nothing(log_end_offset));
        };
        let Incoming {
            base_offset,
            last_offset,
            max_timestamp,
            size_bytes,
        } = incoming;
        if self.roll_is_due(&writer.active, &config, &incoming)? {
            let fits = |from: Offset| i32::try_from(last_offset - from).is_ok();
            if !fits(base_offset) {
                let message = "offsets of one append span more than a segment can hold".to_owned();
                return Err(AppendError::InvalidRecord {
                    message,
                    records: Vec::new(),
                });
            }
            self.roll_at(
                &mut writer,
                if fits(log_end_offset) {
                    log_end_offset
                } else {
                    base_offset
                },
            )?;
        }
        self.write(&mut writer, &valid, &config)?;
        self.remember(&writer.active, &valid, how, now_ms)?;
        self.log_end_offset
            .store(last_offset + 1, Ordering::Release);
        let log_append_time = match (how, config.timestamp_type) {
            (AppendAs::Client { .. }, TimestampType::LogAppendTime) => now_ms,
            _ => -1,
        };
        let log_start_offset = self.log_start_offset();
        Ok(Appended {
            base_offset,
            last_offset,
            max_timestamp,
            log_append_time,
            log_start_offset,
            size_bytes,
            duplicate: false,
        })
    }

    fn appended_nothing(&self, log_end_offset: Offset) -> Appended {
        Appended {
            base_offset: log_end_offset,
            last_offset: log_end_offset - 1,
            max_timestamp: -1,
            log_append_time: -1,
            log_start_offset: self.log_start_offset(),
            size_bytes: 0,
            duplicate: false,
        }
    }

    /// Asks the producers' state about each batch; a repeat is answered with what it got before.
    fn check_producers(
        &self,
        valid: &[Valid],
        origin: Origin,
        config: &LogConfig,
    ) -> Result<Option<Appended>, AppendError> {
        let producers = self.producers.lock();
        for batch in valid {
            if let Check::Repeat(seen) = producers.check(&batch.header, batch.marker, origin)? {
                let stamped = config.timestamp_type == TimestampType::LogAppendTime;
                return Ok(Some(Appended {
                    base_offset: seen.base_offset(),
                    last_offset: seen.last_offset,
                    max_timestamp: seen.timestamp,
                    log_append_time: if stamped { seen.timestamp } else { -1 },
                    log_start_offset: self.log_start_offset(),
                    size_bytes: 0,
                    duplicate: true,
                }));
            }
        }
        Ok(None)
    }

    /// Whether `incoming` does not fit the active segment. Source: Kafka `LogSegment.shouldRoll`.
    fn roll_is_due(
        &self,
        active: &Segment,
        config: &LogConfig,
        incoming: &Incoming,
    ) -> io::Result<bool> {
        if i32::try_from(incoming.last_offset - active.base_offset).is_err() {
            return Ok(true);
        }
        let extent = active.extent();
        if extent.size == 0 {
            return Ok(false);
        }
        if extent.size + incoming.size_bytes as u64 > config.segment_bytes || active.indexes_full()
        {
            return Ok(true);
        }
        let first = match extent.first_timestamp {
            Some(first) => Some(first),
            None => active.first_timestamp().map_err(io_error)?,
        };
        let age = first
            .filter(|first| *first >= 0)
            .map_or(0, |first| incoming.max_timestamp.saturating_sub(first));
        let jitter = jitter_ms(
            active.base_offset,
            &self.place.dir,
            config.segment_jitter_ms,
        );
        Ok(age > i64::try_from(config.segment_ms_max().saturating_sub(jitter)).unwrap_or(i64::MAX))
    }

    /// Begins a new active segment at the log's end, unless the active one is empty.
    ///
    /// # Errors
    /// [`AppendError::Storage`] if the new file cannot be created: the log goes on with the old one. [`AppendError::Fenced`].
    pub fn roll(&self) -> Result<(), AppendError> {
        let mut writer = self.writer.lock();
        self.check_fenced()?;
        if writer.active.extent().size > 0 {
            self.roll_at(&mut writer, self.log_end_offset())?;
        }
        Ok(())
    }

    /// The new file is created at once, not lazily: once the old ones are deleted, its name is all that tells the next offset.
    pub(super) fn roll_at(&self, writer: &mut Writer, base_offset: Offset) -> io::Result<()> {
        let mut place = self.place.clone();
        place.index_bytes = self.config.read().index_bytes;
        let next = Arc::new(Segment::new(&place, base_offset, Exists::default()));
        next.create()?;
        writer.dirty_dir = true;
        let old = std::mem::replace(&mut writer.active, next.clone());
        let mut segments = self.segments.write();
        let mut list = Vec::clone(&segments);
        if old.extent().size == 0 {
            // Never written to: the new one takes its place.
            list.pop();
            if let Err(error) = old.delete() {
                tracing::warn!(segment = %old.path().display(), %error, "could not remove an empty segment");
            }
        } else {
            old.seal();
            writer.sealed.push(old);
            self.write_snapshot(writer, base_offset);
        }
        list.push(next);
        *segments = Arc::new(list);
        Ok(())
    }

    /// A snapshot of the producers for the start of a segment; not made durable here, and no harm if it fails: an older one and
    /// more batches give the same state.
    fn write_snapshot(&self, writer: &mut Writer, offset: Offset) {
        // The one of a checkpoint says the same, and is durable: once compaction has been here, no log could take its place.
        if writer.snapshots.contains(&offset) {
            return;
        }
        let bytes = snapshot::encode(&self.producers.lock());
        match self.put_snapshot(offset, &bytes) {
            Ok(()) => _ = writer.snapshots.insert(offset),
            Err(error) => {
                tracing::warn!(log = %self.place.dir.display(), offset, %error, "could not write a producer snapshot")
            }
        }
    }

    /// Writes, or undoes what was written: after an error the log is as it was, or fenced.
    fn write(
        &self,
        writer: &mut Writer,
        valid: &[Valid],
        config: &LogConfig,
    ) -> Result<(), AppendError> {
        let active = writer.active.clone();
        let stamped: Vec<_> = valid
            .iter()
            .map(|batch| Stamped {
                header: batch.header,
                records: &batch.bytes[HEADER_BYTES..],
            })
            .collect();
        let created = !active.is_open() && active.extent().size == 0;
        let written = active
            .txns
            .load()
            .and_then(|()| active.append(&stamped, config.index_interval_bytes));
        writer.dirty_dir |= created;
        // What is undone, too: a part of it may last where the cut does not, and recovery would take that part for the torn end of the
        // log and drop the segments behind it.
        let known = writer.dirty.last();
        if active.is_open() && known.is_none_or(|last| !Arc::ptr_eq(last, &active)) {
            writer.dirty.push(active.clone());
        }
        let Err(error) = written else {
            return Ok(());
        };
        if let Err(undo) = active.undo() {
            return Err(self
                .fence(format!(
                    "an append failed ({error}) and could not be undone ({undo})"
                ))
                .into());
        }
        Err(error.into())
    }

    /// Producers, aborted transactions and epochs of what was written; before the new end is published.
    fn remember(
        &self,
        active: &Segment,
        valid: &[Valid],
        how: &AppendAs,
        now_ms: i64,
    ) -> Result<(), AppendError> {
        let mut producers = self.producers.lock();
        for Valid { header, marker, .. } in valid {
            let completed = producers.apply(header, *marker, Some(now_ms));
            if let (Some(completed), Some(ControlRecord::Abort { .. })) = (completed, marker) {
                active.txns.append(producers.aborted(completed))?;
            }
        }
        drop(producers);
        for Valid { header, .. } in valid {
            let epoch = how.leader_epoch().unwrap_or(header.partition_leader_epoch);
            self.note_epoch(epoch, header.base_offset);
        }
        Ok(())
    }
}

/// The leader's batches continue the log; a replica's must be made to.
fn assign_offsets(
    valid: &mut [Valid],
    how: &AppendAs,
    log_end_offset: Offset,
) -> Result<(), AppendError> {
    let mut next = log_end_offset;
    for Valid { header, .. } in valid {
        match how.leader_epoch() {
            Some(leader_epoch) => {
                header.base_offset = next;
                header.partition_leader_epoch = leader_epoch;
            }
            None if header.base_offset < next => {
                return Err(AppendError::OffsetsNotMonotonic {
                    base_offset: header.base_offset,
                    log_end_offset: next,
                });
            }
            None => {}
        }
        next = header.next_offset();
    }
    Ok(())
}

/// A number below `jitter_ms` that is the same for a segment whenever it is asked for.
fn jitter_ms(base_offset: Offset, dir: &std::path::Path, jitter_ms: u64) -> u64 {
    use std::hash::BuildHasher;
    match jitter_ms {
        0 => 0,
        most => foldhash::quality::FixedState::default().hash_one((dir, base_offset)) % most,
    }
}
