//! Records of `__consumer_offsets`, byte for byte as Kafka writes them, so that its tools can read ours.
//!
//! | key | value |
//! |---|---|
//! | `i16 = 1`, group, topic, partition | `i16 = 3` (1 if the commit named its own expiry), `OffsetCommitValue` |
//! | `i16 = 2`, group | `i16 = 3`, `GroupMetadataValue` |
//!
//! A record without value is a tombstone. Keys of other versions belong to newer group protocols and are skipped when read.

use bytes::Bytes;
use flumen_protocol::codec::{DecodeError, EncodeError, decode_prefixed, encode_prefixed};
use flumen_protocol::id::{LeaderEpoch, Offset, TopicPartition};
use flumen_protocol::message::group_metadata_value::MemberMetadata as MemberValue;
use flumen_protocol::message::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetRecord {
    pub(crate) offset: Offset,
    /// Epoch of the last consumed record, -1 if the client did not say.
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) metadata: String,
    pub(crate) commit_timestamp_ms: i64,
    /// Only if the client named one (OffsetCommit v2-4).
    pub(crate) expire_timestamp_ms: Option<i64>,
}

impl Default for OffsetRecord {
    fn default() -> OffsetRecord {
        OffsetRecord {
            offset: -1,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp_ms: -1,
            expire_timestamp_ms: None,
        }
    }
}

/// A classic group at its last stable generation, or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupMetadata {
    pub(crate) protocol_type: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    /// -1 where the record is too old to say.
    pub(crate) state_timestamp_ms: i64,
    pub(crate) members: Vec<MemberMetadata>,
}

/// A member of a [`GroupMetadata`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberMetadata {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

/// What a group writes; `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupRecord {
    Offset {
        group: String,
        partition: TopicPartition,
        value: Option<OffsetRecord>,
    },
    Metadata {
        group: String,
        value: Option<GroupMetadata>,
    },
}

impl GroupRecord {
    /// The group it is of.
    pub(crate) fn group(&self) -> &str {
        match self {
            GroupRecord::Offset { group, .. } | GroupRecord::Metadata { group, .. } => group,
        }
    }

    /// Key and value as they lie in the log.
    ///
    /// # Errors
    /// A name is longer than a record can carry (32,767 bytes); handlers refuse such requests before.
    pub(crate) fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            GroupRecord::Offset {
                group,
                partition,
                value,
            } => {
                let key = OffsetCommitKey {
                    group: group.clone(),
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                };
                let value = value.as_ref().map(encode_offset).transpose()?;
                Ok((encode_prefixed(&key, OFFSET_KEY_VERSION)?, value))
            }
            GroupRecord::Metadata { group, value } => {
                let key = GroupMetadataKey {
                    group: group.clone(),
                };
                let value = value.as_ref().map(encode_group).transpose()?;
                Ok((encode_prefixed(&key, GROUP_KEY_VERSION)?, value))
            }
        }
    }

    /// The record behind key and value; none if it belongs to a group protocol of another kind.
    ///
    /// # Errors
    /// The bytes are not what their version says.
    pub(crate) fn decode(
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<Option<GroupRecord>, DecodeError> {
        let version = key
            .first_chunk::<2>()
            .map(|prefix| i16::from_be_bytes(*prefix));
        match version {
            Some(0 | OFFSET_KEY_VERSION) => {
                let (_, key) = decode_prefixed::<OffsetCommitKey>(key)?;
                let partition = TopicPartition::new(key.topic, key.partition);
                let value = value.map(decode_offset).transpose()?;
                Ok(Some(GroupRecord::Offset {
                    group: key.group,
                    partition,
                    value,
                }))
            }
            Some(GROUP_KEY_VERSION) => {
                let (_, key) = decode_prefixed::<GroupMetadataKey>(key)?;
                let value = value.map(decode_group).transpose()?;
                Ok(Some(GroupRecord::Metadata {
                    group: key.group,
                    value,
                }))
            }
            _ => Ok(None),
        }
    }
}

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const VALUE_VERSION: i16 = 3;
/// The last version with an expiry; it has no leader epoch.
const EXPIRING_VALUE_VERSION: i16 = 1;

fn encode_offset(offset: &OffsetRecord) -> Result<Bytes, EncodeError> {
    let value = OffsetCommitValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_timestamp: offset.commit_timestamp_ms,
        expire_timestamp: offset.expire_timestamp_ms.unwrap_or(-1),
        ..OffsetCommitValue::default()
    };
    let version = if offset.expire_timestamp_ms.is_some() {
        EXPIRING_VALUE_VERSION
    } else {
        VALUE_VERSION
    };
    encode_prefixed(&value, version)
}

