//! A coordinator that has not replayed its log answers nothing, not even what it would find to be true (T-11, T-17).

use std::sync::Arc;

use flumen_log::disk::OsDisk;
use flumen_log::{AppendAs, Log, LogConfig, OpenOptions};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::codec::encode_prefixed;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::{
    DescribeGroupsRequest, ListGroupsRequest, OffsetCommitKey, OffsetCommitValue,
};

use crate::groups::{commit_request, committed};
use crate::held::HeldTasks;
use crate::support::World;

/// More than is replayed before connections are taken.
const BATCHES: i64 = 20;

/// Offsets of group `g`, a megabyte of them in each batch, as a busy group leaves them between two compactions; the last is
/// `BATCHES - 1`.
fn write_offsets(dir: &std::path::Path) {
    // "g".hashCode() is 103.
    let log = Log::open(
        Arc::new(OsDisk::new()),
        &dir.join("__consumer_offsets-3"),
        LogConfig::default(),
        OpenOptions::default(),
    )
    .unwrap();
    let key = OffsetCommitKey {
        group: "g".to_owned(),
        topic: "t".to_owned(),
        partition: 0,
    };
    let key = encode_prefixed(&key, 1).unwrap();
    for offset in 0..BATCHES {
        let value = OffsetCommitValue {
            offset,
            metadata: "x".repeat(4_000),
            commit_timestamp: 1,
            ..Default::default()
        };
        let value = encode_prefixed(&value, 3).unwrap();
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for _ in 0..250 {
            builder.push(1, Some(&key), Some(&value), &[]);
        }
        log.append(builder.build(), &AppendAs::coordinator(0), 1)
            .unwrap();
    }
    log.flush().unwrap();
}

#[tokio::test]
async fn a_coordinator_that_has_not_replayed_its_log_answers_nothing() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.call(7, &commit_request("", -1, 1_000)).await;
    world.stop().await;
    write_offsets(world.dir.path());
    let (drivers, held) = HeldTasks::machine();
    held.hold("coordinator loader");
    world.drivers = drivers;
    world.run().await;

    let mut client = world.client().await;
    let loading = ErrorCode::CoordinatorLoadInProgress;
    for require_stable in [true, false] {
        assert_eq!(committed(&mut client, require_stable).await, Err(loading));
    }
    let refused = client.call(7, &commit_request("", -1, 5)).await;
    let code = refused.topics[0].partitions[0].error_code;
    assert_eq!(ErrorCode::from_code(code), loading);
    let listed = client.call(5, &ListGroupsRequest::default()).await;
    assert_eq!(ErrorCode::from_code(listed.error_code), loading);
    let request = DescribeGroupsRequest {
        groups: vec!["g".to_owned()],
        ..Default::default()
    };
    let described = client.call(5, &request).await;
    let code = described.groups[0].error_code;
    assert_eq!(ErrorCode::from_code(code), loading);

    held.release();
    let last = loop {
        match committed(&mut client, true).await {
            Err(error) if error == loading => {}
            answered => break answered,
        }
    };
    assert_eq!(last, Ok(BATCHES - 1));
}
