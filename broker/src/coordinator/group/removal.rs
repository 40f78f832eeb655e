//! Offsets that a tool takes away (OffsetDelete, KIP-496). Part of [`GroupShard`]; reads, and returns the records.

use std::collections::BTreeSet;

use flumen_protocol::codec::decode_prefixed_lenient;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;
use flumen_protocol::message::ConsumerProtocolSubscription;

use super::classic::{Membership, Phase};
use super::record::GroupRecord;
use super::{GroupShard, tombstones};

/// Protocol type of consumers.
const CONSUMER: &str = "consumer";

impl GroupShard {
    /// Deletes the offsets of `partitions`, where no member is subscribed to the topic: one code each, in order.
    ///
    /// # Errors
    /// A code for the whole request: `GROUP_ID_NOT_FOUND`; `NON_EMPTY_GROUP` if its members are no consumers, so that nobody knows
    /// what they read.
    /// Source: Kafka `OffsetMetadataManager.deleteOffsets`.
    pub(crate) fn delete_offsets(
        &self,
        group_id: &str,
        partitions: &[TopicPartition],
    ) -> Result<(Vec<ErrorCode>, Vec<GroupRecord>), ErrorCode> {
        let group = self
            .groups
            .get(group_id)
            .ok_or(ErrorCode::GroupIdNotFound)?;
        let membership = &group.membership;
        if membership.phase() != Phase::Empty && membership.protocol_type() != Some(CONSUMER) {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let subscribed = subscribed_topics(membership);
        let code = |partition: &TopicPartition| {
            if subscribed.contains(&partition.topic) {
                ErrorCode::GroupSubscribedToTopic
            } else if group.image.offsets.is_unstable(partition) {
                // The transaction that holds it may still commit.
                ErrorCode::UnstableOffsetCommit
            } else {
                ErrorCode::None
            }
        };
        let codes: Vec<ErrorCode> = partitions.iter().map(code).collect();
        let asked: BTreeSet<&TopicPartition> = partitions
            .iter()
            .zip(&codes)
            .filter_map(|(partition, code)| code.is_none().then_some(partition))
            .collect();
        let gone = group
            .image
            .offsets
            .removable(|partition, _| asked.contains(partition));
        Ok((codes, tombstones(group_id, gone)))
    }
}

/// Every topic that a member names in any of its protocols: while a rebalance runs, none of them is chosen yet.
fn subscribed_topics(membership: &Membership) -> BTreeSet<String> {
    let offered = membership.members().flat_map(|member| &member.protocols);
    let read = offered.filter_map(|protocol| {
        decode_prefixed_lenient::<ConsumerProtocolSubscription>(protocol.metadata.clone()).ok()
    });
    read.flat_map(|(_, subscription)| subscription.topics)
        .collect()
}
