//! From the bytes of a fetch to the batches an application may see. Pure.
//!
//! Owns [`FetchedRecords`] and the filter: control batches go, and under `read_committed` the batches of aborted transactions. `fetcher.rs`
//! calls it with each answer. Nothing is decompressed or copied here; batches stay slices of the answer.
//!
//! Aborted transactions, as the broker lists them, are (producer id, first offset). From that offset on batches of that producer are aborted,
//! up to its abort marker. Source: Kafka `CompletedFetch`.

use std::collections::BTreeSet;

use bytes::Bytes;
use flumen_protocol::batch::{BatchError, ControlRecord, RecordBatch, batches};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::TopicPartition;
use flumen_protocol::record::Record;

use crate::config::Isolation;
use crate::error::{ClientError, Failure};

/// Consecutive batches of one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedRecords {
    /// Whose.
    pub partition: TopicPartition,
    /// Where this piece begins. The first batch may begin before it: its records below this offset were delivered earlier.
    pub from_offset: i64,
    /// Whole batches, in order; aborted ones and control batches are left out. Empty if nothing else was there.
    pub batches: Vec<RecordBatch>,
    /// Where the next piece begins: what to commit when all of this is done.
    pub next_offset: i64,
    /// Leader epoch of the last batch, to commit beside the offset; -1 where unknown.
    pub leader_epoch: i32,
    /// End of what is replicated, when this was fetched.
    pub high_watermark: i64,
    /// End of what is decided, when this was fetched.
    pub last_stable_offset: i64,
}

impl FetchedRecords {
    /// The records, one after the other, from [`from_offset`](Self::from_offset) on.
    ///
    /// `limit` bounds the size of one decompressed batch.
    ///
    /// # Errors
    /// Each item may be [`ClientError::Corrupt`]; the rest of that batch is then left out.
    pub fn records(
        &self,
        limit: DecompressionLimit,
    ) -> impl Iterator<Item = Result<Record, ClientError>> + '_ {
        let of_batch = move |batch: &RecordBatch| match batch.records(limit) {
            Ok(records) => Either::Left(records),
            Err(error) => Either::Right(std::iter::once(Err(error))),
        };
        self.batches
            .iter()
            .flat_map(of_batch)
            .filter(|item| {
                item.as_ref()
                    .map_or(true, |record| record.offset >= self.from_offset)
            })
            .map(|item| item.map_err(|error| corrupt(&self.partition, &error)))
    }

    /// Number of records in the batches, including those below [`from_offset`](Self::from_offset).
    #[must_use]
    pub fn record_count(&self) -> usize {
        let counts = self.batches.iter().map(|batch| batch.header().record_count);
        counts
            .map(|count| usize::try_from(count).unwrap_or(0))
            .sum()
    }

    /// Size of the batches in bytes, as fetched.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.bytes().len()).sum()
    }
}

enum Either<L, R> {
    Left(L),
    Right(R),
}

impl<T, L: Iterator<Item = T>, R: Iterator<Item = T>> Iterator for Either<L, R> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Either::Left(items) => items.next(),
            Either::Right(items) => items.next(),
        }
    }
}

pub(crate) fn corrupt(partition: &TopicPartition, error: &BatchError) -> ClientError {
    let subject = format!("partition {}-{}", partition.topic, partition.partition);
    ClientError::Corrupt(Failure::new(subject, error.to_string()).in_api("Fetch"))
}

/// What passed the filter.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Filtered {
    pub(crate) batches: Vec<RecordBatch>,
    /// `from` where there was no whole batch.
    pub(crate) next_offset: i64,
    pub(crate) leader_epoch: i32,
}

/// How to filter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    pub(crate) isolation: Isolation,
    pub(crate) check_crcs: bool,
}

