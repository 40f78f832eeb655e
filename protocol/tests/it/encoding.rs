//! What a version cannot carry: an error where it matters, silence where Kafka says that it may be
//! left out.

use bytes::Bytes;
use flumen_protocol::codec::{
    EncodeError, Message, Reader, Writer, decode_prefixed, decode_prefixed_lenient, encode_prefixed,
};
use flumen_protocol::id::TopicId;
use flumen_protocol::message::metadata_request::MetadataRequestTopic;
use flumen_protocol::message::{
    ConsumerProtocolSubscription, FetchRequest, FindCoordinatorRequest, GroupMetadataKey,
    HeartbeatRequest, ListGroupsRequest, MetadataRequest, OffsetCommitKey, OffsetCommitValue,
    SaslAuthenticateRequest, TransactionLogValue,
};

fn encoded<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    message.encode(&mut w, version)?;
    w.into_bytes()
}

fn unsupported(message: &'static str, field: &'static str, version: i16) -> EncodeError {
    EncodeError::UnsupportedField {
        message,
        field,
        version,
    }
}

#[test]
fn a_field_that_matters_is_not_dropped_in_silence() {
    let request = ListGroupsRequest {
        states_filter: vec!["Stable".to_owned()],
        ..ListGroupsRequest::default()
    };
    assert_eq!(
        encoded(&request, 3),
        Err(unsupported("ListGroupsRequest", "states_filter", 3))
    );
    assert!(encoded(&request, 4).is_ok());
}

#[test]
fn an_ignorable_field_is_left_out() {
    let request = FetchRequest {
        rack_id: "r1".to_owned(),
        ..FetchRequest::default()
    };
    assert_eq!(encoded(&request, 10), encoded(&FetchRequest::default(), 10));
    assert_ne!(encoded(&request, 11), encoded(&FetchRequest::default(), 11));
}

#[test]
fn a_field_that_is_gone_may_only_hold_its_default() {
    let request = FindCoordinatorRequest {
        key: "group".to_owned(),
        ..FindCoordinatorRequest::default()
    };
    assert!(encoded(&request, 3).is_ok());
    assert_eq!(
        encoded(&request, 4),
        Err(unsupported("FindCoordinatorRequest", "key", 4))
    );
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let error = EncodeError::UnexpectedNull {
        message: "MetadataRequest",
        field: "topics",
    };
    assert_eq!(encoded(&request, 0), Err(error));
    assert!(encoded(&request, 1).is_ok());

    let by_id = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            topic_id: TopicId([1; 16]),
            name: None,
            ..MetadataRequestTopic::default()
        }]),
        ..MetadataRequest::default()
    };
    assert!(encoded(&by_id, 9).is_err());
    assert!(encoded(&by_id, 12).is_ok());
}

#[test]
fn text_is_at_most_32767_bytes() {
    let request = |len| HeartbeatRequest {
        group_id: "x".repeat(len),
        ..HeartbeatRequest::default()
    };
    for version in [0, 4] {
        assert!(encoded(&request(32_767), version).is_ok());
        let error = EncodeError::TooLong {
            message: "HeartbeatRequest",
            field: "group_id",
            len: 32_768,
        };
        assert_eq!(encoded(&request(32_768), version), Err(error));
    }
}

#[test]
fn versions_that_do_not_exist_are_refused() {
    let error = encoded(&HeartbeatRequest::default(), 5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "HeartbeatRequest has no version 5; it has 0 to 4"
    );
}

#[test]
fn unknown_tagged_fields_survive_in_order_or_not_at_all() {
    let mut request = SaslAuthenticateRequest {
        unknown_tagged_fields: vec![(3, Bytes::from("a")), (900, Bytes::new())],
        ..SaslAuthenticateRequest::default()
    };
    let bytes = encoded(&request, 2).unwrap();
    let back = SaslAuthenticateRequest::decode(&mut Reader::new(bytes), 2);
    assert_eq!(back.as_ref(), Ok(&request));

    request.unknown_tagged_fields.reverse();
    let error = EncodeError::TagOrder {
        message: "SaslAuthenticateRequest",
        tag: 3,
    };
    assert_eq!(encoded(&request, 2), Err(error));
}

#[test]
fn a_known_tag_cannot_be_smuggled_in_as_unknown() {
    let request = FetchRequest {
        unknown_tagged_fields: vec![(1, Bytes::new())],
        ..FetchRequest::default()
    };
    // in version 12 tag 1 is not known yet, from 15 on it is replica_state
    assert!(encoded(&request, 12).is_ok());
    assert!(encoded(&request, 15).is_err());
}

#[test]
fn defaults_are_kafkas() {
    let request = FetchRequest::default();
    assert_eq!(
        (request.replica_id, request.session_epoch, request.max_bytes),
        (-1, -1, i32::MAX)
    );
    assert_eq!(request.cluster_id, None);
    assert_eq!(MetadataRequest::default().topics, Some(Vec::new()));
    assert!(MetadataRequest::default().allow_auto_topic_creation);
    assert_eq!(TransactionLogValue::default().previous_producer_id, -1);
}

#[test]
fn prefixed_messages_name_their_version() {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["a".to_owned()],
        ..ConsumerProtocolSubscription::default()
    };
    let bytes = encode_prefixed(&subscription, 1).unwrap();
    assert_eq!(bytes.slice(..2), &[0, 1][..]);
    assert_eq!(decode_prefixed(bytes), Ok((1, subscription.clone())));

    let mut newer = encode_prefixed(&subscription, 3).unwrap().to_vec();
    newer[1] = 9;
    newer.extend_from_slice(b"what version 9 adds");
    let newer = Bytes::from(newer);
    assert!(decode_prefixed::<ConsumerProtocolSubscription>(newer.clone()).is_err());
    assert_eq!(decode_prefixed_lenient(newer), Ok((9, subscription)));
}

#[test]
fn records_of_internal_topics_are_kafkas_bytes() {
    // as kafka-dump-log shows them: key type 1, group "g", topic "t", partition 2
    let key = OffsetCommitKey {
        group: "g".to_owned(),
        topic: "t".to_owned(),
        partition: 2,
    };
    assert_eq!(
        encode_prefixed(&key, 1).unwrap(),
        &b"\0\x01\0\x01g\0\x01t\0\0\0\x02"[..]
    );
    let key = GroupMetadataKey {
        group: "g".to_owned(),
    };
    assert_eq!(encode_prefixed(&key, 2).unwrap(), &b"\0\x02\0\x01g"[..]);
    let value = OffsetCommitValue {
        offset: 5,
        metadata: "m".to_owned(),
        commit_timestamp: 6,
        ..OffsetCommitValue::default()
    };
    assert_eq!(
        encode_prefixed(&value, 3).unwrap(),
        &b"\0\x03\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\0\x01m\0\0\0\0\0\0\0\x06"[..]
    );
}
