//! The APIs of idempotent and transactional producers: decode → ask the transaction coordinator → encode, in the codes each version
//! knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use flumen_protocol::builder::EndTxnMarker;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerEpoch, ProducerId, TopicPartition};
use flumen_protocol::message::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use flumen_protocol::message::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use flumen_protocol::message::describe_transactions_response::{TopicData, TransactionState};
use flumen_protocol::message::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use flumen_protocol::message::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use flumen_protocol::message::write_txn_markers_request::WritableTxnMarker;
use flumen_protocol::message::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use flumen_protocol::message::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};

use super::offsets::{Sorter, repeats_too_much};
use crate::cluster::controller::is_too_long;
use crate::coordinator::NAME_BYTES_MAX;
use crate::coordinator::group::record::OffsetRecord;
use crate::coordinator::group::{Commit, Identity};
use crate::coordinator::runtime::shard::InTransaction;
use crate::coordinator::txn::{Producer, TRANSACTION_VERSION_2, Transaction};
use crate::dispatch::Context;
use crate::node::Node;

/// First AddPartitionsToTxn version with a list of transactions.
const ADD_MANY: i16 = 4;
/// First EndTxn and TxnOffsetCommit version of clients that bump their epoch with every transaction.
const BUMPS_EPOCH: i16 = 5;
/// First TxnOffsetCommit version whose clients know TRANSACTION_ABORTABLE.
const OFFSETS_ABORTABLE: i16 = 4;

/// How often the coordinator is asked whether offsets may be written, should markers keep coming in between.
const VERIFICATIONS_MAX: usize = 4;

/// PRODUCER_FENCED is told as INVALID_PRODUCER_EPOCH to versions before `known`.
fn fenced_before(known: i16, context: &Context, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if context.version < known => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

/// A transactional id that names something and that a record can carry.
fn check_id(transactional_id: &str) -> Result<(), ErrorCode> {
    let fine = !transactional_id.is_empty() && transactional_id.len() <= NAME_BYTES_MAX;
    if fine {
        Ok(())
    } else {
        Err(ErrorCode::InvalidRequest)
    }
}

/// InitProducerId: idempotent (no transactional id) or transactional.
pub(crate) async fn init_producer_id(
    node: &Arc<Node>,
    context: &Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(node, &request).await {
        Ok((producer_id, producer_epoch)) => InitProducerIdResponse {
            producer_id,
            producer_epoch,
            ..Default::default()
        },
        Err(error) => InitProducerIdResponse {
            error_code: fenced_before(4, context, error).code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

async fn init(
    node: &Arc<Node>,
    request: &InitProducerIdRequest,
) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
    let transactions = &node.coordinators.transactions;
    let Some(transactional_id) = &request.transactional_id else {
        return transactions.new_producer_id().await.map(|id| (id, 0));
    };
    check_id(transactional_id)?;
    let expected = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return Err(ErrorCode::InvalidRequest),
        identity => Some(identity),
    };
    transactions
        .init_producer(transactional_id, request.transaction_timeout_ms, expected)
        .await
}

/// AddPartitionsToTxn: one transaction from a client before v4, many (or a verification) from brokers after.
pub(crate) async fn add_partitions_to_txn(
    node: &Arc<Node>,
    context: &Context,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if context.version < ADD_MANY {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
            ..Default::default()
        };
        let results_by_topic_v3_and_below = add_partitions(node, context, transaction)
            .await
            .topic_results;
        return AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below,
            ..Default::default()
        };
    }
    let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        results_by_transaction.push(add_partitions(node, context, transaction).await);
    }
    AddPartitionsToTxnResponse {
        results_by_transaction,
        ..Default::default()
    }
}

async fn add_partitions(
    node: &Arc<Node>,
    context: &Context,
    transaction: AddPartitionsToTxnTransaction,
) -> AddPartitionsToTxnResult {
    let codes = add_or_verify(node, context, &transaction).await;
    let mut codes = codes
        .into_iter()
        .map(|code| fenced_before(2, context, code));
    let topic_results = transaction.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(codes.by_ref());
        AddPartitionsToTxnTopicResult {
            results_by_partition: partitions.map(partition_result).collect(),
            name: topic.name,
            ..Default::default()
        }
    });
    AddPartitionsToTxnResult {
        topic_results: topic_results.collect(),
        transactional_id: transaction.transactional_id,
        ..Default::default()
    }
}

