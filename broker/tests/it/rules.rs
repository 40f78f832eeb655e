//! What compatible brokers get wrong, spoken in bytes: the behaviours that no other module tests.
//!
//! The numbers are those of docs/compatibility.md, where each behaviour names its test.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::TimestampType;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::codec::Request;
use flumen_protocol::compression::Compression;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::frame::{RequestHeader, encode_request};
use flumen_protocol::message::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::message::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::message::produce_response::PartitionProduceResponse;
use flumen_protocol::message::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use tokio::io::AsyncWriteExt;

use crate::held::HeldTasks;
use crate::support::{Wire, World, batch, batch_of, eventually, fetch_request, produce_request};

/// Sends under another client id than the other tests.
async fn call_as<R: Request>(
    client: &mut Wire,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> R::Response {
    let header = RequestHeader {
        api_key: R::API.code(),
        api_version: version,
        correlation_id: 7,
        client_id: client_id.map(str::to_owned),
    };
    let bytes = encode_request(&header, request).unwrap();
    client.socket.write_all(&bytes).await.unwrap();
    client.receive::<R>(version).await.1
}

fn code(answer: &PartitionProduceResponse) -> ErrorCode {
    ErrorCode::from_code(answer.error_code)
}

async fn produce_as(client: &mut Wire, version: i16, records: Bytes) -> PartitionProduceResponse {
    let request = produce_request("t", 0, -1, records);
    let mut response = client.call(version, &request).await;
    response.responses.remove(0).partition_responses.remove(0)
}

/// One record at a time of its own, and a key.
fn record_at(timestamp: i64, key: Option<&[u8]>) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(timestamp, key, Some(b"v"), &[]);
    builder.build()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test]
async fn rule_6_who_gives_no_client_id_is_served_under_old_and_new_headers() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    for version in [0, 3, 4] {
        let request = ApiVersionsRequest {
            client_software_name: "it".to_owned(),
            client_software_version: "1".to_owned(),
            ..Default::default()
        };
        for id in [None, Some("")] {
            let answer = call_as(&mut client, id, version, &request).await;
            assert_eq!(answer.error_code, 0, "version {version}, {id:?}");
        }
    }
    for version in [1, 12] {
        let request = MetadataRequest {
            topics: None,
            ..Default::default()
        };
        let answer = call_as(&mut client, None, version, &request).await;
        assert_eq!(answer.brokers.len(), 1, "version {version}");
    }
}

#[tokio::test]
async fn rule_9_zstd_needs_version_7_and_a_batch_must_fit_its_segment() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let narrow = [("segment.bytes", "500"), ("max.message.bytes", "2000")];
    client.create_topic("t", 1, &narrow).await.unwrap();
    let zstd = || {
        let options = BatchOptions {
            compression: Compression::Zstd,
            ..BatchOptions::default()
        };
        batch_of(options, &["x"])
    };
    let old = produce_as(&mut client, 6, zstd()).await;
    assert_eq!(code(&old), ErrorCode::UnsupportedCompressionType);
    assert_eq!(
        code(&produce_as(&mut client, 7, zstd()).await),
        ErrorCode::None
    );
    let large = batch(&["x".repeat(600).as_str()]);
    let answer = produce_as(&mut client, 9, large).await;
    assert_eq!(code(&answer), ErrorCode::RecordListTooLarge);
    let larger = batch(&["x".repeat(3000).as_str()]);
    let answer = produce_as(&mut client, 9, larger).await;
    assert_eq!(code(&answer), ErrorCode::MessageTooLarge);
}

#[tokio::test]
async fn rule_9_offsets_and_sequences_of_a_batch_are_checked() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let offset = BatchOptions {
        base_offset: 5,
        ..BatchOptions::default()
    };
    let no_sequence = BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: -1,
        ..BatchOptions::default()
    };
    for options in [offset, no_sequence] {
        let answer = produce_as(&mut client, 9, batch_of(options, &["x"])).await;
        assert_eq!(code(&answer), ErrorCode::InvalidRecord, "{options:?}");
    }
}

