//! The member's task: between `membership.rs` and the group's coordinator.
//!
//! Does what [`Membership::next`] says, one request after the other, beside the application: heartbeats go on while records are processed.
//! Also commits offsets, on a connection of their own, because a parked JoinGroup must not stand before a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;
use flumen_protocol::message::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::message::leave_group_request::MemberIdentity;
use flumen_protocol::message::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::message::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::message::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    SyncGroupRequest,
};
use tokio::time::Instant;

use super::membership::{Action, GroupEvent, Joined, Membership};
use super::{ConsumerGroupMetadata, Event, OffsetAndMetadata, Poll, Shared, subject};
use crate::client::Node;
use crate::config::ConsumerConfig;
use crate::error::{ClientError, refused};
use crate::runtime;

/// Version from which members may be static.
const JOIN_GROUP_STATIC: i16 = 5;
/// The last version of OffsetCommit that names topics.
const OFFSET_COMMIT_BY_NAME: i16 = 9;
/// How often a subscribed topic that does not exist is looked for.
const MISSING_TOPIC_TICK: Duration = Duration::from_secs(2);

/// Runs until it is aborted with its consumer.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut topics = TopicWatch {
        version: 0,
        refresh_at: None,
    };
    loop {
        topics.look(&shared).await;
        let now = runtime::now();
        let action = with_membership(&shared, |membership| membership.next(now));
        if let Action::Wait(until) = action {
            let until = [until, topics.refresh_at].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = shared.group_look.notified() => {}
                () = runtime::sleep_until(until) => {}
            }
            continue;
        }
        if let Err(error) = perform(&shared, action).await {
            tracing::debug!(%error, "the group coordinator did not answer");
            shared
                .client
                .forget_coordinator(Node::GroupCoordinator(shared.group()));
            let now = runtime::now();
            with_membership(&shared, |membership| membership.on_unavailable(now));
            if error.is_retriable() {
                runtime::sleep(shared.client.config().retry_backoff).await;
            } else {
                with_membership(&shared, |membership| membership.on_failed(error));
            }
        }
    }
}

/// Follows the number of partitions of the subscribed topics.
struct TopicWatch {
    version: u64,
    refresh_at: Option<Instant>,
}

impl TopicWatch {
    async fn look(&mut self, shared: &Shared) {
        let topics = with_membership(shared, |membership| membership.topics().to_vec());
        if topics.is_empty() {
            self.refresh_at = None;
            return;
        }
        for topic in &topics {
            shared.client.want(topic);
        }
        let now = runtime::now();
        let new_topic = self.refresh_at.is_none();
        if new_topic || self.refresh_at.is_some_and(|at| at <= now) {
            if let Err(error) = shared.client.refresh_metadata().await {
                tracing::debug!(%error, "metadata could not be refreshed");
            }
            let known = |topic: &String| {
                shared
                    .client
                    .with_metadata(|metadata| metadata.partition_count(topic).is_some())
            };
            let age = shared.client.config().metadata_max_age;
            let age = if topics.iter().all(known) {
                age
            } else {
                age.min(MISSING_TOPIC_TICK)
            };
            self.refresh_at = Some(runtime::now() + age);
        }
        let version = shared.client.with_metadata(|metadata| metadata.version());
        if version != self.version || new_topic {
            self.version = version;
            let counts = partition_counts(shared, topics.iter());
            let now = runtime::now();
            with_membership(shared, |membership| {
                membership.on_partition_counts(counts, now)
            });
        }
    }
}

fn partition_counts<'a>(
    shared: &Shared,
    topics: impl Iterator<Item = &'a String>,
) -> BTreeMap<String, i32> {
    shared.client.with_metadata(|metadata| {
        topics
            .filter_map(|topic| Some((topic.clone(), metadata.partition_count(topic)?)))
            .collect()
    })
}

/// Touches the membership and hands on what the application must know.
pub(super) fn with_membership<T: Default>(
    shared: &Shared,
    touch: impl FnOnce(&mut Membership) -> T,
) -> T {
    let Some(membership) = &shared.membership else {
        return T::default();
    };
    let mut membership = membership.lock();
    let result = touch(&mut membership);
    let events = membership.take_events();
    if events.is_empty() {
        return result;
    }
    let mut state = shared.state.lock();
    for event in events {
        let event = match event {
            GroupEvent::Revoking(partitions) => {
                state.positions.set_returning(&partitions);
                Event::Poll(Poll::Revoking(partitions))
            }
            GroupEvent::Assigned(partitions) => {
                state.positions.add(&partitions, false);
                Event::Poll(Poll::Assigned(partitions))
            }
            GroupEvent::Lost(partitions) => {
                state.positions.remove(&partitions);
                Event::Poll(Poll::Lost(partitions))
            }
            GroupEvent::Failed(error) => Event::Error(error),
        };
        state.events.push_back(event);
    }
    drop(state);
    shared.ready.notify_one();
    result
}

