//! A long legal history stays legal, and its length costs no more than it must. How long ten million events take is measured by
//! `EVENTS=10000000 cargo test --release -p flumen-checker scale -- --nocapture`.

use crate::history::{History, Isolation, Marks, Partition, Producer, Read, What};
use crate::{Promises, check};

/// Values of one transaction and of one poll.
const BATCH: u64 = 100;
const PARTITIONS: u16 = 8;

fn events() -> usize {
    let asked = std::env::var("EVENTS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(50_000)
}

/// Producers that commit or abort, each in a partition of its own, and a reader of committed data behind each; then the drain.
fn generate(events: usize) -> History {
    let mut history = History::default();
    let (mut value, mut txn) = (0, 0);
    let mut ends = [0_i64; PARTITIONS as usize];
    let mut kept: Vec<Vec<(i64, u64)>> = vec![Vec::new(); usize::from(PARTITIONS)];
    while history.events.len() < events {
        for index in 0..PARTITIONS {
            let partition = Partition { topic: 0, index };
            let process = u32::from(index);
            let at_ms = txn / 10;
            txn += 1;
            let mut records = Vec::new();
            history.push(at_ms, process, What::TxnBegun { txn });
            let from = ends[usize::from(index)];
            for _ in 0..BATCH {
                value += 1;
                let producer = Producer::Transactional(txn);
                let sent = What::Sent {
                    producer,
                    partition,
                    value,
                };
                history.push(at_ms, process, sent);
                let offset = ends[usize::from(index)];
                history.push(at_ms, process, What::Acked { value, offset });
                ends[usize::from(index)] += 1;
                records.push((offset, value));
            }
            if txn % 7 == 0 {
                history.push(at_ms, process, What::TxnAborted { txn });
                records.clear();
            } else {
                history.push(at_ms, process, What::TxnCommitting { txn });
                history.push(at_ms, process, What::TxnCommitted { txn });
            }
            ends[usize::from(index)] += 1;
            kept[usize::from(index)].extend(&records);
            let read = Read {
                partition,
                isolation: Isolation::ReadCommitted,
                from,
                next: ends[usize::from(index)],
                records,
                marks: Marks::UNKNOWN,
            };
            history.push(at_ms, 100 + process, What::Polled(read));
        }
    }
    for index in 0..PARTITIONS {
        let end = ends[usize::from(index)];
        let read = Read {
            partition: Partition { topic: 0, index },
            isolation: Isolation::ReadCommitted,
            from: 0,
            next: end,
            records: std::mem::take(&mut kept[usize::from(index)]),
            marks: Marks {
                high_watermark: end,
                last_stable_offset: end,
                log_start: 0,
            },
        };
        history.push(u64::MAX, 200, What::FinalRead(read));
    }
    history
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "prints how long it took, and judges nothing by it"
)]
fn a_long_legal_history_is_legal() {
    let history = generate(events());
    let start = std::time::Instant::now();
    let anomalies = check(&history, &Promises::default());
    println!("{} events in {:?}", history.events.len(), start.elapsed());
    assert_eq!(anomalies, []);
}
