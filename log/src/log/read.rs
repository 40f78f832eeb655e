//! Reading: by offset, by time, and the aborted transactions of a range. None of it waits for a writer.

use std::sync::Arc;

use flumen_protocol::batch::RecordBatch;
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::{LeaderEpoch, Offset};
use flumen_protocol::segment::FileRange;

use super::Log;
use crate::error::ReadError;
use crate::index::AbortedTxn;
use crate::segment::walk::WalkError;
use crate::segment::{Found, Segment};

/// What a read found.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Whole batches in a file, of one segment; `None` if there is nothing to read yet.
    pub records: Option<FileRange>,
    /// Offset of the first record in it, which may lie before the one asked for; the one asked for if there is nothing.
    pub base_offset: Offset,
    /// Where to read on.
    pub next_offset: Offset,
    /// The log as it was read: compaction may have rewritten it since.
    segments: Arc<Vec<Arc<Segment>>>,
}

impl Slice {
    /// The aborted transactions that overlap what was read from `from` on: as [`Log::aborted_transactions`], and as of the moment of
    /// the read, whatever was cleaned since.
    ///
    /// # Errors
    /// [`ReadError::Storage`].
    pub fn aborted_transactions(&self, from: Offset) -> Result<Vec<AbortedTxn>, ReadError> {
        aborted_in(&self.segments, from, self.next_offset)
    }
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// Of the record, in milliseconds since 1970.
    pub timestamp: i64,
    /// Of the record.
    pub offset: Offset,
    /// Of the leader that wrote it; -1 if unknown.
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// Reads whole batches from the one that contains `from`, below `upto`.
    ///
    /// Range `[from, upto)` in offsets; the first batch may start before `from` and the consumer skips. At most `max_bytes`, but
    /// one batch is given in any case if `min_one_batch`, so that a large record cannot stop a consumer. Ends at the end of a segment,
    /// even if there is room for more. `upto` is capped by the log's end.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`]: `from` outside `[log_start_offset, log_end_offset]`; reset by policy.
    /// Source: Kafka `UnifiedLog.read`; KIP-74.
    pub fn read(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Slice, ReadError> {
        let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
        if !(log_start_offset..=log_end_offset).contains(&from) {
            return Err(ReadError::OffsetOutOfRange {
                offset: from,
                log_start_offset,
                log_end_offset,
            });
        }
        let upto = upto.min(log_end_offset);
        let segments = self.segments();
        let slice = |found: Option<Found>| Slice {
            base_offset: found.as_ref().map_or(from, |found| found.base_offset),
            next_offset: found.as_ref().map_or(from, |found| found.next_offset),
            records: found.map(|found| found.range),
            segments: segments.clone(),
        };
        if from >= upto {
            return Ok(slice(None));
        }
        let upto = self.undamaged_up_to(from, upto)?;
        let holds = segments
            .partition_point(|segment| segment.base_offset <= from)
            .saturating_sub(1);
        for segment in &segments[holds..] {
            if segment.base_offset >= upto {
                break;
            }
            let found = segment.read(from, upto, max_bytes as u64, min_one_batch);
            match found.map_err(|error| read_error(segment, error))? {
                Some(found) => return Ok(slice(Some(found))),
                // Compacted away up to the end of the segment: what comes next is in the following one.
                None if segment.extent().next_offset <= from || segment.extent().size == 0 => {}
                None => break,
            }
        }
        Ok(slice(None))
    }

    /// The aborted transactions that overlap `[from, upto)`, by first offset within a producer, as a `read_committed` fetch
    /// response lists them.
    ///
    /// # Errors
    /// [`ReadError::Storage`].
    /// Source: Kafka `TransactionIndex.collectAbortedTxns`.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        upto: Offset,
    ) -> Result<Vec<AbortedTxn>, ReadError> {
        aborted_in(&self.segments(), from, upto)
    }

