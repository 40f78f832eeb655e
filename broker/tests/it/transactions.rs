//! Transactions over the wire: clients that keep their epoch (version 1) and those that bump it with every transaction (version 2).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use flumen_log::disk::OsDisk;
use flumen_log::{AppendAs, Log, LogConfig, OpenOptions};
use flumen_protocol::batch::batches;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::codec::encode_prefixed;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::message::fetch_response::PartitionData;
use flumen_protocol::message::transaction_log_value::PartitionsSchema;
use flumen_protocol::message::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use flumen_protocol::message::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use flumen_protocol::message::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    EndTxnResponse, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest,
    TransactionLogKey, TransactionLogValue, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use flumen_protocol::segment::Records;

use crate::groups::{commit_request, committed};
use crate::support::{PATIENCE, Wire, World, batch_of, fetch_request, produce_request, values};

const ID: &str = "pay";

/// A producer's identity and its next sequence in `t-0`.
#[derive(Clone, Copy, Debug)]
struct Producer {
    version: i16,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    async fn init(client: &mut Wire, version: i16) -> Producer {
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.to_owned()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let response = client.call(4, &request).await;
        assert_eq!(response.error_code, 0);
        Producer {
            version,
            id: response.producer_id,
            epoch: response.producer_epoch,
            sequence: 0,
        }
    }

    /// Sends one record; version 1 adds its partition first.
    async fn send(&mut self, client: &mut Wire, value: &str) -> ErrorCode {
        if self.version == 1 {
            let code = self.add(client, "t").await;
            if code != ErrorCode::None {
                return code;
            }
        }
        self.produce(client, if self.version == 1 { 9 } else { 12 }, value)
            .await
    }

    async fn produce(&mut self, client: &mut Wire, api_version: i16, value: &str) -> ErrorCode {
        let options = BatchOptions {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: self.sequence,
            transactional: true,
            ..BatchOptions::default()
        };
        let mut request = produce_request("t", 0, -1, batch_of(options, &[value]));
        request.transactional_id = Some(ID.to_owned());
        let response = client.call(api_version, &request).await;
        let code = ErrorCode::from_code(response.responses[0].partition_responses[0].error_code);
        if code == ErrorCode::None {
            self.sequence += 1;
        }
        code
    }

