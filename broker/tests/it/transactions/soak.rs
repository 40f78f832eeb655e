//! T-5, T-6, T-12, T-13: producers of every kind and readers of both kinds on a healthy broker, judged by the history checker. The
//! losses of others that this repeats needed no fault.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use flumen_checker::{
    History, Isolation, Marks, Partition, Producer as Kind, Promises, Read, What, check, smallest,
};
use flumen_protocol::batch::batches;
use flumen_protocol::builder::BatchOptions;
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::InitProducerIdRequest;
use flumen_protocol::message::fetch_response::PartitionData;

use super::Producer;
use crate::support::{PATIENCE, Wire, World, batch_of, fetch_request, produce_request};

const PARTITIONS: u16 = 2;
/// Records of each producer, or transactions of two records.
const ROUNDS: u64 = 120;

/// What happened so far, and who writes it down.
#[derive(Clone)]
struct Notes {
    history: Arc<Mutex<History>>,
    process: u32,
}

impl Notes {
    fn note(&self, what: What) {
        self.history.lock().unwrap().push(0, self.process, what);
    }

    fn sent(&self, producer: Kind, index: u16, value: u64) {
        self.note(What::Sent {
            producer,
            partition: Partition { topic: 0, index },
            value,
        });
    }
}

fn partition_of(value: u64) -> u16 {
    u16::try_from(value % u64::from(PARTITIONS)).unwrap()
}

/// A producer without transactions, plain or idempotent. Every second record it sends twice, as one whose answer was lost would.
async fn without_transactions(mut client: Wire, notes: Notes, kind: Kind) {
    let idempotent = kind == Kind::Idempotent;
    let mut producer_id = -1;
    if idempotent {
        let request = InitProducerIdRequest {
            transactional_id: None,
            ..Default::default()
        };
        producer_id = client.call(4, &request).await.producer_id;
    }
    let mut sequences = [0; PARTITIONS as usize];
    for round in 0..ROUNDS {
        let value = u64::from(notes.process) * 1_000_000 + round;
        let index = partition_of(value);
        let sequence = &mut sequences[usize::from(index)];
        let options = BatchOptions {
            producer_id,
            producer_epoch: if idempotent { 0 } else { -1 },
            base_sequence: if idempotent { *sequence } else { -1 },
            ..BatchOptions::default()
        };
        let records = batch_of(options, &[&value.to_string()]);
        let request = produce_request("t", i32::from(index), -1, records);
        notes.sent(kind, index, value);
        let times = if idempotent && round % 2 == 0 { 2 } else { 1 };
        let mut offset = -1;
        for _ in 0..times {
            let response = client.call(9, &request).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, 0);
            offset = partition.base_offset;
        }
        *sequence += 1;
        notes.note(What::Acked { value, offset });
    }
}

/// Transactions of one record in each partition; every third one is aborted.
async fn in_transactions(mut client: Wire, notes: Notes, version: i16) {
    let mut producer = Producer::init(&mut client, version).await;
    let mut sequences = [0; PARTITIONS as usize];
    for round in 0..ROUNDS {
        let txn = u64::from(notes.process) * 1_000_000 + round;
        notes.note(What::TxnBegun { txn });
        for index in 0..PARTITIONS {
            let value = txn * 10 + u64::from(index);
            producer.sequence = sequences[usize::from(index)];
            notes.sent(Kind::Transactional(txn), index, value);
            let written = loop {
                if version == 1 {
                    let partition = i32::from(index);
                    let added = producer.add_partition(&mut client, "t", partition).await;
                    assert_eq!(added, ErrorCode::None);
                }
                let api_version = if version == 1 { 9 } else { 12 };
                let text = value.to_string();
                let written = producer
                    .produce_to(&mut client, api_version, i32::from(index), &text)
                    .await;
                let code = ErrorCode::from_code(written.error_code);
                if code != ErrorCode::ConcurrentTransactions && code != ErrorCode::NotEnoughReplicas
                {
                    break written;
                }
            };
            assert_eq!(written.error_code, 0);
            sequences[usize::from(index)] += 1;
            let offset = written.base_offset;
            notes.note(What::Acked { value, offset });
        }
        if round % 3 == 2 {
            assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
            notes.note(What::TxnAborted { txn });
        } else {
            notes.note(What::TxnCommitting { txn });
            assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
            notes.note(What::TxnCommitted { txn });
        }
        if version == 2 {
            sequences = [0; PARTITIONS as usize];
        }
    }
}

/// One reader of one partition.
struct Reader {
    client: Wire,
    partition: Partition,
    isolation: Isolation,
    next: i64,
    aborting: BTreeSet<i64>,
}

