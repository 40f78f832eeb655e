//! The producer's task: between the pure cores and the brokers.
//!
//! Takes batches out of the accumulator when their partition may send, lets `sender.rs` number and plan them, submits the requests
//! in order on one connection per broker, and tells the answers back. Makes no rule of its own; `Producer` starts one and
//! stops it when its last clone is dropped.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{BrokerId, TopicId};
use flumen_protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::message::{
    InitProducerIdRequest, ProduceRequest, ProduceResponse, produce_response,
};
use flumen_protocol::segment::Records;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Shared;
use super::accumulator::Slot;
use super::coordinator::PRODUCE_TV2;
use super::sender::{
    Answer, Effects, Finished, Guarantee, Identity, Outgoing, RequestId, Sender, SenderConfig,
};
use crate::client::{Client, Node};
use crate::connection::Connection;
use crate::error::{ClientError, refused};
use crate::metadata::Leader;
use crate::runtime;

/// What the handle asks of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// The next batches carry this producer id and epoch.
    SetIdentity(Identity),
    /// Give up what is not on its way; `done` when nothing is any more.
    Abort {
        reason: ClientError,
        done: oneshot::Sender<()>,
    },
}

/// One partition of a request.
#[derive(Debug)]
struct Part {
    slot: Slot,
    topic: Arc<str>,
    topic_id: TopicId,
    partition: i32,
}

#[derive(Debug)]
enum Event {
    Linked {
        broker: BrokerId,
        result: Result<Arc<Connection>, ClientError>,
    },
    Answered {
        request: RequestId,
        broker: BrokerId,
        parts: Vec<Part>,
        result: Result<ProduceResponse, ClientError>,
    },
    Identified(Result<Identity, ClientError>),
    Refreshed,
}

type Happening = Pin<Box<dyn Future<Output = Event> + Send>>;

enum Link {
    Opening,
    Open(Arc<Connection>),
}

struct Driver {
    shared: Arc<Shared>,
    sender: Sender,
    events: FuturesUnordered<Happening>,
    links: BTreeMap<BrokerId, Link>,
    identifying: bool,
    refreshing: bool,
    aborting: Option<(ClientError, oneshot::Sender<()>)>,
}

/// Runs until the task is aborted or the handle is gone.
pub(super) async fn run(
    shared: Arc<Shared>,
    guarantee: Guarantee,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let sender = Sender::new(SenderConfig {
        guarantee,
        max_in_flight: shared.config.max_in_flight,
        max_request_bytes: shared.config.max_request_bytes,
        retry_backoff: shared.client.config().retry_backoff,
    });
    let mut driver = Driver {
        shared: Arc::clone(&shared),
        sender,
        events: FuturesUnordered::new(),
        links: BTreeMap::new(),
        identifying: false,
        refreshing: false,
        aborting: None,
    };
    loop {
        let wake = driver.drive(runtime::now());
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => driver.on_command(command),
                None => return,
            },
            Some(event) = driver.events.next(), if !driver.events.is_empty() => driver.on_event(event),
            () = shared.look.notified() => {}
            () = runtime::sleep_until(wake) => {}
        }
    }
}

/// With the task go all hopes of what it did not deliver.
impl Drop for Driver {
    fn drop(&mut self) {
        let mut core = self.shared.core.lock();
        let closed = core
            .closed
            .get_or_insert_with(|| ClientError::closed("producer"))
            .clone();
        for completion in core.accumulator.take_incomplete() {
            completion.fulfil(Err(closed.clone()));
        }
        self.shared.client.close_lane(self.shared.lane);
    }
}

