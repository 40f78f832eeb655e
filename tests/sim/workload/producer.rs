//! A producer outside of transactions: several records on their way at a time, paced, each with its own number.

use std::sync::Arc;
use std::time::Duration;

use flumen_checker::{Partition, Producer as Means, What};
use flumen_client::{Acks, Compression, Producer, ProducerConfig, ProducerRecord};
use tokio::sync::Semaphore;

use super::{Stage, payload};
use crate::dice::Dice;
use crate::recorder::Journal;

/// Records on their way at a time.
const IN_FLIGHT: u32 = 30;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    topics: Vec<u16>,
    idempotent: bool,
    acks: Acks,
    linger: Duration,
    compression: Compression,
    /// Longest pause between two records.
    pace_ms: u64,
    /// Largest filling of a record.
    filling: u64,
}

impl Options {
    fn of(topics: Vec<u16>, dice: &mut Dice) -> Options {
        Options {
            topics,
            idempotent: true,
            acks: Acks::All,
            linger: dice.millis(0, 20),
            compression: *dice.pick(&[Compression::None, Compression::None, Compression::Lz4]),
            pace_ms: *dice.pick(&[40, 150, 400]),
            filling: *dice.pick(&[0, 300, 1_500, 4_000]),
        }
    }
}

/// Without a producer id.
pub(crate) fn plain(dice: &mut Dice) -> Options {
    Options {
        idempotent: false,
        acks: *dice.pick(&[Acks::All, Acks::Leader]),
        ..Options::of(vec![0], dice)
    }
}

/// With one.
pub(crate) fn idempotent(dice: &mut Dice) -> Options {
    Options::of(vec![0, 1], dice)
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    let mut dice = stage.dice("producer");
    while !stage.stops() {
        let journal = stage.process();
        let config = ProducerConfig {
            idempotent: options.idempotent,
            acks: options.acks,
            linger: options.linger,
            compression: options.compression,
            ..stage.producer_config()
        };
        let producer = Producer::new(&client, config).await?;
        if let Err(error) = send_all(&stage, &options, &journal, &producer, &mut dice).await {
            journal.note(format_args!("makes a new producer: {error}"));
        }
        let _ = producer.close().await;
    }
    Ok(())
}

/// Until the run stops, or the producer cannot go on.
async fn send_all(
    stage: &Stage,
    options: &Options,
    journal: &Journal,
    producer: &Producer,
    dice: &mut Dice,
) -> Result<(), flumen_client::ClientError> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT as usize));
    let means = match options.idempotent {
        true => Means::Idempotent,
        false => Means::Plain,
    };
    while !stage.stops() {
        let place = Arc::clone(&room)
            .acquire_owned()
            .await
            .expect("never closed");
        let topic = *dice.pick(&options.topics);
        let partition = *dice.pick(&stage.partitions(topic));
        let value = journal.number();
        let filling = usize::try_from(dice.below(options.filling)).unwrap();
        journal.record(What::Sent {
            producer: means,
            partition,
            value,
        });
        let delivery = match producer
            .send(record(stage, partition, value, filling))
            .await
        {
            Ok(delivery) => delivery,
            Err(error) => {
                // Not accepted: it was never on its way.
                journal.record(What::Failed { value });
                if error.is_retriable() {
                    continue;
                }
                return Err(error);
            }
        };
        let own = journal.clone();
        tokio::spawn(async move {
            own.record(match delivery.await {
                Ok(written) => What::Acked {
                    value,
                    offset: written.offset,
                },
                // Whatever the last answer says: an earlier attempt may have been written.
                Err(_) => What::Unknown { value },
            });
            own.moved();
            drop(place);
        });
        stage
            .pause(Duration::from_millis(dice.below(options.pace_ms)))
            .await;
    }
    let _ = room.acquire_many(IN_FLIGHT).await;
    Ok(())
}

/// The record of a value.
pub(super) fn record(
    stage: &Stage,
    partition: Partition,
    value: u64,
    filling: usize,
) -> ProducerRecord {
    ProducerRecord::new(stage.topic(partition), payload(value, filling))
        .partition(i32::from(partition.index))
}