    async fn add(&self, client: &mut Wire, topic: &str) -> ErrorCode {
        let topic = AddPartitionsToTxnTopic {
            name: topic.to_owned(),
            partitions: vec![0],
            ..Default::default()
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.to_owned(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        let response = client.call(0, &request).await;
        let result = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
        ErrorCode::from_code(result.partition_error_code)
    }

    async fn end_as(&self, client: &mut Wire, api_version: i16, committed: bool) -> EndTxnResponse {
        let request = EndTxnRequest {
            transactional_id: ID.to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
            ..Default::default()
        };
        client.call(api_version, &request).await
    }

    /// Ends the transaction and takes over the new identity.
    async fn end(&mut self, client: &mut Wire, committed: bool) -> ErrorCode {
        let response = self
            .end_as(client, if self.version == 1 { 1 } else { 5 }, committed)
            .await;
        if response.error_code == 0 && self.version == 2 {
            (self.id, self.epoch, self.sequence) =
                (response.producer_id, response.producer_epoch, 0);
        }
        ErrorCode::from_code(response.error_code)
    }

    async fn commit_offset(&self, client: &mut Wire, offset: i64) -> ErrorCode {
        if self.version == 1 {
            let request = AddOffsetsToTxnRequest {
                transactional_id: ID.to_owned(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: "g".to_owned(),
                ..Default::default()
            };
            let response = client.call(0, &request).await;
            assert_eq!(response.error_code, 0);
        }
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_metadata: None,
            ..Default::default()
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.to_owned(),
            group_id: "g".to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![topic],
            ..Default::default()
        };
        let response = client
            .call(if self.version == 1 { 3 } else { 5 }, &request)
            .await;
        ErrorCode::from_code(response.topics[0].partitions[0].error_code)
    }
}

/// What a read_committed consumer sees of `t-0`, once the last stable offset has reached the high watermark.
async fn stable(client: &mut Wire) -> Vec<String> {
    let read = async {
        let (mut consumer, mut next) = (Consumer::default(), 0);
        loop {
            let mut request = fetch_request("t", 0, next, 50);
            request.isolation_level = 1;
            let mut response = client.call(11, &request).await;
            let data = response.responses.remove(0).partitions.remove(0);
            assert_eq!(data.error_code, 0);
            let (stable, end) = (data.last_stable_offset, data.high_watermark);
            next = consumer.take(data).unwrap_or(next);
            if next == end && stable == end {
                return consumer.kept;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("the last stable offset moves")
}

/// Drops what was aborted, by the list in the response and the markers among the records, as every consumer does.
#[derive(Default)]
struct Consumer {
    aborting: BTreeSet<i64>,
    kept: Vec<String>,
}

impl Consumer {
    /// The offset after the last batch.
    fn take(&mut self, data: PartitionData) -> Option<i64> {
        let aborted = data
            .aborted_transactions
            .expect("a list for read_committed");
        let bytes = data.records.unwrap_or_default().into_bytes().unwrap();
        let mut next = None;
        for batch in batches(bytes) {
            let batch = batch.unwrap();
            let header = *batch.header();
            next = Some(header.next_offset());
            let begins = aborted
                .iter()
                .filter(|txn| txn.first_offset == header.base_offset);
            self.aborting.extend(begins.map(|txn| txn.producer_id));
            if header.is_control() {
                self.aborting.remove(&header.producer_id);
            } else if !self.aborting.contains(&header.producer_id) {
                let records = Some(Records::Bytes(batch.bytes().clone()));
                self.kept.extend(values(PartitionData {
                    records,
                    ..Default::default()
                }));
            }
        }
        next
    }
}

async fn open_end(client: &mut Wire) -> (i64, i64) {
    let mut request = fetch_request("t", 0, 0, 0);
    request.isolation_level = 1;
    let response = client.call(11, &request).await;
    let data = &response.responses[0].partitions[0];
    (data.last_stable_offset, data.high_watermark)
}

#[tokio::test]
async fn committed_records_become_visible_and_aborted_ones_never() {
    for version in [1, 2] {
        let world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, version).await;
        let epoch = producer.epoch;
        assert_eq!(
            producer.send(&mut client, "a").await,
            ErrorCode::None,
            "version {version}"
        );
        assert_eq!(producer.send(&mut client, "b").await, ErrorCode::None);
        assert_eq!(open_end(&mut client).await, (0, 2), "nothing is stable yet");
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(stable(&mut client).await, ["a", "b"]);
        assert_eq!(producer.send(&mut client, "c").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
        assert_eq!(producer.send(&mut client, "d").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(
            stable(&mut client).await,
            ["a", "b", "d"],
            "version {version}"
        );
        assert_eq!(producer.epoch, if version == 2 { epoch + 3 } else { epoch });
    }
}

#[tokio::test]
async fn offsets_of_a_transaction_become_visible_with_its_marker() {
    for version in [1, 2] {
        let mut world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        client.call(7, &commit_request("", -1, 5)).await;
        let mut producer = Producer::init(&mut client, version).await;
        assert_eq!(
            producer.commit_offset(&mut client, 10).await,
            ErrorCode::None,
            "version {version}"
        );
        assert_eq!(committed(&mut client, false).await, Ok(5));
        assert_eq!(
            committed(&mut client, true).await,
            Err(ErrorCode::UnstableOffsetCommit)
        );
        world.restart().await;
        let mut client = world.client().await;
        assert_eq!(
            committed(&mut client, true).await,
            Err(ErrorCode::UnstableOffsetCommit)
        );
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        while committed(&mut client, true).await == Err(ErrorCode::UnstableOffsetCommit) {}
        assert_eq!(committed(&mut client, false).await, Ok(10));
        assert_eq!(
            producer.commit_offset(&mut client, 20).await,
            ErrorCode::None
        );
        assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
        while committed(&mut client, true).await == Err(ErrorCode::UnstableOffsetCommit) {}
        assert_eq!(committed(&mut client, false).await, Ok(10));
        world.restart().await;
        assert_eq!(committed(&mut world.client().await, true).await, Ok(10));
    }
}

#[tokio::test]
async fn a_new_instance_fences_the_old_one_and_aborts_what_it_left_open() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut old = Producer::init(&mut client, 2).await;
    assert_eq!(old.send(&mut client, "lost").await, ErrorCode::None);
    let mut new = Producer::init(&mut client, 2).await;
    assert_eq!(
        (new.id, new.epoch),
        (old.id, old.epoch + 2),
        "one epoch for the abort, one for the new instance"
    );
    assert_eq!(
        old.send(&mut client, "zombie").await,
        ErrorCode::InvalidProducerEpoch
    );
    for (version, code) in [
        (1, ErrorCode::InvalidProducerEpoch),
        (2, ErrorCode::ProducerFenced),
        (5, ErrorCode::ProducerFenced),
    ] {
        let ended = old.end_as(&mut client, version, true).await;
        assert_eq!(ErrorCode::from_code(ended.error_code), code, "v{version}");
    }
    assert_eq!(new.send(&mut client, "kept").await, ErrorCode::None);
    assert_eq!(new.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["kept"]);
}

#[tokio::test]
async fn t_2_and_t_3_a_late_record_of_an_ended_transaction_is_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "a").await;
    let mut late = producer;
    producer.end(&mut client, false).await;
    stable(&mut client).await;
    assert_eq!(
        late.send(&mut client, "late").await,
        ErrorCode::InvalidProducerEpoch
    );
    producer.send(&mut client, "b").await;
    assert_eq!(
        late.send(&mut client, "later").await,
        ErrorCode::InvalidProducerEpoch
    );
    producer.end(&mut client, true).await;
    assert_eq!(stable(&mut client).await, ["b"]);
    // A client that keeps its epoch: what comes after the end is not in a transaction, and cannot begin one that nobody ends.
    let mut producer = Producer::init(&mut client, 1).await;
    producer.send(&mut client, "c").await;
    producer.end(&mut client, false).await;
    stable(&mut client).await;
    assert_eq!(
        producer.produce(&mut client, 9, "late").await,
        ErrorCode::InvalidTxnState
    );
    let (stable_offset, high_watermark) = open_end(&mut client).await;
    assert_eq!(stable_offset, high_watermark, "no transaction hangs");
}

#[tokio::test]
async fn t_4_a_record_before_its_partition_was_added_is_refused_in_the_code_of_its_version() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 1).await;
    for (version, code) in [
        (9, ErrorCode::InvalidTxnState),
        (10, ErrorCode::InvalidTxnState),
        (11, ErrorCode::TransactionAbortable),
    ] {
        assert_eq!(
            producer.produce(&mut client, version, "x").await,
            code,
            "v{version}"
        );
    }
    assert_eq!(open_end(&mut client).await, (0, 0));
}

#[tokio::test]
async fn t_8_an_end_that_is_repeated_succeeds_again() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "a").await;
    let first = producer.end_as(&mut client, 5, true).await;
    let again = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        (again.error_code, again.producer_epoch),
        (0, first.producer_epoch)
    );
    world.restart().await;
    let mut client = world.client().await;
    let again = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        (again.error_code, again.producer_epoch),
        (0, first.producer_epoch),
        "also after a restart"
    );
    let other = producer.end_as(&mut client, 5, false).await;
    assert_eq!(
        ErrorCode::from_code(other.error_code),
        ErrorCode::InvalidTxnState
    );
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let request = InitProducerIdRequest {
        transactional_id: Some(ID.to_owned()),
        transaction_timeout_ms: 100,
        ..Default::default()
    };
    let response = client.call(4, &request).await;
    let mut producer = Producer {
        version: 2,
        id: response.producer_id,
        epoch: response.producer_epoch,
        sequence: 0,
    };
    assert_eq!(producer.send(&mut client, "slow").await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, Vec::<String>::new());
    let late = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        ErrorCode::from_code(late.error_code),
        ErrorCode::ProducerFenced,
        "T-15: lost, but it can go on"
    );
    assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
    assert_eq!(producer.send(&mut client, "again").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["again"]);
}

