//! Placeholder until the coordinators land.

use std::sync::Arc;

use flumen_protocol::message::*;

use crate::dispatch::Context;
use crate::node::Node;

pub(crate) async fn find_coordinator(
    _: &Arc<Node>,
    _: &Context,
    _: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    FindCoordinatorResponse::default()
}

pub(crate) async fn join_group(
    _: &Arc<Node>,
    _: &Context,
    _: JoinGroupRequest,
) -> JoinGroupResponse {
    JoinGroupResponse::default()
}

pub(crate) async fn sync_group(
    _: &Arc<Node>,
    _: &Context,
    _: SyncGroupRequest,
) -> SyncGroupResponse {
    SyncGroupResponse::default()
}

pub(crate) async fn heartbeat(
    _: &Arc<Node>,
    _: &Context,
    _: HeartbeatRequest,
) -> HeartbeatResponse {
    HeartbeatResponse::default()
}

pub(crate) async fn leave_group(
    _: &Arc<Node>,
    _: &Context,
    _: LeaveGroupRequest,
) -> LeaveGroupResponse {
    LeaveGroupResponse::default()
}

pub(crate) async fn describe_groups(
    _: &Arc<Node>,
    _: &Context,
    _: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    DescribeGroupsResponse::default()
}

pub(crate) async fn list_groups(
    _: &Arc<Node>,
    _: &Context,
    _: ListGroupsRequest,
) -> ListGroupsResponse {
    ListGroupsResponse::default()
}
