//! The consumer's fetching task: between `offsets.rs` and the brokers.
//!
//! Finds where to begin (committed, by policy), fetches ahead from every leader with one request at a time, filters
//! (`fetched.rs`), checks after a change of leader that what was read still is there, and reports lost positions.
//! Fetches are full ones without a session (KIP-227 allows it).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{BrokerId, TopicPartition};
use flumen_protocol::message::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::message::fetch_response::PartitionData;
use flumen_protocol::message::{FetchRequest, FetchResponse};
use flumen_protocol::segment::Records;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::fetched::{FetchedRecords, Filter, corrupt};
use super::lookup::{EARLIEST, LATEST, leads_elsewhere};
use super::offsets::{Fetchable, Need, Position, Turn};
use super::{Event, Poll, Shared, subject};
use crate::client::Node;
use crate::config::OffsetReset;
use crate::error::{ClientError, Failure, refused};
use crate::metadata::Leader;
use crate::runtime;

/// From this version on topics are named by id.
const FETCH_BY_ID: i16 = 13;
/// Above it only followers.
const FETCH_CONSUMER_MAX: i16 = 16;

type Asked = Vec<(TopicPartition, Turn)>;

enum Happening {
    Fetched {
        broker: BrokerId,
        sent: Vec<Fetchable>,
        result: Result<FetchResponse, ClientError>,
    },
    /// Something was looked up, and the positions know the result.
    LookedUp,
    /// A pause after a failure is over.
    Rested(BrokerId),
    Refreshed,
}

type Pending = Pin<Box<dyn Future<Output = Happening> + Send>>;

struct Fetcher {
    shared: Arc<Shared>,
    pending: FuturesUnordered<Pending>,
    /// Brokers with a request out, or resting after a failure.
    busy: BTreeSet<BrokerId>,
    refreshing: bool,
    /// Partitions that do not exist (any more), since when; reported once.
    missing: BTreeMap<TopicPartition, (Instant, bool)>,
}

/// Runs until it is aborted with its consumer.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut fetcher = Fetcher {
        shared: Arc::clone(&shared),
        pending: FuturesUnordered::new(),
        busy: BTreeSet::new(),
        refreshing: false,
        missing: BTreeMap::new(),
    };
    loop {
        fetcher.look_up();
        fetcher.fetch();
        tokio::select! {
            biased;
            () = shared.fetch_look.notified() => {}
            Some(happened) = fetcher.pending.next(), if !fetcher.pending.is_empty() => {
                fetcher.on_happening(happened);
            }
        }
    }
}

impl Fetcher {
    /// Starts every look-up that some partition needs.
    fn look_up(&mut self) {
        let needed = {
            let mut state = self.shared.state.lock();
            self.check_leaders(&mut state.positions);
            state
                .positions
                .ask(|need| !matches!(need, Need::Fetch | Need::Nothing))
        };
        let mut by_kind: BTreeMap<u8, (Need, Asked)> = BTreeMap::new();
        for (partition, turn, need) in needed {
            let kind = match need {
                Need::Committed => 0,
                Need::Reset(OffsetReset::Earliest) => 1,
                Need::Reset(OffsetReset::Latest) => 2,
                Need::Reset(OffsetReset::None) => 3,
                Need::Validate => 4,
                Need::Bounds | Need::Fetch | Need::Nothing => 5,
            };
            by_kind
                .entry(kind)
                .or_insert((need, Vec::new()))
                .1
                .push((partition, turn));
        }
        for (need, asked) in by_kind.into_values() {
            let shared = Arc::clone(&self.shared);
            self.pending.push(Box::pin(async move {
                let result = match need {
                    Need::Committed => find_committed(&shared, &asked).await,
                    Need::Reset(policy) => find_by_policy(&shared, &asked, policy).await,
                    Need::Validate => validate(&shared, &asked).await,
                    Need::Bounds | Need::Fetch | Need::Nothing => {
                        find_bounds(&shared, &asked).await
                    }
                };
                if let Err(error) = result {
                    give_up_look_up(&shared, &asked, error).await;
                }
                Happening::LookedUp
            }));
        }
    }

