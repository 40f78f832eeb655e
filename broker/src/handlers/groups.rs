//! FindCoordinator and the classic group APIs: decode → ask the group coordinator → encode, with errors where each version has them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::delete_groups_response::DeletableGroupResult;
use flumen_protocol::message::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use flumen_protocol::message::find_coordinator_response::Coordinator;
use flumen_protocol::message::join_group_response::JoinGroupResponseMember;
use flumen_protocol::message::leave_group_response::MemberResponse;
use flumen_protocol::message::list_groups_response::ListedGroup;
use flumen_protocol::message::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};

use crate::coordinator::NAME_BYTES_MAX;
use crate::coordinator::group::classic::{JoinReply, SyncReply};
use crate::coordinator::group::{Identity, Join, Protocol, Sync};
use crate::dispatch::Context;
use crate::error::brief;
use crate::node::Node;

/// First FindCoordinator version with a list of keys.
const FIND_MANY: i16 = 4;
const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;
/// The only kind of group so far, as ListGroups names it (KIP-848).
const CLASSIC: &str = "classic";

/// FindCoordinator: on one node always this one. The internal topic is created here, on first use.
pub(crate) async fn find_coordinator(
    node: &Arc<Node>,
    context: &Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = if context.version >= FIND_MANY {
        request.coordinator_keys
    } else {
        vec![request.key]
    };
    // A key named twice is answered once.
    let (mut seen, mut keys) = (BTreeSet::new(), keys);
    keys.retain(|key| seen.insert(key.clone()));
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = match request.key_type {
            KEY_GROUP if !node.config.fits_id(&key) => Err(ErrorCode::InvalidGroupId),
            KEY_GROUP => node.coordinators.groups.ensure(&key).await,
            KEY_TRANSACTION => node.coordinators.transactions.ensure(&key).await,
            _ => Err(ErrorCode::InvalidRequest),
        };
        let endpoint = node.endpoint(context);
        coordinators.push(match found {
            Ok(()) => Coordinator {
                key,
                node_id: node.config.node_id,
                host: endpoint.host,
                port: i32::from(endpoint.port),
                ..Default::default()
            },
            Err(error) => Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code: error.code(),
                error_message: Some(error.message().to_owned()),
                ..Default::default()
            },
        });
    }
    if context.version >= FIND_MANY {
        return FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
    }
    let Coordinator {
        node_id,
        host,
        port,
        error_code,
        error_message,
        ..
    } = coordinators.pop().unwrap_or_default();
    FindCoordinatorResponse {
        node_id,
        host,
        port,
        error_code,
        error_message,
        ..Default::default()
    }
}

/// Group ids of members: not empty, and not too long.
fn check_group_id(node: &Node, group_id: &str) -> Result<(), ErrorCode> {
    if group_id.is_empty() || !node.config.fits_id(group_id) {
        Err(ErrorCode::InvalidGroupId)
    } else {
        Ok(())
    }
}

/// JoinGroup.
pub(crate) async fn join_group(
    node: &Arc<Node>,
    context: &Context,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let member_id = request.member_id.clone();
    let reply = match check_join(node, &request) {
        Ok(()) => {
            let group_id = request.group_id.clone();
            let fresh_member_id =
                fresh_member_id(node, context, request.group_instance_id.as_deref());
            let join = |token| join_of(context, request, fresh_member_id, token);
            node.coordinators.groups.join(&group_id, join).await
        }
        Err(error) => Err(error),
    };
    let reply = reply.unwrap_or_else(|error| JoinReply::error(&member_id, error));
    let members = reply
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id,
            group_instance_id: member.instance_id,
            metadata: member.metadata,
            ..Default::default()
        });
    // Null only since v7, and there only in an error.
    let protocol_name = if context.version >= 7 {
        reply.protocol
    } else {
        Some(reply.protocol.unwrap_or_default())
    };
    JoinGroupResponse {
        error_code: reply.error.code(),
        generation_id: reply.generation,
        protocol_type: reply.protocol_type,
        protocol_name,
        leader: reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: reply.member_id,
        members: members.collect(),
        ..Default::default()
    }
}

/// Most bytes that all protocols of a member may take: what is larger fits no record of `__consumer_offsets`.
const PROTOCOLS_BYTES_MAX: usize = 1 << 20;

