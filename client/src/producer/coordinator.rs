//! What a transactional producer says to its coordinators.
//!
//! Performs what `transaction.rs` asks for: InitProducerId, AddPartitionsToTxn and AddOffsetsToTxn (before TV2 only),
//! TxnOffsetCommit, EndTxn; retries while a coordinator is unknown, loading or busy. It decides nothing about the transaction itself.

use std::sync::Arc;

use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;
use flumen_protocol::message::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::message::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use flumen_protocol::message::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, EndTxnResponse,
    InitProducerIdRequest, ProduceRequest, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use tokio::sync::oneshot;

use super::accumulator::Slot;
use super::sender::Identity;
use super::task::Command;
use super::transaction::Transaction;
use super::{Core, Shared};
use crate::client::{Client, Node};
use crate::connection::Connection;
use crate::consumer::{ConsumerGroupMetadata, OffsetAndMetadata};
use crate::error::{ClientError, Failure, refused};

/// From this version on EndTxn ends a transaction by epoch (KIP-890).
const END_TXN_TV2: i16 = 5;
/// From this version on TxnOffsetCommit adds the group by itself.
const TXN_OFFSET_COMMIT_TV2: i16 = 5;
/// From this version on Produce adds the partition by itself.
pub(super) const PRODUCE_TV2: i16 = 12;
/// Above it, AddPartitionsToTxn is between brokers.
const ADD_PARTITIONS_CLIENT_MAX: i16 = 3;

/// The transaction, if this producer has any.
pub(super) fn transaction(core: &mut Core) -> Result<&mut Transaction, ClientError> {
    if let Some(error) = &core.closed {
        return Err(error.clone());
    }
    core.transaction
        .as_mut()
        .ok_or_else(|| ClientError::invalid("producer", "it has no transactional id"))
}

fn identity(core: &Core) -> Result<Identity, ClientError> {
    core.identity
        .ok_or_else(|| ClientError::invalid("producer", "init_transactions was not called"))
}

pub(super) async fn init_transactions(
    shared: &Shared,
    earlier: Option<(i64, i16)>,
) -> Result<(), ClientError> {
    let _one_at_a_time = shared.ending.lock().await;
    let id = transaction(&mut shared.core.lock())?.id().to_owned();
    let earlier = earlier.map(|(producer_id, epoch)| Identity { producer_id, epoch });
    let identity = init_producer_id(shared, &id, earlier)
        .await
        .inspect_err(|error| note(shared, error))?;
    let coordinator = coordinator_of(shared, &id).await?;
    let offers = |version: Result<i16, ClientError>, least| version.is_ok_and(|max| max >= least);
    let second_version = coordinator.transaction_version() >= 2
        && offers(
            coordinator.version(EndTxnRequest::API, i16::MAX),
            END_TXN_TV2,
        )
        && offers(
            coordinator.version(ProduceRequest::API, i16::MAX),
            PRODUCE_TV2,
        );
    take_identity(shared, identity);
    transaction(&mut shared.core.lock())?.on_initialized(second_version);
    Ok(())
}

/// The connection to the coordinator, which says what it speaks; opened anew if it was lost since the last answer.
async fn coordinator_of(shared: &Shared, id: &str) -> Result<Arc<Connection>, ClientError> {
    let node = Node::TransactionCoordinator(id);
    let mut retry = shared.client.retry();
    loop {
        match shared.client.connection(node, shared.lane).await {
            Err(error) if error.is_retriable() && retry.again().await => {
                shared.client.forget_coordinator(node);
            }
            connection => return connection,
        }
    }
}

