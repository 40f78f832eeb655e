//! The log against a plain list of batches, under anything that may be done to it in any order.

use std::sync::Arc;

use flumen_log::disk::OsDisk;
use flumen_log::{AppendAs, Log, LogConfig, OpenOptions};
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::id::Offset;
use proptest::prelude::*;

use crate::helpers::*;

#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    /// A replica's append that leaves a gap of this many offsets.
    AppendAfterGap(i64, usize),
    Read(prop::sample::Index, prop::sample::Index, usize),
    Time(prop::sample::Index),
    Truncate(prop::sample::Index),
    DeleteBefore(prop::sample::Index),
    Retain(u64),
    Roll,
    Flush,
    /// Closed in order, or dropped and recovered.
    Reopen(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        6 => (1usize..6).prop_map(Act::Append),
        1 => (1i64..50, 1usize..3).prop_map(|(gap, count)| Act::AppendAfterGap(gap, count)),
        6 => (at(), at(), 1usize..2_000).prop_map(|(from, upto, bytes)| Act::Read(from, upto, bytes)),
        2 => at().prop_map(Act::Time),
        1 => at().prop_map(Act::Truncate),
        1 => at().prop_map(Act::DeleteBefore),
        1 => (0u64..3_000).prop_map(Act::Retain),
        1 => Just(Act::Roll),
        1 => Just(Act::Flush),
        1 => any::<bool>().prop_map(Act::Reopen),
    ]
}

/// What the log should hold.
#[derive(Debug, Default)]
struct Model {
    batches: Vec<RecordBatch>,
    start: Offset,
    end: Offset,
    tag: u64,
}