#[tokio::test]
async fn rule_10_records_that_are_to_blame_are_named_from_version_8() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let compacted = [("cleanup.policy", "compact")];
    client.create_topic("t", 1, &compacted).await.unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(1, Some(b"k"), Some(b"v"), &[]);
    builder.push(1, None, Some(b"v"), &[]);
    let records = builder.build();
    let answer = produce_as(&mut client, 8, records.clone()).await;
    assert_eq!(code(&answer), ErrorCode::InvalidRecord);
    let named: Vec<i32> = answer.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(named, [1]);
    assert!(answer.error_message.is_some());
    let answer = produce_as(&mut client, 7, records).await;
    assert_eq!(code(&answer), ErrorCode::InvalidRecord);
    assert!(answer.record_errors.is_empty());
}

#[tokio::test]
async fn rule_10_timestamps_far_from_the_brokers_clock_are_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let near = [("message.timestamp.before.max.ms", "1000000")];
    client.create_topic("t", 1, &near).await.unwrap();
    let (hour, now) = (3_600_000, now_ms());
    for (timestamp, expected) in [
        (now, ErrorCode::None),
        (now + hour / 2, ErrorCode::None),
        (now + 2 * hour, ErrorCode::InvalidTimestamp),
        (now - hour, ErrorCode::InvalidTimestamp),
    ] {
        let answer = produce_as(&mut client, 9, record_at(timestamp, None)).await;
        assert_eq!(code(&answer), expected, "{}", timestamp - now);
    }
    let claims = BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..BatchOptions::default()
    };
    let answer = produce_as(&mut client, 9, batch_of(claims, &["x"])).await;
    assert_eq!(code(&answer), ErrorCode::InvalidTimestamp);
}

#[tokio::test]
async fn rule_11_the_answer_tells_when_the_broker_stamped_the_records_and_where_the_log_starts() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let plain = client.produce("t", 0, record_at(77, None)).await;
    assert_eq!((plain.log_append_time_ms, plain.log_start_offset), (-1, 0));
    let stamped = [("message.timestamp.type", "LogAppendTime")];
    client.create_topic("stamped", 1, &stamped).await.unwrap();
    let before = now_ms();
    let answer = client.produce("stamped", 0, record_at(77, None)).await;
    assert!((before..=now_ms()).contains(&answer.log_append_time_ms));
    let found = offset_at(&mut client, 11, "stamped", -3).await.unwrap();
    assert_eq!(found, (0, answer.log_append_time_ms));
}

#[tokio::test]
async fn rule_12_a_time_out_says_so_and_the_records_are_there_all_the_same() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut client = world.client_with_topic("t", 1).await;
    held.hold_blocking();
    let request = ProduceRequest {
        timeout_ms: 1,
        ..produce_request("t", 0, -1, batch(&["late"]))
    };
    let answer = client.call(9, &request).await;
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!(code(answer), ErrorCode::RequestTimedOut);
    held.release();
    eventually(async || client.values("t", 0, 0).await == ["late"]).await;
}

#[tokio::test]
async fn rule_12_only_the_administrators_tools_may_write_internal_topics() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("__consumer_offsets", 1).await;
    let request = produce_request("__consumer_offsets", 0, -1, record_at(1, Some(b"k")));
    for (id, expected) in [
        ("someone", ErrorCode::InvalidTopicException),
        ("__admin_client", ErrorCode::None),
    ] {
        let answer = call_as(&mut client, Some(id), 9, &request).await;
        assert_eq!(code(&answer.responses[0].partition_responses[0]), expected);
    }
}

#[tokio::test]
async fn rule_13_transactional_records_without_an_id_refuse_the_whole_request() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 2).await;
    let options = BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        transactional: true,
        ..BatchOptions::default()
    };
    let mut request = produce_request("t", 0, -1, batch(&["plain"]));
    let mut other = produce_request("t", 1, -1, batch_of(options, &["x"]));
    let partitions = &mut request.topic_data[0].partition_data;
    partitions.append(&mut other.topic_data[0].partition_data);
    let answer = client.call(9, &request).await;
    for answer in &answer.responses[0].partition_responses {
        assert_eq!(code(answer), ErrorCode::TransactionalIdAuthorizationFailed);
    }
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
}

