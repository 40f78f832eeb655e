//! Classic groups and committed offsets over the wire.

mod members;
mod offsets;
mod tools;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::message::leave_group_request::MemberIdentity;
use flumen_protocol::message::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::message::offset_fetch_request::OffsetFetchRequestTopic;
use flumen_protocol::message::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::message::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};

use crate::support::{Wire, World, eventually};

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
    eventually(async || heartbeat(&mut one, &leader, 1).await == ErrorCode::RebalanceInProgress)
        .await;
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
