//! The table: writes keys of a compacted topic in transactions, deletes some, and reads all of it from the beginning now and then.
//!
//! Its topic is not one of the plan's: the checker's histories are of logs that nothing is taken from. What was written and read stands in
//! `ledger.rs`, which judges it.

use std::time::Duration;

use bytes::Bytes;
use flumen_client::{
    Admin, Client, ClientError, Consumer, ConsumerConfig, Delivery, Isolation, NewTopic, Poll,
    Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::record::Record;

use super::Stage;
use super::transactions::{commit_asking_again, written};
use crate::dice::Dice;
use crate::ledger::{Ledger, Row};
use crate::recorder::Journal;

const TOPIC: &str = "table";
/// The header with a record's number: a deletion has no value to carry it.
const NUMBER: &str = "n";
/// Readers give up after so long; the next one is another try.
const PATIENCE: Duration = Duration::from_secs(4);

/// Between two records of a transaction.
const REST: Duration = Duration::from_millis(8);
/// Longer than clocks step.
const A_DAY_MS: u32 = 86_400_000;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    keys: u64,
    segment_bytes: u32,
    delete_retention_ms: u32,
    /// Longest rest between two transactions.
    pace_ms: u64,
}

impl Options {
    pub(crate) fn of(dice: &mut Dice) -> Options {
        Options {
            keys: *dice.pick(&[2, 6, 20]),
            segment_bytes: *dice.pick(&[600, 2_000, 8_000]),
            delete_retention_ms: *dice.pick(&[0, A_DAY_MS, A_DAY_MS]),
            pace_ms: *dice.pick(&[20, 100, 300]),
        }
    }

