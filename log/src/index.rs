//! The three sparse files beside a segment: offset → position, timestamp → offset, and the aborted transactions.
//!
//! Owned by `segment.rs`. The first two are memory-mapped tables ([`table`]); the third is small and held in memory. All three
//! are caches: they can be rebuilt from the segment (`recovery.rs`), and an entry that could not be written for lack of
//! space is left out, which costs a longer scan and nothing else. Bytes are Kafka's.
//!
//! | file | entry, big endian | |
//! |---|---|---|
//! | `.index` | `i32` offset - base, `i32` position | of the *last* record of a batch, and where the batch begins |
//! | `.timeindex` | `i64` timestamp, `i32` offset - base | largest timestamp up to here, and the last offset of its batch |
//! | `.txnindex` | `i16` version 0, `i64` producer id, first offset, last offset, last stable offset | one aborted transaction |
//!
//! Source: Kafka `OffsetIndex`, `TimeIndex`, `TransactionIndex`.

mod table;
mod txn;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use flumen_planted::{Bug, planted};
use flumen_protocol::id::Offset;

use crate::disk::Disk;
use table::Table;

pub use txn::AbortedTxn;
pub(crate) use txn::{TxnIndex, encode_aborted};

/// Where a batch lies: its last offset and the position of its first byte in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetPosition {
    pub(crate) offset: Offset,
    pub(crate) position: u64,
}

/// Offset → position, one entry per `index.interval.bytes` of log.
#[derive(Debug)]
pub(crate) struct OffsetIndex {
    base_offset: Offset,
    table: Table<8>,
}

impl OffsetIndex {
    /// The index at `path`, which is opened when it is first needed. `max_bytes` is its size while the segment is active.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        base_offset: Offset,
        max_bytes: usize,
        exists: bool,
    ) -> Self {
        // An entry is never made for the first batch, so a position of 0 is space that was not used.
        let used = |_, entry: &[u8; 8]| entry[4..] != [0; 4];
        let table = Table::new(disk, path, max_bytes, exists, used);
        Self { base_offset, table }
    }

    fn decode(&self, entry: [u8; 8]) -> OffsetPosition {
        let (offset, position) = (u32_at(&entry, 0), u32_at(&entry, 4));
        OffsetPosition {
            offset: self.base_offset.saturating_add(i64::from(offset)),
            position: u64::from(position),
        }
    }

    /// The last entry for which `wanted` holds; it must hold for a prefix of the entries.
    pub(crate) fn last_where(
        &self,
        wanted: impl Fn(OffsetPosition) -> bool,
    ) -> io::Result<Option<OffsetPosition>> {
        let found = self.table.last_where(|entry| wanted(self.decode(entry)))?;
        Ok(found.map(|entry| self.decode(entry)))
    }

    /// A position at or before the batch that holds `offset`.
    pub(crate) fn position_before(&self, offset: Offset) -> io::Result<u64> {
        let entry = self.last_where(|entry| entry.offset <= offset)?;
        Ok(entry.map_or(0, |entry| entry.position))
    }

    /// The newest entry.
    pub(crate) fn last(&self) -> io::Result<Option<OffsetPosition>> {
        self.last_where(|_| true)
    }

    /// Adds an entry for the batch at `position` whose last offset is `offset`.
    pub(crate) fn append(&self, offset: Offset, position: u64) -> io::Result<()> {
        let mut entry = [0; 8];
        entry[..4].copy_from_slice(&relative(offset, self.base_offset));
        entry[4..].copy_from_slice(&(position as u32).to_be_bytes());
        self.table.append(&entry)
    }

    /// Drops all entries from `position` on.
    pub(crate) fn truncate_to_position(&self, position: u64) -> io::Result<()> {
        self.table
            .truncate_where(|entry| self.decode(entry).position < position)
    }

    /// After an unclean stop: keeps what can be relied on, the entries below the recovery point. They were durable before it was;
    /// behind them may be anything.
    pub(crate) fn recover(&self, recovery_point: Offset, size: u64) -> io::Result<()> {
        let mut last = OffsetPosition {
            offset: self.base_offset - 1,
            position: 0,
        };
        self.table.recover(|entry| {
            let entry = self.decode(entry);
            let grows = entry.offset > last.offset && entry.position > last.position;
            last = entry;
            // Planted, wrong: whatever looks like an entry is believed, whether the log goes that far or not.
            let reached = entry.offset < recovery_point && entry.position < size;
            grows && (reached || planted(Bug::IndexPastEnd))
        })
    }

    pub(crate) fn table(&self) -> &Table<8> {
        &self.table
    }
}

