//! Which partitions live on this broker: found by topic name or topic id, opened and removed as the cluster image says.
//!
//! Look-ups take a read lock for as long as cloning an `Arc` takes. Changed only by `cluster/mod.rs`, after a decision is durable.

use std::collections::HashMap;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{TopicId, TopicPartition};
use foldhash::fast::FixedState;
use parking_lot::RwLock;

use super::Partition;

/// The partitions of one topic on this broker, by number.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Partition `i` at index `i`; `None` where another broker has it, or its log is damaged.
    pub partitions: Vec<Option<Arc<Partition>>>,
}

impl Topic {
    /// A partition by its number.
    #[must_use]
    pub fn partition(&self, number: i32) -> Option<&Arc<Partition>> {
        usize::try_from(number)
            .ok()
            .and_then(|i| self.partitions.get(i))
            .and_then(Option::as_ref)
    }

    /// A partition by its number, for a request.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`; `KAFKA_STORAGE_ERROR` if it exists and its log could not be opened.
    pub(crate) fn opened(&self, number: i32) -> Result<&Arc<Partition>, ErrorCode> {
        let exists = usize::try_from(number).is_ok_and(|i| i < self.partitions.len());
        self.partition(number).ok_or(if exists {
            ErrorCode::KafkaStorageError
        } else {
            ErrorCode::UnknownTopicOrPartition
        })
    }
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Partitions {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_name: HashMap<String, Arc<Topic>, FixedState>,
    by_id: HashMap<TopicId, Arc<Topic>, FixedState>,
}

impl Partitions {
    /// A topic by name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.tables.read().by_name.get(name).cloned()
    }

    /// A topic by id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.tables.read().by_id.get(&id).cloned()
    }

    /// A partition by topic name and number.
    #[must_use]
    pub fn find(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.tables
            .read()
            .by_name
            .get(topic)?
            .partition(partition)
            .cloned()
    }

    /// A partition by topic name and number, for a request.
    ///
    /// # Errors
    /// As [`Topic::opened`].
    pub(crate) fn opened(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ErrorCode> {
        let topic = self.topic(topic);
        let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        topic.opened(partition).cloned()
    }

    /// A partition by name.
    #[must_use]
    pub fn get(&self, name: &TopicPartition) -> Option<Arc<Partition>> {
        self.find(&name.topic, name.partition)
    }

    /// Every partition, in order of topic and number.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let mut topics: Vec<_> = self.tables.read().by_name.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().flatten().cloned())
            .collect()
    }

    /// Puts a topic in, in place of the one of the same name.
    pub(crate) fn insert(&self, topic: Topic) {
        let topic = Arc::new(topic);
        let mut tables = self.tables.write();
        if let Some(old) = tables
            .by_name
            .insert(topic.name.clone(), Arc::clone(&topic))
        {
            tables.by_id.remove(&old.id);
        }
        tables.by_id.insert(topic.id, topic);
    }

    /// Takes a topic out and refuses what still waits for its partitions.
    pub(crate) fn remove(&self, id: TopicId) -> Option<Arc<Topic>> {
        let topic = {
            let mut tables = self.tables.write();
            let topic = tables.by_id.remove(&id)?;
            tables.by_name.remove(&topic.name);
            topic
        };
        for partition in topic.partitions.iter().flatten() {
            partition.close(ErrorCode::UnknownTopicOrPartition);
        }
        Some(topic)
    }
}
