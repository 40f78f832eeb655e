//! Transactions as tools see them: which there are, where one stands, which of them hang (KIP-664).
//!
//! Part of [`Admin`]; it reads, and ends a transaction only by [`Admin::abort_transaction`].

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::id::{ProducerId, TopicPartition};
use flumen_protocol::message::describe_producers_request::TopicRequest;
use flumen_protocol::message::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use flumen_protocol::message::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest,
    WriteTxnMarkersRequest,
};

use super::{Admin, check, unanswered};
use crate::client::Node;
use crate::error::ClientError;

/// A line of [`Admin::list_transactions`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionListing {
    /// Its `transactional.id`.
    pub transactional_id: String,
    /// Its producer.
    pub producer_id: ProducerId,
    /// `Ongoing`, `CompleteCommit`, …
    pub state: String,
}

/// One transaction (Kafka: `TransactionDescription`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// `Ongoing`, `CompleteCommit`, …
    pub state: String,
    /// Its producer.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// After so long the coordinator aborts it, in ms.
    pub timeout_ms: i32,
    /// When it began, in ms since 1970; -1 if it did not.
    pub start_ms: i64,
    /// What it has written to.
    pub partitions: BTreeSet<TopicPartition>,
}

/// Somebody who has written to a partition (Kafka: `ProducerState`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: i32,
    /// Sequence of its last record; -1 if it has none.
    pub last_sequence: i32,
    /// The newest timestamp it wrote, in ms.
    pub last_timestamp: i64,
    /// Of the coordinator that ended its last transaction; -1 before.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<i64>,
}

impl Admin {
    /// Every transaction of the cluster, by id; of some states only, if any are named.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`], [`ClientError::Timeout`]: a broker did not answer.
    pub async fn list_transactions(
        &self,
        states: &[&str],
    ) -> Result<Vec<TransactionListing>, ClientError> {
        let mut listed = Vec::new();
        // Each broker knows only the ids it coordinates.
        for broker in self.describe_cluster().await?.brokers {
            let request = ListTransactionsRequest {
                state_filters: states.iter().map(|state| (*state).to_owned()).collect(),
                ..ListTransactionsRequest::default()
            };
            let answer = self.client.send(Node::Broker(broker.id), request).await?;
            let (subject, api) = ("transactions".to_owned(), "ListTransactions");
            check(answer.error_code, subject, api, None)?;
            if let Some(unknown) = answer.unknown_state_filters.first() {
                let failure = ClientError::invalid(unknown.clone(), "no such state");
                return Err(failure.map(|failure| failure.in_api(api)));
            }
            let found = answer.transaction_states.into_iter();
            listed.extend(found.map(|state| TransactionListing {
                transactional_id: state.transactional_id,
                producer_id: state.producer_id,
                state: state.transaction_state,
            }));
        }
        listed.sort();
        Ok(listed)
    }

    /// One transaction.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: no such `transactional.id`.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<TransactionDescription, ClientError> {
        let request = DescribeTransactionsRequest {
            transactional_ids: vec![transactional_id.to_owned()],
            ..DescribeTransactionsRequest::default()
        };
        let to = Node::TransactionCoordinator(transactional_id);
        let answer = self.answered(|| self.client.send(to, request.clone()));
        let (api, answer) = ("DescribeTransactions", answer.await?);
        let found = answer.transaction_states.into_iter().next();
        let found = found.ok_or_else(|| unanswered(api, transactional_id))?;
        let subject = format!("transaction {transactional_id}");
        check(found.error_code, subject, api, None)?;
        let partitions = found.topics.iter().flat_map(|topic| {
            let numbers = topic.partitions.iter();
            numbers.map(|number| TopicPartition::new(topic.topic.clone(), *number))
        });
        Ok(TransactionDescription {
            partitions: partitions.collect(),
            state: found.transaction_state,
            producer_id: found.producer_id,
            producer_epoch: found.producer_epoch,
            timeout_ms: found.transaction_timeout_ms,
            start_ms: found.transaction_start_time_ms,
        })
    }

    /// Who has written to these partitions and is remembered there.
    ///
    /// # Errors
    /// The first partition's: [`ClientError::NotFound`]; [`ClientError::Unavailable`] if its leader cannot be reached.
    pub async fn describe_producers(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Vec<ProducerDescription>>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<TopicRequest>> = BTreeMap::new();
        for at in partitions {
            let leader = self.leader_of(at).await?;
            let topics = by_leader.entry(leader).or_default();
            match topics.last_mut().filter(|topic| topic.name == at.topic) {
                Some(topic) => topic.partition_indexes.push(at.partition),
                None => topics.push(TopicRequest {
                    name: at.topic.clone(),
                    partition_indexes: vec![at.partition],
                    ..TopicRequest::default()
                }),
            }
        }
        let mut described = BTreeMap::new();
        for (leader, topics) in by_leader {
            let request = DescribeProducersRequest {
                topics,
                ..DescribeProducersRequest::default()
            };
            let answer = self.client.send(Node::Broker(leader), request).await?;
            for topic in answer.topics {
                for partition in topic.partitions {
                    let at = TopicPartition::new(topic.name.clone(), partition.partition_index);
                    let message = partition.error_message.as_deref();
                    let subject = format!("partition {at}");
                    check(partition.error_code, subject, "DescribeProducers", message)?;
                    let active = partition.active_producers.iter();
                    let producers = active.map(|producer| ProducerDescription {
                        producer_id: producer.producer_id,
                        producer_epoch: producer.producer_epoch,
                        last_sequence: producer.last_sequence,
                        last_timestamp: producer.last_timestamp,
                        coordinator_epoch: producer.coordinator_epoch,
                        transaction_start: Some(producer.current_txn_start_offset)
                            .filter(|start| *start >= 0),
                    });
                    described.insert(at, producers.collect());
                }
            }
        }
        Ok(described)
    }

    /// Ends an open transaction in one partition from outside, for one whose coordinator knows nothing of it: its readers have
    /// waited long enough. A transaction that its coordinator still knows must be left to its timeout.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: no such partition. [`ClientError::Fenced`]: the producer has gone on under a newer epoch.
    /// Source: Kafka `TransactionsCommand` abort, KIP-664.
    pub async fn abort_transaction(
        &self,
        at: &TopicPartition,
        producer: &ProducerDescription,
    ) -> Result<(), ClientError> {
        let marker = WritableTxnMarker {
            producer_id: producer.producer_id,
            producer_epoch: i16::try_from(producer.producer_epoch).unwrap_or(i16::MAX),
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic {
                name: at.topic.clone(),
                partition_indexes: vec![at.partition],
                ..WritableTxnMarkerTopic::default()
            }],
            coordinator_epoch: producer.coordinator_epoch.max(0),
            ..WritableTxnMarker::default()
        };
        let request = WriteTxnMarkersRequest {
            markers: vec![marker],
            ..WriteTxnMarkersRequest::default()
        };
        let leader = self.leader_of(at).await?;
        let answer = self.client.send(Node::Broker(leader), request).await?;
        let results = answer.markers.iter().flat_map(|marker| &marker.topics);
        let mut codes = results.flat_map(|topic| &topic.partitions);
        let result = codes.next();
        let result = result.ok_or_else(|| unanswered("WriteTxnMarkers", &at.to_string()))?;
        check(
            result.error_code,
            format!("partition {at}"),
            "WriteTxnMarkers",
            None,
        )
    }
}
