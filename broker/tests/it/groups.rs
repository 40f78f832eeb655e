//! Classic groups and committed offsets over the wire.

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicId;
use flumen_protocol::message::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::message::leave_group_request::MemberIdentity;
use flumen_protocol::message::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::message::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use flumen_protocol::message::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::message::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};

use crate::support::{Wire, World};

const GROUP: &str = "g";

pub(crate) fn join_request(member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: "range".to_owned(),
        metadata: Bytes::from_static(b"subscription"),
        ..Default::default()
    };
    JoinGroupRequest {
        group_id: GROUP.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

pub(crate) fn sync_request(
    member_id: &str,
    generation_id: i32,
    assignments: &[(&str, &'static str)],
) -> SyncGroupRequest {
    let assignment = |(member_id, assignment): &(&str, &'static str)| SyncGroupRequestAssignment {
        member_id: (*member_id).to_owned(),
        assignment: Bytes::from_static(assignment.as_bytes()),
        ..Default::default()
    };
    SyncGroupRequest {
        group_id: GROUP.to_owned(),
        generation_id,
        member_id: member_id.to_owned(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: assignments.iter().map(assignment).collect(),
        ..Default::default()
    }
}

pub(crate) fn commit_request(
    member_id: &str,
    generation_id: i32,
    offset: i64,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some("note".to_owned()),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: GROUP.to_owned(),
        generation_id_or_member_epoch: generation_id,
        member_id: member_id.to_owned(),
        topics: vec![topic],
        ..Default::default()
    }
}

fn fetch_topic(partitions: &[i32]) -> OffsetFetchRequestTopic {
    OffsetFetchRequestTopic {
        name: "t".to_owned(),
        partition_indexes: partitions.to_vec(),
        ..Default::default()
    }
}

/// The committed offset of `t-0`, or the error of its partition or of the whole answer.
pub(crate) async fn committed(client: &mut Wire, require_stable: bool) -> Result<i64, ErrorCode> {
    let request = OffsetFetchRequest {
        group_id: GROUP.to_owned(),
        topics: Some(vec![fetch_topic(&[0])]),
        require_stable,
        ..Default::default()
    };
    let response = client.call(7, &request).await;
    if response.error_code != 0 {
        return Err(ErrorCode::from_code(response.error_code));
    }
    let partition = &response.topics[0].partitions[0];
    match ErrorCode::from_code(partition.error_code) {
        ErrorCode::None => Ok(partition.committed_offset),
        error => Err(error),
    }
}

async fn join(client: &mut Wire, member_id: &str) -> JoinGroupResponse {
    client.call(5, &join_request(member_id)).await
}

async fn sync(client: &mut Wire, request: &SyncGroupRequest) -> SyncGroupResponse {
    client.call(5, request).await
}

pub(crate) async fn heartbeat(client: &mut Wire, member_id: &str, generation_id: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        generation_id,
        member_id: member_id.to_owned(),
        ..Default::default()
    };
    ErrorCode::from_code(client.call(4, &request).await.error_code)
}

/// Two members in a stable generation; the first one leads.
pub(crate) async fn two_members(world: &World) -> (Wire, Wire, String, String, i32) {
    let (mut one, mut two) = (world.client_with_topic("t", 1).await, world.client().await);
    let first = join(&mut one, "").await;
    assert_eq!(
        ErrorCode::from_code(first.error_code),
        ErrorCode::MemberIdRequired
    );
    let (leader, first) = (
        first.member_id.clone(),
        join(&mut one, &first.member_id).await,
    );
    assert_eq!(
        (
            first.error_code,
            first.generation_id,
            first.leader == leader
        ),
        (0, 1, true)
    );

    let follower = join(&mut two, "").await.member_id;
    let parked = two.send(5, &join_request(&follower)).await;
    while heartbeat(&mut one, &leader, 1).await != ErrorCode::RebalanceInProgress {}
    let first = join(&mut one, &leader).await;
    let (answered, second) = two.receive::<JoinGroupRequest>(5).await;
    assert_eq!(
        (answered, second.generation_id, second.members.len()),
        (parked, 2, 0)
    );
    assert_eq!((first.generation_id, first.members.len()), (2, 2));
    assert_eq!(first.members[0].metadata, "subscription");

    let parked = two.send(5, &sync_request(&follower, 2, &[])).await;
    let assigned = sync(
        &mut one,
        &sync_request(&leader, 2, &[(&leader, "A"), (&follower, "B")]),
    )
    .await;
    let (answered, other) = two.receive::<SyncGroupRequest>(5).await;
    assert_eq!(
        (answered, assigned.assignment, other.assignment),
        (parked, Bytes::from("A"), Bytes::from("B"))
    );
    (one, two, leader, follower, 2)
}

#[tokio::test]
pub(crate) async fn two_members_share_a_group_and_its_offsets_survive_a_restart() {
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

async fn leave_all(client: &mut Wire, version: i16, member_id: &str) {
    let member = MemberIdentity {
        member_id: member_id.to_owned(),
        ..Default::default()
    };
    let request = match version {
        0..3 => LeaveGroupRequest {
            group_id: GROUP.to_owned(),
            member_id: member_id.to_owned(),
            ..Default::default()
        },
        _ => LeaveGroupRequest {
            group_id: GROUP.to_owned(),
            members: vec![member],
            ..Default::default()
        },
    };
    let left = client.call(version, &request).await;
    assert_eq!(
        (
            left.error_code,
            left.members.first().map_or(0, |member| member.error_code)
        ),
        (0, 0),
        "v{version}"
    );
    // Who is gone is unknown: at the top before v3, at the member after.
    let left = client.call(version, &request).await;
    let code = if version < 3 {
        left.error_code
    } else {
        left.members[0].error_code
    };
    assert_eq!(
        ErrorCode::from_code(code),
        ErrorCode::UnknownMemberId,
        "v{version}"
    );
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

#[tokio::test]
async fn every_version_of_offset_commit_and_fetch() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 2).await;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let topics = client.call(12, &all).await.topics;
    let topic = topics
        .iter()
        .find(|topic| topic.name.as_deref() == Some("t"));
    let topic_id = topic.unwrap().topic_id;
    for version in 2..=10 {
        let mut request = commit_request("", -1, i64::from(version));
        request.topics[0].topic_id = topic_id;
        let committed = client.call(version, &request).await;
        assert_eq!(
            committed.topics[0].partitions[0].error_code, 0,
            "v{version}"
        );
    }
    for version in 1..=7 {
        fetch_one_group(&mut client, version).await;
    }
    for version in 8..=10 {
        fetch_many_groups(&mut client, version, topic_id).await;
    }
}

async fn fetch_one_group(client: &mut Wire, version: i16) {
    let request = OffsetFetchRequest {
        group_id: GROUP.to_owned(),
        topics: Some(vec![fetch_topic(&[0, 1, 9])]),
        ..Default::default()
    };
    let response = client.call(version, &request).await;
    let partitions = &response.topics[0].partitions;
    let offsets: Vec<_> = partitions
        .iter()
        .map(|p| (p.committed_offset, p.error_code))
        .collect();
    assert_eq!(offsets, [(10, 0), (-1, 0), (-1, 0)], "v{version}");
    assert_eq!(partitions[0].metadata.as_deref(), Some("note"));
}

async fn fetch_many_groups(client: &mut Wire, version: i16, topic_id: TopicId) {
    let topic = OffsetFetchRequestTopics {
        name: "t".to_owned(),
        topic_id,
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = |group_id: &str, topics| OffsetFetchRequestGroup {
        group_id: group_id.to_owned(),
        topics,
        ..Default::default()
    };
    let groups = vec![
        group(GROUP, Some(vec![topic])),
        group(GROUP, None),
        group("nobody", None),
    ];
    let request = OffsetFetchRequest {
        groups,
        ..Default::default()
    };
    let response = client.call(version, &request).await;
    let offsets = |index: usize| -> Vec<i64> {
        let topics = &response.groups[index].topics;
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|partition| partition.committed_offset)
            .collect()
    };
    assert_eq!(
        (offsets(0), offsets(1), offsets(2)),
        (vec![10], vec![10], vec![]),
        "v{version}"
    );
}

#[tokio::test]
async fn a_commit_that_is_mostly_repetition_is_refused() {
    let world = World::start(&[("flumen.id.max.bytes", "32000")]).await;
    let mut client = world.client_with_topic("t", 600).await;
    let mut request = commit_request("", -1, 1);
    let twice = request.topics[0].clone();
    request.topics.push(twice);
    let response = client.call(9, &request).await;
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes: Vec<_> = codes.map(|p| ErrorCode::from_code(p.error_code)).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::InvalidRequest]);

    // 600 records that each name the group would be more than 16 MiB of its name.
    let mut request = commit_request("", -1, 1);
    request.group_id = "g".repeat(32_000);
    let first = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..600)
        .map(|partition_index| OffsetCommitRequestPartition {
            partition_index,
            ..first.clone()
        })
        .collect();
    let response = client.call(9, &request).await;
    assert!(
        response.topics[0]
            .partitions
            .iter()
            .all(|p| ErrorCode::from_code(p.error_code) == ErrorCode::InvalidRequest)
    );
}