    fn check_leaders(&self, positions: &mut super::offsets::Positions) {
        for fetchable in positions.fetchable() {
            let TopicPartition { topic, partition } = &fetchable.partition;
            let (leader, topic_id) = self.shared.client.with_metadata(|metadata| {
                (metadata.leader(topic, *partition), metadata.topic_id(topic))
            });
            if let Some(leader) = leader {
                positions.check_leader(&fetchable.partition, leader.epoch, topic_id);
            }
        }
    }

    /// One request to each leader that has none out.
    fn fetch(&mut self) {
        let fetchable = self.shared.state.lock().positions.fetchable();
        let mut by_leader: BTreeMap<BrokerId, Vec<(Fetchable, Leader)>> = BTreeMap::new();
        let mut unknown = false;
        for each in fetchable {
            let TopicPartition { topic, partition } = &each.partition;
            match self.shared.client.leader(topic, *partition) {
                Some(leader) => by_leader
                    .entry(leader.broker)
                    .or_default()
                    .push((each, leader)),
                None => {
                    self.shared.client.want(topic);
                    unknown = true;
                }
            }
        }
        if unknown {
            self.refresh();
        }
        for (broker, partitions) in by_leader {
            if self.busy.contains(&broker) || partitions.iter().any(|(each, _)| each.full) {
                continue;
            }
            self.busy.insert(broker);
            {
                let mut state = self.shared.state.lock();
                for (each, _) in &partitions {
                    state.positions.set_asked(&each.partition, each.turn, true);
                }
            }
            let shared = Arc::clone(&self.shared);
            self.pending.push(Box::pin(async move {
                let result = fetch_from(&shared, broker, &partitions).await;
                let sent = partitions.into_iter().map(|(each, _)| each).collect();
                Happening::Fetched {
                    broker,
                    sent,
                    result,
                }
            }));
        }
    }

    fn refresh(&mut self) {
        if std::mem::replace(&mut self.refreshing, true) {
            return;
        }
        let client = self.shared.client.clone();
        self.pending.push(Box::pin(async move {
            if let Err(error) = client.refresh_metadata().await {
                tracing::debug!(%error, "metadata could not be refreshed");
            }
            // Whoever finds that nothing has changed does not ask again at once.
            runtime::sleep(client.config().retry_backoff).await;
            Happening::Refreshed
        }));
    }

    fn rest(&mut self, broker: BrokerId) {
        let pause = self.shared.client.config().retry_backoff;
        self.pending.push(Box::pin(async move {
            runtime::sleep(pause).await;
            Happening::Rested(broker)
        }));
    }

    fn on_happening(&mut self, happened: Happening) {
        match happened {
            Happening::LookedUp => {}
            Happening::Refreshed => self.refreshing = false,
            Happening::Rested(broker) => {
                self.busy.remove(&broker);
            }
            Happening::Fetched {
                broker,
                sent,
                result,
            } => {
                {
                    let mut state = self.shared.state.lock();
                    for each in &sent {
                        state.positions.set_asked(&each.partition, each.turn, false);
                    }
                }
                let result = result.and_then(|response| match response.error_code {
                    0 => Ok(response),
                    code => {
                        let code = ErrorCode::from_code(code);
                        Err(refused(code, "fetch").map(|failure| failure.in_api("Fetch")))
                    }
                });
                match result {
                    Ok(response) => match self.take(&sent, response) {
                        true => {
                            self.busy.remove(&broker);
                        }
                        false => self.rest(broker),
                    },
                    Err(error) => {
                        tracing::debug!(%error, "a fetch was not answered");
                        self.report_unless_passing(error);
                        self.refresh();
                        self.rest(broker);
                    }
                }
            }
        }
    }

    fn report_unless_passing(&self, error: ClientError) {
        if !leads_elsewhere(&error) {
            self.report(Event::Error(error));
        }
    }

