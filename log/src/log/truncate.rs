//! Taking away: from the end (a follower parts from its leader), and from the start (delete-records, retention).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flumen_protocol::id::Offset;

use super::{Log, Writer};
use crate::epochs::LeaderEpochs;
use crate::error::{FlushError, ReadError};
use crate::producers::Producers;
use crate::recovery;
use crate::retention::{self, SegmentFacts};
use crate::segment::walk::WalkError;
use crate::segment::{Exists, Extent, Segment};

/// What a retention pass took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Whole segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Log {
    /// Cuts the log behind the last batch that lies wholly below `offset`; returns the new end. Whoever keeps the recovery point must have lowered
    /// it to `offset` before: see [`LogDir::truncate`](crate::LogDir::truncate).
    ///
    /// An offset below the log's start empties the log and moves its start there.
    ///
    /// # Errors
    /// [`FlushError`]; the log is fenced then, as nobody knows how far the cut went.
    /// Source: Kafka `UnifiedLog.truncateTo`.
    pub fn truncate_to(&self, offset: Offset) -> Result<Offset, FlushError> {
        let _compacting = self.compacting.lock();
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        self.check_fenced()?;
        if offset >= self.log_end_offset() {
            return Ok(self.log_end_offset());
        }
        let start = self.log_start_offset();
        let cut = match self.end_below(offset) < start {
            // Nothing above the start is left: not even of a batch that reaches over it.
            true => self
                .start_anew(&mut writer, offset.min(start))
                .map_err(WalkError::from),
            false => self.cut_at(&mut writer, offset),
        };
        cut.map_err(|error| self.flush_failed("truncation".into(), recovery::io_error(error)))?;
        Ok(self.log_end_offset())
    }

    /// The log's end after a truncation to `offset`; a lower one if that cannot be told.
    pub(crate) fn end_below(&self, offset: Offset) -> Offset {
        let segments = self.segments();
        let holds = segments.partition_point(|segment| segment.base_offset <= offset);
        let segment = &segments[holds.saturating_sub(1)];
        match segment.end_below(offset) {
            Ok((_, end)) => end.min(offset),
            Err(_) => segment.base_offset.min(offset),
        }
    }

    fn cut_at(&self, writer: &mut Writer, offset: Offset) -> Result<(), WalkError> {
        let mut list = Vec::clone(&self.segments());
        // Newest first: whatever is left after a crash is a prefix.
        while list.len() > 1 && list.last().is_some_and(|last| last.base_offset > offset) {
            list.pop().expect("more than one").delete()?;
        }
        let active = list.last().expect("one is left").clone();
        let end = active.truncate_to(offset)?;
        let mut producers = self.producers.lock();
        *producers = recovery::producers_at(&self.place, &list, end)?;
        drop(producers);
        let mut epochs = self.epochs.write();
        epochs.dirty |= epochs.known.truncate_from_end(end);
        drop(epochs);
        self.publish_end(writer, list, end);
        Ok(())
    }

    /// Empties the log: the next offset is `offset`, and so is the log's start.
    ///
    /// # Errors
    /// As [`Self::truncate_to`]. Source: Kafka `UnifiedLog.truncateFullyAndStartAt`.
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), FlushError> {
        let _compacting = self.compacting.lock();
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        self.check_fenced()?;
        self.start_anew(&mut writer, offset)
            .map_err(|error| self.flush_failed("truncation".into(), error))
    }

    fn start_anew(&self, writer: &mut Writer, offset: Offset) -> io::Result<()> {
        for segment in self.segments().iter().rev() {
            segment.delete()?;
        }
        let active = Arc::new(Segment::new(&self.place, offset, Exists::default()));
        active.create()?;
        *self.producers.lock() = Producers::default();
        let mut epochs = self.epochs.write();
        epochs.known = LeaderEpochs::default();
        epochs.dirty = true;
        drop(epochs);
        self.log_start_offset.store(offset, Ordering::Release);
        self.publish_end(writer, vec![active], offset);
        Ok(())
    }

    fn publish_end(&self, writer: &mut Writer, list: Vec<Arc<Segment>>, end: Offset) {
        writer.active = list.last().expect("one is left").clone();
        let kept = |segment: &Arc<Segment>| list.iter().any(|kept| Arc::ptr_eq(kept, segment));
        writer.dirty.retain(kept);
        writer
            .sealed
            .retain(|segment| kept(segment) && !Arc::ptr_eq(segment, &writer.active));
        if writer.active.is_open()
            && !writer
                .dirty
                .iter()
                .any(|dirty| Arc::ptr_eq(dirty, &writer.active))
        {
            writer.dirty.push(writer.active.clone());
        }
        writer.dirty_dir = true;
        writer.trimmed = None;
        writer.checkpointed = writer.checkpointed.min(end);
        self.remove_snapshots(writer, |offset| offset > end);
        self.flushed_offset.fetch_min(end, Ordering::AcqRel);
        self.log_end_offset.store(end, Ordering::Release);
        *self.segments.write() = Arc::new(list);
    }

    /// Removes snapshots of producers that nothing needs; one that stays costs nothing but its bytes.
    pub(super) fn remove_snapshots(&self, writer: &mut Writer, unneeded: impl Fn(Offset) -> bool) {
        let disk = &self.place.disk;
        writer.snapshots.retain(|offset| {
            !unneeded(*offset) || disk.remove_file(&self.snapshot_path(*offset)).is_err()
        });
    }

    /// Moves the log's start up to `offset`: nothing below it will be read again. Returns the start, which never goes back. The
    /// files go with the next retention pass.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] above the log's end.
    /// Source: Kafka `UnifiedLog.maybeIncrementLogStartOffset`; KIP-107.
    pub fn delete_records_before(&self, offset: Offset) -> Result<Offset, ReadError> {
        let writer = self.writer.lock();
        let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
        if offset > log_end_offset {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset,
            });
        }
        let start = self
            .log_start_offset
            .fetch_max(offset, Ordering::AcqRel)
            .max(offset);
        let mut epochs = self.epochs.write();
        epochs.dirty |= epochs.known.truncate_from_start(start);
        drop((epochs, writer));
        Ok(start)
    }

    /// Where the log would start if all segments that are due by time, size and log start were deleted; `None` if none is. Nothing
    /// that reaches above `upper_bound` (the high watermark) is due. `now_ms`: the broker's clock, milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn retention_start(
        &self,
        now_ms: i64,
        upper_bound: Offset,
    ) -> Result<Option<Offset>, ReadError> {
        let segments = self.segments();
        let mut facts = Vec::with_capacity(segments.len());
        for segment in segments.iter() {
            let Extent {
                size, next_offset, ..
            } = segment.extent();
            let max = segment
                .max_timestamp()
                .map_err(|error| super::read::read_error(segment, error))?;
            facts.push(SegmentFacts {
                next_offset,
                size,
                largest_timestamp: max.map_or(-1, |max| max.timestamp),
            });
        }
        let due = retention::due(
            &facts,
            &self.config(),
            self.log_start_offset(),
            upper_bound,
            now_ms,
        );
        Ok(due.checked_sub(1).map(|last| facts[last].next_offset))
    }

    /// Moves the log's start to `offset` and deletes the segments that lie below it as a whole; the active one is rolled first if
    /// it does. Whoever keeps the log's start on the disk must have written it down before.
    ///
    /// # Errors
    /// [`FlushError`]. If a file could not be removed, the log goes on without it, and a later pass or start removes it.
    pub fn delete_segments_before(&self, offset: Offset) -> Result<Deleted, FlushError> {
        let failed = |error| FlushError::Failed {
            what: "deletion of old segments".into(),
            error: Arc::new(error),
        };
        self.delete_records_before(offset)
            .map_err(|error| failed(io::Error::other(error)))?;
        let _compacting = self.compacting.lock();
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        self.check_fenced()?;
        let extent = writer.active.extent();
        if extent.size > 0 && extent.next_offset <= offset {
            self.roll_at(&mut writer, extent.next_offset)
                .map_err(failed)?;
        }
        let mut list = Vec::clone(&self.segments());
        let next_bases: Vec<Offset> = list
            .iter()
            .skip(1)
            .map(|segment| segment.base_offset)
            .collect();
        let due = next_bases
            .iter()
            .take_while(|next_base| **next_base <= offset)
            .count();
        if due == 0 {
            return Ok(Deleted::default());
        }
        // The name of a later segment tells the next offset once the others are gone: it must not get lost.
        self.place
            .disk
            .sync_dir(&self.place.dir)
            .map_err(|error| self.flush_failed("directory sync".into(), error))?;
        let gone: Vec<_> = list.drain(..due).collect();
        let kept = |segment: &Arc<Segment>| list.iter().any(|kept| Arc::ptr_eq(kept, segment));
        writer.dirty.retain(kept);
        writer.sealed.retain(kept);
        *self.segments.write() = Arc::new(list);
        writer.dirty_dir = true;
        for segment in &gone {
            segment.delete().map_err(failed)?;
        }
        // The newest one holds the state of producers whose records are all gone (KIP-360).
        let newest = writer.snapshots.last().copied();
        self.remove_snapshots(&mut writer, |at| at < offset && Some(at) != newest);
        Ok(Deleted {
            segments: gone.len(),
            bytes: gone.iter().map(|segment| segment.extent().size).sum(),
        })
    }
}
