//! Records in: from partitions chosen by hand, or shared with a group.
//!
//! Owns [`Consumer`]. Two tasks work beside the application: `fetcher.rs` keeps the buffers of `offsets.rs` filled, `coordinator.rs` keeps the
//! place in the group (`membership.rs`) with heartbeats. Polling hands out what they have: events first, then records. The rules are in the
//! pure files; this one joins them.

mod assignor;
mod coordinator;
mod fetched;
mod fetcher;
mod lookup;
mod membership;
mod offsets;
mod record;
mod subscription;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use assignor::{
    Assignor, CooperativeStickyAssignor, MemberAssignment, MemberSubscription, RangeAssignor,
    RebalanceProtocol, StickyAssignor, hold_back_moving_partitions,
};
pub use fetched::FetchedRecords;
pub use lookup::OffsetAndTimestamp;
pub use record::{ConsumerGroupMetadata, ConsumerRecord, OffsetAndMetadata, Poll};
pub(crate) use subscription::{decode_assignment, decode_subscription};

use crate::client::{Client, Lane};
use crate::config::{ConsumerConfig, Isolation, OffsetReset};
use crate::error::{ClientError, Failure};
use crate::runtime::{self, Task};
use coordinator::with_membership;
use lookup::Asker;
use membership::{Action, Membership, MembershipConfig};
use offsets::{Position, Positions};

#[derive(Debug)]
enum Event {
    Poll(Poll),
    Error(ClientError),
}

/// What the handle and the tasks have in common. Where both locks are needed, `membership` comes first.
#[derive(Debug)]
struct Shared {
    client: Client,
    config: ConsumerConfig,
    fetch_lane: Lane,
    group_lane: Lane,
    commit_lane: Lane,
    membership: Option<Mutex<Membership>>,
    state: Mutex<State>,
    /// There is something to poll.
    ready: Notify,
    fetch_look: Notify,
    group_look: Notify,
}

#[derive(Debug)]
struct State {
    positions: Positions,
    events: VecDeque<Event>,
    /// By subscription, not by hand.
    subscribed: bool,
    last_auto_commit: Option<Instant>,
}

/// Reads records. Everything may be called from any task; polls come from one.
///
/// Dropping it stops reading without a word to the group, which then waits for the session time-out; [`Consumer::close`] leaves.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    _tasks: Vec<Task>,
}