#[tokio::test]
async fn an_open_transaction_survives_a_restart_and_can_be_committed() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "before").await;
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(producer.send(&mut client, "after").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["before", "after"]);
}

/// Writes a decided transaction into a stopped broker's log, as a crash between the decision and its markers leaves it.
fn write_prepared(dir: &Path, producer: Producer, status: i8) {
    let hash = ID.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let dir = dir.join(format!("__transaction_state-{}", hash.abs() % 50));
    let log = Log::open(
        Arc::new(OsDisk::new()),
        &dir,
        LogConfig::default(),
        OpenOptions::default(),
    )
    .unwrap();
    let key = encode_prefixed(
        &TransactionLogKey {
            transactional_id: ID.to_owned(),
        },
        0,
    )
    .unwrap();
    let partitions = PartitionsSchema {
        topic: "t".to_owned(),
        partition_ids: vec![0],
        ..Default::default()
    };
    let value = TransactionLogValue {
        producer_id: producer.id,
        producer_epoch: producer.epoch + 1,
        transaction_timeout_ms: 60_000,
        transaction_status: status,
        transaction_partitions: Some(vec![partitions]),
        transaction_last_update_timestamp_ms: 1,
        transaction_start_timestamp_ms: 1,
        client_transaction_version: 2,
        ..Default::default()
    };
    let value = encode_prefixed(&value, 1).unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(1, Some(&key), Some(&value), &[]);
    log.append(builder.build(), &AppendAs::coordinator(0), 1)
        .unwrap();
    log.flush().unwrap();
}

