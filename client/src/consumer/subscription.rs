//! What members of a consumer group tell each other: bytes inside JoinGroup and SyncGroup. Pure.
//!
//! Owns the way between [`MemberSubscription`], [`MemberAssignment`] and Kafka's `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`. `membership.rs` writes and reads them; so does the group's leader, whatever client that is.
//! Brokers never look inside.

use bytes::Bytes;
use flumen_protocol::codec::{
    DecodeError, Fault, Message, decode_prefixed_lenient, encode_prefixed,
};
use flumen_protocol::id::TopicPartition;
use flumen_protocol::message::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    consumer_protocol_assignment as given, consumer_protocol_subscription as told,
};

use super::assignor::{MemberAssignment, MemberSubscription};

/// Partitions by topic, in order.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> Vec<(String, Vec<i32>)> {
    let mut sorted: Vec<&TopicPartition> = partitions.iter().collect();
    sorted.sort();
    sorted
        .chunk_by(|left, right| left.topic == right.topic)
        .map(|run| {
            (
                run[0].topic.clone(),
                run.iter().map(|each| each.partition).collect(),
            )
        })
        .collect()
}

/// Most bytes that the topics' names may take, once with each of their partitions: what a member tells is a few bytes per partition,
/// and its leader must not die of a long name with many of them.
pub(super) const NAMES_BYTES_MAX: usize = 16 << 20;

fn flat<'a>(
    field: &'static str,
    topics: impl Iterator<Item = (&'a String, &'a Vec<i32>)> + Clone,
) -> Result<Vec<TopicPartition>, DecodeError> {
    let names = topics
        .clone()
        .map(|(topic, partitions)| topic.len() * partitions.len());
    if names.sum::<usize>() > NAMES_BYTES_MAX {
        return Err(DecodeError::Malformed {
            message: "ConsumerProtocol",
            field,
            position: 0,
            fault: Fault::OverBudget(NAMES_BYTES_MAX),
        });
    }
    let partitions = topics.flat_map(|(topic, partitions)| {
        partitions
            .iter()
            .map(|partition| TopicPartition::new(topic.clone(), *partition))
    });
    Ok(partitions.collect())
}

/// What one member tells about itself. `member_id` and `group_instance_id` are not part of the bytes.
pub(crate) fn encode_subscription(member: &MemberSubscription) -> Bytes {
    let owned = by_topic(&member.owned_partitions)
        .into_iter()
        .map(|(topic, partitions)| told::TopicPartition { topic, partitions });
    let message = ConsumerProtocolSubscription {
        topics: member.topics.clone(),
        user_data: member.user_data.clone(),
        owned_partitions: owned.collect(),
        generation_id: member.generation_id,
        rack_id: member.rack_id.clone(),
    };
    encode_prefixed(&message, ConsumerProtocolSubscription::MAX_VERSION)
        .expect("topic names are shorter than 32 KiB and the newest version has every field")
}

/// Reads what another member told. Later versions are read as far as they are known.
pub(crate) fn decode_subscription(
    member_id: String,
    group_instance_id: Option<String>,
    bytes: Bytes,
) -> Result<MemberSubscription, DecodeError> {
    let (_, message): (_, ConsumerProtocolSubscription) = decode_prefixed_lenient(bytes)?;
    let owned = message
        .owned_partitions
        .iter()
        .map(|each| (&each.topic, &each.partitions));
    Ok(MemberSubscription {
        member_id,
        group_instance_id,
        owned_partitions: flat("owned_partitions", owned)?,
        topics: message.topics,
        generation_id: message.generation_id,
        rack_id: message.rack_id,
        user_data: message.user_data,
    })
}

/// What the leader gives one member.
pub(crate) fn encode_assignment(assignment: &MemberAssignment) -> Bytes {
    let assigned = by_topic(&assignment.partitions)
        .into_iter()
        .map(|(topic, partitions)| given::TopicPartition { topic, partitions });
    let message = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: assignment.user_data.clone(),
    };
    encode_prefixed(&message, ConsumerProtocolAssignment::MAX_VERSION)
        .expect("topic names are shorter than 32 KiB and the newest version has every field")
}

/// Reads what the leader gave. No bytes at all mean nothing was given.
pub(crate) fn decode_assignment(bytes: Bytes) -> Result<MemberAssignment, DecodeError> {
    if bytes.is_empty() {
        return Ok(MemberAssignment::default());
    }
    let (_, message): (_, ConsumerProtocolAssignment) = decode_prefixed_lenient(bytes)?;
    let assigned = message
        .assigned_partitions
        .iter()
        .map(|each| (&each.topic, &each.partitions));
    Ok(MemberAssignment {
        partitions: flat("assigned_partitions", assigned)?,
        user_data: message.user_data,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_long_name_with_many_partitions_is_refused_before_it_is_copied() {
        let told = |partitions: usize| {
            let message = ConsumerProtocolAssignment {
                assigned_partitions: vec![given::TopicPartition {
                    topic: "t".repeat(32_767),
                    partitions: vec![0; partitions],
                }],
                ..ConsumerProtocolAssignment::default()
            };
            decode_assignment(encode_prefixed(&message, 0).unwrap())
        };
        assert_eq!(told(512).unwrap().partitions.len(), 512);
        let error = told(250_000).unwrap_err().to_string();
        assert!(
            error.contains("assigned_partitions") && error.contains("16777216"),
            "{error}"
        );
    }

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subscription_is_written_as_java_writes_it() {
        let member = MemberSubscription {
            topics: vec!["ab".to_owned()],
            owned_partitions: vec![TopicPartition::new("ab", 1), TopicPartition::new("ab", 0)],
            generation_id: 5,
            user_data: Some(Bytes::from_static(b"u")),
            ..MemberSubscription::default()
        };
        let expected: &[u8] = &[
            0, 3, // version
            0, 0, 0, 1, 0, 2, b'a', b'b', // topics
            0, 0, 0, 1, b'u', // user data
            0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, // owned
            0, 0, 0, 5, // generation
            0xff, 0xff, // rack
        ];
        assert_eq!(&encode_subscription(&member)[..], expected);
    }

    #[test]
    fn an_old_subscription_has_no_owned_partitions() {
        let bytes = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
        let member = decode_subscription("m".to_owned(), None, bytes).unwrap();
        assert_eq!(member.topics, ["t"]);
        assert_eq!((member.user_data, member.generation_id), (None, -1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            topics in proptest::collection::vec("[a-z]{1,5}", 0..4),
            owned in proptest::collection::btree_set(("[a-z]{1,3}", 0..9_i32), 0..8),
            generation_id in -1..100_i32,
            data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        ) {
            let member = MemberSubscription {
                member_id: "m".to_owned(),
                group_instance_id: Some("i".to_owned()),
                topics,
                owned_partitions: owned.into_iter().map(|(t, p)| TopicPartition::new(t, p)).collect(),
                generation_id,
                rack_id: None,
                user_data: data.map(Bytes::from),
            };
            let bytes = encode_subscription(&member);
            let back = decode_subscription("m".to_owned(), Some("i".to_owned()), bytes.clone());
            prop_assert_eq!(back, Ok(member.clone()));
            let given = MemberAssignment {
                partitions: member.owned_partitions,
                user_data: member.user_data,
            };
            prop_assert_eq!(decode_assignment(encode_assignment(&given)), Ok(given));
        }
    }
}