/// One code per partition, in the order of the request.
async fn add_or_verify(
    node: &Arc<Node>,
    context: &Context,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<ErrorCode> {
    // Before the names are copied once per partition.
    if transaction
        .topics
        .iter()
        .any(|topic| is_too_long(&topic.name))
    {
        let count = transaction
            .topics
            .iter()
            .map(|topic| topic.partitions.len());
        return vec![ErrorCode::UnknownTopicOrPartition; count.sum()];
    }
    let partitions: Vec<TopicPartition> =
        transaction.topics.iter().flat_map(partitions_of).collect();
    let all = |code| vec![code; partitions.len()];
    let producer = Producer {
        transactional_id: transaction.transactional_id.clone(),
        id: transaction.producer_id,
        epoch: transaction.producer_epoch,
    };
    if let Err(error) = check_id(&producer.transactional_id) {
        return all(error);
    }
    let transactions = &node.coordinators.transactions;
    if transaction.verify_only {
        return transactions
            .verify(&producer, &partitions)
            .await
            .unwrap_or_else(all);
    }
    let image = node.cluster.image();
    let exists = |partition: &TopicPartition| {
        let count = image
            .topic(&partition.topic)
            .map_or(0, |topic| topic.partitions.len());
        usize::try_from(partition.partition).is_ok_and(|index| index < count)
    };
    if !partitions.iter().all(exists) {
        // All or nothing: those that exist are told that nobody tried.
        let code = |partition| match exists(partition) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        return partitions.iter().map(code).collect();
    }
    let client_version = if context.version > ADD_MANY {
        TRANSACTION_VERSION_2
    } else {
        0
    };
    let wanted = partitions.iter().cloned().collect();
    let added = transactions
        .add_partitions(&producer, &wanted, client_version)
        .await;
    all(added.err().unwrap_or(ErrorCode::None))
}

fn partitions_of(
    topic: &AddPartitionsToTxnTopic,
) -> impl Iterator<Item = TopicPartition> + use<'_> {
    topic
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(topic.name.clone(), *partition))
}

fn partition_result((partition, code): (&i32, ErrorCode)) -> AddPartitionsToTxnPartitionResult {
    AddPartitionsToTxnPartitionResult {
        partition_index: *partition,
        partition_error_code: code.code(),
        ..Default::default()
    }
}

/// AddOffsetsToTxn: the partition that holds the group's offsets joins the transaction.
pub(crate) async fn add_offsets_to_txn(
    node: &Arc<Node>,
    context: &Context,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let added = add_offsets(node, &request).await;
    let error_code = added
        .err()
        .map_or(ErrorCode::None, |error| fenced_before(2, context, error))
        .code();
    AddOffsetsToTxnResponse {
        error_code,
        ..Default::default()
    }
}