/// Long enough that a test which waits for it fails.
const LONG_MS: i32 = 60_000;

#[tokio::test]
async fn rule_14_a_fetch_that_cannot_get_better_by_waiting_is_answered_at_once() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let nothing = FetchRequest {
        topics: Vec::new(),
        ..fetch_request("t", 0, 0, LONG_MS)
    };
    assert_eq!(client.call(11, &nothing).await.responses.len(), 0);
    let mut unknown = fetch_request("t", 0, 0, LONG_MS);
    let mut other = unknown.topics[0].partitions[0].clone();
    other.partition = 9;
    unknown.topics[0].partitions.push(other);
    let answer = client.call(11, &unknown).await;
    let codes: Vec<i16> = answer.responses[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
    // More is wanted than may be sent: what may be sent is enough.
    client
        .produce("t", 0, batch(&["x".repeat(300).as_str()]))
        .await;
    let greedy = FetchRequest {
        min_bytes: i32::MAX,
        max_bytes: 200,
        ..fetch_request("t", 0, 0, LONG_MS)
    };
    let answer = client.call(11, &greedy).await;
    assert!(
        !answer.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn rule_17_what_is_written_and_not_yet_safe_is_empty_and_no_error() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut writer = world.client_with_topic("t", 1).await;
    let mut reader = world.client().await;
    held.hold_blocking();
    writer
        .send(9, &produce_request("t", 0, -1, batch(&["a", "b"])))
        .await;
    eventually(async || {
        reader.call(3, &ApiVersionsRequest::default()).await;
        held.waiting() > 0
    })
    .await;
    for (offset, expected) in [
        (0, ErrorCode::None),
        (1, ErrorCode::None),
        (2, ErrorCode::None),
        (3, ErrorCode::OffsetOutOfRange),
    ] {
        let data = reader.fetch("t", 0, offset).await;
        assert_eq!(ErrorCode::from_code(data.error_code), expected, "{offset}");
        assert!(data.records.is_none_or(|records| records.is_empty()));
        assert_eq!(data.high_watermark, 0);
    }
    held.release();
}

#[tokio::test]
async fn rule_18_a_reader_whose_history_is_not_ours_is_told_where_they_part() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    let mut ask = async |last_fetched_epoch, offset| {
        let mut request = fetch_request("t", 0, offset, LONG_MS);
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
        let mut answer = client.call(12, &request).await;
        answer.responses.remove(0).partitions.remove(0)
    };
    let same = ask(0, 0).await;
    assert_eq!((same.error_code, same.diverging_epoch.epoch), (0, -1));
    let beyond = ask(0, 5).await;
    assert_eq!(beyond.error_code, 0);
    assert!(beyond.records.is_none_or(|records| records.is_empty()));
    let diverging = (
        beyond.diverging_epoch.epoch,
        beyond.diverging_epoch.end_offset,
    );
    assert_eq!(diverging, (0, 1));
    // An epoch that never was: nobody can say where it ended.
    let foreign = ask(5, 0).await;
    assert_eq!(
        ErrorCode::from_code(foreign.error_code),
        ErrorCode::OffsetOutOfRange
    );
}

#[tokio::test]
async fn rule_19_every_answer_tells_the_three_bounds_and_a_list_only_to_read_committed() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    for isolation_level in [0, 1] {
        let request = FetchRequest {
            isolation_level,
            ..fetch_request("t", 0, 1, 0)
        };
        let mut answer = client.call(11, &request).await;
        let data = answer.responses.remove(0).partitions.remove(0);
        let bounds = (
            data.log_start_offset,
            data.last_stable_offset,
            data.high_watermark,
        );
        assert_eq!(bounds, (0, 2, 2));
        let listed = data.aborted_transactions.map(|list| list.len());
        assert_eq!(listed, (isolation_level == 1).then_some(0));
    }
}