impl Reader {
    fn new(client: Wire, index: u16, isolation: Isolation) -> Reader {
        Reader {
            client,
            partition: Partition { topic: 0, index },
            isolation,
            next: 0,
            aborting: BTreeSet::new(),
        }
    }

    async fn poll(&mut self) -> Read {
        let committed = self.isolation == Isolation::ReadCommitted;
        let index = i32::from(self.partition.index);
        let mut request = fetch_request("t", index, self.next, 20);
        request.isolation_level = i8::from(committed);
        let mut response = self.client.call(11, &request).await;
        let data = response.responses.remove(0).partitions.remove(0);
        assert_eq!(data.error_code, 0);
        let marks = Marks {
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            log_start: data.log_start_offset,
        };
        let from = self.next;
        let records = self.take(data);
        Read {
            partition: self.partition,
            isolation: self.isolation,
            from,
            next: self.next,
            records,
            marks,
        }
    }

    /// The records that are for this reader, by the rules every consumer follows.
    fn take(&mut self, data: PartitionData) -> Vec<(i64, u64)> {
        let mut aborted = data.aborted_transactions.unwrap_or_default();
        aborted.sort_by_key(|txn| std::cmp::Reverse(txn.first_offset));
        let bytes = data.records.unwrap_or_default().into_bytes().unwrap();
        let mut records = Vec::new();
        for batch in batches(bytes) {
            let batch = batch.unwrap();
            let header = *batch.header();
            self.next = header.next_offset();
            while let Some(txn) = aborted.pop_if(|txn| txn.first_offset < self.next) {
                self.aborting.insert(txn.producer_id);
            }
            if header.is_control() {
                self.aborting.remove(&header.producer_id);
            } else if !self.aborting.contains(&header.producer_id) {
                for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
                    let record = record.unwrap();
                    let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    records.push((record.offset, text.parse().unwrap()));
                }
            }
        }
        records
    }
}

/// Polls until it has read `end` offsets, whatever that takes.
async fn read_all(mut reader: Reader, notes: Notes, mut done: tokio::sync::watch::Receiver<bool>) {
    loop {
        let last = *done.borrow_and_update();
        let read = reader.poll().await;
        let at_end = read.next == read.marks.high_watermark;
        notes.note(What::Polled(read));
        if last && at_end {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_broker_keeps_every_promise_to_producers_and_readers_of_every_kind() {
    let world = World::start(&[]).await;
    let client = world.client_with_topic("t", i32::from(PARTITIONS)).await;
    drop(client);
    let history = Arc::new(Mutex::new(History::default()));
    let notes = |process, name: &str| {
        history.lock().unwrap().name(process, name);
        Notes {
            history: Arc::clone(&history),
            process,
        }
    };
    let (finished, done) = tokio::sync::watch::channel(false);
    let mut readers = Vec::new();
    for index in 0..PARTITIONS {
        for (base, isolation) in [
            (10, Isolation::ReadCommitted),
            (20, Isolation::ReadUncommitted),
        ] {
            let reader = Reader::new(world.client().await, index, isolation);
            let notes = notes(
                base + u32::from(index),
                &format!("reader {isolation:?} {index}"),
            );
            readers.push(tokio::spawn(read_all(reader, notes, done.clone())));
        }
    }
    let plain = without_transactions(world.client().await, notes(1, "plain"), Kind::Plain);
    let once = without_transactions(world.client().await, notes(2, "once"), Kind::Idempotent);
    // One after the other: they share a transactional id.
    let transactions = async {
        in_transactions(world.client().await, notes(3, "version 1"), 1).await;
        in_transactions(world.client().await, notes(4, "version 2"), 2).await;
    };
    tokio::join!(plain, once, transactions);
    finished.send(true).unwrap();
    for reader in readers {
        tokio::time::timeout(PATIENCE, reader)
            .await
            .expect("the last stable offset reaches the high watermark")
            .unwrap();
    }
    for index in 0..PARTITIONS {
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let mut reader = Reader::new(world.client().await, index, isolation);
            let mut whole = reader.poll().await;
            while whole.next < whole.marks.high_watermark {
                let more = reader.poll().await;
                whole.records.extend(more.records);
                (whole.next, whole.marks) = (more.next, more.marks);
            }
            notes(30, "at the end").note(What::FinalRead(whole));
        }
    }
    let history = history.lock().unwrap();
    let anomalies = check(&history, &Promises::default());
    for anomaly in &anomalies {
        println!("{anomaly}\n{}", smallest(&history, anomaly));
    }
    assert!(anomalies.is_empty());
}