    fn report(&self, event: Event) {
        self.shared.state.lock().events.push_back(event);
        self.shared.ready.notify_one();
    }

    /// Puts away what came; false if some partition failed, so that the broker is not asked again at once.
    fn take(&mut self, sent: &[Fetchable], response: FetchResponse) -> bool {
        let mut well = true;
        for topic in response.responses {
            for data in topic.partitions {
                let of = sent.iter().find(|each| {
                    let named = match topic.topic.as_str() {
                        "" => each.topic_id == topic.topic_id,
                        name => each.partition.topic == name,
                    };
                    named && each.partition.partition == data.partition_index
                });
                let Some(of) = of else { continue };
                well &= match ErrorCode::from_code(data.error_code) {
                    ErrorCode::None => self.take_records(of, data),
                    code => {
                        self.take_refusal(of, code, &data, &response.node_endpoints);
                        false
                    }
                };
            }
        }
        well
    }

    fn take_records(&mut self, of: &Fetchable, data: PartitionData) -> bool {
        self.missing.remove(&of.partition);
        if data.diverging_epoch.end_offset >= 0 {
            self.shared
                .state
                .lock()
                .positions
                .on_out_of_range(&of.partition, of.turn);
            return true;
        }
        let bytes = match data.records.unwrap_or_default() {
            Records::Bytes(bytes) => bytes,
            Records::File(_) => return false,
        };
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted
            .iter()
            .map(|each| (each.producer_id, each.first_offset))
            .collect();
        let config = &self.shared.config;
        let filter = Filter {
            isolation: config.isolation,
            check_crcs: config.check_crcs,
        };
        let empty = bytes.is_empty();
        let filtered = match filter.apply(bytes, aborted, of.from.offset) {
            Ok(filtered) => filtered,
            Err(error) => {
                self.report(Event::Error(corrupt(&of.partition, &error)));
                return false;
            }
        };
        if !empty && filtered.next_offset == of.from.offset {
            // A batch that is larger than what was asked for is sent whole; a part of one cannot be used.
            let reason = "the broker sent less than one whole batch";
            let failure = Failure::new(subject(&of.partition), reason).in_api("Fetch");
            self.report(Event::Error(ClientError::Corrupt(failure)));
            return false;
        }
        let records = FetchedRecords {
            partition: of.partition.clone(),
            from_offset: of.from.offset,
            batches: filtered.batches,
            next_offset: filtered.next_offset,
            leader_epoch: filtered.leader_epoch,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
        };
        if self
            .shared
            .state
            .lock()
            .positions
            .on_fetched(of.turn, records)
        {
            self.shared.ready.notify_one();
        }
        true
    }

    fn take_refusal(
        &mut self,
        of: &Fetchable,
        code: ErrorCode,
        data: &PartitionData,
        endpoints: &[flumen_protocol::message::fetch_response::NodeEndpoint],
    ) {
        match code {
            ErrorCode::OffsetOutOfRange => {
                self.shared
                    .state
                    .lock()
                    .positions
                    .on_out_of_range(&of.partition, of.turn);
            }
            code if code.is_retriable() => {
                let named = &data.current_leader;
                if named.leader_id >= 0 {
                    let leader = Leader {
                        broker: named.leader_id,
                        epoch: named.leader_epoch,
                    };
                    let endpoint = endpoints.iter().find(|node| node.node_id == leader.broker);
                    let TopicPartition { topic, partition } = &of.partition;
                    self.shared.client.on_leader_hint(
                        (topic, *partition),
                        leader,
                        endpoint.map(|node| (node.host.as_str(), node.port)),
                    );
                }
                self.refresh();
                self.note_missing(of, code);
            }
            code => {
                let error = refused(code, subject(&of.partition));
                self.report(Event::Error(error.map(|failure| failure.in_api("Fetch"))));
            }
        }
    }