async fn perform(shared: &Shared, action: Action) -> Result<(), ClientError> {
    match action {
        Action::Wait(_) => Ok(()),
        Action::Join {
            member_id,
            protocols,
            reason,
        } => {
            let joined = join(shared, member_id, protocols, reason).await?;
            let now = runtime::now();
            with_membership(shared, |membership| membership.on_joined(joined, now));
            Ok(())
        }
        Action::Plan { topics } => plan(shared, topics).await,
        Action::Sync {
            protocol,
            assignments,
        } => {
            let (code, assignment) = sync(shared, protocol, assignments).await?;
            let now = runtime::now();
            with_membership(shared, |membership| {
                membership.on_synced(code, assignment, now)
            });
            Ok(())
        }
        Action::Heartbeat => {
            let code = heartbeat(shared).await?;
            let now = runtime::now();
            with_membership(shared, |membership| membership.on_heartbeat(code, now));
            forget_wrong_coordinator(shared, code);
            Ok(())
        }
        Action::Leave { member_id, reason } => {
            leave(shared, member_id, reason).await;
            Ok(())
        }
    }
}

fn forget_wrong_coordinator(shared: &Shared, code: i16) {
    let code = ErrorCode::from_code(code);
    if matches!(
        code,
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable
    ) {
        shared
            .client
            .forget_coordinator(Node::GroupCoordinator(shared.group()));
    }
}

async fn join(
    shared: &Shared,
    member_id: String,
    protocols: Vec<(String, Bytes)>,
    reason: &'static str,
) -> Result<Joined, ClientError> {
    let node = Node::GroupCoordinator(shared.group());
    let connection = shared.client.connection(node, shared.group_lane).await?;
    let version = connection.version(JoinGroupRequest::API, i16::MAX)?;
    let config = &shared.config;
    let instance_id = config
        .group_instance_id
        .clone()
        .filter(|_| version >= JOIN_GROUP_STATIC);
    let request = JoinGroupRequest {
        group_id: shared.group().to_owned(),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.max_poll_interval),
        member_id,
        group_instance_id: instance_id,
        protocol_type: "consumer".to_owned(),
        protocols: protocols
            .into_iter()
            .map(|(name, metadata)| JoinGroupRequestProtocol {
                name,
                metadata,
                ..JoinGroupRequestProtocol::default()
            })
            .collect(),
        reason: Some(reason.to_owned()),
        ..JoinGroupRequest::default()
    };
    let response = connection
        .request_within(version, &request, held(config))
        .await?;
    forget_wrong_coordinator(shared, response.error_code);
    Ok(joined(response))
}

/// How long a coordinator may hold JoinGroup or SyncGroup back for the other members before it is asked again. A coordinator that died
/// without a word is noticed as late as a silent member would be, and not as late as the slowest member may come (Kafka waits for that):
/// who asks again meanwhile keeps its place.
fn held(config: &ConsumerConfig) -> Duration {
    config.session_timeout.min(config.max_poll_interval)
}

fn joined(response: JoinGroupResponse) -> Joined {
    let members = response.members.into_iter();
    Joined {
        error_code: response.error_code,
        generation_id: response.generation_id,
        protocol: response.protocol_name.unwrap_or_default(),
        leader: response.leader,
        skip_assignment: response.skip_assignment,
        member_id: response.member_id,
        members: members
            .map(|member| (member.member_id, member.group_instance_id, member.metadata))
            .collect(),
    }
}

/// The leader must know every topic that any member subscribed to.
async fn plan(shared: &Shared, topics: BTreeSet<String>) -> Result<(), ClientError> {
    for topic in &topics {
        shared.client.want(topic);
    }
    let unknown = |topic: &String| {
        shared
            .client
            .with_metadata(|metadata| metadata.partition_count(topic).is_none())
    };
    if topics.iter().any(unknown) {
        shared.client.refresh_metadata().await?;
    }
    let counts = partition_counts(shared, topics.iter());
    with_membership(shared, |membership| membership.on_plan(&counts));
    Ok(())
}

async fn sync(
    shared: &Shared,
    protocol: String,
    assignments: Vec<(String, Bytes)>,
) -> Result<(i16, Bytes), ClientError> {
    let node = Node::GroupCoordinator(shared.group());
    let connection = shared.client.connection(node, shared.group_lane).await?;
    let version = connection.version(SyncGroupRequest::API, i16::MAX)?;
    let member = group_metadata(shared);
    let request = SyncGroupRequest {
        group_id: member.group_id,
        generation_id: member.generation_id,
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some(protocol),
        assignments: assignments
            .into_iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id,
                assignment,
                ..SyncGroupRequestAssignment::default()
            })
            .collect(),
        ..SyncGroupRequest::default()
    };
    let held = held(&shared.config);
    let response = connection.request_within(version, &request, held).await?;
    forget_wrong_coordinator(shared, response.error_code);
    Ok((response.error_code, response.assignment))
}