impl Consumer {
    /// Makes a consumer; it reads nothing before [`Consumer::subscribe`] or [`Consumer::assign`].
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: options that exclude each other.
    #[expect(
        clippy::unused_async,
        reason = "a consumer may come to ask the cluster before it is ready"
    )]
    pub async fn new(client: &Client, config: ConsumerConfig) -> Result<Consumer, ClientError> {
        check(&config)?;
        let membership = config.group_id.clone().map(|group_id| {
            let member = MembershipConfig {
                group_id,
                instance_id: config.group_instance_id.clone(),
                heartbeat_interval: config.heartbeat_interval,
                max_poll_interval: config.max_poll_interval,
                retry_backoff: client.config().retry_backoff,
            };
            Mutex::new(Membership::new(
                member,
                config.assignors.clone(),
                runtime::now(),
            ))
        });
        let bytes = |limit: i32| usize::try_from(limit).unwrap_or(0);
        let limits = (
            bytes(config.max_partition_fetch_bytes),
            config.prefetch_bytes,
        );
        let positions = Positions::new(config.auto_offset_reset, config.group_id.is_some(), limits);
        let shared = Arc::new(Shared {
            client: client.clone(),
            fetch_lane: client.new_lane(),
            group_lane: client.new_lane(),
            commit_lane: client.new_lane(),
            membership,
            state: Mutex::new(State {
                positions,
                events: VecDeque::new(),
                subscribed: false,
                last_auto_commit: None,
            }),
            config,
            ready: Notify::new(),
            fetch_look: Notify::new(),
            group_look: Notify::new(),
        });
        let mut tasks = vec![runtime::spawn(fetcher::run(Arc::clone(&shared)))];
        if shared.membership.is_some() {
            tasks.push(runtime::spawn(coordinator::run(Arc::clone(&shared))));
        }
        Ok(Consumer {
            shared,
            _tasks: tasks,
        })
    }

    /// Reads these topics as a member of the group, in place of what was subscribed before. No topics: leaves the group.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: no `group_id`, or partitions are assigned by hand.
    #[expect(clippy::unused_async, reason = "joining may come to be awaited")]
    pub async fn subscribe(&self, topics: &[&str]) -> Result<(), ClientError> {
        if self.shared.membership.is_none() {
            return Err(ClientError::invalid("subscribe", "needs a group_id"));
        }
        let mut names: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        names.sort();
        names.dedup();
        {
            let mut state = self.shared.state.lock();
            if !state.subscribed && !state.positions.assigned().is_empty() {
                return Err(ClientError::invalid(
                    "subscribe",
                    "partitions are assigned by hand",
                ));
            }
            state.subscribed = !names.is_empty();
            if names.is_empty() {
                state.positions.assign(&[]);
                state.events.clear();
            }
        }
        let now = runtime::now();
        with_membership(&self.shared, |membership| {
            membership.on_subscribe(names, now)
        });
        self.shared.group_look.notify_one();
        Ok(())
    }

    /// Reads exactly these partitions, without membership. Those already assigned keep their positions.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: the consumer is subscribed.
    #[expect(
        clippy::unused_async,
        reason = "positions may come to be looked up here"
    )]
    pub async fn assign(&self, partitions: Vec<TopicPartition>) -> Result<(), ClientError> {
        {
            let mut state = self.shared.state.lock();
            if state.subscribed {
                return Err(ClientError::invalid("assign", "the consumer is subscribed"));
            }
            state.positions.assign(&partitions);
        }
        self.shared.fetch_look.notify_one();
        Ok(())
    }

    /// The partitions it has now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.state.lock().positions.assigned()
    }

    /// Waits up to `timeout` for events or records, whichever is there; events come first, in order.
    ///
    /// Dropping the future loses nothing. Without `group_id` there are no events of a group.
    ///
    /// # Errors
    /// What the tasks met and cannot mend: [`ClientError::Fenced`] (stop), [`ClientError::Unauthorized`], [`ClientError::NotFound`] (a topic is
    /// gone), [`ClientError::NoPosition`] (seek), [`ClientError::Corrupt`] (tried again by the next fetch).
    pub async fn poll_batches(&self, timeout: Duration) -> Result<Poll, ClientError> {
        self.poll_some(timeout, usize::MAX).await
    }

    async fn poll_some(&self, timeout: Duration, records_max: usize) -> Result<Poll, ClientError> {
        let _polling = Polling::begin(&self.shared);
        let deadline = runtime::now() + timeout;
        {
            let mut state = self.shared.state.lock();
            let untold = |event: &Event| matches!(event, Event::Poll(Poll::Assigned(_)));
            if !state.events.iter().any(untold) {
                state.positions.start();
            }
        }
        self.shared.fetch_look.notify_one();
        loop {
            {
                let mut state = self.shared.state.lock();
                match state.events.pop_front() {
                    Some(Event::Poll(poll)) => return Ok(poll),
                    Some(Event::Error(error)) => return Err(error),
                    None => {}
                }
                let ready = state.positions.take_ready(records_max);
                if !ready.is_empty() {
                    drop(state);
                    self.shared.fetch_look.notify_one();
                    return Ok(Poll::Records(ready));
                }
            }
            if tokio::time::timeout_at(deadline, self.shared.ready.notified())
                .await
                .is_err()
            {
                return Ok(Poll::Idle);
            }
        }
    }

    /// Records one by one, up to the end of the batch with which they reach `max_poll_records`; empty if none came in time.
    ///
    /// Does by itself what [`Consumer::poll_batches`] leaves to the caller: gives partitions back, with a commit before if
    /// `enable_auto_commit` is set, and follows `auto_offset_reset` when a position is lost.
    ///
    /// # Errors
    /// As [`Consumer::poll_batches`]; [`ClientError::NoPosition`] for a lost position without a policy, too.
    pub async fn poll(&self, timeout: Duration) -> Result<Vec<ConsumerRecord>, ClientError> {
        let deadline = runtime::now() + timeout;
        self.auto_commit(false).await;
        loop {
            let left = deadline.saturating_duration_since(runtime::now());
            match self
                .poll_some(left, self.shared.config.max_poll_records)
                .await?
            {
                Poll::Records(pieces) => {
                    let records = self.decode(&pieces)?;
                    if !records.is_empty() {
                        return Ok(records);
                    }
                }
                Poll::Revoking(_) => {
                    self.auto_commit(true).await;
                    self.rebalance_done();
                }
                Poll::Assigned(_) | Poll::Lost(_) => {}
                Poll::PositionLost {
                    partition,
                    position,
                    log_start,
                    log_end,
                } => {
                    let policy = self.shared.config.auto_offset_reset;
                    if policy == OffsetReset::None {
                        let reason = format!(
                            "offset {position} is not in the log, which has [{log_start}, {log_end})"
                        );
                        let failure = Failure::new(subject(&partition), reason);
                        return Err(ClientError::NoPosition(failure));
                    }
                    self.shared.state.lock().positions.reset(&partition, policy);
                    self.shared.fetch_look.notify_one();
                }
                Poll::Idle => return Ok(Vec::new()),
            }
        }
    }

    fn decode(&self, pieces: &[FetchedRecords]) -> Result<Vec<ConsumerRecord>, ClientError> {
        let limit = DecompressionLimit(self.shared.config.decompressed_bytes_max);
        let mut records = Vec::with_capacity(pieces.iter().map(FetchedRecords::record_count).sum());
        for piece in pieces {
            let topic: Arc<str> = piece.partition.topic.as_str().into();
            for record in piece.records(limit) {
                let record = record?;
                records.push(ConsumerRecord {
                    topic: Arc::clone(&topic),
                    partition: piece.partition.partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
        }
        Ok(records)
    }

    async fn auto_commit(&self, now: bool) {
        if !self.shared.config.enable_auto_commit || self.shared.config.group_id.is_none() {
            return;
        }
        {
            let mut state = self.shared.state.lock();
            let at = runtime::now();
            let last = *state.last_auto_commit.get_or_insert(at);
            if !now && at < last + self.shared.config.auto_commit_interval {
                return;
            }
            state.last_auto_commit = Some(at);
        }
        if let Err(error) = self.commit_positions().await {
            tracing::warn!(%error, "positions could not be committed");
        }
    }

    /// The partitions of [`Poll::Revoking`] are finished with, and committed as far as they shall be.
    pub fn rebalance_done(&self) {
        let now = runtime::now();
        self.shared.state.lock().positions.remove_returning();
        with_membership(&self.shared, |membership| membership.on_rebalance_done(now));
        self.shared.group_look.notify_one();
    }

    /// The next record of this partition is the one at `offset`.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: not assigned.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<(), ClientError> {
        let position = Position {
            offset,
            leader_epoch: -1,
        };
        self.change(partition, |positions| positions.seek(partition, position))
    }

    /// The next record of this partition is its first.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: not assigned.
    pub fn seek_to_beginning(&self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.change(partition, |positions| {
            positions.reset(partition, OffsetReset::Earliest)
        })
    }

    /// The next record of this partition is the first that is yet to come.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: not assigned.
    pub fn seek_to_end(&self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.change(partition, |positions| {
            positions.reset(partition, OffsetReset::Latest)
        })
    }

    /// Nothing comes from these partitions until [`Consumer::resume`]. What was fetched stays.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: one is not assigned.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        partitions.iter().try_for_each(|partition| {
            self.change(partition, |positions| positions.set_paused(partition, true))
        })
    }

    /// Ends [`Consumer::pause`].
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: one is not assigned.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        partitions.iter().try_for_each(|partition| {
            self.change(partition, |positions| {
                positions.set_paused(partition, false)
            })
        })?;
        self.shared.ready.notify_one();
        Ok(())
    }

    fn change(
        &self,
        partition: &TopicPartition,
        change: impl FnOnce(&mut Positions) -> bool,
    ) -> Result<(), ClientError> {
        if !change(&mut self.shared.state.lock().positions) {
            return Err(ClientError::invalid(
                subject(partition),
                "not assigned to this consumer",
            ));
        }
        self.shared.fetch_look.notify_one();
        Ok(())
    }

    /// The offset of the next record that a poll returns. Waits while it is being looked up.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: not assigned. [`ClientError::Timeout`]: not known in time.
    pub async fn position(&self, partition: &TopicPartition) -> Result<i64, ClientError> {
        let mut retry = self.shared.client.retry();
        loop {
            {
                let mut state = self.shared.state.lock();
                if !state.positions.contains(partition) {
                    let reason = "not assigned to this consumer";
                    return Err(ClientError::invalid(subject(partition), reason));
                }
                if let Some(position) = state.positions.position(partition) {
                    return Ok(position.offset);
                }
                state.positions.start();
            }
            self.shared.fetch_look.notify_one();
            if !retry.again().await {
                let failure = Failure::new(subject(partition), "no position is known yet");
                return Err(ClientError::Timeout(failure));
            }
        }
    }

    /// The end of what is replicated, as the last fetch of this partition told it.
    #[must_use]
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.state.lock().positions.high_watermark(partition)
    }

    /// Commits these offsets: each is that of the next record to read.
    ///
    /// # Errors
    /// [`ClientError::Rebalance`]: the group has moved on; poll, and commit again for what is still assigned. Committed already is what an
    /// earlier try within this call has done whose answer got lost.
    /// [`ClientError::Fenced`]: a static member was replaced; stop. [`ClientError::Unavailable`], [`ClientError::Timeout`]: try again.
    pub async fn commit(
        &self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> Result<(), ClientError> {
        self.needs_group("commit")?;
        coordinator::commit(&self.shared, offsets).await
    }

    /// Commits the positions: everything that polls have returned.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_positions(&self) -> Result<(), ClientError> {
        let offset = |(partition, at): (TopicPartition, Position)| {
            let offset = OffsetAndMetadata {
                offset: at.offset,
                leader_epoch: at.leader_epoch,
                metadata: String::new(),
            };
            (partition, offset)
        };
        let positions = self.shared.state.lock().positions.positions();
        let offsets: Vec<_> = positions.into_iter().map(offset).collect();
        self.commit(&offsets).await
    }

    /// What the group has committed; a partition without is left out. Waits for transactions that are about to commit offsets.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: no `group_id`. [`ClientError::Unavailable`], [`ClientError::Timeout`]: try again.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ClientError> {
        self.needs_group("committed")?;
        self.shared
            .asker()
            .committed(self.shared.group(), partitions)
            .await
    }

    /// As which member it commits now: for [`Producer::send_offsets_to_transaction`](crate::Producer::send_offsets_to_transaction).
    #[must_use]
    pub fn group_metadata(&self) -> ConsumerGroupMetadata {
        coordinator::group_metadata(&self.shared)
    }

    /// The first offset at or after a time (milliseconds since 1970) in each partition; one without is left out.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: no such partition. [`ClientError::Unavailable`], [`ClientError::Timeout`]: try again.
    pub async fn offsets_for_times(
        &self,
        times: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndTimestamp>, ClientError> {
        self.shared.asker().list_offsets(times).await
    }

    /// The first offset of each partition.
    ///
    /// # Errors
    /// As [`Consumer::offsets_for_times`].
    pub async fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        self.ends(partitions, lookup::EARLIEST, self.shared.config.isolation)
            .await
    }

    /// The end of each partition as this consumer sees it: under `read_committed` the last stable offset, else the high watermark.
    ///
    /// # Errors
    /// As [`Consumer::offsets_for_times`].
    pub async fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        self.end_offsets_as(partitions, self.shared.config.isolation)
            .await
    }

    /// The end of each partition as a consumer of this isolation sees it.
    ///
    /// # Errors
    /// As [`Consumer::offsets_for_times`].
    pub async fn end_offsets_as(
        &self,
        partitions: &[TopicPartition],
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        self.ends(partitions, lookup::LATEST, isolation).await
    }

    async fn ends(
        &self,
        partitions: &[TopicPartition],
        which: i64,
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let wanted = partitions
            .iter()
            .map(|partition| (partition.clone(), which))
            .collect();
        let asker = Asker {
            isolation,
            ..self.shared.asker()
        };
        let found = asker.list_offsets(&wanted).await?;
        Ok(found
            .into_iter()
            .map(|(partition, at)| (partition, at.offset))
            .collect())
    }

    /// Leaves the group at once, so that it need not wait for the session time-out. Commits before if `enable_auto_commit` is set.
    pub async fn close(mut self) {
        self.auto_commit(true).await;
        self._tasks.clear();
        let action = with_membership(&self.shared, |membership| {
            membership.on_close();
            membership.next(runtime::now())
        });
        if let Action::Leave { member_id, reason } = action {
            coordinator::leave(&self.shared, member_id, reason).await;
        }
        for lane in [
            self.shared.fetch_lane,
            self.shared.group_lane,
            self.shared.commit_lane,
        ] {
            self.shared.client.close_lane(lane);
        }
    }

    fn needs_group(&self, call: &str) -> Result<(), ClientError> {
        match &self.shared.config.group_id {
            Some(_) => Ok(()),
            None => Err(ClientError::invalid(call, "needs a group_id")),
        }
    }
}

