//! A group's offsets inside a transaction: visible with its marker, and only from members of the present generation.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::{JoinGroupRequest, SyncGroupRequest};

use super::{Producer, stable};
use crate::groups::{
    commit_request, committed, heartbeat, join_request, sync_request, two_members,
};
use crate::support::{World, eventually};

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
        eventually(async || {
            committed(&mut client, true).await != Err(ErrorCode::UnstableOffsetCommit)
        })
        .await;
        assert_eq!(committed(&mut client, false).await, Ok(10));
        assert_eq!(
            producer.commit_offset(&mut client, 20).await,
            ErrorCode::None
        );
        assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
        eventually(async || {
            committed(&mut client, true).await != Err(ErrorCode::UnstableOffsetCommit)
        })
        .await;
        assert_eq!(committed(&mut client, false).await, Ok(10));
        world.restart().await;
        assert_eq!(committed(&mut world.client().await, true).await, Ok(10));
    }
}

/// T-19: a member that lost its partition in a rebalance cannot commit it in a transaction, whatever it believes; the new owner does
/// not begin before what the old one left open is decided.
#[tokio::test]
async fn a_zombie_of_an_older_generation_cannot_commit_and_the_new_owner_waits_for_what_it_left() {
    for version in [1, 2] {
        let world = World::start(&[]).await;
        let (mut one, mut two, leader, follower, generation) = two_members(&world).await;
        let mut client = world.client().await;
        one.call(7, &commit_request(&leader, generation, 5)).await;
        let mut zombie = Producer::init(&mut client, version).await;
        let staged = zombie
            .commit_offset_as(&mut client, 10, (&follower, generation))
            .await;
        assert_eq!(staged, ErrorCode::None, "version {version}");

        // The leader joins again, the follower does too, and the partition is given to the leader.
        one.send(5, &join_request(&leader)).await;
        eventually(async || {
            heartbeat(&mut client, &follower, generation).await == ErrorCode::RebalanceInProgress
        })
        .await;
        two.send(5, &join_request(&follower)).await;
        let (_, joined) = one.receive::<JoinGroupRequest>(5).await;
        two.receive::<JoinGroupRequest>(5).await;
        let next = joined.generation_id;
        let assigned = sync_request(&leader, next, &[(&leader, "AB"), (&follower, "")]);
        two.send(5, &sync_request(&follower, next, &[])).await;
        one.send(5, &assigned).await;
        one.receive::<SyncGroupRequest>(5).await;
        two.receive::<SyncGroupRequest>(5).await;

        for (who, code) in [
            (
                (follower.as_str(), generation),
                ErrorCode::IllegalGeneration,
            ),
            (("nobody", next), ErrorCode::UnknownMemberId),
        ] {
            let refused = zombie.commit_offset_as(&mut client, 20, who).await;
            assert_eq!(refused, code, "version {version}");
        }
        // The new owner asks for stable offsets: that of the zombie's open transaction may still count.
        assert_eq!(
            committed(&mut one, true).await,
            Err(ErrorCode::UnstableOffsetCommit)
        );
        assert_eq!(committed(&mut one, false).await, Ok(5));
        assert_eq!(zombie.end(&mut client, false).await, ErrorCode::None);
        eventually(async || {
            committed(&mut one, true).await != Err(ErrorCode::UnstableOffsetCommit)
        })
        .await;
        assert_eq!(committed(&mut one, true).await, Ok(5), "version {version}");
        // What was refused began nothing.
        assert_eq!(stable(&mut client).await, Vec::<String>::new());
    }
}

/// T-19: when the zombie never comes back, the time of its transaction is what the new owner waits for at most.
#[tokio::test]
async fn offsets_of_an_abandoned_transaction_become_stable_when_its_time_is_over() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.call(7, &commit_request("", -1, 5)).await;
    let abandoned = Producer::init_with(&mut client, 2, 200).await;
    assert_eq!(
        abandoned.commit_offset(&mut client, 10).await,
        ErrorCode::None
    );
    eventually(async || committed(&mut client, true).await != Err(ErrorCode::UnstableOffsetCommit))
        .await;
    assert_eq!(committed(&mut client, true).await, Ok(5));
    // A late commit of offsets cannot begin it again.
    assert_eq!(
        abandoned.commit_offset(&mut client, 20).await,
        ErrorCode::InvalidProducerEpoch
    );
    assert_eq!(committed(&mut client, true).await, Ok(5));
}