fn check_join(node: &Node, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
    check_group_id(node, &request.group_id)?;
    let too_long = |name: &str| name.len() > NAME_BYTES_MAX;
    // The fresh member id is an instance id and 37 bytes more.
    if request
        .group_instance_id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > NAME_BYTES_MAX - 64)
    {
        return Err(ErrorCode::InvalidRequest);
    }
    if too_long(&request.protocol_type)
        || request
            .protocols
            .iter()
            .any(|protocol| too_long(&protocol.name))
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let protocols = request.protocols.iter();
    let bytes = protocols.map(|protocol| protocol.name.len() + protocol.metadata.len());
    if bytes.sum::<usize>() > PROTOCOLS_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

/// `<client id or instance id>-<uuid>`, as Kafka makes them.
fn fresh_member_id(node: &Node, context: &Context, instance_id: Option<&str>) -> String {
    let id = u128::from_be_bytes(node.drivers.random_id());
    let hex = format!("{id:032x}");
    let [a, b, c, d, e] = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    let prefix = instance_id.unwrap_or(&context.client_id);
    let prefix = prefix
        .get(..prefix.floor_char_boundary(NAME_BYTES_MAX - 64))
        .unwrap_or(prefix);
    format!("{prefix}-{a}-{b}-{c}-{d}-{e}")
}