    /// A topic may be unknown for a moment; if it stays so, it was deleted, and the application must hear of it, once.
    fn note_missing(&mut self, of: &Fetchable, code: ErrorCode) {
        if !matches!(
            code,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        ) {
            return;
        }
        let now = runtime::now();
        let (since, reported) = self
            .missing
            .entry(of.partition.clone())
            .or_insert((now, false));
        if !*reported && now >= *since + MISSING_PATIENCE {
            *reported = true;
            let error = refused(code, subject(&of.partition));
            self.report(Event::Error(error.map(|failure| failure.in_api("Fetch"))));
        }
    }
}

const MISSING_PATIENCE: Duration = Duration::from_secs(5);

async fn fetch_from(
    shared: &Shared,
    broker: BrokerId,
    partitions: &[(Fetchable, Leader)],
) -> Result<FetchResponse, ClientError> {
    let connection = shared
        .client
        .connection(Node::Broker(broker), shared.fetch_lane)
        .await?;
    let nameless = partitions.iter().any(|(each, _)| each.topic_id.is_nil());
    let cap = if nameless {
        FETCH_BY_ID - 1
    } else {
        FETCH_CONSUMER_MAX
    };
    let version = connection.version(FetchRequest::API, cap)?;
    let config = &shared.config;
    let request = FetchRequest {
        max_wait_ms: i32::try_from(config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.fetch_min_bytes,
        max_bytes: config.fetch_max_bytes,
        isolation_level: config.isolation.code(),
        session_id: 0,
        session_epoch: -1,
        topics: fetch_topics(partitions, config.max_partition_fetch_bytes),
        ..FetchRequest::default()
    };
    connection
        .request_within(version, &request, config.fetch_max_wait)
        .await
}

/// The order of partitions is the order in which the broker serves them, so only neighbours share an entry.
fn fetch_topics(partitions: &[(Fetchable, Leader)], partition_bytes: i32) -> Vec<FetchTopic> {
    let runs = partitions.chunk_by(|left, right| left.0.partition.topic == right.0.partition.topic);
    let mut topics: Vec<FetchTopic> = Vec::new();
    for run in runs {
        let partitions = run.iter().map(|(each, leader)| FetchPartition {
            partition: each.partition.partition,
            current_leader_epoch: leader.epoch,
            fetch_offset: each.from.offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: partition_bytes,
            ..FetchPartition::default()
        });
        let name = &run[0].0.partition.topic;
        match topics.iter_mut().find(|topic| topic.topic == *name) {
            Some(topic) => topic.partitions.extend(partitions),
            None => topics.push(FetchTopic {
                topic: name.clone(),
                topic_id: run[0].0.topic_id,
                partitions: partitions.collect(),
                ..FetchTopic::default()
            }),
        }
    }
    topics
}

async fn find_committed(shared: &Shared, asked: &Asked) -> Result<(), ClientError> {
    let partitions: Vec<TopicPartition> = asked.iter().map(|(each, _)| each.clone()).collect();
    let committed = shared
        .asker()
        .committed(shared.group(), &partitions)
        .await?;
    let mut state = shared.state.lock();
    for (partition, turn) in asked {
        let position = committed.get(partition).map(|offset| Position {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
        });
        state.positions.on_committed(partition, *turn, position);
    }
    Ok(())
}

async fn find_by_policy(
    shared: &Shared,
    asked: &Asked,
    policy: OffsetReset,
) -> Result<(), ClientError> {
    let timestamp = match policy {
        OffsetReset::Earliest => EARLIEST,
        OffsetReset::Latest => LATEST,
        OffsetReset::None => {
            let mut state = shared.state.lock();
            for (partition, turn) in asked {
                state.positions.on_no_policy(partition, *turn);
                let reason = "nothing is committed and auto.offset.reset is none";
                let failure = Failure::new(subject(partition), reason);
                state
                    .events
                    .push_back(Event::Error(ClientError::NoPosition(failure)));
            }
            drop(state);
            shared.ready.notify_one();
            return Ok(());
        }
    };
    let wanted = asked
        .iter()
        .map(|(each, _)| (each.clone(), timestamp))
        .collect();
    let found = shared.asker().list_offsets(&wanted).await?;
    let mut state = shared.state.lock();
    for (partition, turn) in asked {
        match found.get(partition) {
            // The epoch at an end of the log says nothing about a record that was read.
            Some(at) => {
                let position = Position {
                    offset: at.offset,
                    leader_epoch: -1,
                };
                state.positions.on_reset(partition, *turn, position);
            }
            None => state.positions.on_unanswered(partition, *turn),
        }
    }
    drop(state);
    shared.ready.notify_one();
    Ok(())
}

/// Asks the new leader where the epoch ends in which the last record was read (KIP-320).
async fn validate(shared: &Shared, asked: &Asked) -> Result<(), ClientError> {
    let fetched: BTreeMap<TopicPartition, Position> = {
        let state = shared.state.lock();
        let of = |(each, _): &(TopicPartition, Turn)| {
            Some((each.clone(), state.positions.fetched(each)?))
        };
        asked.iter().filter_map(of).collect()
    };
    let epochs: BTreeMap<TopicPartition, i32> = fetched
        .iter()
        .map(|(each, position)| (each.clone(), position.leader_epoch))
        .collect();
    let leaders: BTreeMap<&TopicPartition, i32> = epochs
        .keys()
        .filter_map(|each| {
            Some((
                each,
                shared.client.leader(&each.topic, each.partition)?.epoch,
            ))
        })
        .collect();
    let ends = shared.asker().end_offsets_for_epochs(&epochs).await?;
    let mut state = shared.state.lock();
    for (partition, turn) in asked {
        match (ends.get(partition), fetched.get(partition)) {
            (Some((epoch, end)), Some(position)) if *epoch < 0 || *end < position.offset => {
                state.positions.on_out_of_range(partition, *turn);
            }
            (Some(_), Some(_)) => {
                let epoch = leaders.get(partition).copied().unwrap_or(-1);
                state.positions.on_valid(partition, *turn, epoch);
            }
            _ => state.positions.on_unanswered(partition, *turn),
        }
    }
    Ok(())
}

/// A position was lost: says where the log begins and ends now.
async fn find_bounds(shared: &Shared, asked: &Asked) -> Result<(), ClientError> {
    let at = |timestamp| {
        asked
            .iter()
            .map(|(each, _)| (each.clone(), timestamp))
            .collect()
    };
    let asker = shared.asker();
    let starts = asker.list_offsets(&at(EARLIEST)).await?;
    let ends = asker.list_offsets(&at(LATEST)).await?;
    let mut state = shared.state.lock();
    for (partition, turn) in asked {
        let Some(position) = state.positions.on_bounds(partition, *turn) else {
            continue;
        };
        let offset = |found: &BTreeMap<TopicPartition, super::OffsetAndTimestamp>| {
            found.get(partition).map_or(-1, |at| at.offset)
        };
        let (log_start, log_end) = (offset(&starts), offset(&ends));
        tracing::warn!(
            topic = partition.topic,
            partition = partition.partition,
            position,
            log_start,
            log_end,
            "the position is no longer in the log"
        );
        state.events.push_back(Event::Poll(Poll::PositionLost {
            partition: partition.clone(),
            position,
            log_start,
            log_end,
        }));
    }
    drop(state);
    shared.ready.notify_one();
    Ok(())
}

/// Lets a failed look-up be repeated, after a pause; the application hears of what does not pass by itself.
async fn give_up_look_up(shared: &Shared, asked: &Asked, error: ClientError) {
    tracing::debug!(%error, "an offset could not be looked up");
    if leads_elsewhere(&error) {
        // A refresh that fails shows in the next attempt.
        let _ = shared.client.refresh_metadata().await;
    } else {
        shared.state.lock().events.push_back(Event::Error(error));
        shared.ready.notify_one();
    }
    runtime::sleep(shared.client.config().retry_backoff_max).await;
    let mut state = shared.state.lock();
    for (partition, turn) in asked {
        state.positions.on_unanswered(partition, *turn);
    }
}