impl Filter {
    /// Filters the answer to a fetch from `from`. `aborted` is (producer id, first offset), in any order.
    ///
    /// # Errors
    /// [`BatchError`] of the first damaged batch; what precedes it is returned by a fetch that ends before it, so nothing is lost.
    pub(crate) fn apply(
        self,
        records: Bytes,
        mut aborted: Vec<(i64, i64)>,
        from: i64,
    ) -> Result<Filtered, BatchError> {
        aborted.sort_unstable_by_key(|(_, first_offset)| *first_offset);
        let mut pending = aborted.into_iter().peekable();
        let mut open: BTreeSet<i64> = BTreeSet::new();
        let mut filtered = Filtered {
            next_offset: from,
            leader_epoch: -1,
            ..Filtered::default()
        };
        for batch in batches(records) {
            let batch = match batch {
                Ok(batch) => batch,
                // What precedes the damage is good; the next fetch begins with the damage.
                Err(error) if filtered.next_offset == from => return Err(error),
                Err(_) => return Ok(filtered),
            };
            let header = *batch.header();
            if self.check_crcs
                && let Err(error) = batch.verify_crc()
            {
                if filtered.next_offset == from {
                    return Err(error);
                }
                return Ok(filtered);
            }
            while let Some((producer, _)) =
                pending.next_if(|(_, first_offset)| *first_offset <= header.last_offset())
            {
                open.insert(producer);
            }
            filtered.leader_epoch = header.partition_leader_epoch;
            filtered.next_offset = filtered.next_offset.max(header.next_offset());
            if header.is_control() {
                if matches!(batch.control_record(), Ok(ControlRecord::Abort { .. })) {
                    open.remove(&header.producer_id);
                }
                continue;
            }
            let hidden = self.isolation == Isolation::ReadCommitted
                && header.is_transactional()
                && open.contains(&header.producer_id);
            if !hidden && header.last_offset() >= from && header.record_count > 0 {
                filtered.batches.push(batch);
            }
        }
        Ok(filtered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_protocol::batch::assign_offsets;
    use flumen_protocol::builder::{BatchBuilder, BatchOptions, EndTxnMarker, end_txn_marker};
    use proptest::prelude::*;

    const COMMITTED: Filter = Filter {
        isolation: Isolation::ReadCommitted,
        check_crcs: true,
    };

    fn batch(base_offset: i64, count: i32, producer_id: i64, transactional: bool) -> Vec<u8> {
        let options = BatchOptions {
            base_offset,
            leader_epoch: 3,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            transactional,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        for i in 0..count {
            builder.push(i64::from(i), None, Some(&i.to_be_bytes()), &[]);
        }
        builder.build().to_vec()
    }

    fn marker(offset: i64, producer_id: i64, commit: bool) -> Vec<u8> {
        let marker = EndTxnMarker {
            producer_id,
            producer_epoch: 0,
            commit,
            coordinator_epoch: 0,
            timestamp: 0,
        };
        let mut bytes = end_txn_marker(&marker).to_vec();
        assign_offsets(&mut bytes, offset, 3);
        bytes
    }

    fn offsets(filtered: &Filtered) -> Vec<i64> {
        filtered
            .batches
            .iter()
            .map(|batch| batch.header().base_offset)
            .collect()
    }

    #[test]
    fn aborted_batches_go_until_their_marker_and_markers_always() {
        let log = [
            batch(0, 2, 7, true),
            batch(2, 1, 8, true),
            batch(3, 1, -1, false),
            marker(4, 7, false),
            batch(5, 2, 7, true),
            marker(7, 7, true),
            marker(8, 8, true),
        ]
        .concat();
        let filtered = COMMITTED
            .apply(log.clone().into(), vec![(7, 0)], 0)
            .unwrap();
        assert_eq!(
            (offsets(&filtered), filtered.next_offset),
            (vec![2, 3, 5], 9)
        );
        let all = Filter {
            isolation: Isolation::ReadUncommitted,
            check_crcs: true,
        };
        assert_eq!(
            offsets(&all.apply(log.into(), vec![], 0).unwrap()),
            [0, 2, 3, 5]
        );
    }

    #[test]
    fn the_list_of_aborted_transactions_may_come_in_any_order() {
        let log = [
            batch(0, 1, 7, true),
            batch(1, 1, 8, true),
            marker(2, 7, false),
            marker(3, 8, false),
            batch(4, 1, 7, true),
            marker(5, 7, false),
        ]
        .concat();
        let aborted = vec![(7, 4), (8, 1), (7, 0)];
        let filtered = COMMITTED.apply(log.into(), aborted, 0).unwrap();
        assert_eq!((offsets(&filtered), filtered.next_offset), (vec![], 6));
    }

    #[test]
    fn a_cut_tail_is_left_for_the_next_fetch_and_the_first_batch_may_begin_earlier() {
        let mut log = [batch(10, 5, -1, false), batch(15, 5, -1, false)].concat();
        log.truncate(log.len() - 3);
        let filtered = COMMITTED.apply(log.into(), vec![], 12).unwrap();
        assert_eq!((offsets(&filtered), filtered.next_offset), (vec![10], 15));
        let piece = FetchedRecords {
            partition: TopicPartition::new("t", 0),
            from_offset: 12,
            batches: filtered.batches,
            next_offset: filtered.next_offset,
            leader_epoch: filtered.leader_epoch,
            high_watermark: 20,
            last_stable_offset: 20,
        };
        let seen: Vec<i64> = piece
            .records(DecompressionLimit::DEFAULT)
            .map(|record| record.unwrap().offset)
            .collect();
        assert_eq!((seen, piece.leader_epoch), (vec![12, 13, 14], 3));
    }

    #[test]
    fn a_damaged_batch_is_an_error_only_once_it_is_first() {
        let good = batch(0, 2, -1, false);
        let mut bad = batch(2, 2, -1, false);
        *bad.last_mut().unwrap() ^= 1;
        let both = [good, bad.clone()].concat();
        let filtered = COMMITTED.apply(both.into(), vec![], 0).unwrap();
        assert_eq!((offsets(&filtered), filtered.next_offset), (vec![0], 2));
        assert!(matches!(
            COMMITTED.apply(bad.into(), vec![], 2),
            Err(BatchError::CrcMismatch { .. })
        ));
    }

    proptest! {
        /// Producers 1-3 write in turns and end their transactions as they like: exactly what was committed is seen.
        #[test]
        fn exactly_the_committed_batches_pass(steps in proptest::collection::vec((1..4_i64, 0..4_u8), 1..60)) {
            let mut log = Vec::new();
            let mut offset = 0;
            let mut written: Vec<(i64, i64, Option<bool>)> = Vec::new(); // producer, offset, committed
            let mut aborted = Vec::new();
            for (producer, step) in steps.into_iter().chain([(1, 0), (2, 0), (3, 0)]) {
                let open: Vec<i64> = written.iter().filter(|(of, _, end)| *of == producer && end.is_none()).map(|(_, at, _)| *at).collect();
                if step >= 2 || open.is_empty() {
                    log.extend(batch(offset, 1, producer, true));
                    written.push((producer, offset, None));
                } else {
                    let commit = step == 1;
                    log.extend(marker(offset, producer, commit));
                    if !commit {
                        aborted.push((producer, open[0]));
                    }
                    for entry in written.iter_mut().filter(|(of, _, end)| *of == producer && end.is_none()) {
                        entry.2 = Some(commit);
                    }
                }
                offset += 1;
            }
            // Up to the last stable offset everything is decided.
            let stable = written.iter().filter(|(_, _, end)| end.is_none()).map(|(_, at, _)| *at).min().unwrap_or(offset);
            let decided: Vec<u8> = batches(log.into()).map(Result::unwrap).filter(|batch| batch.header().base_offset < stable).flat_map(|batch| batch.bytes().to_vec()).collect();
            let expected: Vec<i64> = written.iter().filter(|(_, at, end)| *at < stable && *end == Some(true)).map(|(_, at, _)| *at).collect();
            let filtered = COMMITTED.apply(decided.into(), aborted, 0).unwrap();
            prop_assert_eq!(offsets(&filtered), expected);
        }
    }
}
