//! Produce: hands each partition its batch, in the order of the request, and answers when they are committed.
//!
//! Two phases. The first runs before the connection reads its next request, so that pipelined requests append in order; the second,
//! which waits for the flush, runs beside later requests. acks=0 has no second phase and no response: where something failed the
//! connection is closed, as the only thing a client without responses can notice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_log::{AppendAs, AppendError, Appended, VerificationGuard};
use flumen_protocol::batch::BatchHeader;
use flumen_protocol::compression::Compression;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{LeaderEpoch, ProducerEpoch, ProducerId, TopicId};
use flumen_protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::message::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use flumen_protocol::message::{ProduceRequest, ProduceResponse};
use flumen_protocol::segment::Records;

use crate::clock::Instant;
use crate::cluster::image::is_internal;
use crate::coordinator::TransactionalWrites;
use crate::dispatch::{Answer, Context, Started, encode};
use crate::error::{Failure, append_failure};
use crate::node::Node;
use crate::partition::Partition;
use crate::partition::table::Topic;

/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// First version by which a partition joins its producer's transaction (KIP-890, `transaction.version` 2).
const IMPLICIT_ADD: i16 = 12;
/// First version whose batches may use zstd.
const ZSTD: i16 = 7;
/// Tools may write internal topics under this client id (Kafka: `AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT: &str = "__admin_client";

/// What happened to one partition of the request so far.
struct Outcome {
    index: i32,
    result: Result<Written, Failure>,
}

/// A batch that may be appended, as far as its partition's log has not been asked.
struct Write {
    partition: Arc<Partition>,
    records: Bytes,
    header: BatchHeader,
    /// Its transaction is not open in the partition yet: the coordinator must confirm it.
    guard: Option<VerificationGuard>,
}

/// A batch that is in the log, perhaps not yet on disk.
struct Written {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    appended: Appended,
}

/// Outcomes of a whole request, in its order.
type Outcomes = Vec<(String, TopicId, Vec<Outcome>)>;

/// How often a coordinator is asked about one request. Each further time takes the end of another transaction in between.
const VERIFICATIONS_MAX: usize = 4;

/// What all partitions of one request share.
struct Batch<'a> {
    node: &'a Arc<Node>,
    context: &'a Context,
    transactional_id: Option<&'a str>,
    now_ms: i64,
}

/// Starts Produce.
pub(crate) async fn produce(
    node: &Arc<Node>,
    context: Context,
    request: ProduceRequest,
) -> Started {
    let acks = request.acks;
    let deadline = node.drivers.clock.now()
        + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let outcomes = append_all(node, &context, request).await;
    if acks == 0 {
        return Started::Done(without_response(&outcomes));
    }
    if outcomes
        .iter()
        .flat_map(|(_, _, partitions)| partitions)
        .all(Outcome::is_settled)
    {
        return Started::Done(encode(&context, &respond(outcomes)));
    }
    let node = Arc::clone(node);
    Started::Later(Box::pin(async move {
        let outcomes = settle(&node, outcomes, deadline).await;
        encode(&context, &respond(outcomes))
    }))
}

async fn append_all(node: &Arc<Node>, context: &Context, request: ProduceRequest) -> Outcomes {
    let refusal = refuse_whole(&request);
    let batch = Batch {
        node,
        context,
        transactional_id: request.transactional_id.as_deref(),
        now_ms: node.drivers.clock.wall_ms(),
    };
    let mut writes = Vec::new();
    for (at, topic) in request.topic_data.iter().enumerate() {
        let found = batch.find_topic(topic);
        for data in &topic.partition_data {
            let prepared = match (&refusal, &found) {
                (Some(error), _) => Err(Failure::from(*error)),
                (None, Err(failure)) => Err(failure.clone()),
                (None, Ok(topic)) => batch.prepare(topic, data),
            };
            writes.push((at, data.index, prepared));
        }
    }
    // From here on the frame's bytes belong to the batches alone.
    let names = request
        .topic_data
        .into_iter()
        .map(|topic| (topic.name, topic.topic_id));
    let mut outcomes: Outcomes = names.map(|(name, id)| (name, id, Vec::new())).collect();
    batch.verify(&mut writes).await;
    for (at, index, prepared) in writes {
        let result = match prepared {
            Ok(write) => batch.append(write).await,
            Err(failure) => Err(failure),
        };
        outcomes[at].2.push(Outcome { index, result });
    }
    outcomes
}