    /// The first record with a timestamp of at least `timestamp` (milliseconds since 1970), below `upto`.
    ///
    /// # Errors
    /// [`ReadError::Storage`], [`ReadError::Corrupt`].
    /// Source: Kafka `UnifiedLog.fetchOffsetByTimestamp`; ListOffsets.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        upto: Offset,
    ) -> Result<Option<TimestampAndOffset>, ReadError> {
        let log_start_offset = self.log_start_offset();
        for segment in self.segments().iter() {
            let wrong = |error| read_error(segment, error);
            let newest = segment.max_timestamp().map_err(wrong)?;
            if newest.is_none_or(|newest| newest.timestamp < timestamp)
                || segment.extent().next_offset <= log_start_offset
            {
                continue;
            }
            let wanted = |at: i64, offset: Offset| at >= timestamp && offset >= log_start_offset;
            let before = segment
                .times
                .last_below(timestamp)?
                .map_or(segment.base_offset, |entry| entry.offset);
            let start = segment
                .offsets
                .position_before(before.max(log_start_offset))?;
            if let Some(found) = find_record(segment, start, timestamp, wanted).map_err(wrong)? {
                return Ok(Some(found).filter(|found| found.offset < upto));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp, below `upto`.
    ///
    /// # Errors
    /// [`ReadError::Storage`], [`ReadError::Corrupt`].
    /// Source: KIP-734.
    pub fn max_timestamp(&self, upto: Offset) -> Result<Option<TimestampAndOffset>, ReadError> {
        let mut newest: Option<i64> = None;
        for segment in self.segments().iter() {
            let max = segment
                .max_timestamp()
                .map_err(|error| read_error(segment, error))?;
            newest = newest.max(max.map(|max| max.timestamp));
        }
        let Some(newest) = newest else {
            return Ok(None);
        };
        let found = self.offset_for_timestamp(newest, self.log_end_offset())?;
        match found {
            Some(found) => Ok(Some(found).filter(|found| found.offset < upto)),
            // Compaction left nothing but the header of the batch that has it.
            None => self
                .newest_with_records()?
                .map_or(Ok(None), |newest| self.offset_for_timestamp(newest, upto)),
        }
    }

    /// The largest timestamp of all batches that hold records.
    fn newest_with_records(&self) -> Result<Option<i64>, ReadError> {
        let mut newest = None;
        for segment in self.segments().iter() {
            let wrong = |error| read_error(segment, error);
            let mut walker = segment.walk_from(0)?;
            while let Some(found) = walker
                .find(|header| header.record_count > 0)
                .map_err(wrong)?
            {
                newest = newest.max(Some(found.header.max_timestamp));
            }
        }
        Ok(newest)
    }
}

fn aborted_in(
    segments: &[Arc<Segment>],
    from: Offset,
    upto: Offset,
) -> Result<Vec<AbortedTxn>, ReadError> {
    let holds = segments
        .partition_point(|segment| segment.base_offset <= from)
        .saturating_sub(1);
    let mut found = Vec::new();
    for segment in &segments[holds..] {
        let go_on = segment.txns.visit(|txn| {
            if txn.last_offset >= from && txn.first_offset < upto {
                found.push(*txn);
            }
            // Once everything below `upto` was decided, later markers belong to later transactions.
            txn.last_stable_offset < upto
        })?;
        if !go_on {
            break;
        }
    }
    // Several producers interleave in marker order; clients want each producer's in order of its first offset.
    found.sort_by_key(|txn| (txn.first_offset, txn.producer_id));
    Ok(found)
}

/// The first record from byte `start` on that is `wanted`; only batches that may have one are opened.
fn find_record(
    segment: &Segment,
    start: u64,
    timestamp: i64,
    wanted: impl Fn(i64, Offset) -> bool,
) -> Result<Option<TimestampAndOffset>, WalkError> {
    let mut walker = segment.walk_from(start)?;
    while let Some(found) = walker.find(|header| header.max_timestamp >= timestamp)? {
        let corrupt = |reason: String| WalkError::Corrupt {
            position: found.position,
            reason,
        };
        let bytes = bytes::Bytes::copy_from_slice(walker.contents(&found)?);
        let batch = RecordBatch::parse(bytes).map_err(|error| corrupt(error.to_string()))?;
        let records = batch
            .records(DecompressionLimit::DEFAULT)
            .map_err(|error| corrupt(error.to_string()))?;
        for record in records {
            let record = record.map_err(|error| corrupt(error.to_string()))?;
            if wanted(record.timestamp, record.offset) {
                let leader_epoch = found.header.partition_leader_epoch;
                return Ok(Some(TimestampAndOffset {
                    timestamp: record.timestamp,
                    offset: record.offset,
                    leader_epoch,
                }));
            }
        }
    }
    Ok(None)
}

pub(super) fn read_error(segment: &Segment, error: WalkError) -> ReadError {
    match error.damage() {
        Ok((position, reason)) => ReadError::Corrupt {
            file: segment.path(),
            position,
            reason,
        },
        Err(error) => error.into(),
    }
}