/// A producer id for this transactional id; with `current`, the same in the next epoch.
async fn init_producer_id(
    shared: &Shared,
    id: &str,
    current: Option<Identity>,
) -> Result<Identity, ClientError> {
    let timeout = i32::try_from(shared.config.transaction_timeout.as_millis()).unwrap_or(i32::MAX);
    let request = |version: i16| InitProducerIdRequest {
        transactional_id: Some(id.to_owned()),
        transaction_timeout_ms: timeout,
        producer_id: current
            .filter(|_| version >= 3)
            .map_or(-1, |at| at.producer_id),
        producer_epoch: current.filter(|_| version >= 3).map_or(-1, |at| at.epoch),
        ..InitProducerIdRequest::default()
    };
    let ask = Ask {
        shared,
        node: Node::TransactionCoordinator(id),
        cap: i16::MAX,
    };
    let response = ask
        .until_answered(request, |response| response.error_code)
        .await?;
    Ok(Identity {
        producer_id: response.producer_id,
        epoch: response.producer_epoch,
    })
}

fn take_identity(shared: &Shared, identity: Identity) {
    shared.core.lock().identity = Some(identity);
    // The task ends only with the producer itself.
    let _ = shared.commands.send(Command::SetIdentity(identity));
}

/// Tells the transaction of an error on the way.
fn note(shared: &Shared, error: &ClientError) {
    if let Some(transaction) = &mut shared.core.lock().transaction {
        transaction.on_error(error);
    }
}

/// Before TV2: tells the coordinator of a partition before its first batch.
pub(super) async fn add_partition(
    shared: &Shared,
    topic: &str,
    partition: i32,
    slot: Slot,
) -> Result<(), ClientError> {
    let (id, identity) = {
        let mut core = shared.core.lock();
        (transaction(&mut core)?.id().to_owned(), identity(&core)?)
    };
    let request = |_| AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.clone(),
        v3_and_below_producer_id: identity.producer_id,
        v3_and_below_producer_epoch: identity.epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic {
            name: topic.to_owned(),
            partitions: vec![partition],
            ..AddPartitionsToTxnTopic::default()
        }],
        ..AddPartitionsToTxnRequest::default()
    };
    let node = Node::TransactionCoordinator(&id);
    let ask = Ask {
        shared,
        node,
        cap: ADD_PARTITIONS_CLIENT_MAX,
    };
    let code = |response: &flumen_protocol::message::AddPartitionsToTxnResponse| {
        let topics = response.results_by_topic_v3_and_below.iter();
        let mut codes = topics.flat_map(|topic| topic.results_by_partition.iter());
        codes
            .find_map(|each| Some(each.partition_error_code).filter(|code| *code != 0))
            .unwrap_or(0)
    };
    ask.until_answered(request, code)
        .await
        .inspect_err(|error| note(shared, error))?;
    transaction(&mut shared.core.lock())?.on_added(&[slot]);
    Ok(())
}

pub(super) async fn send_offsets(
    shared: &Shared,
    offsets: &[(TopicPartition, OffsetAndMetadata)],
    group: &ConsumerGroupMetadata,
) -> Result<(), ClientError> {
    let _one_at_a_time = shared.ending.lock().await;
    let (id, identity, second_version, add_group) = {
        let mut core = shared.core.lock();
        let identity = identity(&core)?;
        let transaction = transaction(&mut core)?;
        transaction.may_send()?;
        let add = transaction.must_add_group(&group.group_id);
        let second_version = transaction.is_second_version();
        if second_version {
            transaction.on_sent();
        }
        (transaction.id().to_owned(), identity, second_version, add)
    };
    if offsets.is_empty() {
        return Ok(());
    }
    let sent = async {
        if add_group {
            add_offsets(shared, &id, identity, &group.group_id).await?;
            transaction(&mut shared.core.lock())?.on_group_added(&group.group_id);
        }
        commit_offsets(shared, &id, identity, second_version, (offsets, group)).await
    };
    sent.await.inspect_err(|error| note(shared, error))
}

