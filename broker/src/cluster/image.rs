//! What the cluster is at one point of the metadata log: immutable once published, `apply` makes the next one. Pure.
//!
//! Read by every handler without a lock that a writer holds for long; made only by `cluster/mod.rs`, live and on replay by the same
//! [`ClusterImage::apply`].

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_protocol::id::{BrokerId, ProducerId, TopicId};

use super::record::{BrokerRecord, ConfigRecord, MetadataRecord, PartitionRecord, ResourceKind};

/// See the head of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterImage {
    topics: BTreeMap<String, Arc<TopicImage>>,
    names: BTreeMap<TopicId, String>,
    configs: BTreeMap<(ResourceKind, String), BTreeMap<String, String>>,
    brokers: BTreeMap<BrokerId, BrokerRecord>,
    features: BTreeMap<String, i16>,
    next_producer_id: ProducerId,
    version: i64,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Partition `i` at index `i`.
    pub partitions: Vec<PartitionRecord>,
}

impl TopicImage {
    /// Whether it belongs to the broker: `__consumer_offsets`, `__transaction_state`.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

/// Topics that only the broker writes (Kafka: `Topic.isInternal`).
#[must_use]
pub fn is_internal(topic: &str) -> bool {
    matches!(
        topic,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

impl ClusterImage {
    /// A topic by its name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by its id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// All brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerRecord> {
        self.brokers.values()
    }

    /// A broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&BrokerRecord> {
        self.brokers.get(&id)
    }

    /// What was set for a resource, by key.
    #[must_use]
    pub fn config(&self, kind: ResourceKind, resource: &str) -> Option<&BTreeMap<String, String>> {
        self.configs.get(&(kind, resource.to_owned()))
    }

    /// Features and their levels.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features
            .iter()
            .map(|(name, level)| (name.as_str(), *level))
    }

    /// Level of a feature, 0 if it is off.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// First producer id that no broker was given.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// How many records it was made of: grows with each change.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Takes in one record. The same line of code live and on replay.
    ///
    /// A record about a topic that does not exist has no effect: its topic was removed by an earlier one.
    pub fn apply(&mut self, record: &MetadataRecord) {
        self.version += 1;
        match record {
            MetadataRecord::Topic(topic) => {
                self.names.insert(topic.id, topic.name.clone());
                let image = TopicImage {
                    name: topic.name.clone(),
                    id: topic.id,
                    partitions: Vec::new(),
                };
                self.topics.insert(topic.name.clone(), Arc::new(image));
            }
            MetadataRecord::Partition(partition) => self.apply_partition(partition),
            MetadataRecord::RemoveTopic(remove) => {
                if let Some(name) = self.names.remove(&remove.id) {
                    self.topics.remove(&name);
                    self.configs.remove(&(ResourceKind::Topic, name));
                }
            }
            MetadataRecord::Config(config) => self.apply_config(config),
            MetadataRecord::ProducerIds(ids) => {
                self.next_producer_id = self.next_producer_id.max(ids.next_producer_id);
            }
            MetadataRecord::Broker(broker) => {
                self.brokers.insert(broker.id, broker.clone());
            }
            MetadataRecord::Feature(feature) => {
                self.features.insert(feature.name.clone(), feature.level);
            }
        }
    }

    fn apply_partition(&mut self, partition: &PartitionRecord) {
        let Some(topic) = self
            .names
            .get(&partition.topic_id)
            .and_then(|name| self.topics.get_mut(name))
        else {
            return;
        };
        let partitions = &mut Arc::make_mut(topic).partitions;
        let index = usize::try_from(partition.partition).expect("decide numbers partitions from 0");
        match partitions.get_mut(index) {
            Some(known) => known.clone_from(partition),
            None => {
                assert_eq!(index, partitions.len(), "decide writes partitions in order");
                partitions.push(partition.clone());
            }
        }
    }

    fn apply_config(&mut self, config: &ConfigRecord) {
        let resource = (config.kind, config.resource.clone());
        let settings = self.configs.entry(resource.clone()).or_default();
        match &config.value {
            Some(value) => {
                settings.insert(config.key.clone(), value.clone());
            }
            None => {
                settings.remove(&config.key);
            }
        }
        if settings.is_empty() {
            self.configs.remove(&resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::record::{RemoveTopicRecord, TopicRecord};

    const ID: TopicId = TopicId([1; 16]);

    fn image(records: &[MetadataRecord]) -> ClusterImage {
        let mut image = ClusterImage::default();
        records.iter().for_each(|record| image.apply(record));
        image
    }

    fn orders() -> Vec<MetadataRecord> {
        let partition = |partition, leader_epoch| {
            MetadataRecord::Partition(PartitionRecord {
                topic_id: ID,
                partition,
                replicas: vec![1],
                isr: vec![1],
                leader: 1,
                leader_epoch,
                partition_epoch: leader_epoch,
            })
        };
        vec![
            MetadataRecord::Topic(TopicRecord {
                name: "orders".to_owned(),
                id: ID,
            }),
            MetadataRecord::Config(ConfigRecord {
                kind: ResourceKind::Topic,
                resource: "orders".to_owned(),
                key: "retention.ms".to_owned(),
                value: Some("1".to_owned()),
            }),
            partition(0, 0),
            partition(1, 0),
            partition(0, 3),
        ]
    }

    #[test]
    fn a_topic_is_found_by_name_and_by_id() {
        let image = image(&orders());
        let topic = image.topic("orders").unwrap();
        assert_eq!(image.topic_by_id(ID), Some(topic));
        assert_eq!(
            topic
                .partitions
                .iter()
                .map(|p| p.leader_epoch)
                .collect::<Vec<_>>(),
            [3, 0]
        );
    }

    #[test]
    fn a_removed_topic_takes_its_configuration_with_it() {
        let mut records = orders();
        records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord { id: ID }));
        let image = image(&records);
        assert_eq!(image.version(), 6);
        assert_eq!(
            ClusterImage {
                version: 0,
                ..image
            },
            ClusterImage::default()
        );
    }

    #[test]
    fn an_older_image_does_not_see_later_changes() {
        let before = image(&orders());
        let mut after = before.clone();
        after.apply(&MetadataRecord::RemoveTopic(RemoveTopicRecord { id: ID }));
        assert!(before.topic("orders").is_some());
        assert!(after.topic("orders").is_none());
    }

    #[test]
    fn an_unset_key_is_gone() {
        let mut records = orders();
        records.push(MetadataRecord::Config(ConfigRecord {
            kind: ResourceKind::Topic,
            resource: "orders".to_owned(),
            key: "retention.ms".to_owned(),
            value: None,
        }));
        assert_eq!(image(&records).config(ResourceKind::Topic, "orders"), None);
    }
}
