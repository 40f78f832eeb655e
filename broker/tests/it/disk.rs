//! A disk that is full, and one that fails to flush: producers are told, readers go on, nothing acknowledged is lost.

use std::sync::Arc;

use flumen_broker::Drivers;
use flumen_log::fault_disk::{Crash, Fault, FaultDisk};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::{ApiVersionsRequest, ProduceRequest};

use crate::groups::{commit_request, committed};
use crate::held::HeldTasks;
use crate::support::{Wire, World, batch, eventually, produce_request};

async fn world_on(disk: FaultDisk) -> (World, Arc<FaultDisk>) {
    let disk = Arc::new(disk);
    let drivers = Drivers {
        disk: disk.clone(),
        ..Drivers::os()
    };
    (World::start_on(Vec::new(), drivers).await, disk)
}

async fn produce(client: &mut Wire, value: &str) -> ErrorCode {
    ErrorCode::from_code(client.produce("t", 0, batch(&[value])).await.error_code)
}

#[tokio::test]
async fn a_failed_flush_fences_the_directory_and_readers_go_on() {
    let (mut world, disk) = world_on(FaultDisk::new()).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.create_topic("other", 1, &[]).await.unwrap();
    assert_eq!(produce(&mut client, "a").await, ErrorCode::None);
    let before = disk.ops();
    assert_eq!(produce(&mut client, "b").await, ErrorCode::None);
    // The last of the operations of a produce is the flush.
    let last = disk.ops() + (disk.ops() - before);
    disk.fail_at(last, Fault::Io);
    assert_eq!(
        produce(&mut client, "c").await,
        ErrorCode::KafkaStorageError
    );
    // A flush that is tried again would succeed, and prove nothing.
    assert_eq!(
        produce(&mut client, "d").await,
        ErrorCode::KafkaStorageError
    );
    let other = client.produce("other", 0, batch(&["x"])).await;
    assert_eq!(
        ErrorCode::from_code(other.error_code),
        ErrorCode::KafkaStorageError
    );
    assert_eq!(client.values("t", 0, 0).await, ["a", "b"]);

    world.stop().await;
    let crashed = disk.after_crash(Crash::LoseUnsynced, 1);
    world.drivers.disk = Arc::new(crashed);
    world.run().await;
    let mut client = world.client().await;
    assert_eq!(client.values("t", 0, 0).await, ["a", "b"]);
    assert_eq!(produce(&mut client, "e").await, ErrorCode::None);
}

#[tokio::test]
async fn after_a_failed_flush_a_coordinator_answers_instead_of_waiting_for_ever() {
    let (world, disk) = world_on(FaultDisk::new()).await;
    let mut client = world.client_with_topic("t", 1).await;
    for offset in 0..2 {
        let response = client.call(9, &commit_request("", -1, offset)).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
    }
    let before = disk.ops();
    client.call(9, &commit_request("", -1, 2)).await;
    // The last of the operations of a commit is the flush.
    disk.fail_at(disk.ops() + (disk.ops() - before), Fault::Io);
    let response = client.call(9, &commit_request("", -1, 3)).await;
    assert_ne!(response.topics[0].partitions[0].error_code, 0);
    // The offset is in memory and will never be on disk: this used to hang.
    assert!(committed(&mut client, true).await.is_err());
    assert!(committed(&mut client, true).await.is_err());
}

/// Kafka's clients look for the coordinator again, and try again; a storage error they would tell the application.
#[tokio::test]
async fn a_coordinator_that_cannot_write_says_that_it_is_none() {
    let (world, disk) = world_on(FaultDisk::new()).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut commit = async |offset| {
        let response = client.call(9, &commit_request("", -1, offset)).await;
        ErrorCode::from_code(response.topics[0].partitions[0].error_code)
    };
    assert_eq!(commit(0).await, ErrorCode::None);
    disk.set_capacity(Some(disk.used()));
    assert_eq!(commit(1).await, ErrorCode::NotCoordinator);
    disk.set_capacity(None);
    eventually(async || commit(2).await == ErrorCode::None).await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let (world, disk) = world_on(FaultDisk::new()).await;
    let mut client = world.client_with_topic("t", 1).await;
    assert_eq!(produce(&mut client, "a").await, ErrorCode::None);
    disk.set_capacity(Some(disk.used()));
    for _ in 0..3 {
        assert_eq!(
            produce(&mut client, "b").await,
            ErrorCode::KafkaStorageError
        );
    }
    assert_eq!(
        client.create_topic("u", 1, &[]).await,
        Err(ErrorCode::KafkaStorageError)
    );
    assert_eq!(client.values("t", 0, 0).await, ["a"]);
    disk.set_capacity(None);
    assert_eq!(produce(&mut client, "c").await, ErrorCode::None);
    assert_eq!(client.values("t", 0, 0).await, ["a", "c"]);
    client.create_topic("u", 1, &[]).await.unwrap();
}

#[tokio::test]
async fn all_who_came_while_a_flush_took_long_wait_for_one_more_together() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut reader = world.client_with_topic("t", 1).await;
    assert_eq!(produce(&mut reader, "before").await, ErrorCode::None);
    held.hold_blocking();
    let mut producers = Vec::new();
    for number in 0..20 {
        let mut client = world.client().await;
        let request = produce_request("t", 0, -1, batch(&[&number.to_string()]));
        client.send(9, &request).await;
        producers.push(client);
    }
    while held.waiting() == 0 {
        reader.call(3, &ApiVersionsRequest::default()).await;
    }
    // Readers are served meanwhile, with what is on disk; there is one flush under way, however many wait.
    for _ in 0..5 {
        assert_eq!(reader.values("t", 0, 0).await, ["before"]);
    }
    assert_eq!(held.waiting(), 1);
    held.release();
    let mut offsets = Vec::new();
    for client in &mut producers {
        let answer = client.receive::<ProduceRequest>(9).await.1;
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!(ErrorCode::from_code(answer.error_code), ErrorCode::None);
        offsets.push(answer.base_offset);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=20).collect::<Vec<i64>>());
    assert_eq!(reader.values("t", 0, 0).await.len(), 21);
}

#[tokio::test]
async fn whatever_a_power_failure_leaves_every_acknowledged_record_is_there() {
    for (how, seed) in Crash::ALL.into_iter().zip(1..) {
        let (mut world, disk) = world_on(FaultDisk::new()).await;
        let mut client = world.client_with_topic("t", 1).await;
        let values: Vec<String> = (0..20).map(|i| format!("value {i}")).collect();
        for value in &values {
            assert_eq!(produce(&mut client, value).await, ErrorCode::None);
        }
        // The old broker goes on in memory, on a disk that nobody sees any more.
        world.drivers.disk = Arc::new(disk.after_crash(how, seed));
        world.broker = None;
        world.run().await;
        let mut client = world.client().await;
        assert_eq!(client.values("t", 0, 0).await, values, "{how:?} {seed}");
        assert_eq!(produce(&mut client, "more").await, ErrorCode::None);
    }
}