struct Pair {
    home: tempfile::TempDir,
    config: LogConfig,
    log: Log,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = small_config();
        let log = open(&home, &config, OpenOptions::default());
        Self {
            home,
            config,
            log,
            model: Model::default(),
        }
    }

    fn append(&mut self, gap: i64, count: usize) {
        let Model { tag, end, .. } = &mut self.model;
        *tag += 1;
        let timestamp = 1_000 + (*tag as i64 * 7_919) % 997;
        let mut bytes = bytes::BytesMut::from(batch_of(*tag, count, timestamp, From::nobody()));
        let base = *end + gap;
        flumen_protocol::batch::assign_offsets(&mut bytes, base, 0);
        let expected = RecordBatch::parse(bytes.clone().freeze()).unwrap();
        let appended = match gap {
            0 => {
                flumen_protocol::batch::assign_offsets(&mut bytes, 0, -1);
                append_client(&self.log, bytes.freeze(), 5_000).unwrap()
            }
            _ => self
                .log
                .append(bytes.freeze(), &AppendAs::Replica, 5_000)
                .unwrap(),
        };
        assert_eq!(
            (appended.base_offset, appended.last_offset + 1),
            (base, base + count as i64)
        );
        *end = appended.last_offset + 1;
        self.model.batches.push(expected);
    }

    fn read(&self, from: Offset, upto: Offset, max_bytes: usize) {
        let slice = self.log.read(from, upto, max_bytes, true).unwrap();
        let wanted = self.model.batches.iter().position(|batch| {
            batch.header().last_offset() >= from && batch.header().last_offset() < upto
        });
        let first_fits = wanted.filter(|i| {
            self.model.batches[..*i]
                .iter()
                .all(|before| before.header().last_offset() < from)
        });
        let found: Vec<_> = match slice.records {
            Some(range) => flumen_protocol::batch::batches(range.read().unwrap())
                .map(Result::unwrap)
                .collect(),
            None => Vec::new(),
        };
        let Some(first) = first_fits else {
            return assert!(found.is_empty());
        };
        assert!(!found.is_empty(), "[{from}, {upto}) has a batch");
        for (found, expected) in found.iter().zip(&self.model.batches[first..]) {
            assert_eq!(found, expected);
        }
        let last = found.last().unwrap().header();
        assert!(last.last_offset() < upto);
        let size: usize = found.iter().map(|batch| batch.bytes().len()).sum();
        assert!(size <= max_bytes || found.len() == 1);
        // It ended for a reason: the bound, the size, or the end of a segment.
        if let Some(next) = self.model.batches.get(first + found.len()) {
            assert!(
                slice.next_offset > last.last_offset()
                    && slice.next_offset <= next.header().base_offset
            );
            let fits = next.header().last_offset() < upto && size + next.bytes().len() <= max_bytes;
            assert!(
                !fits
                    || self
                        .log
                        .read(slice.next_offset, upto, max_bytes, true)
                        .unwrap()
                        .records
                        .is_some()
            );
        }
    }

    fn time(&self, timestamp: i64) {
        let records = self.model.batches.iter().flat_map(|batch| {
            batch
                .records(flumen_protocol::compression::DecompressionLimit::DEFAULT)
                .unwrap()
                .map(Result::unwrap)
        });
        let expected = records
            .filter(|record| record.offset >= self.model.start)
            .find(|record| record.timestamp >= timestamp);
        let found = self
            .log
            .offset_for_timestamp(timestamp, self.model.end)
            .unwrap();
        assert_eq!(
            found.map(|found| (found.timestamp, found.offset)),
            expected.map(|record| (record.timestamp, record.offset))
        );
    }

    fn truncate(&mut self, to: Offset) {
        let to = to.max(self.model.start);
        let end = self.log.truncate_to(to).unwrap();
        self.model
            .batches
            .retain(|batch| batch.header().last_offset() < to);
        let last = self
            .model
            .batches
            .last()
            .map(|batch| batch.header().next_offset());
        assert!(end <= to && end >= last.unwrap_or(end));
        self.model.end = end;
        self.model.start = self.model.start.min(end);
    }

    fn delete_before(&mut self, to: Offset) {
        self.log.delete_segments_before(to).unwrap();
        self.start_moved();
    }

    fn retain(&mut self, bytes: u64) {
        let config = LogConfig {
            retention_bytes: Some(bytes),
            ..self.config.clone()
        };
        self.log.set_config(config);
        let (size, before) = (self.log.size(), self.log.log_start_offset());
        if let Some(start) = self.log.retention_start(5_000, self.model.end).unwrap() {
            let deleted = self.log.delete_segments_before(start).unwrap();
            assert!(deleted.segments > 0 && size - deleted.bytes == self.log.size());
            // A segment that a truncation left wholly below the log start goes whatever the size.
            assert!(start <= before || self.log.size() >= bytes.min(size));
        }
        self.log.set_config(self.config.clone());
        self.start_moved();
    }

    fn start_moved(&mut self) {
        let start = self.log.log_start_offset();
        assert!(start >= self.model.start);
        self.model.start = start;
        self.model
            .batches
            .retain(|batch| batch.header().last_offset() >= start);
    }

    fn reopen(&mut self, clean: bool) {
        let recovery_point = if clean {
            self.log.close().unwrap()
        } else {
            self.log.flushed_offset()
        };
        let options = OpenOptions {
            clean,
            recovery_point: Some(recovery_point.min(self.log.flushed_offset())),
            log_start_offset: self.model.start,
            topic_id: None,
            foreign: false,
        };
        self.log = open(&self.home, &self.config, options);
        assert_eq!(
            (self.log.log_start_offset(), self.log.log_end_offset()),
            (self.model.start, self.model.end)
        );
    }

    fn run(&mut self, act: &Act) {
        let span = |at: &prop::sample::Index, model: &Model| {
            model.start + at.index((model.end - model.start + 1) as usize) as i64
        };
        match act {
            Act::Append(count) => self.append(0, *count),
            Act::AppendAfterGap(gap, count) => self.append(*gap, *count),
            Act::Read(from, upto, max_bytes) => {
                let (from, upto) = (span(from, &self.model), span(upto, &self.model));
                self.read(from, upto.max(from), *max_bytes);
            }
            Act::Time(at) => self.time(990 + at.index(1_020) as i64),
            Act::Truncate(to) => self.truncate(span(to, &self.model)),
            Act::DeleteBefore(to) => self.delete_before(span(to, &self.model)),
            Act::Retain(bytes) => self.retain(*bytes),
            Act::Roll => self.log.roll().unwrap(),
            Act::Flush => assert_eq!(self.log.flush().unwrap(), self.model.end),
            Act::Reopen(clean) => self.reopen(*clean),
        }
        assert_eq!(
            (self.log.log_start_offset(), self.log.log_end_offset()),
            (self.model.start, self.model.end)
        );
    }
}

fn open(home: &tempfile::TempDir, config: &LogConfig, options: OpenOptions) -> Log {
    Log::open(
        Arc::new(OsDisk::new()),
        &home.path().join("model-0"),
        config.clone(),
        options,
    )
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_log_is_a_list_of_batches(acts in proptest::collection::vec(act(), 1..80)) {
        let mut pair = Pair::new();
        for act in &acts {
            pair.run(act);
        }
        let found = read_all(&pair.log);
        let expected: Vec<_> = pair.model.batches.iter().filter(|batch| batch.header().last_offset() >= pair.model.start).cloned().collect();
        prop_assert_eq!(found, expected);
    }
}