    fn topic(&self) -> NewTopic {
        NewTopic::new(TOPIC, 1)
            .config("cleanup.policy", "compact")
            .config("segment.bytes", self.segment_bytes.to_string())
            .config("min.cleanable.dirty.ratio", "0.01")
            .config("delete.retention.ms", self.delete_retention_ms.to_string())
    }
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    let mut dice = stage.dice("table");
    if options.delete_retention_ms == A_DAY_MS {
        stage.process().ledger(Ledger::keeps_deletions);
    }
    while !stage.stops() {
        let journal = stage.process();
        match write(&stage, &options, &client, &journal, &mut dice).await {
            Ok(()) => {}
            Err(error) => {
                journal.note(format_args!("makes a new producer: {error}"));
                stage.pause(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

/// Until the run stops, or the producer cannot go on.
async fn write(
    stage: &Stage,
    options: &Options,
    client: &Client,
    journal: &Journal,
    dice: &mut Dice,
) -> Result<(), ClientError> {
    let topic = [options.topic()];
    Admin::new(client).ensure_topics(&topic).await?;
    let config = ProducerConfig {
        transactional_id: Some(TOPIC.to_owned()),
        ..stage.producer_config()
    };
    let producer = Producer::new(client, config).await?;
    producer.init_transactions().await?;
    while !stage.stops() {
        let txn = journal.number();
        producer.begin_transaction()?;
        let mut sent = Vec::new();
        let records = records(options, journal, dice, txn);
        let result = send(&producer, records, &mut sent).await;
        if dice.chance(20) {
            // Long enough for the cleaner to come by while it is open.
            stage.pause(dice.millis(300, 1_500)).await;
        }
        let end = dice.below(100);
        let result = match (result, end) {
            // Left behind with its producer.
            (Ok(()), 0..6) => return Ok(()),
            (Ok(()), 6..35) => producer.abort_transaction().await,
            (Ok(()), _) => commit(&producer, journal, txn).await,
            (Err(error), _) => Err(error),
        };
        settle(journal, sent).await;
        match result {
            Ok(()) => journal.moved(),
            Err(ClientError::TransactionAbortable(_)) => {
                producer.abort_transaction().await?;
                journal.ledger(|ledger| ledger.aborted(txn));
            }
            Err(error) => return Err(error),
        }
        // What an aborted transaction has spoilt shows until it is written over.
        if dice.chance(if end < 35 { 70 } else { 15 }) {
            read(stage, client, journal).await;
        }
        let rest = Duration::from_millis(dice.below(options.pace_ms));
        stage.pause(rest).await;
    }
    let _ = producer.close().await;
    Ok(())
}

/// The records of a transaction, noted as on their way.
fn records(
    options: &Options,
    journal: &Journal,
    dice: &mut Dice,
    txn: u64,
) -> Vec<(u64, ProducerRecord)> {
    let mut records = Vec::new();
    for _ in 0..dice.range(1, 8) {
        let key = u8::try_from(dice.below(options.keys)).unwrap();
        let (number, deletes) = (journal.number(), dice.chance(15));
        let filling = usize::try_from(dice.below(300)).unwrap();
        journal.ledger(|ledger| ledger.sends(txn, key, number, deletes));
        let number_bytes = Bytes::copy_from_slice(&number.to_be_bytes());
        let record = ProducerRecord {
            topic: TOPIC.to_owned(),
            partition: Some(0),
            key: Some(Bytes::copy_from_slice(&[key])),
            value: (!deletes).then(|| Bytes::from(vec![key; filling])),
            headers: vec![(NUMBER.to_owned(), Some(number_bytes))],
            timestamp: None,
        };
        records.push((number, record));
    }
    records
}

async fn send(
    producer: &Producer,
    records: Vec<(u64, ProducerRecord)>,
    sent: &mut Vec<(u64, Delivery)>,
) -> Result<(), ClientError> {
    for (number, record) in records {
        sent.push((number, producer.send(record).await?));
        // A batch for each: so a segment ends within a transaction.
        tokio::time::sleep(REST).await;
    }
    Ok(())
}

/// Commits; notes the outcome if it is known.
async fn commit(producer: &Producer, journal: &Journal, txn: u64) -> Result<(), ClientError> {
    journal.ledger(|ledger| ledger.commits(txn));
    commit_asking_again(producer, journal, txn).await?;
    journal.ledger(|ledger| ledger.committed(txn));
    Ok(())
}

/// Notes where the records are, as far as it is known by now.
async fn settle(journal: &Journal, sent: Vec<(u64, Delivery)>) {
    for (number, delivery) in sent {
        // Below zero: written, but nobody knows where any more.
        if let Some(offset @ 0..) = written(delivery).await {
            journal.ledger(|ledger| ledger.wrote(number, offset));
        }
    }
}

/// Reads from the beginning, if faults let it.
async fn read(stage: &Stage, client: &Client, journal: &Journal) {
    let shown = journal.ledger(|ledger| ledger.shown());
    match tokio::time::timeout(PATIENCE, rows(stage, client)).await {
        Ok(Ok(rows)) => journal.ledger(|ledger| ledger.read(shown, rows)),
        Ok(Err(error)) => journal.note(format_args!("does not read all: {error}")),
        Err(_) => journal.note("does not read all in time"),
    }
}

/// The last read of all, by the auditor: what the topic holds when everything is over.
pub(super) async fn audit(
    stage: &Stage,
    client: &Client,
    journal: &Journal,
) -> Result<(), ClientError> {
    let newest = journal.ledger(|ledger| ledger.newest());
    let rows = rows(stage, client).await?;
    journal.ledger(|ledger| ledger.read(newest, rows));
    Ok(())
}

/// Every committed record. The end is asked for again where it was reached: markers may come behind what was answered, and the cleaner
/// with them, while this goes on.
async fn rows(stage: &Stage, client: &Client) -> Result<Vec<Row>, ClientError> {
    let config = ConsumerConfig {
        isolation: Isolation::ReadCommitted,
        ..stage.consumer_config()
    };
    let consumer = Consumer::new(client, config).await?;
    let name = TopicPartition::new(TOPIC, 0);
    let names = [name.clone()];
    consumer.assign(names.to_vec()).await?;
    let mut next = consumer.beginning_offsets(&names).await?[&name];
    let (mut end, mut rows) = (next, Vec::new());
    loop {
        if next >= end {
            let ends = consumer.end_offsets_as(&names, Isolation::ReadCommitted);
            end = ends.await?[&name];
            if next >= end {
                break;
            }
        }
        let Poll::Records(pieces) = consumer.poll_batches(Duration::from_secs(1)).await? else {
            continue;
        };
        for piece in &pieces {
            next = piece.next_offset;
            let records = piece.records(DecompressionLimit::DEFAULT);
            rows.extend(records.map(|record| row(&record.expect("batches are checked"))));
        }
    }
    consumer.close().await;
    Ok(rows)
}

fn row(record: &Record) -> Row {
    let number = record.headers.last(NUMBER).flatten();
    let number = number.expect("every record has a number");
    Row {
        offset: record.offset,
        key: record.key.as_ref().expect("every record has a key")[0],
        number: u64::from_be_bytes(number.try_into().expect("of eight bytes")),
        deletes: record.value.is_none(),
    }
}