async fn add_offsets(
    shared: &Shared,
    id: &str,
    identity: Identity,
    group: &str,
) -> Result<(), ClientError> {
    let request = |_| AddOffsetsToTxnRequest {
        transactional_id: id.to_owned(),
        producer_id: identity.producer_id,
        producer_epoch: identity.epoch,
        group_id: group.to_owned(),
        ..AddOffsetsToTxnRequest::default()
    };
    let ask = Ask {
        shared,
        node: Node::TransactionCoordinator(id),
        cap: i16::MAX,
    };
    ask.until_answered(request, |response| response.error_code)
        .await?;
    Ok(())
}

async fn commit_offsets(
    shared: &Shared,
    id: &str,
    identity: Identity,
    second_version: bool,
    (offsets, group): (
        &[(TopicPartition, OffsetAndMetadata)],
        &ConsumerGroupMetadata,
    ),
) -> Result<(), ClientError> {
    let topics = offset_topics(offsets);
    let request = |_| TxnOffsetCommitRequest {
        transactional_id: id.to_owned(),
        group_id: group.group_id.clone(),
        producer_id: identity.producer_id,
        producer_epoch: identity.epoch,
        generation_id: group.generation_id,
        member_id: group.member_id.clone(),
        group_instance_id: group.group_instance_id.clone(),
        topics: topics.clone(),
        ..TxnOffsetCommitRequest::default()
    };
    let cap = if second_version {
        i16::MAX
    } else {
        TXN_OFFSET_COMMIT_TV2 - 1
    };
    let ask = Ask {
        shared,
        node: Node::GroupCoordinator(&group.group_id),
        cap,
    };
    let answered = ask.until_answered(request, first_refusal).await;
    // Whatever a group coordinator refuses, the transaction can still be aborted, unless this producer is fenced.
    answered.map(|_| ()).map_err(|error| match error {
        // A static member was replaced: the group is fenced, not the transactional id.
        ClientError::Fenced(failure) if failure.code() == Some(FENCED_INSTANCE_ID) => {
            ClientError::Rebalance(failure)
        }
        ClientError::Rebalance(_)
        | ClientError::Fenced(_)
        | ClientError::Unauthorized(_)
        | ClientError::Unsupported(_) => error,
        error => ClientError::TransactionAbortable(error.failure().clone()),
    })
}

const FENCED_INSTANCE_ID: i16 = ErrorCode::FencedInstanceId as i16;

fn first_refusal(response: &TxnOffsetCommitResponse) -> i16 {
    let partitions = response
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter());
    let mut codes = partitions.map(|partition| partition.error_code);
    codes.find(|code| *code != 0).unwrap_or(0)
}

fn offset_topics(
    offsets: &[(TopicPartition, OffsetAndMetadata)],
) -> Vec<TxnOffsetCommitRequestTopic> {
    let mut sorted: Vec<&(TopicPartition, OffsetAndMetadata)> = offsets.iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    sorted
        .chunk_by(|left, right| left.0.topic == right.0.topic)
        .map(|run| TxnOffsetCommitRequestTopic {
            name: run[0].0.topic.clone(),
            partitions: run
                .iter()
                .map(|(partition, offset)| TxnOffsetCommitRequestPartition {
                    partition_index: partition.partition,
                    committed_offset: offset.offset,
                    committed_leader_epoch: offset.leader_epoch,
                    committed_metadata: Some(offset.metadata.clone()),
                    ..TxnOffsetCommitRequestPartition::default()
                })
                .collect(),
            ..TxnOffsetCommitRequestTopic::default()
        })
        .collect()
}

pub(super) async fn commit(shared: &Shared) -> Result<(), ClientError> {
    let _one_at_a_time = shared.ending.lock().await;
    transaction(&mut shared.core.lock())?.begin_commit()?;
    if let Err(error) = super::flush(shared).await {
        // What a failed batch means the transaction knows best.
        transaction(&mut shared.core.lock())?.tell_end()?;
        return Err(error);
    }
    match end(shared, true).await {
        Ok(()) => Ok(()),
        Err(error @ ClientError::TransactionAbortable(_)) => {
            transaction(&mut shared.core.lock())?.on_commit_refused(&error);
            Err(error)
        }
        Err(error) => {
            note(shared, &error);
            Err(error)
        }
    }
}

