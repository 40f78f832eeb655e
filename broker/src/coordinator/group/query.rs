//! What can be read of groups: committed offsets, descriptions, the list. Part of [`GroupShard`]; changes nothing.

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;

use super::GroupShard;
use super::classic::Phase;
use super::record::OffsetRecord;

/// One partition's answer to OffsetFetch: `Ok(None)` if nothing is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchedOffset {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Result<Option<OffsetRecord>, ErrorCode>,
}

/// A group as DescribeGroups prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescribedGroup {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
    /// Only of a stable group.
    pub(crate) protocol: String,
    pub(crate) members: Vec<DescribedMember>,
}

/// A member as DescribeGroups prints it; metadata and assignment of a stable group only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescribedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

/// A group as ListGroups prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedGroup {
    pub(crate) group_id: String,
    pub(crate) protocol_type: String,
    pub(crate) state: &'static str,
}

impl GroupShard {
    /// The committed offsets of `partitions`, or of all that have one. With `require_stable`, a partition whose next offset an
    /// open transaction holds back is answered UNSTABLE_OFFSET_COMMIT: the caller would process records twice (KIP-447).
    pub(crate) fn fetch(
        &self,
        group_id: &str,
        partitions: Option<&[TopicPartition]>,
        require_stable: bool,
    ) -> Vec<FetchedOffset> {
        let offsets = self.groups.get(group_id).map(|group| &group.image.offsets);
        let answer = |partition: &TopicPartition| {
            let unstable =
                require_stable && offsets.is_some_and(|offsets| offsets.is_unstable(partition));
            let offset = match unstable {
                true => Err(ErrorCode::UnstableOffsetCommit),
                false => Ok(offsets.and_then(|offsets| offsets.get(partition)).cloned()),
            };
            FetchedOffset {
                partition: partition.clone(),
                offset,
            }
        };
        match (partitions, offsets) {
            (Some(partitions), _) => partitions.iter().map(answer).collect(),
            (None, Some(offsets)) => offsets
                .iter()
                .map(|(partition, _)| answer(partition))
                .collect(),
            (None, None) => Vec::new(),
        }
    }

    /// The group, if there is one.
    pub(crate) fn describe(&self, group_id: &str) -> Option<DescribedGroup> {
        let membership = &self.groups.get(group_id)?.membership;
        let stable = membership.phase() == Phase::Stable;
        let protocol = if stable {
            membership.protocol().unwrap_or_default()
        } else {
            ""
        };
        let members = membership.members().map(|member| DescribedMember {
            member_id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable {
                member.metadata(protocol)
            } else {
                Bytes::new()
            },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        Some(DescribedGroup {
            state: membership.phase().name(),
            protocol_type: membership.protocol_type().unwrap_or_default().to_owned(),
            protocol: protocol.to_owned(),
            members: members.collect(),
        })
    }

    /// Every group of the shard.
    pub(crate) fn list(&self) -> Vec<ListedGroup> {
        let listed = self.groups.iter().map(|(group_id, group)| ListedGroup {
            group_id: group_id.clone(),
            protocol_type: group
                .membership
                .protocol_type()
                .unwrap_or_default()
                .to_owned(),
            state: group.membership.phase().name(),
        });
        listed.collect()
    }
}