/// What is wrong with the request as a whole.
fn refuse_whole(request: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    let transactional = |data: &PartitionProduceData| match &data.records {
        Some(Records::Bytes(bytes)) => {
            BatchHeader::parse(bytes).is_ok_and(|header| header.is_transactional())
        }
        _ => false,
    };
    let any = request
        .topic_data
        .iter()
        .flat_map(|topic| &topic.partition_data)
        .any(transactional);
    (any && request.transactional_id.is_none())
        .then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

impl Batch<'_> {
    fn find_topic(&self, asked: &TopicProduceData) -> Result<Arc<Topic>, Failure> {
        let topic = if self.context.version >= TOPIC_IDS {
            self.node
                .partitions
                .topic_by_id(asked.topic_id)
                .ok_or(ErrorCode::UnknownTopicId)?
        } else {
            self.node
                .partitions
                .topic(&asked.name)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?
        };
        if is_internal(&topic.name) && self.context.client_id != ADMIN_CLIENT {
            return Err(Failure::new(
                ErrorCode::InvalidTopicException,
                "internal topics are written by the broker",
            ));
        }
        Ok(topic)
    }

    /// Everything about one partition that can be refused without the log.
    fn prepare(&self, topic: &Topic, data: &PartitionProduceData) -> Result<Write, Failure> {
        let partition = topic.opened(data.index)?;
        partition.check_open()?;
        let records = match &data.records {
            Some(Records::Bytes(bytes)) => bytes.clone(),
            _ => Bytes::new(),
        };
        let header = check_records(self.context.version, &records)?;
        // Taken before the coordinator is asked, so that a marker in between voids it.
        let guard = if header.is_transactional() {
            partition.start_verification(&header, self.context.version >= IMPLICIT_ADD)
        } else {
            None
        };
        Ok(Write {
            partition: Arc::clone(partition),
            records,
            header,
            guard,
        })
    }

    /// A transactional batch may begin a transaction in a partition only if its coordinator knows of it, or its marker would never
    /// come (KIP-890). One question for all partitions: the answer waits for a flush.
    ///
    /// While the coordinator is asked, the marker of the transaction before may arrive and void the permission. Then it is asked
    /// again: what it said may have been about that one.
    async fn verify(&self, writes: &mut [(usize, i32, Result<Write, Failure>)]) {
        for _ in 0..VERIFICATIONS_MAX {
            self.ask_coordinators(writes).await;
            let mut voided = false;
            for (_, _, prepared) in writes.iter_mut() {
                if let Ok(write) = prepared
                    && write.guard.is_some()
                {
                    let bumps_epoch = self.context.version >= IMPLICIT_ADD;
                    let now = write
                        .partition
                        .start_verification(&write.header, bumps_epoch);
                    voided |= now.is_some() && now != write.guard;
                    write.guard = now;
                }
            }
            if !voided {
                return;
            }
        }
        // Voided again and again: the last permission was never confirmed. The client comes again.
        for (_, _, prepared) in writes.iter_mut() {
            if matches!(prepared, Ok(Write { guard: Some(_), .. })) {
                *prepared = Err(Failure::from(ErrorCode::NotEnoughReplicas));
            }
        }
    }

    async fn ask_coordinators(&self, writes: &mut [(usize, i32, Result<Write, Failure>)]) {
        let mut asked: BTreeMap<(ProducerId, ProducerEpoch), Vec<usize>> = BTreeMap::new();
        for (at, (_, _, prepared)) in writes.iter().enumerate() {
            if let Ok(Write {
                header,
                guard: Some(_),
                ..
            }) = prepared
            {
                asked
                    .entry((header.producer_id, header.producer_epoch))
                    .or_default()
                    .push(at);
            }
        }
        for ((producer_id, producer_epoch), places) in asked {
            let name_of = |at: &usize| Some(writes[*at].2.as_ref().ok()?.partition.name().clone());
            let question = TransactionalWrites {
                transactional_id: self.transactional_id.unwrap_or_default(),
                producer_id,
                producer_epoch,
                version: self.context.version,
                partitions: places.iter().filter_map(name_of).collect(),
            };
            let answers = self
                .node
                .coordinators
                .verify_transactional_writes(&question)
                .await;
            for (at, answer) in places.into_iter().zip(answers) {
                if let Err(error) = answer {
                    writes[at].2 = Err(Failure::from(error));
                }
            }
        }
    }

    async fn append(&self, write: Write) -> Result<Written, Failure> {
        let Write {
            partition,
            records,
            guard,
            ..
        } = write;
        let epoch = partition.leader_epoch();
        let how = AppendAs::Client {
            leader_epoch: epoch,
            guard: guard.unwrap_or(VerificationGuard::NONE),
        };
        let appended = match partition.append_quickly(records.clone(), &how, self.now_ms) {
            Err(AppendError::Costly) => self.append_aside(&partition, records, how).await,
            appended => appended,
        };
        let appended = appended.map_err(|error| append_failure(&error))?;
        Ok(Written {
            partition,
            epoch,
            appended,
        })
    }

    /// Away from the tasks that serve sockets, and only a few at a time; the connection's next request waits.
    async fn append_aside(
        &self,
        partition: &Arc<Partition>,
        records: Bytes,
        how: AppendAs,
    ) -> Result<Appended, AppendError> {
        let (partition, now_ms) = (Arc::clone(partition), self.now_ms);
        let append = move || partition.append(records, &how, now_ms);
        let node = self.node;
        node.drivers.blocking_in(&node.openings, append).await
    }
}

