//! A compacted topic, judged by what it is for: who reads it from the beginning gets the table that its committed records make.
//!
//! One writer at a time, fenced by its transactional id, so the order of sending is the order of the log. The history checker knows logs of
//! which nothing goes; here records may go, and each read is held against what it must find: what an earlier one has found, for a commit is
//! answered before its markers are written; at the end, all that was committed. Pure; `workload/table.rs` keeps the book. Source: the
//! guarantees of Kafka's log compaction, KIP-534.

use std::collections::{BTreeMap, BTreeSet};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not asked to commit, or told that it is aborted: nobody may see it.
    Aborted,
    /// Asked to commit, and no answer.
    Unknown,
    Committed,
}

#[derive(Clone, Debug)]
struct Entry {
    key: u8,
    number: u64,
    txn: u64,
    deletes: bool,
    /// As the broker told it.
    offset: Option<i64>,
}

/// One record of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) offset: i64,
    pub(crate) key: u8,
    pub(crate) number: u64,
    pub(crate) deletes: bool,
}

/// The newest number of each key, as far as a read must know it.
pub(crate) type Newest = BTreeMap<u8, u64>;

/// What was written, and what was read. Numbers grow with each entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    fates: BTreeMap<u64, Fate>,
    reads: Vec<Read>,
    /// No deletion grows old enough to go.
    keeps_deletions: bool,
}

#[derive(Clone, Debug)]
struct Read {
    /// Entries that there were when it ended.
    entries: usize,
    newest: Newest,
    rows: Vec<Row>,
}

impl Ledger {
    /// The topic's `delete.retention.ms` is longer than clocks run here.
    pub(crate) fn keeps_deletions(&mut self) {
        self.keeps_deletions = true;
    }

    /// A record is on its way.
    pub(crate) fn sends(&mut self, txn: u64, key: u8, number: u64, deletes: bool) {
        self.fates.entry(txn).or_insert(Fate::Aborted);
        self.entries.push(Entry {
            key,
            number,
            txn,
            deletes,
            offset: None,
        });
    }

    /// Where it was written.
    pub(crate) fn wrote(&mut self, number: u64, offset: i64) {
        let mut entries = self.entries.iter_mut().rev();
        let entry = entries.find(|entry| entry.number == number);
        entry.expect("it was sent").offset = Some(offset);
    }

    /// The transaction may be committed from now on.
    pub(crate) fn commits(&mut self, txn: u64) {
        self.fates.insert(txn, Fate::Unknown);
    }

    /// It is.
    pub(crate) fn committed(&mut self, txn: u64) {
        self.fates.insert(txn, Fate::Committed);
    }

    /// It certainly is not.
    pub(crate) fn aborted(&mut self, txn: u64) {
        self.fates.insert(txn, Fate::Aborted);
    }

    fn fate(&self, entry: &Entry) -> Fate {
        self.fates[&entry.txn]
    }

    /// What a read that begins now must find, or something newer: what an earlier one has found, and what was committed before a
    /// transaction of which a record is acknowledged, for then the markers before it are written and flushed. Where deletions go soon,
    /// nothing: a reader that takes longer than `delete.retention.ms` may miss one, and see what it deleted.
    pub(crate) fn shown(&self) -> Newest {
        let mut shown = Newest::new();
        if !self.keeps_deletions {
            return shown;
        }
        let rows = self.reads.iter().flat_map(|read| &read.rows);
        let rows = rows.map(|row| (row.key, row.number));
        let acked = self.entries.iter().filter(|entry| entry.offset.is_some());
        let last_acked = acked.map(|entry| entry.txn).max().unwrap_or(0);
        let settled = self
            .entries
            .iter()
            .filter(|entry| entry.txn < last_acked && self.fate(entry) == Fate::Committed);
        for (key, number) in rows.chain(settled.map(|entry| (entry.key, entry.number))) {
            let newest = shown.entry(key).or_default();
            *newest = number.max(*newest);
        }
        shown
    }

    /// What it must find when every transaction has ended.
    pub(crate) fn newest(&self) -> Newest {
        let certain = |entry: &&Entry| self.fate(entry) == Fate::Committed;
        let entries = self.entries.iter().filter(certain);
        entries.map(|entry| (entry.key, entry.number)).collect()
    }

    /// A read of committed records from the beginning to the end.
    pub(crate) fn read(&mut self, newest: Newest, rows: Vec<Row>) {
        let entries = self.entries.len();
        self.reads.push(Read {
            entries,
            newest,
            rows,
        });
    }

