//! Fetch: whole batches from the log as they lie there, and the long poll when there are too few.
//!
//! Partitions are served in the order of the request; the first one that has a batch gives at least that one, however large. A fetch
//! that finds less than `min_bytes` is parked with its partitions and looks again when they say so, or at its deadline.
//! Sessions (KIP-227) are not kept: every answer has session id 0, which the protocol allows, and clients then send full requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flumen_log::AbortedTxn;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::message::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use flumen_protocol::message::{FetchRequest, FetchResponse};
use flumen_protocol::segment::Records;

use crate::clock::Instant;
use crate::dispatch::Context;
use crate::error::read_error_code;
use crate::node::Node;
use crate::partition::pending::Isolation;
use crate::partition::table::Topic;
use crate::partition::{FetchWait, ParkedFetch, Partition};

/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;

/// What is fetched, looked up once.
struct Plan {
    topics: Vec<(FetchTopic, Option<Arc<Topic>>)>,
    /// What a topic that is not here is called.
    unknown: ErrorCode,
    isolation: Isolation,
    max_bytes: usize,
    min_bytes: usize,
}

/// One look at all partitions.
struct Look {
    response: FetchResponse,
    bytes: usize,
    failed: bool,
    /// Where each partition's readable end was, to tell whether another look is worth it.
    ends: Vec<i64>,
}

/// Answers Fetch.
pub(crate) async fn fetch(
    node: &Arc<Node>,
    context: &Context,
    request: FetchRequest,
) -> FetchResponse {
    if let Err(error) = check_session(&request) {
        return FetchResponse {
            error_code: error.code(),
            ..Default::default()
        };
    }
    if names_twice(&request) {
        return FetchResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        };
    }
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        return refuse_follower(request);
    }
    let deadline = node.drivers.clock.now()
        + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let patient = request.max_wait_ms > 0;
    let plan = Plan::new(node, context, request);
    let look = plan.look();
    let look = if !patient || look.is_enough(&plan) {
        look
    } else {
        plan.wait(node, look, deadline).await
    };
    plan.count(&look.response);
    look.response
}

/// With no sessions kept, only "none" and "give me a new one" are right.
fn check_session(request: &FetchRequest) -> Result<(), ErrorCode> {
    match (request.session_id, request.session_epoch) {
        // -1 closes any session and needs none; 0 asks for a new one, which we may refuse.
        (_, -1) | (0, 0) => Ok(()),
        (0, _) => Err(ErrorCode::InvalidFetchSessionEpoch),
        _ => Err(ErrorCode::FetchSessionIdNotFound),
    }
}

/// Whether a partition is fetched twice: each time would list its aborted transactions, and read its first batch.
fn names_twice(request: &FetchRequest) -> bool {
    let named = request.topics.iter().flat_map(|topic| {
        let of = |partition: &FetchPartition| {
            (topic.topic.as_str(), topic.topic_id, partition.partition)
        };
        topic.partitions.iter().map(of)
    });
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    named.windows(2).any(|pair| pair[0] == pair[1])
}

