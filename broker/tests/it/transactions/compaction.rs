//! Compaction beneath transactions: in the topics they write to, and in the one that holds their state.

use super::{Producer, stable};
use crate::support::{World, eventually};
use flumen_protocol::error_code::ErrorCode;

/// The state of a transactional id is one record however many transactions it made, and is found after a restart.
#[tokio::test]
async fn the_state_of_transactions_is_compacted_and_found_after_a_restart() {
    let mut world = World::start(&[
        ("log.cleaner.backoff.ms", "5"),
        ("transaction.state.log.num.partitions", "1"),
        ("transaction.state.log.segment.bytes", "4096"),
    ])
    .await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    for i in 0..60 {
        assert_eq!(
            producer.send(&mut client, &i.to_string()).await,
            ErrorCode::None
        );
        assert_eq!(producer.end(&mut client, i % 3 > 0).await, ErrorCode::None);
        stable(&mut client).await;
    }
    let dir = world.dir.path().join("__transaction_state-0");
    eventually(async || {
        let first = dir.join("00000000000000000000.log");
        std::fs::metadata(first).is_ok_and(|metadata| metadata.len() < 1_000)
    })
    .await;
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(producer.send(&mut client, "after").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    let again = Producer::init(&mut client, 2).await;
    assert_eq!(again.id, producer.id);
}
