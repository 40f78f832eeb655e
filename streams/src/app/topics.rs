//! The topics of an application, before it starts: those of the user must be there, the internal ones are made.

use std::collections::{BTreeMap, BTreeSet};

use flumen_client::{Admin, Client, ClientError, NewTopic};

use crate::config::StreamsConfig;
use crate::error::StreamsError;
use crate::topology::{InternalTopic, TopicRef, Topology};

/// Partitions are two bytes in the keys of a store.
const PARTITIONS_MAX: i32 = 1 << 16;

/// What is known of the topics.
pub(crate) struct Topics {
    /// Of every topic read or written.
    pub(crate) partitions: BTreeMap<String, i32>,
    /// Internal topics that are read.
    pub(crate) internal: BTreeSet<String>,
    pub(crate) task_counts: Vec<i32>,
}

/// Looks the user's topics up and makes the internal ones.
///
/// # Errors
/// [`StreamsError::Topic`]: one is missing, or an internal one has another number of partitions than the topology needs.
pub(crate) async fn prepare(
    client: &Client,
    topology: &Topology,
    config: &StreamsConfig,
) -> Result<Topics, StreamsError> {
    let admin = Admin::new(client);
    let application = config.application_id.as_str();
    let external: BTreeSet<String> = topology
        .source_topics()
        .union(&topology.sink_topics())
        .cloned()
        .collect();
    let mut partitions = counts(&admin, external.iter()).await?;
    for topic in &external {
        if !partitions.contains_key(topic) {
            let reason = if topology.source_topics().contains(topic) {
                "does not exist, and the application reads it"
            } else {
                "does not exist, and the application writes it"
            };
            return Err(StreamsError::Topic {
                topic: topic.clone(),
                reason: reason.to_owned(),
            });
        }
    }
    let internal = topology.internal_topics(application, &partitions);
    let missing: Vec<NewTopic> = internal
        .iter()
        .map(|topic| new_topic(topic, config))
        .collect();
    // Another instance may be faster: what matters is how they are in the end.
    admin.ensure_topics(&missing).await?;
    let existing = counts(&admin, internal.iter().map(|topic| &topic.name)).await?;
    for topic in internal {
        let count = existing
            .get(&topic.name)
            .copied()
            .unwrap_or(topic.partitions);
        check(&topic, count)?;
        partitions.insert(topic.name, count);
    }
    let read = topology
        .subtopologies()
        .iter()
        .flat_map(|subtopology| &subtopology.sources);
    let internal = read
        .filter(|source| matches!(source, TopicRef::Repartition { .. }))
        .map(|source| source.topic(application));
    Ok(Topics {
        internal: internal.collect(),
        task_counts: topology.task_counts(&partitions),
        partitions,
    })
}

fn new_topic(topic: &InternalTopic, config: &StreamsConfig) -> NewTopic {
    let mut new = NewTopic::new(&topic.name, topic.partitions);
    new.replication_factor = config.replication_factor.unwrap_or(-1);
    new.configs = topic.configs.clone();
    new
}

fn check(topic: &InternalTopic, count: i32) -> Result<(), StreamsError> {
    let wrong = |reason: String| StreamsError::Topic {
        topic: topic.name.clone(),
        reason,
    };
    if count > PARTITIONS_MAX {
        return Err(wrong(format!(
            "has {count} partitions; at most {PARTITIONS_MAX} are possible"
        )));
    }
    if count != topic.partitions {
        let needed = topic.partitions;
        return Err(wrong(format!(
            "has {count} partitions, the topology needs {needed}: an input was resized, or another application made it. \
             Reset the application (delete its internal topics and state) or give it another application_id"
        )));
    }
    Ok(())
}

/// The partitions of those topics that exist.
async fn counts(
    admin: &Admin,
    topics: impl Iterator<Item = &String>,
) -> Result<BTreeMap<String, i32>, StreamsError> {
    let mut counts = BTreeMap::new();
    for topic in topics {
        match admin.describe_topic(topic).await {
            Ok(found) => {
                counts.insert(
                    topic.clone(),
                    i32::try_from(found.partitions.len()).unwrap_or(i32::MAX),
                );
            }
            Err(ClientError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(counts)
}