/// While it lives the application is polling; however the poll ends.
struct Polling<'a>(&'a Shared);

impl<'a> Polling<'a> {
    fn begin(shared: &'a Shared) -> Polling<'a> {
        let now = runtime::now();
        if with_membership(shared, |membership| membership.on_poll(true, now)) {
            shared.group_look.notify_one();
        }
        Polling(shared)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let now = runtime::now();
        with_membership(self.0, |membership| membership.on_poll(false, now));
    }
}

impl Shared {
    /// The group, or nothing; only asked where there is one.
    fn group(&self) -> &str {
        self.config.group_id.as_deref().unwrap_or_default()
    }

    fn asker(&self) -> Asker {
        Asker {
            client: self.client.clone(),
            lane: self.commit_lane,
            isolation: self.config.isolation,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for lane in [self.fetch_lane, self.group_lane, self.commit_lane] {
            self.client.close_lane(lane);
        }
    }
}

fn check(config: &ConsumerConfig) -> Result<(), ClientError> {
    let wrong = |option, reason: &str| Err(ClientError::invalid(option, reason));
    if config.group_id.as_deref() == Some("") {
        return wrong("group_id", "must not be empty");
    }
    if config.group_instance_id.is_some() && config.group_id.is_none() {
        return wrong("group_instance_id", "needs a group_id");
    }
    if config.assignors.is_empty() {
        return wrong("assignors", "at least one is needed");
    }
    if config.heartbeat_interval >= config.session_timeout {
        return wrong("heartbeat_interval", "must be shorter than session_timeout");
    }
    if config.max_partition_fetch_bytes <= 0 || config.fetch_max_bytes <= 0 {
        return wrong("fetch_max_bytes", "must be positive");
    }
    Ok(())
}

/// A partition, as errors name it.
pub(crate) fn subject(partition: &TopicPartition) -> String {
    format!("partition {}-{}", partition.topic, partition.partition)
}
