//! More partitions for topics that exist, each topic for itself. Pure.
//!
//! Source: Kafka `ReplicationControlManager.createPartitions`; KIP-195.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::BrokerId;

use super::{Command, Decision, Layout, MAX_NEW_PARTITIONS, Refused, check_replicas, lay_out};
use crate::cluster::image::ClusterImage;
use crate::cluster::record::{MetadataRecord, PartitionRecord};

/// Adds partitions. What a key hashes to changes with their number: that is the caller's to know.
#[derive(Debug, Clone)]
pub(crate) struct CreatePartitions {
    pub(crate) topics: Vec<MorePartitions>,
}

/// One topic that is to have more.
#[derive(Debug, Clone)]
pub(crate) struct MorePartitions {
    pub(crate) topic: String,
    /// How many it is to have in all.
    pub(crate) count: i32,
    /// Replicas of each new one; `None` leaves it to the cluster.
    pub(crate) assigned: Option<Vec<Vec<BrokerId>>>,
}

impl Command for CreatePartitions {
    type Reply = Vec<Result<(), Refused>>;

    fn decide(&self, image: &ClusterImage) -> Result<Decision<Self::Reply>, Refused> {
        let mut records: Vec<MetadataRecord> = Vec::new();
        let reply = self.topics.iter().map(|more| {
            let made = decide_topic(image, more)?;
            if records.len() + made.len() > MAX_NEW_PARTITIONS {
                let message =
                    format!("more than {MAX_NEW_PARTITIONS} new partitions in one request");
                return Err(Refused::new(ErrorCode::PolicyViolation, message));
            }
            records.extend(made);
            Ok(())
        });
        let reply = reply.collect();
        Ok(Decision { records, reply })
    }
}

fn decide_topic(
    image: &ClusterImage,
    more: &MorePartitions,
) -> Result<Vec<MetadataRecord>, Refused> {
    let name = &more.topic;
    let topic = image.topic(name).ok_or_else(|| {
        let message = format!("the topic '{name}' does not exist");
        Refused::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    if topic.is_internal() {
        let message =
            format!("'{name}' is internal: what is where depends on its number of partitions");
        return Err(Refused::new(ErrorCode::InvalidTopicException, message));
    }
    let now = topic.partitions.len();
    let wanted = usize::try_from(more.count).unwrap_or(0);
    if wanted <= now {
        let message = if wanted == now {
            format!("topic already has {now} partition(s)")
        } else {
            format!(
                "the topic {name} currently has {now} partition(s); {} would not be an increase",
                more.count
            )
        };
        return Err(Refused::new(ErrorCode::InvalidPartitions, message));
    }
    let replicas = match &more.assigned {
        Some(assigned) => check_assigned(image, topic, wanted - now, assigned)?,
        None => {
            let layout = Layout::Counted {
                partitions: i32::try_from(wanted - now).unwrap_or(i32::MAX),
                replicas: i32::try_from(topic.partitions[0].replicas.len()).unwrap_or(1),
            };
            lay_out(image, &layout, now)?
        }
    };
    let partition = |(replicas, partition): (Vec<BrokerId>, i32)| {
        MetadataRecord::Partition(PartitionRecord {
            topic_id: topic.id,
            partition,
            leader: replicas[0],
            isr: replicas.clone(),
            replicas,
            leader_epoch: 0,
            partition_epoch: 0,
        })
    };
    let first = i32::try_from(now).expect("partitions are numbered by i32");
    Ok(replicas.into_iter().zip(first..).map(partition).collect())
}

fn check_assigned(
    image: &ClusterImage,
    topic: &crate::cluster::image::TopicImage,
    new: usize,
    assigned: &[Vec<BrokerId>],
) -> Result<Vec<Vec<BrokerId>>, Refused> {
    if assigned.len() != new {
        let message = format!(
            "attempted to add {new} additional partition(s), but only {} assignment(s) were specified",
            assigned.len()
        );
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let factor = topic.partitions[0].replicas.len();
    for (replicas, partition) in assigned.iter().zip(topic.partitions.len()..) {
        check_replicas(image, partition, replicas, factor)?;
    }
    Ok(assigned.to_vec())
}