impl Driver {
    /// Sends what may be sent now; says when to look again if nothing else happens.
    fn drive(&mut self, now: Instant) -> Option<Instant> {
        self.expire(now);
        self.settle_abort();
        self.shared.core.lock().accumulator.end_linger(now);
        self.identify();
        loop {
            let routes = self.routes();
            let sender = &self.sender;
            let route = |slot: Slot| routes.get(&slot).copied().flatten();
            let batches = self.shared.core.lock().accumulator.take(|slot| {
                sender.may_take(slot) && route(slot).is_some_and(|at| sender.has_capacity(at))
            });
            for batch in batches {
                self.sender.admit(batch, now);
            }
            let planned = self.sender.plan(now, route);
            if planned.is_empty() {
                break;
            }
            if let Some(transaction) = &mut self.shared.core.lock().transaction {
                transaction.on_sent();
            }
            for outgoing in planned {
                self.depart(outgoing, now);
            }
        }
        let core = self.shared.core.lock();
        let blocked = core.accumulator.due().next().map(|_| now + BLOCKED_TICK);
        [
            core.accumulator.next_linger(),
            self.sender.next_event(now),
            blocked,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The leader's connection of every partition that has something to send; opens what is missing.
    fn routes(&mut self) -> BTreeMap<Slot, Option<BrokerId>> {
        let slots: Vec<(Slot, Arc<str>, i32)> = {
            let core = self.shared.core.lock();
            let due = core.accumulator.due().chain(self.sender.busy());
            due.map(|slot| {
                let (topic, partition) = core.accumulator.partition(slot);
                (slot, Arc::clone(topic), partition)
            })
            .collect()
        };
        let mut routes = BTreeMap::new();
        for (slot, topic, partition) in slots {
            let leader = self.shared.client.leader(&topic, partition);
            if leader.is_none() {
                self.shared.client.want(&topic);
                self.refresh();
            }
            let broker = leader
                .map(|leader| leader.broker)
                .filter(|broker| self.is_linked(*broker));
            routes.insert(slot, broker);
        }
        routes
    }

    fn is_linked(&mut self, broker: BrokerId) -> bool {
        match self.links.get(&broker) {
            Some(Link::Opening) => return false,
            Some(Link::Open(connection)) if connection.is_open() => return true,
            _ => {}
        }
        self.links.insert(broker, Link::Opening);
        let (client, lane) = (self.shared.client.clone(), self.shared.lane);
        self.events.push(Box::pin(async move {
            let result = client.connection(Node::Broker(broker), lane).await;
            Event::Linked { broker, result }
        }));
        false
    }

    fn refresh(&mut self) {
        if std::mem::replace(&mut self.refreshing, true) {
            return;
        }
        let client = self.shared.client.clone();
        self.events.push(Box::pin(async move {
            if let Err(error) = client.refresh_metadata().await {
                tracing::debug!(%error, "metadata could not be refreshed");
            }
            // Whoever finds that nothing has changed does not ask again at once.
            runtime::sleep(client.config().retry_backoff).await;
            Event::Refreshed
        }));
    }

    /// Without transactions any broker gives the producer id; asked for with the first batch.
    fn identify(&mut self) {
        let transactional = self.shared.config.transactional_id.is_some();
        let work =
            self.shared.core.lock().accumulator.due().next().is_some() || !self.sender.is_empty();
        if transactional || self.identifying || !work || !self.sender.needs_identity() {
            return;
        }
        self.identifying = true;
        let client = self.shared.client.clone();
        self.events.push(Box::pin(async move {
            Event::Identified(producer_id(&client).await)
        }));
    }

    fn depart(&mut self, outgoing: Outgoing, now: Instant) {
        let Outgoing {
            id,
            broker,
            batches,
        } = outgoing;
        let Some(Link::Open(connection)) = self.links.get(&broker) else {
            let error = ClientError::closed("connection");
            let effects = self.sender.on_no_answer(id, &error, false, now);
            self.settle(effects);
            return;
        };
        let connection = Arc::clone(connection);
        let (parts, records): (Vec<Part>, Vec<Bytes>) = batches
            .into_iter()
            .map(|(slot, bytes)| (self.part(slot), bytes))
            .unzip();
        match self.submit(&connection, &parts, records) {
            Ok(Some(reply)) => self.events.push(Box::pin(async move {
                let result = reply.wait().await;
                Event::Answered {
                    request: id,
                    broker,
                    parts,
                    result,
                }
            })),
            Ok(None) => {
                // Nobody answers: what is written counts as done.
                let done = |part: &Part| answer(part.slot, ErrorCode::None);
                let answers: Vec<Answer> = parts.iter().map(done).collect();
                let effects = self.sender.on_answers(id, &answers, now);
                self.settle(effects);
            }
            Err(error @ ClientError::Unsupported(_)) => {
                tracing::warn!(%error, "a produce request cannot be sent");
                let refuse = |part: &Part| answer(part.slot, ErrorCode::UnsupportedVersion);
                let answers: Vec<Answer> = parts.iter().map(refuse).collect();
                let effects = self.sender.on_answers(id, &answers, now);
                self.settle(effects);
            }
            Err(error) => {
                let effects = self.sender.on_no_answer(id, &error, false, now);
                self.settle(effects);
            }
        }
    }

    fn part(&self, slot: Slot) -> Part {
        let (topic, partition) = {
            let core = self.shared.core.lock();
            let (topic, partition) = core.accumulator.partition(slot);
            (Arc::clone(topic), partition)
        };
        let topic_id = self
            .shared
            .client
            .with_metadata(|metadata| metadata.topic_id(&topic));
        Part {
            slot,
            topic,
            topic_id,
            partition,
        }
    }

    fn submit(
        &self,
        connection: &Connection,
        parts: &[Part],
        records: Vec<Bytes>,
    ) -> Result<Option<crate::connection::Reply<ProduceRequest>>, ClientError> {
        let version = connection.version(ProduceRequest::API, self.version_cap(parts))?;
        let mut topics: BTreeMap<&str, TopicProduceData> = BTreeMap::new();
        for (part, records) in parts.iter().zip(records) {
            let topic = topics
                .entry(&part.topic)
                .or_insert_with(|| TopicProduceData {
                    name: part.topic.to_string(),
                    topic_id: part.topic_id,
                    ..TopicProduceData::default()
                });
            topic.partition_data.push(PartitionProduceData {
                index: part.partition,
                records: Some(Records::Bytes(records)),
                ..PartitionProduceData::default()
            });
        }
        let timeout = self.shared.client.config().request_timeout.as_millis();
        let request = ProduceRequest {
            transactional_id: self.shared.config.transactional_id.clone(),
            acks: self.shared.config.acks.code(),
            timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
            topic_data: topics.into_values().collect(),
            ..ProduceRequest::default()
        };
        if request.acks == 0 {
            return connection
                .submit_unanswered(version, &request)
                .map(|()| None);
        }
        connection.submit(version, &request).map(Some)
    }

    /// Without topic ids version 13 has no way to name a topic; before TV2 a transaction must not look like TV2.
    fn version_cap(&self, parts: &[Part]) -> i16 {
        let core = self.shared.core.lock();
        let first_version = core
            .transaction
            .as_ref()
            .is_some_and(|transaction| !transaction.is_second_version());
        if first_version {
            PRODUCE_TV2 - 1
        } else if parts.iter().any(|part| part.topic_id.is_nil()) {
            PRODUCE_WITHOUT_IDS
        } else {
            i16::MAX
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::SetIdentity(identity) => self.sender.set_identity(identity),
            Command::Abort { reason, done } => self.aborting = Some((reason, done)),
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = runtime::now();
        match event {
            Event::Linked { broker, result } => match result {
                Ok(connection) => {
                    self.links.insert(broker, Link::Open(connection));
                }
                Err(error) => {
                    tracing::debug!(%error, "a leader cannot be reached");
                    self.links.remove(&broker);
                    self.refresh();
                }
            },
            Event::Identified(result) => {
                self.identifying = false;
                match result {
                    Ok(identity) => {
                        self.sender.set_identity(identity);
                        self.sender.adopt_new_identity();
                        self.shared.core.lock().identity = Some(identity);
                    }
                    Err(error) => self.give_up_unsent(&error),
                }
            }
            Event::Refreshed => self.refreshing = false,
            Event::Answered {
                request,
                broker,
                parts,
                result,
            } => match result {
                Ok(response) => {
                    let answers = self.read(&parts, &response);
                    let effects = self.sender.on_answers(request, &answers, now);
                    self.settle(effects);
                }
                Err(error) => {
                    tracing::debug!(%error, "a produce request was not answered");
                    self.links.remove(&broker);
                    let effects = self.sender.on_no_answer(request, &error, true, now);
                    self.settle(effects);
                }
            },
        }
    }

    /// What the answer says of each part, and the new leaders it names (KIP-951).
    fn read(&self, parts: &[Part], response: &ProduceResponse) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(parts.len());
        for topic in &response.responses {
            let named = |part: &&Part| match topic.name.as_str() {
                "" => part.topic_id == topic.topic_id,
                name => &*part.topic == name,
            };
            for partition in &topic.partition_responses {
                let mut of = parts.iter().filter(named);
                let Some(part) = of.find(|part| part.partition == partition.index) else {
                    continue;
                };
                self.take_hint(part, partition, response);
                answers.push(Answer {
                    slot: part.slot,
                    error_code: partition.error_code,
                    base_offset: partition.base_offset,
                    log_append_time: partition.log_append_time_ms,
                    message: partition.error_message.clone(),
                });
            }
        }
        answers
    }

    fn take_hint(
        &self,
        part: &Part,
        partition: &produce_response::PartitionProduceResponse,
        response: &ProduceResponse,
    ) {
        let named = &partition.current_leader;
        if named.leader_id < 0 {
            return;
        }
        let leader = Leader {
            broker: named.leader_id,
            epoch: named.leader_epoch,
        };
        let endpoint = response
            .node_endpoints
            .iter()
            .find(|node| node.node_id == leader.broker);
        self.shared.client.on_leader_hint(
            (&part.topic, part.partition),
            leader,
            endpoint.map(|node| (node.host.as_str(), node.port)),
        );
    }

    fn expire(&mut self, now: Instant) {
        let effects = self.sender.on_tick(now);
        self.settle(effects);
        let expired = self.shared.core.lock().accumulator.take_expired(now);
        for batch in expired {
            let error = refused(ErrorCode::RequestTimedOut, "no leader took a batch in time");
            self.finish(Finished {
                id: batch.id,
                size: batch.size,
                completion: batch.completion,
                outcome: Err(error.map(|failure| failure.in_api("Produce"))),
            });
        }
    }

    fn settle_abort(&mut self) {
        let Some((reason, done)) = self.aborting.take() else {
            return;
        };
        self.give_up_unsent(&reason);
        if self.sender.is_waiting() {
            self.aborting = Some((reason, done));
        } else {
            // Who asked may have gone.
            let _ = done.send(());
        }
    }

    fn give_up_unsent(&mut self, reason: &ClientError) {
        let unsent = self.shared.core.lock().accumulator.take_unsent();
        for batch in unsent {
            self.finish(Finished {
                id: batch.id,
                size: batch.size,
                completion: batch.completion,
                outcome: Err(reason.clone()),
            });
        }
        let effects = self.sender.abort_waiting(reason);
        self.settle(effects);
    }

    fn settle(&mut self, effects: Effects) {
        if effects.refresh_metadata {
            self.refresh();
        }
        effects
            .finished
            .into_iter()
            .for_each(|finished| self.finish(finished));
    }

    fn finish(&self, finished: Finished) {
        let Finished {
            id,
            size,
            completion,
            outcome,
        } = finished;
        let outcome =
            outcome.map_err(|error| error.map(|failure| failure.within(&completion.subject())));
        {
            let mut core = self.shared.core.lock();
            core.accumulator.release(id, size);
            if let Err(error) = &outcome {
                core.failed.get_or_insert_with(|| error.clone());
                if let Some(transaction) = &mut core.transaction {
                    transaction.on_error(error);
                }
            }
        }
        completion.fulfil(outcome);
        self.shared.room.notify_waiters();
    }
}

/// How often batches that cannot go are looked at again.
const BLOCKED_TICK: Duration = Duration::from_millis(500);

/// The last version of Produce that names topics.
const PRODUCE_WITHOUT_IDS: i16 = 12;

fn answer(slot: Slot, code: ErrorCode) -> Answer {
    Answer {
        slot,
        error_code: code.code(),
        base_offset: -1,
        log_append_time: -1,
        message: None,
    }
}

/// A producer id without transactions, from whichever broker answers.
async fn producer_id(client: &Client) -> Result<Identity, ClientError> {
    let mut retry = client.retry();
    loop {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let error = match client.send(Node::Any, request).await {
            Ok(response) => match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => {
                    let epoch = response.producer_epoch;
                    return Ok(Identity {
                        producer_id: response.producer_id,
                        epoch,
                    });
                }
                code => refused(code, "producer id").map(|at| at.in_api("InitProducerId")),
            },
            Err(error) => error,
        };
        if !error.is_retriable() || !retry.again().await {
            return Err(error);
        }
    }
}