fn join_of(
    context: &Context,
    request: JoinGroupRequest,
    fresh_member_id: String,
    token: u64,
) -> Join {
    // Copies: what the group keeps must not keep the whole request in memory.
    let protocols = request.protocols.into_iter();
    let protocols = protocols.map(|protocol| Protocol {
        name: protocol.name,
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    Join {
        token,
        member_id: request.member_id,
        require_known_member_id: context.version >= 4 && request.group_instance_id.is_none(),
        instance_id: request.group_instance_id,
        fresh_member_id,
        client_id: context.client_id.clone(),
        client_host: format!("/{}", context.peer.addr.ip().to_canonical()),
        session_timeout_ms: request.session_timeout_ms,
        // v0 has one timeout for both.
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => request.session_timeout_ms,
            timeout_ms => timeout_ms,
        },
        protocol_type: request.protocol_type,
        protocols: protocols.collect(),
        can_skip_assignment: context.version >= 9,
    }
}

/// SyncGroup.
pub(crate) async fn sync_group(
    node: &Arc<Node>,
    context: &Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let names_missing = context.version >= 5
        && (request.protocol_type.is_none() || request.protocol_name.is_none());
    let reply = match check_group_id(node, &request.group_id) {
        Ok(()) if names_missing => Err(ErrorCode::InconsistentGroupProtocol),
        Ok(()) => {
            let group_id = request.group_id.clone();
            let assignments = request
                .assignments
                .into_iter()
                .map(|part| (part.member_id, Bytes::copy_from_slice(&part.assignment)))
                .collect();
            let sync = |token| Sync {
                token,
                generation: request.generation_id,
                member_id: request.member_id,
                instance_id: request.group_instance_id,
                protocol_type: request.protocol_type,
                protocol: request.protocol_name,
                assignments,
            };
            node.coordinators.groups.sync(&group_id, sync).await
        }
        Err(error) => Err(error),
    };
    let reply = reply.unwrap_or_else(SyncReply::error);
    SyncGroupResponse {
        error_code: reply.error.code(),
        protocol_type: reply.protocol_type,
        protocol_name: reply.protocol,
        assignment: reply.assignment,
        ..Default::default()
    }
}

/// Heartbeat.
pub(crate) async fn heartbeat(
    node: &Arc<Node>,
    _context: &Context,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let who = Identity {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    let said = match check_group_id(node, &request.group_id) {
        Ok(()) => {
            node.coordinators
                .groups
                .heartbeat(&request.group_id, &who)
                .await
        }
        Err(error) => Err(error),
    };
    HeartbeatResponse {
        error_code: code_of(said),
        ..Default::default()
    }
}

/// LeaveGroup: one member before v3, and its error at the top; from v3 on a list, each with its own.
pub(crate) async fn leave_group(
    node: &Arc<Node>,
    context: &Context,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let leaving: Vec<(String, Option<String>)> = if context.version >= 3 {
        request
            .members
            .into_iter()
            .map(|member| (member.member_id, member.group_instance_id))
            .collect()
    } else {
        vec![(request.member_id, None)]
    };
    let left = match check_group_id(node, &request.group_id) {
        Ok(()) => {
            node.coordinators
                .groups
                .leave(&request.group_id, &leaving)
                .await
        }
        Err(error) => Err(error),
    };
    match left {
        Err(error) => LeaveGroupResponse {
            error_code: error.code(),
            ..Default::default()
        },
        Ok(results) if context.version < 3 => {
            let error_code = results.first().map_or(0, |result| code_of(*result));
            LeaveGroupResponse {
                error_code,
                ..Default::default()
            }
        }
        Ok(results) => {
            let members =
                leaving
                    .into_iter()
                    .zip(results)
                    .map(|((member_id, group_instance_id), result)| MemberResponse {
                        member_id,
                        group_instance_id,
                        error_code: code_of(result),
                        ..Default::default()
                    });
            LeaveGroupResponse {
                members: members.collect(),
                ..Default::default()
            }
        }
    }
}

/// DescribeGroups: a group nobody knows is `Dead`, from v6 on GROUP_ID_NOT_FOUND too.
pub(crate) async fn describe_groups(
    node: &Arc<Node>,
    context: &Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    // A group named twice is described once, with all its members' metadata.
    let (mut seen, mut asked) = (BTreeSet::new(), request.groups);
    asked.retain(|id| seen.insert(id.clone()));
    let refused = node.config.check_described("groups", asked.len());
    let mut groups = Vec::with_capacity(asked.len());
    for group_id in asked {
        if let Err(why) = &refused {
            groups.push(not_described(group_id, why));
            continue;
        }
        let described = node.coordinators.groups.describe(&group_id).await;
        groups.push(describe(context, group_id, described));
    }
    DescribeGroupsResponse {
        groups,
        ..Default::default()
    }
}

fn not_described(group_id: String, why: &str) -> DescribedGroup {
    DescribedGroup {
        error_code: ErrorCode::InvalidRequest.code(),
        error_message: Some(why.to_owned()),
        group_id,
        ..Default::default()
    }
}

fn describe(
    context: &Context,
    group_id: String,
    described: Result<Option<crate::coordinator::group::DescribedGroup>, ErrorCode>,
) -> DescribedGroup {
    match described {
        Err(error) => DescribedGroup {
            error_code: error.code(),
            group_id,
            ..Default::default()
        },
        Ok(None) if context.version >= 6 => DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(brief(format!("Group {group_id} not found."))),
            group_id,
            group_state: "Dead".to_owned(),
            ..Default::default()
        },
        Ok(None) => DescribedGroup {
            group_id,
            group_state: "Dead".to_owned(),
            ..Default::default()
        },
        Ok(Some(group)) => {
            let members = group
                .members
                .into_iter()
                .map(|member| DescribedGroupMember {
                    member_id: member.member_id,
                    group_instance_id: member.instance_id,
                    client_id: member.client_id,
                    client_host: member.client_host,
                    member_metadata: member.metadata,
                    member_assignment: member.assignment,
                    ..Default::default()
                });
            DescribedGroup {
                group_id,
                group_state: group.state.to_owned(),
                protocol_type: group.protocol_type,
                protocol_data: group.protocol,
                members: members.collect(),
                ..Default::default()
            }
        }
    }
}

/// ListGroups, filtered by states and types as the request asks (case does not matter).
pub(crate) async fn list_groups(
    node: &Arc<Node>,
    _context: &Context,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let wanted = |filter: &[String], value: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    match node.coordinators.groups.list().await {
        Err(error) => ListGroupsResponse {
            error_code: error.code(),
            ..Default::default()
        },
        Ok(groups) => {
            let groups = groups
                .into_iter()
                .filter(|group| wanted(&request.states_filter, group.state));
            let groups = groups
                .filter(|_| wanted(&request.types_filter, CLASSIC))
                .map(|group| ListedGroup {
                    group_id: group.group_id,
                    protocol_type: group.protocol_type,
                    group_state: group.state.to_owned(),
                    group_type: CLASSIC.to_owned(),
                    ..Default::default()
                });
            ListGroupsResponse {
                groups: groups.collect(),
                ..Default::default()
            }
        }
    }
}

/// DeleteGroups: groups nobody is in, with their offsets.
pub(crate) async fn delete_groups(
    node: &Arc<Node>,
    _context: &Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    // A group named twice is answered once.
    let names: BTreeSet<String> = request.groups_names.into_iter().collect();
    for group_id in names {
        let deleted = node.coordinators.groups.delete(&group_id).await;
        results.push(DeletableGroupResult {
            group_id,
            error_code: code_of(deleted),
            ..Default::default()
        });
    }
    DeleteGroupsResponse {
        results,
        ..Default::default()
    }
}

fn code_of(result: Result<(), ErrorCode>) -> i16 {
    result.err().unwrap_or(ErrorCode::None).code()
}