async fn heartbeat(shared: &Shared) -> Result<i16, ClientError> {
    let node = Node::GroupCoordinator(shared.group());
    let connection = shared.client.connection(node, shared.group_lane).await?;
    let version = connection.version(HeartbeatRequest::API, i16::MAX)?;
    let member = group_metadata(shared);
    let request = HeartbeatRequest {
        group_id: member.group_id,
        generation_id: member.generation_id,
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        ..HeartbeatRequest::default()
    };
    Ok(connection.request(version, &request).await?.error_code)
}

/// Tells the coordinator that the member goes; if that fails, the session time-out tells it.
pub(super) async fn leave(shared: &Shared, member_id: String, reason: &'static str) {
    let left = async {
        let node = Node::GroupCoordinator(shared.group());
        let connection = shared.client.connection(node, shared.commit_lane).await?;
        let version = connection.version(LeaveGroupRequest::API, i16::MAX)?;
        let group_id = shared.group().to_owned();
        let request = match version {
            3.. => LeaveGroupRequest {
                group_id,
                members: vec![MemberIdentity {
                    member_id,
                    reason: Some(reason.to_owned()),
                    ..MemberIdentity::default()
                }],
                ..LeaveGroupRequest::default()
            },
            _ => LeaveGroupRequest {
                group_id,
                member_id,
                ..LeaveGroupRequest::default()
            },
        };
        connection.request(version, &request).await
    };
    if let Err(error) = left.await {
        tracing::debug!(%error, "the group was not told that a member left");
    }
}

/// As which member this consumer commits now.
pub(super) fn group_metadata(shared: &Shared) -> ConsumerGroupMetadata {
    let lone = ConsumerGroupMetadata {
        group_id: shared.group().to_owned(),
        generation_id: -1,
        ..ConsumerGroupMetadata::default()
    };
    let Some(membership) = &shared.membership else {
        return lone;
    };
    let membership = membership.lock();
    let (group_id, generation_id, member_id, instance_id) = membership.identity();
    if membership.topics().is_empty() {
        return lone;
    }
    ConsumerGroupMetadata {
        group_id: group_id.to_owned(),
        generation_id,
        member_id: member_id.to_owned(),
        group_instance_id: instance_id.map(str::to_owned),
    }
}

pub(super) async fn commit(
    shared: &Shared,
    offsets: &[(TopicPartition, OffsetAndMetadata)],
) -> Result<(), ClientError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let node = Node::GroupCoordinator(shared.group());
    let mut retry = shared.client.retry();
    loop {
        let error = match commit_once(shared, offsets).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let code = error.code().map(ErrorCode::from_code);
        if let Some(code) = code {
            let now = runtime::now();
            with_membership(shared, |membership| membership.on_commit_refused(code, now));
            shared.group_look.notify_one();
        }
        if code != Some(ErrorCode::CoordinatorLoadInProgress) {
            shared.client.forget_coordinator(node);
        }
        if !error.is_retriable() || !retry.again().await {
            return Err(error);
        }
    }
}

async fn commit_once(
    shared: &Shared,
    offsets: &[(TopicPartition, OffsetAndMetadata)],
) -> Result<(), ClientError> {
    let node = Node::GroupCoordinator(shared.group());
    let connection = shared.client.connection(node, shared.commit_lane).await?;
    let version = connection.version(OffsetCommitRequest::API, OFFSET_COMMIT_BY_NAME)?;
    let member = group_metadata(shared);
    let mut sorted: Vec<&(TopicPartition, OffsetAndMetadata)> = offsets.iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let topics = sorted.chunk_by(|left, right| left.0.topic == right.0.topic);
    let request = OffsetCommitRequest {
        group_id: member.group_id,
        generation_id_or_member_epoch: member.generation_id,
        member_id: member.member_id,
        group_instance_id: member.group_instance_id.filter(|_| version >= 7),
        topics: topics.map(commit_topic).collect(),
        ..OffsetCommitRequest::default()
    };
    let response = connection.request(version, &request).await?;
    for topic in response.topics {
        for answer in topic.partitions {
            let code = ErrorCode::from_code(answer.error_code);
            if code != ErrorCode::None {
                let partition = TopicPartition::new(topic.name.clone(), answer.partition_index);
                return Err(refused(code, subject(&partition))
                    .map(|failure| failure.in_api("OffsetCommit").at_broker(connection.label())));
            }
        }
    }
    Ok(())
}

fn commit_topic(run: &[&(TopicPartition, OffsetAndMetadata)]) -> OffsetCommitRequestTopic {
    let partitions = run
        .iter()
        .map(|(partition, offset)| OffsetCommitRequestPartition {
            partition_index: partition.partition,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            committed_metadata: Some(offset.metadata.clone()),
            ..OffsetCommitRequestPartition::default()
        });
    OffsetCommitRequestTopic {
        name: run[0].0.topic.clone(),
        partitions: partitions.collect(),
        ..OffsetCommitRequestTopic::default()
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