    /// Reads that were judged.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.len() as u64
    }

    /// Records that are committed and that the last read did not find: what the cleaner took away.
    pub(crate) fn compacted(&self) -> u64 {
        let Some(last) = self.reads.last() else {
            return 0;
        };
        let found: BTreeSet<u64> = last.rows.iter().map(|row| row.number).collect();
        let gone =
            |entry: &&Entry| self.fate(entry) == Fate::Committed && !found.contains(&entry.number);
        self.entries[..last.entries].iter().filter(gone).count() as u64
    }

    /// The first thing that is wrong with a read.
    pub(crate) fn check(&self) -> Option<String> {
        self.reads
            .iter()
            .find_map(|read| self.wrong_row(&read.rows).or_else(|| self.lost(read)))
            .map(|wrong| format!("compacted topic: {wrong}"))
    }

    fn wrong_row(&self, rows: &[Row]) -> Option<String> {
        for (at, row) in rows.iter().enumerate() {
            let entry = self.entries.iter().find(|entry| entry.number == row.number);
            let Some(entry) = entry.filter(|e| (e.key, e.deletes) == (row.key, row.deletes)) else {
                return Some(format!("{row:?} was never written"));
            };
            if self.fate(entry) == Fate::Aborted {
                return Some(format!("{row:?} is of an aborted transaction"));
            }
            if entry.offset.is_some_and(|offset| offset != row.offset) {
                return Some(format!("{row:?} was written as {entry:?}"));
            }
            let before = at.checked_sub(1).map(|before| rows[before]);
            if before.is_some_and(|b| b.number >= row.number || b.offset >= row.offset) {
                return Some(format!("{before:?} comes before {row:?}"));
            }
        }
        None
    }

    /// A key whose newest record is gone, or older than it may be.
    fn lost(&self, read: &Read) -> Option<String> {
        let found: Newest = read.rows.iter().map(|row| (row.key, row.number)).collect();
        read.newest.iter().find_map(|(key, number)| {
            let last = found.get(key).copied();
            let mut written = self.entries[..read.entries].iter();
            let deleted = !self.keeps_deletions
                && written.any(|entry| {
                    let newer = entry.key == *key && entry.number >= *number;
                    newer && entry.deletes && self.fate(entry) != Fate::Aborted
                });
            match last {
                Some(last) if last >= *number => None,
                None if deleted => None,
                _ => Some(format!(
                    "key {key} was {number} before a read that found {last:?}"
                )),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys 1 and 2: 10 and 11 committed, 12 aborted, 13 deletes key 1 in an unknown transaction.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.sends(1, 1, 10, false);
        ledger.sends(1, 2, 11, false);
        ledger.wrote(10, 0);
        ledger.wrote(11, 1);
        ledger.commits(1);
        ledger.committed(1);
        ledger.sends(2, 2, 12, false);
        ledger.aborted(2);
        ledger.sends(3, 1, 13, true);
        ledger.commits(3);
        ledger
    }

    fn row(offset: i64, key: u8, number: u64) -> Row {
        let deletes = number == 13;
        Row {
            offset,
            key,
            number,
            deletes,
        }
    }

    fn judge(rows: &[Row]) -> Option<String> {
        let mut ledger = ledger();
        ledger.read(ledger.newest(), rows.to_vec());
        ledger.check()
    }

    #[test]
    fn what_a_compacted_topic_may_show() {
        for rows in [
            &[row(0, 1, 10), row(1, 2, 11)][..],
            &[row(0, 1, 10), row(1, 2, 11), row(5, 1, 13)],
            &[row(1, 2, 11), row(5, 1, 13)],
            // The deletion, if it was committed, may be gone with what it deleted.
            &[row(1, 2, 11)],
        ] {
            assert_eq!(judge(rows), None, "{rows:?}");
        }
    }

    #[test]
    fn what_it_may_not_show() {
        for (rows, why) in [
            (&[row(0, 1, 10)][..], "key 2 was 11"),
            (
                &[row(0, 1, 10), row(1, 2, 11), row(3, 2, 12)],
                "aborted transaction",
            ),
            (&[row(0, 1, 10), row(2, 2, 11)], "was written as"),
            (&[row(1, 2, 11), row(0, 1, 10)], "comes before"),
            (
                &[row(0, 1, 10), row(1, 2, 11), row(1, 2, 11)],
                "comes before",
            ),
            (&[row(0, 1, 10), row(1, 2, 14)], "was never written"),
        ] {
            let found = judge(rows).unwrap_or_default();
            assert!(found.contains(why), "{rows:?}: {found}");
        }
    }

    #[test]
    fn a_deletion_that_is_young_or_came_later_explains_nothing() {
        let mut ledger = ledger();
        ledger.read(ledger.newest(), vec![row(0, 1, 10)]);
        ledger.sends(4, 2, 14, true);
        ledger.commits(4);
        let found = ledger.check().unwrap();
        assert!(found.contains("key 2 was 11"), "{found}");

        let mut ledger = self::ledger();
        ledger.keeps_deletions();
        ledger.read(ledger.newest(), vec![row(1, 2, 11)]);
        let found = ledger.check().unwrap();
        assert!(found.contains("key 1 was 10"), "{found}");
    }

    #[test]
    fn what_one_reader_has_found_the_next_finds_too() {
        let mut ledger = ledger();
        ledger.keeps_deletions();
        assert_eq!(ledger.shown(), Newest::new());
        // The commit is known, its markers may still be on their way.
        ledger.read(ledger.shown(), vec![]);
        ledger.read(ledger.shown(), vec![row(0, 1, 10), row(1, 2, 11)]);
        assert_eq!(ledger.check(), None);
        ledger.read(ledger.shown(), vec![row(0, 1, 10)]);
        let found = ledger.check().unwrap();
        assert!(found.contains("key 2 was 11"), "{found}");
    }

    #[test]
    fn what_was_deleted_does_not_come_back() {
        let mut ledger = ledger();
        ledger.committed(3);
        let newest = ledger.newest();
        ledger.read(newest, vec![row(0, 1, 10), row(1, 2, 11)]);
        let found = ledger.check().unwrap();
        assert!(found.contains("key 1 was 13"), "{found}");
    }
}