async fn offset_at(
    client: &mut Wire,
    version: i16,
    topic: &str,
    timestamp: i64,
) -> Result<(i64, i64), ErrorCode> {
    let partition = ListOffsetsPartition {
        timestamp,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let topic = ListOffsetsTopic {
        name: topic.to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = client.call(version, &request).await;
    let found = &answer.topics[0].partitions[0];
    ErrorCode::from_code(found.error_code).ok()?;
    Ok((found.offset, found.timestamp))
}

#[tokio::test]
async fn rule_21_places_are_known_from_the_version_that_brought_them() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, record_at(77, None)).await;
    for (place, since, expected) in [
        (-1, 1, (1, -1)),
        (-2, 1, (0, -1)),
        (-3, 7, (0, 77)),
        (-4, 8, (0, -1)),
        (-5, 9, (-1, -1)),
        (-6, 11, (-1, -1)),
    ] {
        let found = offset_at(&mut client, since, "t", place).await;
        assert_eq!(found, Ok(expected), "{place}");
        if since > 1 {
            let found = offset_at(&mut client, since - 1, "t", place).await;
            assert_eq!(found, Err(ErrorCode::UnsupportedVersion), "{place}");
        }
    }
}

#[tokio::test]
async fn rule_25_the_cluster_keeps_its_id_and_an_unknown_topic_id_is_named() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let before = client.call(12, &all).await;
    let mut by_id = all.clone();
    let mut topic = flumen_protocol::message::metadata_request::MetadataRequestTopic {
        topic_id: before.topics[0].topic_id,
        name: None,
        ..Default::default()
    };
    // Java's AdminClient sends an empty name beside the id.
    for name in [None, Some(String::new())] {
        topic.name = name;
        by_id.topics = Some(vec![topic.clone()]);
        let found = client.call(12, &by_id).await;
        assert_eq!(found.topics[0].name.as_deref(), Some("t"));
    }
    topic.topic_id.0[3] ^= 1;
    by_id.topics = Some(vec![topic]);
    let missing = client.call(12, &by_id).await;
    assert_eq!(
        missing.topics[0].error_code,
        ErrorCode::UnknownTopicId.code()
    );
    world.restart().await;
    let after = world.client().await.call(12, &all).await;
    assert!(before.cluster_id.as_ref().is_some_and(|id| !id.is_empty()));
    assert_eq!(before.cluster_id, after.cluster_id);
}

#[tokio::test]
async fn rule_27_a_created_topic_has_the_brokers_defaults_and_no_value_is_no_configuration() {
    let world = World::start(&[("num.partitions", "3")]).await;
    let mut client = world.client().await;
    let mut topic = CreatableTopic {
        name: "t".to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        configs: vec![CreatableTopicConfig {
            name: "retention.ms".to_owned(),
            value: None,
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = |topic: &CreatableTopic| CreateTopicsRequest {
        topics: vec![topic.clone()],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = client.call(7, &request(&topic)).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidConfig.code());
    topic.configs.clear();
    let answer = client.call(7, &request(&topic)).await;
    let made = &answer.topics[0];
    assert_eq!(
        (
            made.error_code,
            made.num_partitions,
            made.replication_factor
        ),
        (0, 3, 1)
    );
    assert!(!made.topic_id.is_nil());
    let retention = made
        .configs
        .iter()
        .flatten()
        .find(|config| config.name == "retention.ms");
    assert_eq!(
        retention.and_then(|config| config.value.as_deref()),
        Some("604800000")
    );
}

#[tokio::test]
async fn rule_10_a_batch_may_come_with_any_leader_epoch_and_gets_ours() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut sent = BytesMut::from(&batch(&["x"])[..]);
    sent[12..16].copy_from_slice(&99i32.to_be_bytes());
    assert_eq!(client.produce("t", 0, sent.freeze()).await.error_code, 0);
    let data = client.fetch("t", 0, 0).await;
    let stored = data.records.unwrap().into_bytes().unwrap();
    assert_eq!(stored[12..16], 0i32.to_be_bytes());
}
