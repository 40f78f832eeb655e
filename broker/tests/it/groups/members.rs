//! Who is in a group, and what its members are told.

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::JoinGroupRequest;

use crate::support::World;

use super::*;

#[tokio::test]
async fn two_members_share_a_group_and_its_offsets_survive_a_restart() {
    let mut world = World::start(&[]).await;
    let (mut one, _two, leader, follower, generation) = two_members(&world).await;
    let committed_now = one.call(7, &commit_request(&leader, generation, 42)).await;
    assert_eq!(committed_now.topics[0].partitions[0].error_code, 0);
    world.restart().await;

    let mut client = world.client().await;
    assert_eq!(committed(&mut client, true).await, Ok(42));
    assert_eq!(
        heartbeat(&mut client, &leader, generation).await,
        ErrorCode::None
    );
    let again = sync(&mut client, &sync_request(&follower, generation, &[])).await;
    assert_eq!((again.error_code, again.assignment), (0, Bytes::from("B")));
}

#[tokio::test]
async fn every_version_of_join_sync_heartbeat_and_leave() {
    let world = World::start(&[]).await;
    for version in 0..=9 {
        let mut client = world.client().await;
        let mut joined = client.call(version, &join_request("")).await;
        if version >= 4 {
            assert_eq!(
                ErrorCode::from_code(joined.error_code),
                ErrorCode::MemberIdRequired,
                "v{version}"
            );
            joined = client.call(version, &join_request(&joined.member_id)).await;
        }
        assert_eq!(joined.error_code, 0, "v{version}");
        assert_eq!(
            (joined.leader == joined.member_id, joined.members.len()),
            (true, 1),
            "v{version}"
        );
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert!(joined.member_id.starts_with("it-"));
        let (member_id, generation) = (joined.member_id.as_str(), joined.generation_id);
        let request = sync_request(member_id, generation, &[(member_id, "A")]);
        let synced = client.call(version.min(5), &request).await;
        assert_eq!(
            (synced.error_code, synced.assignment),
            (0, Bytes::from("A")),
            "v{version}"
        );
        assert_eq!(
            heartbeat(&mut client, member_id, generation).await,
            ErrorCode::None
        );
        assert_eq!(
            heartbeat(&mut client, member_id, generation - 1).await,
            ErrorCode::IllegalGeneration
        );
        leave_all(&mut client, version.min(5), member_id).await;
    }
}

#[tokio::test]
async fn refusals_of_join_are_kafkas() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let mut check = async |edit: &dyn Fn(&mut JoinGroupRequest), expected: ErrorCode| {
        let mut request = join_request("");
        edit(&mut request);
        let response = client.call(9, &request).await;
        assert_eq!(ErrorCode::from_code(response.error_code), expected);
        assert_eq!((response.generation_id, response.protocol_name), (-1, None));
    };
    check(
        &|request| request.group_id.clear(),
        ErrorCode::InvalidGroupId,
    )
    .await;
    check(
        &|request| request.session_timeout_ms = 5_999,
        ErrorCode::InvalidSessionTimeout,
    )
    .await;
    check(
        &|request| request.protocols.clear(),
        ErrorCode::InconsistentGroupProtocol,
    )
    .await;
    check(
        &|request| request.member_id = "nobody".to_owned(),
        ErrorCode::UnknownMemberId,
    )
    .await;
}

#[tokio::test]
async fn a_member_whose_connection_closes_while_it_joins_holds_nobody_up_for_ever() {
    let world = World::start(&[]).await;
    let (mut one, mut two, leader, follower, generation) = two_members(&world).await;
    two.send(5, &join_request(&follower)).await; // other metadata would do: the leader's join is what rebalances
    drop(two);
    one.send(5, &join_request(&leader)).await;
    // The follower is gone without a word: out at the end of the rebalance timeout at the latest. It joins again here.
    let mut again = world.client().await;
    let rejoined = again.send(5, &join_request(&follower)).await;
    let (_, joined) = one.receive::<JoinGroupRequest>(5).await;
    assert_eq!(
        (joined.generation_id, joined.members.len()),
        (generation + 1, 2)
    );
    let (answered, other) = again.receive::<JoinGroupRequest>(5).await;
    assert_eq!(
        (answered, other.error_code, other.generation_id),
        (rejoined, 0, generation + 1)
    );
}

#[tokio::test]
async fn a_static_member_comes_back_into_its_place() {
    let mut world = World::start(&[]).await;
    let mut client = world.client().await;
    let mut request = join_request("");
    request.group_instance_id = Some("i".to_owned());
    let first = client.call(9, &request).await;
    assert_eq!(
        (
            first.error_code,
            first.generation_id,
            first.member_id.starts_with("i-")
        ),
        (0, 1, true)
    );
    let assigned = sync_request(&first.member_id, 1, &[(&first.member_id, "A")]);
    sync(&mut client, &assigned).await;
    world.restart().await;
    let mut client = world.client().await;
    let again = client.call(9, &request).await;
    assert_eq!(
        (again.error_code, again.generation_id, again.skip_assignment),
        (0, 1, true)
    );
    assert_ne!(again.member_id, first.member_id);
    assert_eq!(
        sync(&mut client, &sync_request(&again.member_id, 1, &[]))
            .await
            .assignment,
        "A"
    );
    let mut old = join_request(&first.member_id);
    old.group_instance_id = Some("i".to_owned());
    let fenced = client.call(9, &old).await;
    assert_eq!(
        ErrorCode::from_code(fenced.error_code),
        ErrorCode::FencedInstanceId
    );
}
