//! What becomes of one batch.

use bytes::Bytes;
use flumen_planted::{Bug, planted};
use flumen_protocol::batch::{BatchError, BatchHeader, RecordBatch};
use flumen_protocol::compacted;
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::{Offset, ProducerEpoch, ProducerId};
use flumen_protocol::record::RecordRef;

use super::OffsetMap;
use super::transactions::{Ended, Transactions};
use crate::index::AbortedTxn;

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Keep,
    /// This is what is left of it.
    Replace(Bytes),
    Drop,
}

/// What must be left of a remembered producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// Of its last batch; `None` if only markers of its are known.
    pub(crate) last_data_offset: Option<Offset>,
    pub(crate) epoch: ProducerEpoch,
}

/// The rules and what they need to know. One goes over all batches of a log, in order.
pub(crate) struct Filter<'a> {
    pub(crate) map: &'a OffsetMap,
    pub(crate) transactions: &'a mut Transactions,
    pub(crate) last_record: &'a dyn Fn(ProducerId) -> Option<LastRecord>,
    /// When the cleaning began, milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// `delete.retention.ms`
    pub(crate) delete_retention_ms: i64,
    /// Most that a batch may be decompressed to.
    pub(crate) limit: DecompressionLimit,
}

impl Filter<'_> {
    /// What becomes of `batch`. `last_of_segment`: nothing behind it will be in the rewritten segment, so at least its header stays.
    ///
    /// The transaction that it ends is told to the index of aborted transactions of the rewritten segment.
    ///
    /// # Errors
    /// [`BatchError`]: the batch cannot be read.
    pub(crate) fn judge(
        &mut self,
        batch: &RecordBatch,
        last_of_segment: bool,
    ) -> Result<(Fate, Option<AbortedTxn>), BatchError> {
        let header = batch.header();
        let header_stays = last_of_segment || self.holds_last_of_producer(header);
        if header.is_control() {
            return self.judge_marker(batch, header_stays);
        }
        let aborted = self.transactions.on_batch(header);
        // Nobody asked about what lies above the map's end; an aborted transaction is decided all the same.
        if !aborted && header.base_offset >= self.map.end() {
            return Ok((Fate::Keep, None));
        }
        let fate = match aborted || header.record_count == 0 {
            true => nothing_left(header, header_stays),
            false => self.judge_records(batch, header_stays)?,
        };
        Ok((fate, None))
    }

    fn holds_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        (self.last_record)(header.producer_id).is_some_and(|last| match last.last_data_offset {
            Some(offset) => header.last_offset() == offset,
            // What fences older producers.
            None => header.is_control() && header.producer_epoch == last.epoch,
        })
    }

    fn judge_marker(
        &mut self,
        batch: &RecordBatch,
        header_stays: bool,
    ) -> Result<(Fate, Option<AbortedTxn>), BatchError> {
        let header = batch.header();
        let marker = match header.record_count {
            0 => None,
            _ => Some(batch.control_record()?),
        };
        match self.transactions.on_marker(header, marker) {
            Ended::Other => Ok((Fate::Keep, None)),
            Ended::WithBatches(aborted) => Ok((Fate::Keep, aborted)),
            Ended::Nothing if header.record_count == 0 => {
                Ok((nothing_left(header, header_stays), None))
            }
            Ended::Nothing => match header.delete_horizon() {
                Some(horizon) if horizon <= self.now_ms => {
                    Ok((nothing_left(header, header_stays), None))
                }
                Some(_) => Ok((Fate::Keep, None)),
                None => {
                    let payload = batch.payload(self.limit)?;
                    let dated = compacted::retain(header, &payload, &[true], self.horizon())?;
                    Ok((Fate::Replace(dated), None))
                }
            },
        }
    }

    fn horizon(&self) -> Option<i64> {
        Some(self.now_ms.saturating_add(self.delete_retention_ms))
    }

    fn judge_records(&self, batch: &RecordBatch, header_stays: bool) -> Result<Fate, BatchError> {
        let header = batch.header();
        let payload = batch.payload(self.limit)?;
        let (mut rest, mut kept, mut tombstones) = (&payload[..], 0, false);
        // The bytes that are there bound it, whatever the count says.
        let mut keep = Vec::new();
        for index in 0..usize::try_from(header.record_count).unwrap_or(0) {
            let record = RecordRef::parse(&mut rest)
                .map_err(|source| BatchError::InvalidRecord { index, source })?;
            let stays = self.record_stays(header, &record);
            keep.push(stays);
            kept += usize::from(stays);
            tombstones |= stays && record.value.is_none();
        }
        if !rest.is_empty() {
            return Err(BatchError::Corrupt(
                "bytes are left over behind the records",
            ));
        }
        let dated = header.delete_horizon();
        if kept == 0 {
            return Ok(nothing_left(header, header_stays));
        }
        let date = tombstones && dated.is_none();
        if kept == keep.len() && !date {
            return Ok(Fate::Keep);
        }
        let horizon = if date { self.horizon() } else { dated };
        Ok(Fate::Replace(compacted::retain(
            header, &payload, &keep, horizon,
        )?))
    }

    fn record_stays(&self, header: &BatchHeader, record: &RecordRef<'_>) -> bool {
        let offset = header.base_offset + i64::from(record.offset_delta);
        if offset >= self.map.end() {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        let newest = self.map.get(key).is_none_or(|newest| offset >= newest);
        let dead = || {
            header
                .delete_horizon()
                .is_some_and(|horizon| horizon <= self.now_ms)
                || planted(Bug::DeletionDroppedEarly)
        };
        newest && (record.value.is_some() || !dead())
    }
}

fn nothing_left(header: &BatchHeader, header_stays: bool) -> Fate {
    match (header_stays, header.record_count) {
        (false, _) => Fate::Drop,
        (true, 0) => Fate::Keep,
        (true, _) => Fate::Replace(compacted::empty(header)),
    }
}

#[cfg(test)]
mod tests;
