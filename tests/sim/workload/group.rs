//! A member of a group: reads what it is given, commits what it has read, leaves and comes back.

use std::time::Duration;

use flumen_checker::{Group, Outcome, What};
use flumen_client::{
    ClientError, Consumer, ConsumerConfig, CooperativeStickyAssignor, Isolation, OffsetAndMetadata,
    Poll, RangeAssignor, TopicPartition,
};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stage;
use super::consumer::read;
use crate::dice::Dice;
use crate::plan::Profile;
use crate::recorder::Journal;

/// The group's name and number.
const GROUP: (&str, Group) = ("readers", 0);

#[derive(Clone, Debug)]
pub(crate) struct Options {
    cooperative: bool,
    /// Polls after which it leaves, at most.
    stays: u64,
}

impl Options {
    pub(crate) fn of(profile: Profile, dice: &mut Dice) -> Options {
        Options {
            cooperative: dice.chance(50),
            stays: match profile {
                Profile::Groups => 60,
                _ => 300,
            },
        }
    }
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    let mut dice = stage.dice("group");
    while !stage.stops() {
        let journal = stage.process();
        let config = ConsumerConfig {
            isolation: Isolation::ReadCommitted,
            // All members know both, so that the group always finds one.
            assignors: match options.cooperative {
                true => vec![Arc::new(CooperativeStickyAssignor), Arc::new(RangeAssignor)],
                false => vec![Arc::new(RangeAssignor), Arc::new(CooperativeStickyAssignor)],
            },
            group_id: Some(GROUP.0.to_owned()),
            ..stage.consumer_config()
        };
        let consumer = Consumer::new(&client, config).await?;
        consumer.subscribe(&["plain", "ledger"]).await?;
        let mut member = Member {
            stage: &stage,
            journal: &journal,
            consumer: &consumer,
            read_to: BTreeMap::new(),
        };
        for _ in 0..dice.range(5, options.stays) {
            if stage.stops() || !member.turn(&mut dice).await {
                break;
            }
        }
        let leaves = dice.chance(70);
        let partitions = consumer.assignment();
        journal.record(What::Revoked {
            partitions: partitions.iter().map(|at| stage.known(at)).collect(),
        });
        match leaves {
            true => consumer.close().await,
            false => drop(consumer),
        }
        stage.pause(dice.millis(0, 2_000)).await;
    }
    Ok(())
}

struct Member<'a> {
    stage: &'a Stage,
    journal: &'a Journal,
    consumer: &'a Consumer,
    /// Next offset of each partition it has read from.
    read_to: BTreeMap<TopicPartition, i64>,
}

impl Member<'_> {
    /// One poll and what follows; false if the consumer cannot go on.
    async fn turn(&mut self, dice: &mut Dice) -> bool {
        let poll = self.consumer.poll_batches(Duration::from_millis(400)).await;
        match poll {
            Ok(Poll::Records(pieces)) => {
                for piece in &pieces {
                    let read = read(self.stage, piece, Isolation::ReadCommitted);
                    self.journal.record(What::Polled(read));
                    self.read_to
                        .insert(piece.partition.clone(), piece.next_offset);
                }
                if dice.chance(40) {
                    self.commit().await;
                }
            }
            Ok(Poll::Assigned(_)) => {
                self.assigned();
                if dice.chance(50) {
                    self.fetch().await;
                }
            }
            Ok(Poll::Revoking(partitions)) => {
                self.commit().await;
                self.gone(&partitions);
                self.consumer.rebalance_done();
            }
            Ok(Poll::Lost(partitions)) => self.gone(&partitions),
            Ok(Poll::PositionLost { partition, .. }) => {
                self.gone(std::slice::from_ref(&partition));
                let _ = self.consumer.seek_to_beginning(&partition);
            }
            // Who owns nothing has nothing to do.
            Ok(Poll::Idle) if self.consumer.assignment().is_empty() => self.journal.moved(),
            Ok(Poll::Idle) => {}
            Err(error) => {
                self.journal.note(format_args!("polls: {error}"));
                return !error.is_fenced();
            }
        }
        self.stage.pause(dice.millis(0, 150)).await;
        true
    }

    fn assigned(&self) {
        let metadata = self.consumer.group_metadata();
        let partitions = self.consumer.assignment();
        self.journal.record(What::Assigned {
            group: Some(GROUP.1),
            generation: metadata.generation_id,
            partitions: partitions.iter().map(|at| self.stage.known(at)).collect(),
        });
        self.journal.moved();
    }

    /// Asks where the group is in its partitions.
    async fn fetch(&self) {
        let partitions = self.consumer.assignment();
        self.journal
            .record(What::OffsetsFetching { group: GROUP.1 });
        let Ok(committed) = self.consumer.committed(&partitions).await else {
            return;
        };
        for partition in &partitions {
            self.journal.record(What::OffsetsFetched {
                group: GROUP.1,
                partition: self.stage.known(partition),
                offset: committed.get(partition).map_or(-1, |at| at.offset),
            });
        }
    }

    fn gone(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.read_to.remove(partition);
        }
        self.journal.record(What::Revoked {
            partitions: partitions.iter().map(|at| self.stage.known(at)).collect(),
        });
    }

    /// Commits what was read since the last commit.
    async fn commit(&mut self) {
        let offsets = std::mem::take(&mut self.read_to);
        if offsets.is_empty() {
            return;
        }
        let generation = Some(self.consumer.group_metadata().generation_id);
        let mut commits = Vec::new();
        for (partition, offset) in &offsets {
            let commit = self.journal.number();
            commits.push(commit);
            self.journal.record(What::OffsetsCommitting {
                commit,
                group: GROUP.1,
                generation,
                partition: self.stage.known(partition),
                offset: *offset,
            });
        }
        let offsets: Vec<_> = offsets
            .into_iter()
            .map(|(partition, offset)| (partition, OffsetAndMetadata::new(offset)))
            .collect();
        let outcome = match self.consumer.commit(&offsets).await {
            Ok(()) => Outcome::Acked,
            // Its last try was; one before it, whose answer got lost, may have done it.
            Err(ClientError::Rebalance(_) | ClientError::Fenced(_)) => {
                self.journal.refused(commits.len());
                Outcome::Unknown
            }
            Err(_) => Outcome::Unknown,
        };
        for commit in commits {
            self.journal
                .record(What::OffsetsCommitted { commit, outcome });
        }
        if outcome == Outcome::Acked {
            self.journal.moved();
        }
    }
}
