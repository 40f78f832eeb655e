//! Transactions as tools see them.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use flumen_protocol::message::{DescribeTransactionsRequest, WriteTxnMarkersRequest};

use super::{ID, Producer, stable};
use crate::support::World;

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