#[tokio::test]
async fn what_does_not_exist_is_named_at_its_partition() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut request = commit_request("", -1, 1);
    request.topics[0]
        .partitions
        .push(OffsetCommitRequestPartition {
            partition_index: 7,
            ..Default::default()
        });
    request.topics.push(OffsetCommitRequestTopic {
        name: "gone".to_owned(),
        ..request.topics[0].clone()
    });
    let response = client.call(9, &request).await;
    let codes: Vec<_> = response
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| p.error_code)
        .collect();
    assert_eq!(codes, [0, 3, 3, 3]);
    let mut request = commit_request("", -1, 1);
    request.topics[0].topic_id.0 = [9; 16];
    let response = client.call(10, &request).await;
    assert_eq!(
        ErrorCode::from_code(response.topics[0].partitions[0].error_code),
        ErrorCode::UnknownTopicId
    );
    for (version, expected) in [
        (8, ErrorCode::IllegalGeneration),
        (9, ErrorCode::GroupIdNotFound),
    ] {
        let mut request = commit_request("member", 3, 1);
        request.group_id = "nobody".to_owned();
        let response = client.call(version, &request).await;
        assert_eq!(
            ErrorCode::from_code(response.topics[0].partitions[0].error_code),
            expected
        );
    }
    let mut request = commit_request("", -1, 1);
    request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097));
    let response = client.call(9, &request).await;
    assert_eq!(
        ErrorCode::from_code(response.topics[0].partitions[0].error_code),
        ErrorCode::OffsetMetadataTooLarge
    );
}

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let world = World::start(&[]).await;
    let mut idle = world.client().await;
    assert_eq!(idle.call(5, &ListGroupsRequest::default()).await.groups, []);
    let (mut one, _two, _, _, _) = two_members(&world).await;
    let listed = one.call(5, &ListGroupsRequest::default()).await;
    let group = &listed.groups[0];
    assert_eq!(
        (group.group_id.as_str(), group.protocol_type.as_str()),
        (GROUP, "consumer")
    );
    assert_eq!(
        (group.group_state.as_str(), group.group_type.as_str()),
        ("Stable", "classic")
    );
    for (states, types, count) in [
        (vec!["stable"], vec![], 1),
        (vec!["Empty"], vec![], 0),
        (vec![], vec!["Classic"], 1),
        (vec!["Stable"], vec!["consumer"], 0),
    ] {
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let request = ListGroupsRequest {
            states_filter: owned(states),
            types_filter: owned(types),
            ..Default::default()
        };
        assert_eq!(
            one.call(5, &request).await.groups.len(),
            count,
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn groups_are_described() {
    let world = World::start(&[]).await;
    let (mut one, _two, leader, _, _) = two_members(&world).await;
    let request = DescribeGroupsRequest {
        groups: vec![GROUP.to_owned(), "nobody".to_owned()],
        ..Default::default()
    };
    let described = one.call(5, &request).await;
    let group = &described.groups[0];
    assert_eq!(
        (
            group.group_state.as_str(),
            group.protocol_data.as_str(),
            group.members.len()
        ),
        ("Stable", "range", 2)
    );
    let member = group
        .members
        .iter()
        .find(|member| member.member_id == leader)
        .unwrap();
    assert_eq!(
        (member.client_id.as_str(), member.client_host.as_str()),
        ("it", "/127.0.0.1")
    );
    assert_eq!(
        (&member.member_metadata[..], &member.member_assignment[..]),
        (&b"subscription"[..], &b"A"[..])
    );
    assert_eq!(
        (
            described.groups[1].group_state.as_str(),
            described.groups[1].error_code
        ),
        ("Dead", 0)
    );
    let described = one.call(6, &request).await;
    assert_eq!(
        ErrorCode::from_code(described.groups[1].error_code),
        ErrorCode::GroupIdNotFound
    );
}

#[tokio::test]
async fn this_broker_coordinates_everything_and_says_so_in_every_version() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    for version in 0..=6 {
        for key_type in [0, 1] {
            if version == 0 && key_type == 1 {
                continue;
            }
            let request = match version {
                0..4 => FindCoordinatorRequest {
                    key: "k".to_owned(),
                    key_type,
                    ..Default::default()
                },
                _ => FindCoordinatorRequest {
                    coordinator_keys: vec!["k".to_owned()],
                    key_type,
                    ..Default::default()
                },
            };
            let response = client.call(version, &request).await;
            let (node_id, port) = match response.coordinators.first() {
                Some(found) => (found.node_id, found.port),
                None => (response.node_id, response.port),
            };
            assert_eq!(
                (node_id, port),
                (1, i32::from(world.addr().port())),
                "v{version}"
            );
        }
    }
    let unknown = FindCoordinatorRequest {
        coordinator_keys: vec!["k".to_owned()],
        key_type: 9,
        ..Default::default()
    };
    let response = client.call(6, &unknown).await;
    assert_eq!(
        ErrorCode::from_code(response.coordinators[0].error_code),
        ErrorCode::InvalidRequest
    );
}

#[tokio::test]
async fn a_group_is_deleted_when_nobody_is_in_it() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let joined = client.call(3, &join_request("")).await;
    let assigned = sync_request(&joined.member_id, 1, &[(&joined.member_id, "A")]);
    client.call(3, &assigned).await;
    client
        .call(7, &commit_request(&joined.member_id, 1, 42))
        .await;
    let request = DeleteGroupsRequest {
        groups_names: vec![GROUP.to_owned(), "nobody".to_owned()],
        ..Default::default()
    };
    let delete = async |client: &mut Wire| {
        let results = client.call(2, &request).await.results;
        let code = |index: usize| ErrorCode::from_code(results[index].error_code);
        (code(0), code(1))
    };
    let missing = ErrorCode::GroupIdNotFound;
    assert_eq!(
        delete(&mut client).await,
        (ErrorCode::NonEmptyGroup, missing)
    );
    leave_all(&mut client, 3, &joined.member_id).await;
    assert_eq!(delete(&mut client).await, (ErrorCode::None, missing));
    assert_eq!(committed(&mut client, true).await, Ok(-1));
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(committed(&mut client, true).await, Ok(-1));
    assert_eq!(
        client.call(5, &ListGroupsRequest::default()).await.groups,
        []
    );
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_are_deleted_with_it() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.call(7, &commit_request("", -1, 42)).await;
    client.delete_topic("t").await.unwrap();
    client.create_topic("t", 1, &[]).await.unwrap();
    assert_eq!(committed(&mut client, true).await, Ok(-1));
}