#[tokio::test]
async fn a_decision_that_a_crash_left_without_markers_is_carried_out_at_the_next_start() {
    for (status, expected) in [(2, vec!["a"]), (3, vec![])] {
        let mut world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, 2).await;
        producer.send(&mut client, "a").await;
        world.stop().await;
        write_prepared(world.dir.path(), producer, status);
        world.run().await;
        let mut client = world.client().await;
        assert_eq!(stable(&mut client).await, expected);
        producer.epoch += 1;
        producer.sequence = 0;
        assert_eq!(producer.send(&mut client, "next").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(
            stable(&mut client).await.last().map(String::as_str),
            Some("next")
        );
    }
}

#[tokio::test]
async fn an_abort_of_nothing_bumps_the_epoch_and_a_commit_of_nothing_is_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let mut producer = Producer::init(&mut client, 2).await;
    let epoch = producer.epoch;
    let committed = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        ErrorCode::from_code(committed.error_code),
        ErrorCode::InvalidTxnState
    );
    assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
    assert_eq!(producer.epoch, epoch + 1);
}

#[tokio::test]
async fn partitions_that_do_not_exist_are_not_added_and_nothing_else_is() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let producer = Producer::init(&mut client, 1).await;
    let topic = |name: &str| AddPartitionsToTxnTopic {
        name: name.to_owned(),
        partitions: vec![0],
        ..Default::default()
    };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.to_owned(),
        v3_and_below_producer_id: producer.id,
        v3_and_below_producer_epoch: producer.epoch,
        v3_and_below_topics: vec![topic("t"), topic("gone")],
        ..Default::default()
    };
    let response = client.call(3, &request).await;
    let results = response.results_by_topic_v3_and_below;
    let code = |index: usize| {
        ErrorCode::from_code(results[index].results_by_partition[0].partition_error_code)
    };
    assert_eq!(
        (code(0), code(1)),
        (
            ErrorCode::OperationNotAttempted,
            ErrorCode::UnknownTopicOrPartition
        )
    );
    let nobody = Producer { id: 77, ..producer };
    assert_eq!(
        nobody.add(&mut client, "t").await,
        ErrorCode::InvalidProducerIdMapping
    );
    let zombie = Producer {
        epoch: producer.epoch - 1,
        ..producer
    };
    assert_eq!(
        zombie.add(&mut client, "t").await,
        ErrorCode::InvalidProducerEpoch,
        "v0 does not know PRODUCER_FENCED"
    );
}