/// A timestamp, in milliseconds since 1970, and an offset that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampOffset {
    pub(crate) timestamp: i64,
    pub(crate) offset: Offset,
}

/// Timestamp → offset; timestamps strictly increase.
#[derive(Debug)]
pub(crate) struct TimeIndex {
    base_offset: Offset,
    table: Table<12>,
}

impl TimeIndex {
    /// The index at `path`, which is opened when it is first needed.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        base_offset: Offset,
        max_bytes: usize,
        exists: bool,
    ) -> Self {
        // Timestamps strictly increase, so only the first entry may be all zero.
        let used = |i, entry: &[u8; 12]| i == 0 || *entry != [0; 12];
        let table = Table::new(disk, path, max_bytes, exists, used);
        Self { base_offset, table }
    }

    fn decode(&self, entry: [u8; 12]) -> TimestampOffset {
        let timestamp = i64::from_be_bytes(entry[..8].try_into().expect("eight bytes"));
        TimestampOffset {
            timestamp,
            offset: self
                .base_offset
                .saturating_add(i64::from(u32_at(&entry, 8))),
        }
    }

    /// The last entry below `timestamp`: a record with a timestamp of at least that lies behind its offset.
    pub(crate) fn last_below(&self, timestamp: i64) -> io::Result<Option<TimestampOffset>> {
        let found = self
            .table
            .last_where(|entry| self.decode(entry).timestamp < timestamp)?;
        Ok(found.map(|entry| self.decode(entry)))
    }

    /// The newest entry: the largest timestamp when it was made.
    pub(crate) fn last(&self) -> io::Result<Option<TimestampOffset>> {
        let found = self.table.last_where(|_| true)?;
        Ok(found.map(|entry| self.decode(entry)))
    }

    /// The two newest entries, newest first.
    pub(crate) fn newest(&self) -> io::Result<[Option<TimestampOffset>; 2]> {
        let newest = self.table.newest()?;
        Ok(newest.map(|entry| entry.map(|entry| self.decode(entry))))
    }

    /// Adds an entry unless its timestamp is not above that of the last one.
    pub(crate) fn append_if_newer(&self, max: TimestampOffset) -> io::Result<()> {
        if self
            .last()?
            .is_some_and(|last| last.timestamp >= max.timestamp)
            || max.timestamp < 0
        {
            return Ok(());
        }
        let mut entry = [0; 12];
        entry[..8].copy_from_slice(&max.timestamp.to_be_bytes());
        entry[8..].copy_from_slice(&relative(max.offset, self.base_offset));
        self.table.append(&entry)
    }

    /// Drops all entries for `offset` and later ones.
    pub(crate) fn truncate_to_offset(&self, offset: Offset) -> io::Result<()> {
        self.table
            .truncate_where(|entry| self.decode(entry).offset < offset)
    }

    /// As [`OffsetIndex::recover`].
    pub(crate) fn recover(&self, recovery_point: Offset) -> io::Result<()> {
        let mut last = TimestampOffset {
            timestamp: -1,
            offset: self.base_offset - 1,
        };
        self.table.recover(|entry| {
            let entry = self.decode(entry);
            let grows = entry.timestamp > last.timestamp && entry.offset > last.offset;
            last = entry;
            grows && entry.offset < recovery_point
        })
    }

    /// The oldest entry.
    pub(crate) fn first(&self) -> io::Result<Option<TimestampOffset>> {
        Ok(self.table.first()?.map(|entry| self.decode(entry)))
    }

    pub(crate) fn table(&self) -> &Table<12> {
        &self.table
    }
}

fn u32_at(entry: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(entry[at..at + 4].try_into().expect("four bytes"))
}

fn relative(offset: Offset, base_offset: Offset) -> [u8; 4] {
    let relative = i32::try_from(offset - base_offset)
        .expect("a segment is rolled before its offsets span more than i32::MAX");
    relative.to_be_bytes()
}