fn decode_offset(bytes: Bytes) -> Result<OffsetRecord, DecodeError> {
    let (_, value) = decode_prefixed::<OffsetCommitValue>(bytes)?;
    Ok(OffsetRecord {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: Some(value.expire_timestamp).filter(|at| *at >= 0),
    })
}

fn encode_group(group: &GroupMetadata) -> Result<Bytes, EncodeError> {
    let members = group.members.iter().map(|member| MemberValue {
        member_id: member.member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
        ..MemberValue::default()
    });
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.clone(),
        generation: group.generation,
        protocol: group.protocol.clone(),
        leader: group.leader.clone(),
        current_state_timestamp: group.state_timestamp_ms,
        members: members.collect(),
        ..GroupMetadataValue::default()
    };
    encode_prefixed(&value, VALUE_VERSION)
}

fn decode_group(bytes: Bytes) -> Result<GroupMetadata, DecodeError> {
    let (_, value) = decode_prefixed::<GroupMetadataValue>(bytes)?;
    let members = value.members.into_iter().map(|member| MemberMetadata {
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        // Version 0 has one timeout for both.
        rebalance_timeout_ms: if member.rebalance_timeout < 0 {
            member.session_timeout
        } else {
            member.rebalance_timeout
        },
        session_timeout_ms: member.session_timeout,
        // Copies: slices would keep the whole batch in memory for as long as the group lives.
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    });
    Ok(GroupMetadata {
        protocol_type: value.protocol_type,
        generation: value.generation,
        protocol: value.protocol,
        leader: value.leader,
        state_timestamp_ms: value.current_state_timestamp,
        members: members.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn round_trip(record: &GroupRecord) -> (String, String) {
        let (key, value) = record.encode().unwrap();
        assert_eq!(
            GroupRecord::decode(key.clone(), value.clone())
                .unwrap()
                .as_ref(),
            Some(record)
        );
        (
            hex(&key),
            value.map(|value| hex(&value)).unwrap_or_default(),
        )
    }

    #[test]
    fn an_offset_is_kafkas_bytes() {
        let mut offset = OffsetRecord {
            offset: 42,
            leader_epoch: 3,
            metadata: "m".to_owned(),
            commit_timestamp_ms: 1_000,
            expire_timestamp_ms: None,
        };
        let record = |value| GroupRecord::Offset {
            group: "g".to_owned(),
            partition: TopicPartition::new("t", 1),
            value,
        };
        let key = "00010001670001740000 0001".replace(' ', "");
        let value = "0003 000000000000002a 00000003 0001 6d 00000000000003e8".replace(' ', "");
        assert_eq!(
            round_trip(&record(Some(offset.clone()))),
            (key.clone(), value)
        );
        assert_eq!(round_trip(&record(None)), (key.clone(), String::new()));
        // With an expiry of its own it is version 1, which has no leader epoch.
        offset.expire_timestamp_ms = Some(2_000);
        offset.leader_epoch = -1;
        let value =
            "0001 000000000000002a 0001 6d 00000000000003e8 00000000000007d0".replace(' ', "");
        assert_eq!(round_trip(&record(Some(offset))), (key, value));
    }

    #[test]
    fn a_group_is_kafkas_bytes() {
        let member = MemberMetadata {
            member_id: "a".to_owned(),
            instance_id: Some("i".to_owned()),
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            rebalance_timeout_ms: 2,
            session_timeout_ms: 1,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"x"),
        };
        let group = GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 7,
            protocol: Some("range".to_owned()),
            leader: Some("a".to_owned()),
            state_timestamp_ms: 1_000,
            members: vec![member],
        };
        let record = |value| GroupRecord::Metadata {
            group: "g".to_owned(),
            value,
        };
        let value = "0003 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 61 00000000000003e8 00000001 0001 61 0001 69 0001 63                      0002 2f68 00000002 00000001 00000001 73 00000001 78"
            .replace(' ', "");
        assert_eq!(
            round_trip(&record(Some(group))),
            ("0002000167".to_owned(), value)
        );
        assert_eq!(
            round_trip(&record(None)),
            ("0002000167".to_owned(), String::new())
        );
    }

    #[test]
    fn records_of_newer_group_protocols_are_skipped() {
        assert_eq!(
            GroupRecord::decode(Bytes::from_static(&[0, 3, 0, 1, b'g']), None),
            Ok(None)
        );
        assert_eq!(GroupRecord::decode(Bytes::new(), None), Ok(None));
        assert!(GroupRecord::decode(Bytes::from_static(&[0, 2, 0, 9, b'g']), None).is_err());
    }
}
