//! Read, write, commit, exactly once: a member of a group whose offsets go with the transaction of what it writes.
//!
//! Each value of `ledger` is written once to `copy` whatever dies in between: the copy's value is a number of its own, and the history knows
//! which offsets each transaction carries.

use std::time::Duration;

use flumen_checker::{Group, Producer as Means, What};
use flumen_client::{
    Client, ClientError, Consumer, ConsumerConfig, FetchedRecords, Isolation, OffsetAndMetadata,
    Poll, Producer, ProducerConfig, TopicPartition,
};

use super::Stage;
use super::consumer::read;
use super::producer::record;
use super::transactions::{abort, commit};
use crate::dice::Dice;
use crate::oracle::Copying;
use crate::recorder::Journal;

/// The group's name and number.
const GROUP: (&str, Group) = ("movers", 1);
/// What the movers are for.
pub(crate) const COPYING: Copying = Copying {
    from: 1,
    to: 2,
    group: GROUP.1,
};

#[derive(Clone, Debug)]
pub(crate) struct Options {
    transactional_id: String,
    /// Its number in the history.
    number: u32,
    /// Transactions after which it leaves, at most.
    stays: u64,
}

impl Options {
    pub(crate) fn of(member: u32, dice: &mut Dice) -> Options {
        Options {
            transactional_id: format!("mover-{member}"),
            number: 10 + member,
            stays: dice.range(20, 200),
        }
    }
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    let mut dice = stage.dice("mover");
    while !stage.stops() {
        let journal = stage.process();
        if let Err(error) = one_process(&stage, &options, &client, &journal, &mut dice).await {
            if error.is_fenced() {
                journal.record(What::Fenced);
            }
            journal.note(format_args!("begins again: {error}"));
            stage.pause(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

async fn one_process(
    stage: &Stage,
    options: &Options,
    client: &Client,
    journal: &Journal,
    dice: &mut Dice,
) -> Result<(), ClientError> {
    let config = ProducerConfig {
        transactional_id: Some(options.transactional_id.clone()),
        ..stage.producer_config()
    };
    let producer = Producer::new(client, config).await?;
    let transactional_id = options.number;
    journal.record(What::ProducerStarting { transactional_id });
    producer.init_transactions().await?;
    journal.record(What::ProducerStarted { transactional_id });
    let config = ConsumerConfig {
        isolation: Isolation::ReadCommitted,
        group_id: Some(GROUP.0.to_owned()),
        ..stage.consumer_config()
    };
    let consumer = Consumer::new(client, config).await?;
    consumer.subscribe(&["ledger"]).await?;
    let mover = Mover {
        stage,
        journal,
        producer: &producer,
        consumer: &consumer,
    };
    for _ in 0..options.stays {
        if stage.stops() {
            break;
        }
        mover.turn(dice).await?;
    }
    let owned = consumer.assignment();
    journal.record(mover.revoked(&owned));
    consumer.close().await;
    Ok(())
}

struct Mover<'a> {
    stage: &'a Stage,
    journal: &'a Journal,
    producer: &'a Producer,
    consumer: &'a Consumer,
}

impl Mover<'_> {
    async fn turn(&self, dice: &mut Dice) -> Result<(), ClientError> {
        match self
            .consumer
            .poll_batches(Duration::from_millis(400))
            .await?
        {
            Poll::Records(pieces) => {
                for piece in &pieces {
                    let read = read(self.stage, piece, Isolation::ReadCommitted);
                    self.journal.record(What::Polled(read));
                }
                self.transaction(&pieces, dice).await?;
            }
            Poll::Assigned(_) => {
                let metadata = self.consumer.group_metadata();
                let partitions = self.consumer.assignment();
                self.journal.record(What::Assigned {
                    group: Some(GROUP.1),
                    generation: metadata.generation_id,
                    partitions: partitions.iter().map(|at| self.stage.known(at)).collect(),
                });
                self.journal.moved();
            }
            Poll::Revoking(partitions) => {
                self.journal.record(self.revoked(&partitions));
                self.consumer.rebalance_done();
            }
            Poll::Lost(partitions) => self.journal.record(self.revoked(&partitions)),
            Poll::PositionLost { partition, .. } => {
                self.journal
                    .record(self.revoked(std::slice::from_ref(&partition)));
                let _ = self.consumer.seek_to_beginning(&partition);
            }
            Poll::Idle => {}
        }
        Ok(())
    }

    fn revoked(&self, partitions: &[TopicPartition]) -> What {
        What::Revoked {
            partitions: partitions.iter().map(|at| self.stage.known(at)).collect(),
        }
    }

    /// Writes what was read and its offsets in one transaction; goes back to what is committed if it is aborted.
    async fn transaction(
        &self,
        pieces: &[FetchedRecords],
        dice: &mut Dice,
    ) -> Result<(), ClientError> {
        let txn = self.journal.number();
        self.producer.begin_transaction()?;
        self.journal.record(What::TxnBegun { txn });
        let written = self.write(txn, pieces, dice).await;
        let ended = match written {
            Ok(()) if dice.chance(10) => {
                abort(self.producer, self.journal, txn).await?;
                return self.rewind(pieces).await;
            }
            Ok(()) => commit(self.producer, self.journal, txn).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => {
                self.journal.moved();
                Ok(())
            }
            Err(ClientError::TransactionAbortable(_) | ClientError::Rebalance(_)) => {
                abort(self.producer, self.journal, txn).await?;
                self.rewind(pieces).await
            }
            Err(error) => {
                self.journal.record(What::TxnUnknown { txn });
                Err(error)
            }
        }
    }

    async fn write(
        &self,
        txn: u64,
        pieces: &[FetchedRecords],
        dice: &mut Dice,
    ) -> Result<(), ClientError> {
        let mut offsets = Vec::new();
        let group = self.consumer.group_metadata();
        for piece in pieces {
            let from = self.stage.known(&piece.partition);
            let read = read(self.stage, piece, Isolation::ReadCommitted);
            let partition = flumen_checker::Partition {
                topic: COPYING.to,
                index: from.index,
            };
            for (_, source) in read.records {
                let value = self.journal.number();
                self.journal.copies(value, source);
                self.journal.record(What::Sent {
                    producer: Means::Transactional(txn),
                    partition,
                    value,
                });
                let filling = usize::try_from(dice.below(100)).unwrap();
                self.producer
                    .send(record(self.stage, partition, value, filling))
                    .await?;
            }
            self.journal.record(What::OffsetsSent {
                txn,
                group: GROUP.1,
                generation: Some(group.generation_id),
                partition: from,
                offset: piece.next_offset,
            });
            let offset = OffsetAndMetadata::new(piece.next_offset);
            offsets.push((piece.partition.clone(), offset));
        }
        let sent = self
            .producer
            .send_offsets_to_transaction(&offsets, &group)
            .await;
        if let Err(ClientError::Rebalance(_) | ClientError::TransactionAbortable(_)) = &sent {
            self.journal.record(What::OffsetsRefused {
                txn,
                group: GROUP.1,
            });
        }
        sent
    }

    /// Reads again from what the group has committed.
    async fn rewind(&self, pieces: &[FetchedRecords]) -> Result<(), ClientError> {
        let partitions: Vec<_> = pieces.iter().map(|piece| piece.partition.clone()).collect();
        self.journal
            .record(What::OffsetsFetching { group: GROUP.1 });
        let committed = self.consumer.committed(&partitions).await?;
        for partition in &partitions {
            let offset = committed.get(partition).map(|at| at.offset);
            self.journal.record(What::OffsetsFetched {
                group: GROUP.1,
                partition: self.stage.known(partition),
                offset: offset.unwrap_or(-1),
            });
            self.journal
                .record(self.revoked(std::slice::from_ref(partition)));
            // Not assigned any more: the next owner reads it.
            let _ = match offset {
                Some(offset) => self.consumer.seek(partition, offset),
                None => self.consumer.seek_to_beginning(partition),
            };
        }
        Ok(())
    }
}