/// What every request must hold to, whatever the topic: exactly one batch of the current format, in a codec of the request's version.
fn check_records(version: i16, records: &[u8]) -> Result<BatchHeader, Failure> {
    let invalid = |why: String| Failure::new(ErrorCode::InvalidRecord, why);
    if records.is_empty() {
        return Err(invalid(
            "a produce request must have exactly one record batch per partition".to_owned(),
        ));
    }
    let header = BatchHeader::parse(records).map_err(|error| invalid(error.to_string()))?;
    if header.size_in_bytes() != records.len() {
        return Err(invalid(
            "a produce request must have exactly one record batch per partition".to_owned(),
        ));
    }
    if version < ZSTD
        && header
            .compression()
            .is_ok_and(|codec| codec == Compression::Zstd)
    {
        let why = format!("produce requests with version {version} may not use zstd compression");
        return Err(Failure::new(ErrorCode::UnsupportedCompressionType, why));
    }
    Ok(header)
}

impl Outcome {
    /// Whether nothing needs to be waited for.
    fn is_settled(&self) -> bool {
        match &self.result {
            Ok(written) => written.partition.high_watermark() > written.appended.last_offset,
            Err(_) => true,
        }
    }
}

/// Waits until every batch is committed, or `deadline`.
async fn settle(node: &Node, mut outcomes: Outcomes, deadline: Instant) -> Outcomes {
    let mut timeout = node.drivers.clock.sleep_until(deadline);
    for outcome in outcomes
        .iter_mut()
        .flat_map(|(_, _, partitions)| partitions)
    {
        let Ok(written) = &outcome.result else {
            continue;
        };
        let committed = tokio::select! {
            biased;
            committed = written.partition.committed(written.appended.last_offset + 1, written.epoch) => committed,
            // The batch is in the log all the same: the client cannot know, and retries.
            () = &mut timeout => Err(ErrorCode::RequestTimedOut),
        };
        if let Err(error) = committed {
            if error == ErrorCode::RequestTimedOut {
                timeout = node.drivers.clock.sleep_until(deadline);
            }
            outcome.result = Err(Failure::from(error));
        }
    }
    outcomes
}

fn without_response(outcomes: &Outcomes) -> Answer {
    let mut partitions = outcomes
        .iter()
        .flat_map(|(topic, _, partitions)| partitions.iter().map(move |p| (topic, p)));
    let failed = partitions.find_map(|(topic, outcome)| {
        let failure = outcome.result.as_ref().err()?;
        Some(format!(
            "produce with acks=0 to {topic}-{} failed: {failure}",
            outcome.index
        ))
    });
    failed.map_or(Answer::Nothing, Answer::Close)
}

fn respond(outcomes: Outcomes) -> ProduceResponse {
    let responses = outcomes
        .into_iter()
        .map(|(name, topic_id, partitions)| TopicProduceResponse {
            name,
            topic_id,
            partition_responses: partitions.into_iter().map(respond_partition).collect(),
            ..Default::default()
        });
    ProduceResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn respond_partition(outcome: Outcome) -> PartitionProduceResponse {
    match outcome.result {
        Ok(Written { appended, .. }) => PartitionProduceResponse {
            index: outcome.index,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
            ..Default::default()
        },
        Err(failure) => PartitionProduceResponse {
            index: outcome.index,
            error_code: failure.code.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: failure
                .records
                .into_iter()
                .map(|(batch_index, message)| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: Some(message),
                    ..Default::default()
                })
                .collect(),
            error_message: failure.message,
            ..Default::default()
        },
    }
}
