//! A consumer of partitions that it chose itself: reads everything, now and then from the beginning or from the middle again.

use std::time::Duration;

use flumen_checker::{Isolation as Seen, Marks, Read, What};
use flumen_client::{
    Consumer, ConsumerConfig, DecompressionLimit, FetchedRecords, Isolation, Poll,
};

use super::{Stage, number_of};
use crate::recorder::Journal;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    isolation: Isolation,
}

/// Sees what is committed.
pub(crate) fn committed() -> Options {
    Options {
        isolation: Isolation::ReadCommitted,
    }
}

/// Sees everything.
pub(crate) fn uncommitted() -> Options {
    Options {
        isolation: Isolation::ReadUncommitted,
    }
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    let mut dice = stage.dice("consumer");
    let partitions = stage.all_partitions();
    while !stage.stops() {
        let journal = stage.process();
        let config = ConsumerConfig {
            isolation: options.isolation,
            prefetch_bytes: usize::try_from(dice.range(1, 64)).unwrap() * 1024,
            max_partition_fetch_bytes: i32::try_from(dice.range(500, 100_000)).unwrap(),
            ..stage.consumer_config()
        };
        let consumer = Consumer::new(&client, config).await?;
        consumer
            .assign(partitions.iter().map(|at| stage.wire_name(*at)).collect())
            .await?;
        journal.record(What::Assigned {
            group: None,
            generation: 0,
            partitions: partitions.clone(),
        });
        let polls = dice.range(5, 200);
        for _ in 0..polls {
            if stage.stops() {
                break;
            }
            match consumer.poll_batches(Duration::from_millis(500)).await {
                Ok(poll) => take(&stage, &journal, &consumer, options.isolation, poll),
                Err(error) => journal.note(format_args!("polls: {error}")),
            }
            stage.pause(dice.millis(0, 200)).await;
        }
        consumer.close().await;
    }
    Ok(())
}

fn take(stage: &Stage, journal: &Journal, consumer: &Consumer, isolation: Isolation, poll: Poll) {
    match poll {
        Poll::Records(pieces) => {
            for piece in &pieces {
                journal.record(What::Polled(read(stage, piece, isolation)));
            }
            journal.moved();
        }
        Poll::PositionLost {
            partition,
            position,
            log_start,
            log_end,
        } => {
            // Nothing is deleted here, so a lost position is a lost record: the history must show it.
            journal.note(format_args!(
                "{partition:?}: position {position} is outside [{log_start}, {log_end})"
            ));
            let lost = stage.known(&partition);
            journal.record(What::Polled(Read {
                partition: lost,
                isolation: seen(isolation),
                from: position,
                next: position,
                records: Vec::new(),
                marks: Marks {
                    high_watermark: log_end,
                    last_stable_offset: -1,
                    log_start,
                },
            }));
            journal.record(What::Revoked {
                partitions: vec![lost],
            });
            let _ = consumer.seek_to_beginning(&partition);
        }
        Poll::Idle | Poll::Assigned(_) | Poll::Revoking(_) | Poll::Lost(_) => {}
    }
}

pub(super) fn seen(isolation: Isolation) -> Seen {
    match isolation {
        Isolation::ReadCommitted => Seen::ReadCommitted,
        Isolation::ReadUncommitted => Seen::ReadUncommitted,
    }
}

/// What a piece of a poll shows.
pub(super) fn read(stage: &Stage, piece: &FetchedRecords, isolation: Isolation) -> Read {
    let records = piece
        .records(DecompressionLimit::DEFAULT)
        .map(|record| record.expect("batches are checked when they are fetched"))
        .map(|record| (record.offset, number_of(record.value.as_ref())))
        .collect();
    Read {
        partition: stage.known(&piece.partition),
        isolation: seen(isolation),
        from: piece.from_offset,
        next: piece.next_offset,
        records,
        marks: Marks {
            high_watermark: piece.high_watermark,
            last_stable_offset: piece.last_stable_offset,
            log_start: -1,
        },
    }
}
