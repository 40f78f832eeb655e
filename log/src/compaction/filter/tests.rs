//! What becomes of batches over one cleaning after another.

use flumen_protocol::builder::{BatchBuilder, BatchOptions, EndTxnMarker, end_txn_marker};

use super::*;

const RETENTION_MS: i64 = 1_000;

/// A log of batches that is cleaned as a whole, again and again.
struct Bench {
    batches: Vec<RecordBatch>,
    aborted: Vec<AbortedTxn>,
    last_record: Option<LastRecord>,
}

type Record<'a> = (Option<&'a str>, Option<&'a str>);

fn options(offset: Offset, producer: Option<i64>, transactional: bool) -> BatchOptions {
    BatchOptions {
        base_offset: offset,
        producer_id: producer.unwrap_or(-1),
        producer_epoch: producer.map_or(-1, |_| 0),
        base_sequence: producer.map_or(-1, |_| offset as i32),
        transactional,
        ..BatchOptions::default()
    }
}

impl Bench {
    fn new() -> Self {
        Self {
            batches: Vec::new(),
            aborted: Vec::new(),
            last_record: None,
        }
    }

    fn next(&self) -> Offset {
        self.batches
            .last()
            .map_or(0, |batch| batch.header().next_offset())
    }

    fn write(&mut self, options: BatchOptions, records: &[Record<'_>]) {
        let mut builder = BatchBuilder::new(options);
        for (key, value) in records {
            builder.push(5, key.map(str::as_bytes), value.map(str::as_bytes), &[]);
        }
        self.batches
            .push(RecordBatch::parse(builder.build()).unwrap());
    }

    fn plain(&mut self, records: &[Record<'_>]) {
        self.write(options(self.next(), None, false), records);
    }

    fn in_txn(&mut self, producer: i64, records: &[Record<'_>]) {
        self.write(options(self.next(), Some(producer), true), records);
    }

    fn end(&mut self, producer: i64, commit: bool) {
        let marker = end_txn_marker(&EndTxnMarker {
            producer_id: producer,
            producer_epoch: 0,
            commit,
            coordinator_epoch: 4,
            timestamp: 5,
        });
        let mut bytes = marker.to_vec();
        flumen_protocol::batch::assign_offsets(&mut bytes, self.next(), 0);
        if !commit {
            let of = |batch: &&RecordBatch| batch.header().producer_id == producer;
            let first = self.batches.iter().find(of).expect("it wrote");
            self.aborted.push(AbortedTxn {
                producer_id: producer,
                first_offset: first.header().base_offset,
                last_offset: self.next(),
                last_stable_offset: self.next() + 1,
            });
        }
        self.batches.push(RecordBatch::parse(bytes.into()).unwrap());
    }

    /// One cleaning of everything but what is at the offset or above; the last batch is no exception.
    fn clean_below(&mut self, end: Offset, now_ms: i64) {
        let mut map = OffsetMap::new(1 << 16, 1_000);
        let mut transactions = Transactions::default();
        transactions.expect(self.aborted.iter().copied());
        for batch in self
            .batches
            .iter()
            .filter(|batch| batch.header().last_offset() < end)
        {
            if batch.header().is_control() {
                transactions.on_marker(batch.header(), batch.control_record().ok());
            } else if !transactions.on_batch(batch.header()) {
                for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
                    let record = record.unwrap();
                    record.key.map(|key| map.put(&key, record.offset));
                }
            }
        }
        map.set_end(end);
        let mut transactions = Transactions::default();
        transactions.expect(self.aborted.drain(..));
        let last_record = self.last_record;
        let mut filter = Filter {
            map: &map,
            transactions: &mut transactions,
            last_record: &|_| last_record,
            now_ms,
            delete_retention_ms: RETENTION_MS,
            limit: DecompressionLimit::DEFAULT,
        };
        let mut left = Vec::new();
        for batch in std::mem::take(&mut self.batches) {
            let (fate, aborted) = filter.judge(&batch, false).unwrap();
            self.aborted.extend(aborted);
            match fate {
                Fate::Keep => left.push(batch),
                Fate::Replace(bytes) => left.push(RecordBatch::parse(bytes).unwrap()),
                Fate::Drop => {}
            }
        }
        self.batches = left;
    }

    fn clean(&mut self, now_ms: i64) {
        self.clean_below(Offset::MAX, now_ms);
    }

    /// What is left: records as `offset key=value`, markers and empty batches in brackets.
    fn text(&self) -> String {
        let words = self.batches.iter().flat_map(|batch| {
            batch.verify_crc().unwrap();
            let header = batch.header();
            if header.is_control() || header.record_count == 0 {
                let horizon = header
                    .delete_horizon()
                    .map_or(String::new(), |at| format!(" until {at}"));
                let what = match (header.record_count, header.is_control()) {
                    (0, _) => "empty",
                    (_, true) => "marker",
                    _ => unreachable!(),
                };
                return vec![format!("[{what} {}{horizon}]", header.base_offset)];
            }
            let records = batch.records(DecompressionLimit::DEFAULT).unwrap();
            let text = |bytes: Option<Bytes>| {
                bytes.map_or("null".into(), |bytes| {
                    String::from_utf8(bytes.to_vec()).unwrap()
                })
            };
            records
                .map(|record| {
                    let record = record.unwrap();
                    assert_eq!(record.timestamp, 5);
                    format!(
                        "{} {}={}",
                        record.offset,
                        text(record.key),
                        text(record.value)
                    )
                })
                .collect()
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

const fn put<'a>(key: &'a str, value: &'a str) -> Record<'a> {
    (Some(key), Some(value))
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset() {
    let mut bench = Bench::new();
    bench.plain(&[
        put("a", "1"),
        put("b", "1"),
        (None, Some("keyless")),
        put("a", "2"),
    ]);
    bench.plain(&[put("a", "3")]);
    bench.plain(&[put("", "empty key"), put("c", "")]);
    bench.clean(0);
    assert_eq!(bench.text(), "1 b=1, 4 a=3, 5 =empty key, 6 c=");
    assert_eq!(bench.batches[0].header().last_offset(), 3);
    let before = bench.text();
    bench.clean(0);
    assert_eq!(bench.text(), before);
}

#[test]
fn what_lies_above_the_maps_end_is_not_judged() {
    let mut bench = Bench::new();
    bench.plain(&[put("a", "1")]);
    bench.plain(&[put("a", "2")]);
    bench.plain(&[put("a", "3"), (None, Some("keyless"))]);
    bench.clean_below(2, 0);
    assert_eq!(bench.text(), "1 a=2, 2 a=3, 3 null=keyless");
}

#[test]
fn a_tombstone_is_dated_by_the_first_cleaning_and_goes_when_its_time_has_come() {
    let mut bench = Bench::new();
    bench.plain(&[put("a", "1"), put("b", "1")]);
    bench.plain(&[(Some("a"), None), put("c", "1")]);
    bench.clean(100);
    assert_eq!(bench.text(), "1 b=1, 2 a=null, 3 c=1");
    assert_eq!(bench.batches[1].header().delete_horizon(), Some(1_100));
    bench.clean(1_099);
    assert_eq!(bench.text(), "1 b=1, 2 a=null, 3 c=1");
    bench.clean(1_100);
    assert_eq!(bench.text(), "1 b=1, 3 c=1");
    assert_eq!(bench.batches[1].header().delete_horizon(), Some(1_100));
    bench.plain(&[(Some("c"), None)]);
    bench.clean(9_000);
    bench.clean(9_999);
    assert_eq!(
        bench.text(),
        "1 b=1, 4 c=null",
        "a value that is superseded goes at once"
    );
}

#[test]
fn aborted_records_go_and_their_marker_when_nothing_of_the_transaction_is_left() {
    let mut bench = Bench::new();
    bench.in_txn(7, &[put("a", "1")]);
    bench.in_txn(8, &[put("a", "2"), put("b", "2")]);
    bench.end(7, true);
    bench.end(8, false);
    bench.plain(&[put("c", "1")]);
    bench.clean(0);
    assert_eq!(
        bench.text(),
        "0 a=1, [marker 3], [marker 4], 5 c=1",
        "the aborted a=2 supersedes nothing"
    );
    assert_eq!(bench.aborted.len(), 1, "batches were there");
    bench.clean(100);
    assert_eq!(
        bench.text(),
        "0 a=1, [marker 3], [marker 4 until 1100], 5 c=1"
    );
    assert_eq!(bench.aborted.len(), 0);
    bench.clean(1_099);
    assert_eq!(
        bench.text(),
        "0 a=1, [marker 3], [marker 4 until 1100], 5 c=1"
    );
    bench.clean(1_100);
    assert_eq!(bench.text(), "0 a=1, [marker 3], 5 c=1");
    bench.plain(&[put("a", "3")]);
    bench.clean(2_000);
    assert_eq!(bench.text(), "[marker 3], 5 c=1, 6 a=3");
    bench.clean(3_000);
    bench.clean(4_000);
    assert_eq!(bench.text(), "5 c=1, 6 a=3");
}

#[test]
fn the_last_sequence_of_a_producer_outlives_its_records() {
    let mut bench = Bench::new();
    bench.write(options(0, Some(7), false), &[put("a", "1"), put("b", "1")]);
    bench.write(options(2, Some(7), false), &[put("a", "2"), put("b", "2")]);
    bench.plain(&[put("a", "3"), put("b", "3")]);
    bench.last_record = Some(LastRecord {
        last_data_offset: Some(3),
        epoch: 0,
    });
    let last = *bench.batches[1].header();
    for _ in 0..2 {
        bench.clean(0);
        assert_eq!(bench.text(), "[empty 2], 4 a=3, 5 b=3");
        let left = bench.batches[0].header();
        assert_eq!(
            (left.last_sequence(), left.last_offset()),
            (last.last_sequence(), last.last_offset())
        );
    }
    bench.last_record = None;
    bench.clean(0);
    assert_eq!(bench.text(), "4 a=3, 5 b=3");
}

#[test]
fn the_last_epoch_of_a_producer_outlives_its_marker() {
    let mut bench = Bench::new();
    bench.in_txn(7, &[put("a", "1")]);
    bench.end(7, true);
    bench.plain(&[put("a", "2")]);
    bench.last_record = Some(LastRecord {
        last_data_offset: None,
        epoch: 0,
    });
    for now_ms in [0, 1_000, 2_000] {
        bench.clean(now_ms);
    }
    assert_eq!(bench.text(), "[empty 1], 2 a=2");
    assert!(bench.batches[0].header().is_control());
    bench.clean(9_000);
    assert_eq!(bench.text(), "[empty 1], 2 a=2");
    bench.last_record = None;
    bench.clean(9_000);
    assert_eq!(bench.text(), "2 a=2");
}

#[test]
fn the_last_batch_of_a_segment_stays_if_only_as_its_header() {
    let mut map = OffsetMap::new(1 << 10, 10);
    map.put(b"a", 9);
    map.set_end(20);
    let mut transactions = Transactions::default();
    let mut filter = Filter {
        map: &map,
        transactions: &mut transactions,
        last_record: &|_| None,
        now_ms: 0,
        delete_retention_ms: 0,
        limit: DecompressionLimit::DEFAULT,
    };
    let mut bench = Bench::new();
    bench.plain(&[put("a", "1"), put("a", "2")]);
    let (fate, _) = filter.judge(&bench.batches[0], true).unwrap();
    let Fate::Replace(bytes) = fate else {
        panic!("{fate:?}")
    };
    let left = RecordBatch::parse(bytes).unwrap();
    assert_eq!(
        (left.header().record_count, left.header().next_offset()),
        (0, 2)
    );
    assert_eq!(filter.judge(&left, true).unwrap().0, Fate::Keep);
    assert_eq!(filter.judge(&left, false).unwrap().0, Fate::Drop);
}

#[test]
fn a_count_that_lies_is_an_error_and_allocates_nothing() {
    let mut bench = Bench::new();
    bench.plain(&[put("a", "1")]);
    for count in [2, i32::MAX] {
        let mut bytes = bench.batches[0].bytes().to_vec();
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        flumen_protocol::batch::seal(&mut bytes);
        let lying = RecordBatch::parse(bytes.into()).unwrap();
        let mut map = OffsetMap::new(1 << 10, 10);
        map.set_end(20);
        let mut filter = Filter {
            map: &map,
            transactions: &mut Transactions::default(),
            last_record: &|_| None,
            now_ms: 0,
            delete_retention_ms: 0,
            limit: DecompressionLimit::DEFAULT,
        };
        assert!(filter.judge(&lying, false).is_err());
    }
}