pub(super) async fn abort(shared: &Shared) -> Result<(), ClientError> {
    let _one_at_a_time = shared.ending.lock().await;
    transaction(&mut shared.core.lock())?.begin_abort()?;
    let (done, aborted) = oneshot::channel();
    let reason = ClientError::TransactionAbortable(Failure::new("transaction", "it is aborted"));
    let _ = shared.commands.send(Command::Abort { reason, done });
    aborted.await.map_err(|_| ClientError::closed("producer"))?;
    shared.core.lock().failed = None;
    end(shared, false)
        .await
        .inspect_err(|error| note(shared, error))
}

/// Tells the coordinator of the end, and takes the identity of the next transaction.
async fn end(shared: &Shared, committed: bool) -> Result<(), ClientError> {
    let (id, identity, second_version, tell) = {
        let mut core = shared.core.lock();
        let identity = identity(&core)?;
        let transaction = transaction(&mut core)?;
        let tell = transaction.tell_end()?;
        (
            transaction.id().to_owned(),
            identity,
            transaction.is_second_version(),
            tell,
        )
    };
    if tell {
        let request = |_| EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: identity.producer_id,
            producer_epoch: identity.epoch,
            committed,
            ..EndTxnRequest::default()
        };
        let cap = if second_version {
            i16::MAX
        } else {
            END_TXN_TV2 - 1
        };
        let ask = Ask {
            shared,
            node: Node::TransactionCoordinator(&id),
            cap,
        };
        let response: EndTxnResponse = ask
            .until_answered(request, |response| response.error_code)
            .await?;
        if second_version {
            let epoch = response.producer_epoch;
            take_identity(
                shared,
                Identity {
                    producer_id: response.producer_id,
                    epoch,
                },
            );
        }
    }
    if !committed && !second_version {
        // What was lost left gaps in the sequences; the next epoch begins at 0 again (KIP-360).
        let next = init_producer_id(shared, &id, Some(identity)).await?;
        take_identity(shared, next);
    }
    transaction(&mut shared.core.lock())?.on_ended();
    Ok(())
}

/// One question to a coordinator, asked until it is answered.
struct Ask<'a> {
    shared: &'a Shared,
    node: Node<'a>,
    cap: i16,
}

impl Ask<'_> {
    /// Retries while the coordinator is unknown, unreachable, loading, or still busy with the previous transaction.
    async fn until_answered<R: Request>(
        &self,
        request: impl Fn(i16) -> R,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let client = &self.shared.client;
        let mut retry = client.retry();
        loop {
            let error = match self.once(client, &request, &code_of).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let code = error.code().map(ErrorCode::from_code);
            let again = match code {
                Some(ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorLoadInProgress) => {
                    true
                }
                _ => {
                    client.forget_coordinator(self.node);
                    error.is_retriable()
                }
            };
            if !again || !retry.again().await {
                return Err(error);
            }
        }
    }

    async fn once<R: Request>(
        &self,
        client: &Client,
        request: &impl Fn(i16) -> R,
        code_of: &impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let connection = client.connection(self.node, self.shared.lane).await?;
        let version = connection.version(R::API, self.cap)?;
        let response = connection.request(version, &request(version)).await?;
        match ErrorCode::from_code(code_of(&response)) {
            ErrorCode::None => Ok(response),
            code => {
                let subject = match self.node {
                    Node::GroupCoordinator(group) => format!("group {group}"),
                    Node::TransactionCoordinator(id) => format!("transactional id {id}"),
                    _ => "cluster".to_owned(),
                };
                Err(refused(code, subject)
                    .map(|failure| failure.in_api(R::API.name()).at_broker(connection.label())))
            }
        }
    }
}