#[tokio::test]
async fn a_tool_can_end_a_hanging_transaction_with_a_marker() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 1).await;
    producer.send(&mut client, "hangs").await;
    let topic = |name: &str| WritableTxnMarkerTopic {
        name: name.to_owned(),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let marker = WritableTxnMarker {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        transaction_result: false,
        topics: vec![topic("t"), topic("gone")],
        coordinator_epoch: 0,
        ..Default::default()
    };
    let response = client
        .call(
            1,
            &WriteTxnMarkersRequest {
                markers: vec![marker],
                ..Default::default()
            },
        )
        .await;
    let code = |topic: usize| {
        ErrorCode::from_code(response.markers[0].topics[topic].partitions[0].error_code)
    };
    assert_eq!(
        (code(0), code(1)),
        (ErrorCode::None, ErrorCode::UnknownTopicOrPartition)
    );
    assert_eq!(stable(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn idempotent_producers_get_ids_of_their_own_also_after_a_restart() {
    let mut world = World::start(&[]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let mut client = world.client().await;
        for version in 0..=5 {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: -1,
                ..Default::default()
            };
            let response = client.call(version, &request).await;
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(
                seen.insert(response.producer_id),
                "{} twice",
                response.producer_id
            );
        }
        world.restart().await;
    }
    let mut client = world.client().await;
    for (transactional_id, timeout_ms, code) in [
        ("", 1_000, ErrorCode::InvalidRequest),
        ("x", 900_001, ErrorCode::InvalidTransactionTimeout),
    ] {
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id.to_owned()),
            transaction_timeout_ms: timeout_ms,
            ..Default::default()
        };
        assert_eq!(
            ErrorCode::from_code(client.call(4, &request).await.error_code),
            code
        );
    }
}

#[tokio::test]
async fn the_internal_topics_are_made_on_first_use() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert!(client.call(12, &all).await.topics.is_empty());
    let request = FindCoordinatorRequest {
        key: ID.to_owned(),
        key_type: 1,
        ..Default::default()
    };
    client.call(2, &request).await;
    let topics = client.call(12, &all).await.topics;
    let topic = &topics[0];
    assert_eq!(
        (
            topic.name.as_deref(),
            topic.partitions.len(),
            topic.is_internal
        ),
        (Some("__transaction_state"), 50, true)
    );
}

#[tokio::test]
async fn a_transaction_can_be_described() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "a").await;
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![ID.to_owned(), "nobody".to_owned()],
        ..Default::default()
    };
    let response = client.call(0, &request).await;
    let state = &response.transaction_states[0];
    assert_eq!(
        (
            state.transaction_state.as_str(),
            state.transaction_timeout_ms
        ),
        ("Ongoing", 60_000)
    );
    assert_eq!(
        (state.producer_id, state.producer_epoch),
        (producer.id, producer.epoch)
    );
    assert_eq!(
        (
            state.topics[0].topic.as_str(),
            state.topics[0].partitions[0]
        ),
        ("t", 0)
    );
    let code = ErrorCode::from_code(response.transaction_states[1].error_code);
    assert_eq!(code, ErrorCode::TransactionalIdNotFound);
}

/// The marker of one transaction often arrives while the next one asks for its place: that must not show.
#[tokio::test]
async fn transactions_can_follow_each_other_without_a_pause() {
    for version in [1, 2] {
        let world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, version).await;
        for round in 0..30 {
            // Sometimes the record is the first of its transaction, sometimes the offset.
            let mut codes = Vec::new();
            if round % 2 == 0 {
                codes.push(producer.send(&mut client, "x").await);
            }
            codes.push(producer.commit_offset(&mut client, round).await);
            if round % 2 == 1 {
                codes.push(producer.send(&mut client, "x").await);
            }
            codes.push(producer.end(&mut client, round % 3 != 0).await);
            assert_eq!(
                codes,
                [ErrorCode::None; 3],
                "version {version}, round {round}"
            );
        }
        assert_eq!(stable(&mut client).await.len(), 20, "version {version}");
        while committed(&mut client, true).await == Err(ErrorCode::UnstableOffsetCommit) {}
        assert_eq!(committed(&mut client, true).await, Ok(29));
    }
}
