//! A transactional producer: transactions over several partitions, committed, aborted, or left behind.
//!
//! Hosts may share a transactional id: each takes over in its turn, and the other learns that it is fenced.

use std::time::Duration;

use flumen_checker::{Producer as Means, What};
use flumen_client::{ClientError, Delivery, Producer, ProducerConfig};

use super::Stage;
use super::producer::record;
use crate::dice::Dice;
use crate::recorder::Journal;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) transactional_id: &'static str,
    /// Its number in the history.
    number: u32,
    /// Longest rest between two records.
    pace_ms: u64,
    /// Longest rest after having been fenced.
    fenced_ms: u64,
}

impl Options {
    pub(crate) fn of(transactional_id: &'static str, number: u32, dice: &mut Dice) -> Options {
        Options {
            transactional_id,
            number,
            pace_ms: *dice.pick(&[20, 80, 200]),
            fenced_ms: *dice.pick(&[2_000, 6_000]),
        }
    }
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    let mut dice = stage.dice("transactions");
    while !stage.stops() {
        let journal = stage.process();
        let config = ProducerConfig {
            transactional_id: Some(options.transactional_id.to_owned()),
            ..stage.producer_config()
        };
        let producer = Producer::new(&client, config).await?;
        let mut work = Work {
            stage: &stage,
            options: &options,
            journal: &journal,
            producer: &producer,
            dice: &mut dice,
        };
        match work.all().await {
            Ok(()) => {}
            Err(error) if error.is_fenced() => {
                journal.record(What::Fenced);
                // An answer, too: whose turn it is nobody promises.
                journal.moved();
                stage.pause(dice.millis(100, options.fenced_ms)).await;
            }
            Err(error) => {
                journal.note(format_args!("makes a new producer: {error}"));
                stage.pause(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

struct Work<'a> {
    stage: &'a Stage,
    options: &'a Options,
    journal: &'a Journal,
    producer: &'a Producer,
    dice: &'a mut Dice,
}

impl Work<'_> {
    async fn all(&mut self) -> Result<(), ClientError> {
        let transactional_id = self.options.number;
        self.journal
            .record(What::ProducerStarting { transactional_id });
        self.producer.init_transactions().await?;
        self.journal
            .record(What::ProducerStarted { transactional_id });
        while !self.stage.stops() {
            if !self.one().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One transaction; false if it was left behind with its producer.
    async fn one(&mut self) -> Result<bool, ClientError> {
        let txn = self.journal.number();
        self.producer.begin_transaction()?;
        self.journal.record(What::TxnBegun { txn });
        let mut sent = Vec::new();
        let result = self.send(txn, &mut sent).await;
        let end = self.dice.below(100);
        let ended = match result {
            Err(error) => Err(error),
            Ok(()) if end < 8 => {
                self.settle(sent).await;
                self.journal.record(What::TxnUnknown { txn });
                return Ok(false);
            }
            Ok(()) if end < 25 => {
                let aborted = abort(self.producer, self.journal, txn).await;
                self.settle(sent).await;
                aborted?;
                self.journal.moved();
                return Ok(true);
            }
            Ok(()) => commit(self.producer, self.journal, txn).await,
        };
        match ended {
            Ok(()) => {
                self.settle(sent).await;
                self.journal.moved();
                Ok(true)
            }
            Err(ClientError::TransactionAbortable(_)) => {
                let aborted = abort(self.producer, self.journal, txn).await;
                self.settle(sent).await;
                aborted.map(|()| true)
            }
            Err(error) => {
                self.settle(sent).await;
                self.journal.record(What::TxnUnknown { txn });
                Err(error)
            }
        }
    }

    async fn send(&mut self, txn: u64, sent: &mut Vec<(u64, Delivery)>) -> Result<(), ClientError> {
        let partitions: Vec<_> = [0, 1]
            .into_iter()
            .flat_map(|topic| self.stage.partitions(topic))
            .collect();
        for _ in 0..self.dice.range(1, 8) {
            let partition = *self.dice.pick(&partitions);
            let value = self.journal.number();
            let filling = usize::try_from(self.dice.below(400)).unwrap();
            self.journal.record(What::Sent {
                producer: Means::Transactional(txn),
                partition,
                value,
            });
            let record = record(self.stage, partition, value, filling);
            match self.producer.send(record).await {
                Ok(delivery) => sent.push((value, delivery)),
                Err(error) => {
                    self.journal.record(What::Failed { value });
                    return Err(error);
                }
            }
            let rest = Duration::from_millis(self.dice.below(self.options.pace_ms));
            self.stage.pause(rest).await;
        }
        // Some wait long enough for the broker to lose patience.
        if self.dice.chance(5) {
            self.stage
                .pause(self.stage.plan.transaction_timeout * 2)
                .await;
        }
        Ok(())
    }

    /// Records what became of the records, as far as it is known by now.
    async fn settle(&self, sent: Vec<(u64, Delivery)>) {
        for (value, delivery) in sent {
            self.journal.record(match written(delivery).await {
                Some(offset) => What::Acked { value, offset },
                None => What::Unknown { value },
            });
        }
    }
}

/// The offset of a record, if it is known by now that it was written.
pub(super) async fn written(delivery: Delivery) -> Option<i64> {
    let outcome = tokio::time::timeout(Duration::from_millis(1), delivery).await;
    Some(outcome.ok()?.ok()?.offset)
}

/// Commits; records the outcome if it is known.
pub(super) async fn commit(
    producer: &Producer,
    journal: &Journal,
    txn: u64,
) -> Result<(), ClientError> {
    journal.record(What::TxnCommitting { txn });
    commit_asking_again(producer, journal, txn).await?;
    journal.record(What::TxnCommitted { txn });
    Ok(())
}

/// Commits, asking again where the outcome is not known.
pub(super) async fn commit_asking_again(
    producer: &Producer,
    journal: &Journal,
    txn: u64,
) -> Result<(), ClientError> {
    let mut attempts = 1;
    loop {
        match producer.commit_transaction().await {
            Err(error) if error.is_retriable() && attempts < 3 => {
                journal.note(format_args!("asks again for the commit of {txn}: {error}"));
                attempts += 1;
            }
            ended => return ended,
        }
    }
}

/// Aborts; records the outcome if it is known.
pub(super) async fn abort(
    producer: &Producer,
    journal: &Journal,
    txn: u64,
) -> Result<(), ClientError> {
    let aborted = producer.abort_transaction().await;
    journal.record(match aborted {
        Ok(()) => What::TxnAborted { txn },
        Err(_) => What::TxnUnknown { txn },
    });
    aborted
}