/// Nobody replicates from a cluster of one: whoever says so has no right to read above the high watermark.
fn refuse_follower(request: FetchRequest) -> FetchResponse {
    let responses = request
        .topics
        .into_iter()
        .map(|topic| FetchableTopicResponse {
            partitions: topic
                .partitions
                .iter()
                .map(|asked| failure(asked.partition, ErrorCode::TopicAuthorizationFailed))
                .collect(),
            topic: topic.topic,
            topic_id: topic.topic_id,
            ..Default::default()
        });
    FetchResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

impl Plan {
    fn new(node: &Node, context: &Context, request: FetchRequest) -> Plan {
        let by_id = context.version >= TOPIC_IDS;
        let max_bytes =
            usize::try_from(request.max_bytes.min(node.config.fetch_max_bytes)).unwrap_or(0);
        let topics = request.topics.into_iter().map(|asked| {
            let topic = if by_id {
                node.partitions.topic_by_id(asked.topic_id)
            } else {
                node.partitions.topic(&asked.topic)
            };
            (asked, topic)
        });
        Plan {
            topics: topics.collect(),
            unknown: if by_id {
                ErrorCode::UnknownTopicId
            } else {
                ErrorCode::UnknownTopicOrPartition
            },
            isolation: Isolation::from_wire(request.isolation_level),
            max_bytes,
            min_bytes: usize::try_from(request.min_bytes)
                .unwrap_or(0)
                .min(max_bytes),
        }
    }

    /// Everything that can be read now.
    fn look(&self) -> Look {
        let mut look = Look {
            response: FetchResponse::default(),
            bytes: 0,
            failed: false,
            ends: self.ends(),
        };
        for (asked, topic) in &self.topics {
            let partitions = asked.partitions.iter().map(|asked| {
                let data = match self.partition(topic.as_ref(), asked) {
                    Ok(partition) => self.read(partition, asked, look.bytes),
                    Err(error) => failure(asked.partition, error),
                };
                look.failed |= data.error_code != 0 || data.diverging_epoch.end_offset >= 0;
                look.bytes += data.records.as_ref().map_or(0, Records::len);
                data
            });
            let partitions = partitions.collect();
            look.response.responses.push(FetchableTopicResponse {
                topic: asked.topic.clone(),
                topic_id: asked.topic_id,
                partitions,
                ..Default::default()
            });
        }
        look
    }

    fn partition<'a>(
        &self,
        topic: Option<&'a Arc<Topic>>,
        asked: &FetchPartition,
    ) -> Result<&'a Arc<Partition>, ErrorCode> {
        let topic = topic.ok_or(self.unknown)?;
        let partition = topic.opened(asked.partition)?;
        partition.check_epoch(asked.current_leader_epoch)?;
        Ok(partition)
    }

    fn read(&self, partition: &Partition, asked: &FetchPartition, taken: usize) -> PartitionData {
        match partition.divergence(asked.last_fetched_epoch, asked.fetch_offset) {
            Ok(None) => {}
            Ok(Some((epoch, end_offset))) => {
                let mut data = frame(partition, asked, self.isolation);
                data.diverging_epoch = EpochEndOffset {
                    epoch,
                    end_offset,
                    ..Default::default()
                };
                return data;
            }
            Err(error) => {
                return PartitionData {
                    error_code: error.code(),
                    ..frame(partition, asked, self.isolation)
                };
            }
        }
        let room = self.max_bytes.saturating_sub(taken);
        let max_bytes = usize::try_from(asked.partition_max_bytes)
            .unwrap_or(0)
            .min(room);
        // The first batch of all is returned whatever its size, or a large record would stop its consumer for ever.
        let slice = match partition.read(asked.fetch_offset, self.isolation, max_bytes, taken == 0)
        {
            Ok(slice) => slice,
            Err(error) => {
                return PartitionData {
                    error_code: read_error_code(&error).code(),
                    ..frame(partition, asked, self.isolation)
                };
            }
        };
        let mut data = frame(partition, asked, self.isolation);
        if self.isolation == Isolation::ReadCommitted {
            match slice.aborted_transactions(asked.fetch_offset) {
                Ok(aborted) => {
                    data.aborted_transactions =
                        Some(aborted.iter().map(aborted_transaction).collect())
                }
                // Without the list a reader would take aborted records for committed ones.
                Err(error) => {
                    return PartitionData {
                        error_code: read_error_code(&error).code(),
                        ..data
                    };
                }
            }
        }
        data.records = Some(slice.records.map_or_else(Records::default, Records::File));
        data
    }

    fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.topics.iter().flat_map(|(asked, topic)| {
            let topic = topic.as_ref();
            asked
                .partitions
                .iter()
                .filter_map(move |asked| topic?.partition(asked.partition))
        })
    }

    fn ends(&self) -> Vec<i64> {
        self.partitions()
            .map(|partition| partition.readable_end(self.isolation))
            .collect()
    }

    /// Waits for bytes until `deadline`.
    async fn wait(&self, node: &Node, first: Look, deadline: Instant) -> Look {
        let mut look = first;
        let wait = FetchWait::new(self.missing(&look));
        let _parked: Vec<ParkedFetch> = self
            .partitions()
            .map(|partition| partition.park_fetch(self.isolation, &wait))
            .collect();
        let mut timeout = node.drivers.clock.sleep_until(deadline);
        loop {
            // What came between the look and the parking has woken nobody.
            if self.ends() != look.ends {
                look = self.look();
                if look.is_enough(self) {
                    return look;
                }
                wait.restart(self.missing(&look));
                continue;
            }
            let more = tokio::select! {
                biased;
                () = wait.woken() => true,
                () = node.stop.cancelled() => false,
                () = &mut timeout => false,
            };
            if !more {
                return look;
            }
            look = self.look();
            if look.is_enough(self) {
                return look;
            }
            wait.restart(self.missing(&look));
        }
    }

    /// What leaves is counted with its partition.
    fn count(&self, response: &FetchResponse) {
        for ((_, topic), answered) in self.topics.iter().zip(&response.responses) {
            for data in &answered.partitions {
                let partition = topic
                    .as_ref()
                    .and_then(|t| t.partition(data.partition_index));
                let bytes = data.records.as_ref().map_or(0, Records::len);
                if let Some(partition) = partition.filter(|_| bytes > 0) {
                    let out = &partition.traffic.bytes_out;
                    out.fetch_add(bytes as u64, Ordering::Relaxed);
                }
            }
        }
    }

    fn missing(&self, look: &Look) -> i64 {
        i64::try_from(self.min_bytes.saturating_sub(look.bytes)).unwrap_or(i64::MAX)
    }
}

impl Look {
    fn is_enough(&self, plan: &Plan) -> bool {
        self.failed || self.bytes >= plan.min_bytes || plan.topics.is_empty()
    }
}

fn aborted_transaction(txn: &AbortedTxn) -> AbortedTransaction {
    AbortedTransaction {
        producer_id: txn.producer_id,
        first_offset: txn.first_offset,
        ..Default::default()
    }
}

fn failure(partition_index: i32, error: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted_transactions: None,
        preferred_read_replica: -1,
        records: Some(Records::default()),
        ..Default::default()
    }
}

/// The answer for a partition that is fine, without its records.
fn frame(partition: &Partition, asked: &FetchPartition, isolation: Isolation) -> PartitionData {
    // Read in the order in which they are bounds of each other, the lowest first: they move meanwhile.
    let log_start_offset = partition.log().log_start_offset();
    let last_stable_offset = partition.last_stable_offset();
    PartitionData {
        high_watermark: partition.high_watermark(),
        last_stable_offset,
        log_start_offset,
        aborted_transactions: (isolation == Isolation::ReadCommitted).then(Vec::new),
        ..failure(asked.partition, ErrorCode::None)
    }
}