async fn add_offsets(node: &Arc<Node>, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    check_id(&request.transactional_id)?;
    if !node.config.fits_id(&request.group_id) {
        return Err(ErrorCode::InvalidGroupId);
    }
    let partition = node
        .coordinators
        .groups
        .partition_of(&request.group_id)
        .await?;
    let producer = Producer {
        transactional_id: request.transactional_id.clone(),
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    node.coordinators
        .transactions
        .add_partitions(&producer, &BTreeSet::from([partition]), 0)
        .await
}

/// EndTxn; from v5 on the reply is the producer's next identity.
pub(crate) async fn end_txn(
    node: &Arc<Node>,
    context: &Context,
    request: EndTxnRequest,
) -> EndTxnResponse {
    let bumps_epoch = context.version >= BUMPS_EPOCH;
    let producer = Producer {
        transactional_id: request.transactional_id,
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let ended = match check_id(&producer.transactional_id) {
        Ok(()) => {
            node.coordinators
                .transactions
                .end(&producer, request.committed, bumps_epoch)
                .await
        }
        Err(error) => Err(error),
    };
    match ended {
        Ok((producer_id, producer_epoch)) => EndTxnResponse {
            producer_id,
            producer_epoch,
            ..Default::default()
        },
        Err(error) => EndTxnResponse {
            error_code: fenced_before(2, context, error).code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

/// TxnOffsetCommit: offsets that become visible with the transaction's marker.
pub(crate) async fn txn_offset_commit(
    node: &Arc<Node>,
    context: &Context,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let image = node.cluster.image();
    let mut sorter = Sorter::new(&image);
    for (index, topic) in request.topics.iter().enumerate() {
        for partition in &topic.partitions {
            sorter.add(
                index,
                Ok(&topic.name),
                partition.partition_index,
                offset_of(partition),
            );
        }
    }
    let offsets = std::mem::take(&mut sorter.offsets);
    let codes = if offsets.is_empty() {
        Ok(Vec::new())
    } else {
        commit(node, context, &request, offsets).await
    };
    let topics = request.topics.into_iter();
    let topics = topics.map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name,
        ..Default::default()
    });
    let mut topics: Vec<_> = topics.collect();
    for asked in sorter.answered(codes) {
        topics[asked.topic]
            .partitions
            .push(TxnOffsetCommitResponsePartition {
                partition_index: asked.partition,
                error_code: asked.code.code(),
                ..Default::default()
            });
    }
    TxnOffsetCommitResponse {
        topics,
        ..Default::default()
    }
}

fn offset_of(partition: &TxnOffsetCommitRequestPartition) -> OffsetRecord {
    OffsetRecord {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        ..OffsetRecord::default()
    }
}

async fn commit(
    node: &Arc<Node>,
    context: &Context,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<(TopicPartition, OffsetRecord)>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    if request.group_id.is_empty() || !node.config.fits_id(&request.group_id) {
        return Err(ErrorCode::InvalidGroupId);
    }
    if repeats_too_much(&request.group_id, offsets.len()) {
        return Err(ErrorCode::InvalidRequest);
    }
    check_id(&request.transactional_id)?;
    let transaction =
        join_transaction(node, context, request)
            .await
            .map_err(|error| match error {
                ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
                ErrorCode::TransactionAbortable if context.version < OFFSETS_ABORTABLE => {
                    ErrorCode::InvalidTxnState
                }
                // Versions that do not add implicitly know no retry for it but this one.
                ErrorCode::ConcurrentTransactions if context.version < BUMPS_EPOCH => {
                    ErrorCode::CoordinatorNotAvailable
                }
                other => other,
            })?;
    let who = Identity {
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        generation: request.generation_id,
    };
    let commit = Commit {
        who,
        offsets,
        transactional: true,
        ..Commit::default()
    };
    node.coordinators
        .groups
        .commit(&request.group_id, commit, Some(transaction))
        .await
}

/// The permission to write into the group's partition in this transaction. It is taken before the transaction coordinator is asked,
/// so that a marker in between voids it; that of the transaction before often does, and then the coordinator is asked again.
async fn join_transaction(
    node: &Arc<Node>,
    context: &Context,
    request: &TxnOffsetCommitRequest,
) -> Result<InTransaction, ErrorCode> {
    let (producer_id, producer_epoch) = (request.producer_id, request.producer_epoch);
    let bumps_epoch = context.version >= BUMPS_EPOCH;
    let partition = node
        .coordinators
        .groups
        .offsets_partition(&request.group_id)
        .await?;
    let verify = || {
        partition
            .log()
            .start_verification(producer_id, producer_epoch, -1, bumps_epoch)
    };
    let mut guard = verify();
    for _ in 0..VERIFICATIONS_MAX {
        if guard.is_some() {
            ask_coordinator(node, request, partition.name(), bumps_epoch).await?;
        }
        let asked_with = std::mem::replace(&mut guard, verify());
        if guard.is_none() || guard == asked_with {
            return Ok(InTransaction {
                producer_id,
                producer_epoch,
                guard: guard.unwrap_or_default(),
            });
        }
    }
    // Voided again and again: the last permission was never confirmed. The client comes again.
    Err(ErrorCode::ConcurrentTransactions)
}

/// Puts the partition into the producer's transaction, or (before v5) makes sure that it is in it.
async fn ask_coordinator(
    node: &Arc<Node>,
    request: &TxnOffsetCommitRequest,
    partition: &TopicPartition,
    bumps_epoch: bool,
) -> Result<(), ErrorCode> {
    let producer = Producer {
        transactional_id: request.transactional_id.clone(),
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let transactions = &node.coordinators.transactions;
    let partition = partition.clone();
    if bumps_epoch {
        let partitions = BTreeSet::from([partition]);
        return transactions
            .add_partitions(&producer, &partitions, TRANSACTION_VERSION_2)
            .await;
    }
    match transactions.verify(&producer, &[partition]).await?.first() {
        None | Some(ErrorCode::None) => Ok(()),
        Some(error) => Err(*error),
    }
}

/// WriteTxnMarkers, from another broker's coordinator or a tool that ends a hanging transaction.
pub(crate) async fn write_txn_markers(
    node: &Arc<Node>,
    _context: &Context,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(write_marker(node, marker).await);
    }
    WriteTxnMarkersResponse {
        markers,
        ..Default::default()
    }
}

async fn write_marker(node: &Arc<Node>, asked: WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = EndTxnMarker {
        producer_id: asked.producer_id,
        producer_epoch: asked.producer_epoch,
        commit: asked.transaction_result,
        coordinator_epoch: asked.coordinator_epoch,
        timestamp: node.drivers.clock.wall_ms(),
    };
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        // No topic has such a name, nor the empty one: it is not copied once per partition.
        let known = match is_too_long(&topic.name) {
            true => "",
            false => topic.name.as_str(),
        };
        let name = |index: &i32| TopicPartition::new(known, *index);
        let names: Vec<TopicPartition> = topic.partition_indexes.iter().map(name).collect();
        let codes = node
            .coordinators
            .write_markers(&marker, i16::from(asked.transaction_version), &names)
            .await;
        let partitions =
            names
                .iter()
                .zip(codes)
                .map(|(name, code)| WritableTxnMarkerPartitionResult {
                    partition_index: name.partition,
                    error_code: code.code(),
                    ..Default::default()
                });
        topics.push(WritableTxnMarkerTopicResult {
            partitions: partitions.collect(),
            name: topic.name,
            ..Default::default()
        });
    }
    WritableTxnMarkerResult {
        producer_id: asked.producer_id,
        topics,
        ..Default::default()
    }
}

/// DescribeTransactions (KIP-664).
pub(crate) async fn describe_transactions(
    node: &Arc<Node>,
    _context: &Context,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    // A transaction named twice is described once, with all its partitions.
    let (mut seen, mut asked) = (BTreeSet::new(), request.transactional_ids);
    asked.retain(|id| seen.insert(id.clone()));
    let few = node.config.check_described("transactions", asked.len());
    let mut transaction_states = Vec::with_capacity(asked.len());
    for transactional_id in asked {
        let described = match check_id(&transactional_id) {
            Ok(()) if few.is_err() => Err(ErrorCode::InvalidRequest),
            Ok(()) => {
                node.coordinators
                    .transactions
                    .describe(&transactional_id)
                    .await
            }
            Err(error) => Err(error),
        };
        transaction_states.push(state_of(transactional_id, described));
    }
    DescribeTransactionsResponse {
        transaction_states,
        ..Default::default()
    }
}

fn state_of(
    transactional_id: String,
    described: Result<Transaction, ErrorCode>,
) -> TransactionState {
    let transaction = match described {
        Ok(transaction) => transaction,
        Err(error) => {
            return TransactionState {
                transactional_id,
                error_code: error.code(),
                ..Default::default()
            };
        }
    };
    let mut topics: Vec<TopicData> = Vec::new();
    for partition in transaction.partitions {
        match topics
            .last_mut()
            .filter(|topic| topic.topic == partition.topic)
        {
            Some(topic) => topic.partitions.push(partition.partition),
            None => topics.push(TopicData {
                topic: partition.topic,
                partitions: vec![partition.partition],
                ..Default::default()
            }),
        }
    }
    TransactionState {
        transactional_id,
        transaction_state: transaction.state.name().to_owned(),
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_start_time_ms: transaction.start_ms,
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
        topics,
        ..Default::default()
    }
}
