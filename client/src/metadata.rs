//! What is known of the cluster: brokers, topics, who leads what. Pure.
//!
//! Owns the cache that `client.rs` fills from Metadata answers and hints; producers and consumers look up leaders in it. It never
//! asks anybody. Leader epochs only go up for a topic id, so a late answer does not bring an old leader back (KIP-320).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{BrokerId, LeaderEpoch, TopicId};
use flumen_protocol::message::MetadataResponse;
use flumen_protocol::message::metadata_response::MetadataResponseTopic;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Who leads a partition, and since which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) broker: BrokerId,
    /// -1 where the broker does not say.
    pub(crate) epoch: LeaderEpoch,
}

#[derive(Debug, Clone, Default)]
struct Topic {
    id: TopicId,
    /// By partition; none while there is no leader.
    leaders: Vec<Option<Leader>>,
    epochs: Vec<LeaderEpoch>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    version: u64,
    cluster_id: Option<String>,
    controller: Option<BrokerId>,
    brokers: BTreeMap<BrokerId, Endpoint>,
    topics: BTreeMap<Arc<str>, Topic>,
    errors: BTreeMap<String, ErrorCode>,
    /// Topics somebody works with; refreshes ask for these.
    wanted: BTreeSet<String>,
}

impl Metadata {
    /// Grows with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    pub(crate) fn controller(&self) -> Option<BrokerId> {
        self.controller
    }

    pub(crate) fn brokers(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.brokers.keys().copied()
    }

    pub(crate) fn endpoint(&self, broker: BrokerId) -> Option<&Endpoint> {
        self.brokers.get(&broker)
    }

    /// Somebody works with this topic.
    pub(crate) fn want(&mut self, topic: &str) {
        if !self.wanted.contains(topic) {
            self.wanted.insert(topic.to_owned());
        }
    }

    pub(crate) fn wanted(&self) -> Vec<String> {
        self.wanted.iter().cloned().collect()
    }

    /// Number of partitions, if the topic is known.
    pub(crate) fn partition_count(&self, topic: &str) -> Option<i32> {
        let topic = self.topics.get(topic)?;
        i32::try_from(topic.leaders.len())
            .ok()
            .filter(|count| *count > 0)
    }

    /// Why the last answer had nothing about this topic.
    pub(crate) fn topic_error(&self, topic: &str) -> Option<ErrorCode> {
        self.errors.get(topic).copied()
    }

    /// [`TopicId::NIL`] where unknown.
    pub(crate) fn topic_id(&self, topic: &str) -> TopicId {
        self.topics
            .get(topic)
            .map_or(TopicId::NIL, |topic| topic.id)
    }

    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        let index = usize::try_from(partition).ok()?;
        *self.topics.get(topic)?.leaders.get(index)?
    }

    /// Takes over an answer. Topics that it does not mention stay as they are.
    pub(crate) fn on_response(&mut self, response: &MetadataResponse) {
        self.version += 1;
        if response.cluster_id.is_some() {
            self.cluster_id.clone_from(&response.cluster_id);
        }
        self.controller = Some(response.controller_id).filter(|id| *id >= 0);
        if !response.brokers.is_empty() {
            self.brokers.clear();
        }
        for broker in &response.brokers {
            self.add_broker(broker.node_id, &broker.host, broker.port);
        }
        for topic in &response.topics {
            self.on_topic(topic);
        }
    }

    fn on_topic(&mut self, answer: &MetadataResponseTopic) {
        let Some(name) = answer.name.as_deref() else {
            return;
        };
        let code = ErrorCode::from_code(answer.error_code);
        if code == ErrorCode::None {
            self.errors.remove(name);
        } else {
            self.errors.insert(name.to_owned(), code);
            if matches!(
                code,
                ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
            ) {
                self.topics.remove(name);
            }
            return;
        }
        let name: Arc<str> = name.into();
        let old = self.topics.remove(&name).unwrap_or_default();
        // The same name with another id is another topic: nothing known of the old one holds.
        let same = old.id == answer.topic_id;
        let count = answer
            .partitions
            .iter()
            .filter_map(|partition| usize::try_from(partition.partition_index).ok())
            .max()
            .map_or(0, |last| last + 1)
            .min(answer.partitions.len());
        let mut topic = Topic {
            id: answer.topic_id,
            leaders: vec![None; count],
            epochs: vec![-1; count],
        };
        for partition in &answer.partitions {
            let Ok(index) = usize::try_from(partition.partition_index) else {
                continue;
            };
            if index >= count {
                continue;
            }
            let known = old
                .epochs
                .get(index)
                .copied()
                .filter(|_| same)
                .unwrap_or(-1);
            if partition.leader_epoch >= 0 && partition.leader_epoch < known {
                topic.leaders[index] = old.leaders[index];
                topic.epochs[index] = known;
                continue;
            }
            let leader = Leader {
                broker: partition.leader_id,
                epoch: partition.leader_epoch,
            };
            topic.leaders[index] = Some(leader).filter(|leader| leader.broker >= 0);
            topic.epochs[index] = partition.leader_epoch;
        }
        self.topics.insert(name, topic);
    }

    /// A refusal named the new leader (KIP-951). Says whether that was news.
    pub(crate) fn on_leader_hint(&mut self, topic: &str, partition: i32, leader: Leader) -> bool {
        let Ok(index) = usize::try_from(partition) else {
            return false;
        };
        let Some(known) = self.topics.get_mut(topic) else {
            return false;
        };
        let Some(epoch) = known.epochs.get_mut(index) else {
            return false;
        };
        if leader.broker < 0 || leader.epoch <= *epoch {
            return false;
        }
        *epoch = leader.epoch;
        known.leaders[index] = Some(leader);
        self.version += 1;
        true
    }

    /// Where a broker named by a hint listens.
    pub(crate) fn add_broker(&mut self, id: BrokerId, host: &str, port: i32) {
        if let Ok(port) = u16::try_from(port) {
            self.brokers.insert(
                id,
                Endpoint {
                    host: host.to_owned(),
                    port,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_protocol::message::metadata_response::MetadataResponsePartition;

    fn answer(id: u8, leaders: &[(i32, i32)]) -> MetadataResponse {
        let partitions = leaders
            .iter()
            .zip(0..)
            .map(
                |(&(leader_id, leader_epoch), index)| MetadataResponsePartition {
                    partition_index: index,
                    leader_id,
                    leader_epoch,
                    ..MetadataResponsePartition::default()
                },
            );
        let topic = MetadataResponseTopic {
            name: Some("t".to_owned()),
            topic_id: TopicId([id; 16]),
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        };
        MetadataResponse {
            topics: vec![topic],
            ..MetadataResponse::default()
        }
    }

    #[test]
    fn a_late_answer_does_not_bring_an_old_leader_back() {
        let mut metadata = Metadata::default();
        metadata.on_response(&answer(1, &[(1, 5)]));
        metadata.on_response(&answer(1, &[(2, 4)]));
        assert_eq!(
            metadata.leader("t", 0),
            Some(Leader {
                broker: 1,
                epoch: 5
            })
        );
        metadata.on_response(&answer(1, &[(2, 6)]));
        assert_eq!(
            metadata.leader("t", 0),
            Some(Leader {
                broker: 2,
                epoch: 6
            })
        );
    }

    #[test]
    fn a_topic_created_again_begins_anew() {
        let mut metadata = Metadata::default();
        metadata.on_response(&answer(1, &[(1, 5), (1, 5)]));
        metadata.on_response(&answer(2, &[(3, 0)]));
        assert_eq!(
            metadata.leader("t", 0),
            Some(Leader {
                broker: 3,
                epoch: 0
            })
        );
        assert_eq!(metadata.partition_count("t"), Some(1));
        assert_eq!(metadata.topic_id("t"), TopicId([2; 16]));
    }

    #[test]
    fn a_hint_counts_only_if_it_is_newer() {
        let mut metadata = Metadata::default();
        metadata.on_response(&answer(1, &[(1, 5)]));
        assert!(!metadata.on_leader_hint(
            "t",
            0,
            Leader {
                broker: 2,
                epoch: 5
            }
        ));
        assert!(!metadata.on_leader_hint(
            "t",
            7,
            Leader {
                broker: 2,
                epoch: 9
            }
        ));
        assert!(metadata.on_leader_hint(
            "t",
            0,
            Leader {
                broker: 2,
                epoch: 6
            }
        ));
        assert_eq!(
            metadata.leader("t", 0),
            Some(Leader {
                broker: 2,
                epoch: 6
            })
        );
    }

    #[test]
    fn a_partition_without_leader_counts_as_a_partition() {
        let mut metadata = Metadata::default();
        metadata.on_response(&answer(1, &[(-1, 5), (1, 2)]));
        assert_eq!(
            (metadata.leader("t", 0), metadata.partition_count("t")),
            (None, Some(2))
        );
    }
}
