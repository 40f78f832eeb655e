//! One engine at work: its group member, its transactional producer, its thread, and the commit cycle between them.
//!
//! ```text
//! poll ──► tasks ──► worker (thread) ──► closed epoch ──► flush ──► offsets ──► end of transaction ──► worker: committed
//!   └► assigned: positions, stores (start.rs), then fed      └ steps run beside the loop (transaction.rs), decided by commit.rs
//!   └► revoking: feed no more, commit all, end the tasks, give back
//!   └► lost, or a step failed: drop the engine with everything uncommitted, fence the open transaction, start again from what is committed
//! ```
//! Called by `app.rs`. The one place that knows both the cluster and the engine; it decides nothing that a pure part can.

mod connect;
mod recover;
pub(crate) mod start;
pub(crate) mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flumen_client::{ClientError, Consumer, FetchedRecords, OffsetAndMetadata, Poll, Producer};
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::app::{App, Control, StreamsState};
use crate::commit::{Act, CommitCycle};
use crate::error::{EngineError, StreamsError};
use crate::metrics::StreamsMetrics;
use crate::runtime;
use crate::state::restore::{Gate, RestoreError};
use crate::task::{Taken, Tasks};
use crate::topology::TaskId;
use crate::worker::{Closed, Command, Event, Fetched, SpillRule, Worker};
use connect::{
    connect_consumer, connect_producer, leave, open_backends, start_worker, stored_tasks,
};
use recover::Broken;
use start::{Backends, Prepared, Wanted, prepare};
use transaction::{Done, Written};

/// Bytes given to the engine and not worked off, beyond which nothing more is fed: what is queued delays the end of an epoch.
const QUEUED_BYTES_MAX: usize = 4 << 20;
/// How long a poll waits: shortly until the input is known to be drained, longer then.
const POLL_FIRST: Duration = Duration::from_millis(5);
const POLL: Duration = Duration::from_millis(100);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

type Step = JoinHandle<Result<Done, ClientError>>;
type Preparing = (Gate, JoinHandle<Result<Prepared, StreamsError>>);

pub(crate) struct Session {
    app: Arc<App>,
    index: usize,
    backends: Backends,
    stored: Arc<Mutex<BTreeSet<TaskId>>>,
    producer: Producer,
    consumer: Arc<Consumer>,
    worker: Worker,
    cycle: CommitCycle,
    tasks: Tasks,
    queued_bytes: usize,
    /// The step of the commit that runs.
    step: Option<Step>,
    /// The epoch that commits, and since when.
    closed: Option<Closed>,
    closed_at: Duration,
    written: Written,
    /// Positions of finished epochs that wait for their commit (at least once).
    offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    /// Tasks that are being made ready.
    preparing: Option<Preparing>,
    to_prepare: BTreeSet<TaskId>,
    /// What the group wants back.
    revoking: Option<Vec<TopicPartition>>,
    closing: bool,
    /// The last poll brought nothing.
    drained: bool,
    last_spill: Duration,
    /// Resets without a commit in between.
    failures: u32,
}

/// Runs an engine until it is told to close or cannot go on.
///
/// # Errors
/// [`StreamsError`]: why it stopped.
pub(crate) async fn run(
    app: Arc<App>,
    index: usize,
    mut control: mpsc::Receiver<Control>,
) -> Result<(), StreamsError> {
    let mut session = Session::open(app, index).await?;
    loop {
        match session.turn(&mut control).await {
            Ok(true) => {}
            Ok(false) => return session.close().await,
            Err(error) => {
                session.abandon().await;
                return Err(error);
            }
        }
    }
}

impl Session {
    async fn open(app: Arc<App>, index: usize) -> Result<Self, StreamsError> {
        let backends = open_backends(&app, index).await?;
        let stored = Arc::new(Mutex::new(stored_tasks(&app, &backends)?));
        // First of all: our own open transaction, if the last process died with one, is aborted by this.
        let producer = connect_producer(&app, index).await?;
        let consumer = connect_consumer(&app, index, &stored).await?;
        let worker = start_worker(&app, index)?;
        let now = app.clock.now();
        Ok(Self {
            cycle: CommitCycle::new(app.commit_options(), now),
            app,
            index,
            backends,
            stored,
            producer,
            consumer: Arc::new(consumer),
            worker,
            tasks: Tasks::default(),
            queued_bytes: 0,
            step: None,
            closed: None,
            closed_at: now,
            written: Written::new(),
            offsets: BTreeMap::new(),
            preparing: None,
            to_prepare: BTreeSet::new(),
            revoking: None,
            closing: false,
            drained: false,
            last_spill: now,
            failures: 0,
        })
    }

    /// Waits for whatever comes next and deals with it. False: everything is committed and may be closed.
    async fn turn(&mut self, control: &mut mpsc::Receiver<Control>) -> Result<bool, StreamsError> {
        if self.step.is_none() {
            let act = self
                .cycle
                .poll(self.app.clock.now(), self.drained && self.queued_bytes == 0);
            self.begin(act);
        }
        if (self.revoking.is_some() || self.closing)
            && self.queued_bytes == 0
            && self.cycle.all_committed()
        {
            if self.closing {
                return Ok(false);
            }
            return self.give_back().await.map(|()| true);
        }
        self.prepare_next();
        let feed = self.revoking.is_none()
            && !self.closing
            && self.cycle.may_feed()
            && self.queued_bytes < QUEUED_BYTES_MAX;
        let deadline = self.cycle.deadline(self.drained && self.queued_bytes == 0);
        let (clock, consumer) = (self.app.clock, Arc::clone(&self.consumer));
        let wait = if self.drained { POLL } else { POLL_FIRST };
        let happened = tokio::select! {
            biased;
            told = control.recv() => Happened::Told(told),
            done = join(&mut self.step), if self.step.is_some() => Happened::Step(done),
            event = self.worker.event() => Happened::Event(event),
            prepared = join_prepared(&mut self.preparing), if self.preparing.is_some() => Happened::Prepared(prepared),
            polled = consumer.poll_batches(wait), if feed => Happened::Polled(polled),
            () = clock.sleep_until(deadline.unwrap_or_default()), if deadline.is_some() => Happened::Due,
        };
        match happened {
            Happened::Told(told) => self.on_told(told),
            Happened::Step(done) => {
                self.step = None;
                self.on_step(done).await?;
            }
            Happened::Event(event) => self.on_event(event).await?,
            Happened::Prepared(prepared) => {
                self.preparing = None;
                self.on_prepared(prepared).await?;
            }
            Happened::Polled(polled) => self.on_polled(polled).await?,
            Happened::Due => {}
        }
        Ok(true)
    }

    fn on_told(&mut self, told: Option<Control>) {
        match told {
            Some(Control::Query(query)) => self.worker.send(Command::Query(query)),
            Some(Control::Close) | None => {
                self.closing = true;
                self.cycle.want_all_committed();
            }
        }
    }

    /// Sets a step of the commit going.
    fn begin(&mut self, act: Option<Act>) {
        let exactly_once = self.app.config.exactly_once();
        match act {
            None => {}
            Some(Act::Close) => self.worker.send(Command::Close),
            Some(Act::Flush(epoch)) => {
                let blocks = self
                    .closed
                    .as_mut()
                    .map(|closed| std::mem::take(&mut closed.blocks))
                    .unwrap_or_default();
                self.step = Some(runtime::spawn(transaction::flush(
                    self.producer.clone(),
                    epoch,
                    blocks,
                    exactly_once,
                )));
            }
            Some(Act::SendOffsets(epoch)) => {
                let (offsets, group) = (self.closed_offsets(), self.consumer.group_metadata());
                let step = transaction::send_offsets(self.producer.clone(), epoch, offsets, group);
                self.step = Some(runtime::spawn(step));
            }
            Some(Act::EndTransaction(epoch)) => {
                self.step = Some(runtime::spawn(transaction::commit(
                    self.producer.clone(),
                    epoch,
                )));
            }
            Some(Act::CommitOffsets) => {
                let offsets = std::mem::take(&mut self.offsets).into_iter().collect();
                self.step = Some(runtime::spawn(transaction::commit_offsets(
                    Arc::clone(&self.consumer),
                    offsets,
                )));
            }
            Some(Act::Done(epoch)) => self.done(epoch),
        }
    }

    fn closed_offsets(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let positions = self.closed.iter().flat_map(|closed| &closed.positions);
        positions
            .map(|((topic, partition), position)| transaction::offset(topic, *partition, position))
            .collect()
    }

    /// An epoch is committed: the stores forget how to undo it, and write what is due.
    fn done(&mut self, epoch: crate::state::Epoch) {
        let now = self.app.clock.now();
        let Some(closed) = self.closed.take() else {
            return;
        };
        let config = &self.app.config;
        if !closed.is_empty() || !self.written.is_empty() {
            StreamsMetrics::add(&self.app.metrics.commits, 1);
            let micros = u64::try_from((now - self.closed_at).as_micros()).unwrap_or(u64::MAX);
            StreamsMetrics::add(&self.app.metrics.commit_micros, micros);
            self.failures = 0;
        }
        let due = now.saturating_sub(self.last_spill) >= config.spill_interval;
        if due {
            self.last_spill = now;
        }
        let spill = SpillRule {
            due,
            bytes: config.spill_bytes,
            cache_bytes: config.cache_bytes,
        };
        self.worker.send(Command::Committed {
            epoch,
            positions: std::mem::take(&mut self.written),
            spill,
        });
    }

    async fn on_step(&mut self, done: Result<Done, ClientError>) -> Result<(), StreamsError> {
        let now = self.app.clock.now();
        let act = match done {
            Ok(Done::Flushed(epoch, written)) => {
                self.written = written;
                if !self.app.config.exactly_once() {
                    self.offsets.extend(self.closed_offsets());
                }
                self.cycle.on_flushed(epoch, now)
            }
            Ok(Done::OffsetsSent(epoch)) => self.cycle.on_offsets_sent(epoch),
            Ok(Done::Committed(epoch)) => self.cycle.on_committed(epoch, now),
            Ok(Done::OffsetsCommitted) => {
                self.cycle.on_offsets_committed();
                None
            }
            Err(error) => return self.reset(Broken::Client(error)).await,
        };
        self.begin(act);
        Ok(())
    }

    async fn on_event(&mut self, event: Event) -> Result<(), StreamsError> {
        match event {
            Event::Fed { bytes } => self.queued_bytes = self.queued_bytes.saturating_sub(bytes),
            Event::Closed(closed) => {
                let now = self.app.clock.now();
                let act = self.cycle.on_closed(closed.epoch, closed.is_empty(), now);
                (self.closed, self.closed_at) = (Some(closed), now);
                self.begin(act);
            }
            Event::Revoked => {}
            Event::Failed(error) => return self.reset(Broken::Engine(error)).await,
        }
        Ok(())
    }

    async fn on_polled(&mut self, polled: Result<Poll, ClientError>) -> Result<(), StreamsError> {
        self.drained = false;
        match polled {
            Ok(Poll::Records(fetched)) => self.feed(fetched).await,
            Ok(Poll::Idle) => self.drained = true,
            Ok(Poll::Assigned(partitions)) => self.on_assigned(&partitions).await?,
            Ok(Poll::Revoking(partitions)) => {
                self.app.entered(self.index, StreamsState::Rebalancing);
                self.revoking = Some(partitions);
                self.cycle.want_all_committed();
            }
            Ok(Poll::Lost(partitions)) => {
                tracing::warn!(
                    ?partitions,
                    "the group gave these partitions to others: uncommitted work is dropped"
                );
                self.tasks.removed(&self.app.plan, &partitions);
                self.reset(Broken::Lost).await?;
            }
            Ok(Poll::PositionLost {
                partition,
                position,
                log_start,
                log_end,
            }) => {
                self.position_lost(partition, position, (log_start, log_end))
                    .await?;
            }
            Err(error) if error.is_retriable() || matches!(error, ClientError::Rebalance(_)) => {
                tracing::warn!(%error, "could not read; trying again");
                self.app.pause(PAUSE_FIRST).await;
            }
            Err(error) if error.is_fenced() => return Err(self.fenced(error).await),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn feed(&mut self, fetched: Vec<FetchedRecords>) {
        let Taken { inputs, gaps } = self.tasks.take(&self.app.plan, fetched);
        for (partition, position) in gaps {
            tracing::debug!(?partition, position, "the consumer ran ahead of its task");
            self.quietly(self.consumer.seek(&partition, position));
        }
        if inputs.is_empty() {
            self.drained = true;
        } else {
            self.give(inputs);
        }
    }

    /// Hands records to the engine, as part of the open epoch.
    fn give(&mut self, inputs: Vec<(TaskId, Vec<Fetched>)>) {
        if inputs.is_empty() {
            return;
        }
        let batches = inputs
            .iter()
            .flat_map(|(_, fetched)| fetched)
            .flat_map(|fetched| &fetched.batches);
        let bytes = batches.map(|batch| batch.bytes().len()).sum();
        self.queued_bytes += bytes;
        self.cycle.on_fed(bytes, self.app.clock.now());
        self.worker.send(Command::Feed {
            inputs,
            now_ms: self.app.wall_ms(),
            bytes,
        });
    }

    /// Positions and pauses are kept here too (`task.rs`); that a partition went in the meantime is told by the next poll.
    fn quietly(&self, result: Result<(), ClientError>) {
        if let Err(error) = result {
            tracing::debug!(%error, "not done, the partition may be gone");
        }
    }

    async fn on_assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamsError> {
        StreamsMetrics::add(&self.app.metrics.rebalances, 1);
        tracing::info!(?partitions, "assigned");
        if partitions.is_empty() {
            self.settled();
            return Ok(());
        }
        self.app.entered(self.index, StreamsState::Rebalancing);
        self.quietly(self.consumer.pause(partitions));
        let tasks = self.tasks.assigned(&self.app.plan, partitions);
        self.to_prepare.extend(tasks);
        Ok(())
    }

    /// Begins to make ready what waits for it, one batch of tasks at a time.
    fn prepare_next(&mut self) {
        if self.preparing.is_some()
            || self.to_prepare.is_empty()
            || self.revoking.is_some()
            || self.closing
        {
            return;
        }
        let tasks = std::mem::take(&mut self.to_prepare);
        let partitions = self.tasks.partitions_of(&self.app.plan, &tasks);
        let (app, consumer) = (Arc::clone(&self.app), Arc::clone(&self.consumer));
        let gate = Gate::open();
        let wanted = Wanted {
            tasks,
            partitions,
            gate: gate.clone(),
        };
        self.preparing = Some((
            gate,
            runtime::spawn(prepare(app, consumer, self.backends.clone(), wanted)),
        ));
    }

    async fn on_prepared(
        &mut self,
        prepared: Result<Prepared, StreamsError>,
    ) -> Result<(), StreamsError> {
        let Prepared { tasks, positions } = match prepared {
            Ok(prepared) => prepared,
            Err(StreamsError::Client(error)) => return self.reset(Broken::Client(error)).await,
            Err(StreamsError::Restore(RestoreError::Client { error, .. })) => {
                return self.reset(Broken::Client(error)).await;
            }
            Err(error) => return Err(error),
        };
        let mut ready = Vec::new();
        for (task, start) in tasks {
            let of_task = |partition: &TopicPartition| {
                self.app
                    .plan
                    .task_of(partition)
                    .is_some_and(|(id, _)| id == task)
            };
            let positions: BTreeMap<_, _> = positions
                .iter()
                .filter(|(partition, _)| of_task(partition))
                .map(|(p, at)| (p.clone(), *at))
                .collect();
            if self.tasks.running(task, &positions) {
                let partitions: Vec<TopicPartition> = positions.keys().cloned().collect();
                for (partition, position) in &positions {
                    self.quietly(self.consumer.seek(partition, *position));
                }
                self.quietly(self.consumer.resume(&partitions));
                self.stored.lock().insert(task);
                ready.push((task, start));
            }
        }
        self.worker.send(Command::Assign(ready));
        self.settled();
        Ok(())
    }

    fn settled(&self) {
        if self.to_prepare.is_empty() && self.preparing.is_none() && self.tasks.all_running() {
            self.app.entered(self.index, StreamsState::Running);
        }
    }

    /// Everything is committed: the tasks of what the group wants back end, and others may have it.
    async fn give_back(&mut self) -> Result<(), StreamsError> {
        let partitions = self.revoking.take().unwrap_or_default();
        self.stop_preparing().await;
        let ended = self.tasks.removed(&self.app.plan, &partitions);
        self.to_prepare = self.tasks.restoring();
        if let Err(error) = self.end_tasks(ended).await {
            self.reset(Broken::Engine(error)).await?;
        }
        tracing::info!(?partitions, "given back");
        self.consumer.rebalance_done();
        Ok(())
    }

    /// Ends tasks in the engine and waits until their state is in their backends.
    async fn end_tasks(&mut self, tasks: Vec<TaskId>) -> Result<(), EngineError> {
        if tasks.is_empty() {
            return Ok(());
        }
        self.worker.send(Command::Revoke(tasks));
        loop {
            match self.worker.event().await {
                Event::Revoked => return Ok(()),
                Event::Failed(error) => return Err(error),
                Event::Fed { bytes } => self.queued_bytes = self.queued_bytes.saturating_sub(bytes),
                Event::Closed(_) => {}
            }
        }
    }

    async fn stop_step(&mut self) {
        if let Some(step) = self.step.take() {
            step.abort();
            let _ = step.await; // that it was aborted
        }
    }

    /// Gives up what is being made ready; no write of it is under way any more.
    async fn stop_preparing(&mut self) {
        if let Some((gate, preparing)) = self.preparing.take() {
            preparing.abort();
            let _ = preparing.await; // that it was aborted
            self.app.config.threads.blocking(move || gate.shut()).await;
        }
    }

    /// Everything is committed: state to disk, out of the group.
    async fn close(mut self) -> Result<(), StreamsError> {
        self.stop_preparing().await;
        let partitions = self.tasks.all_partitions();
        let ended = self.tasks.removed(&self.app.plan, &partitions);
        self.end_tasks(ended).await?;
        let Self {
            app,
            index,
            worker,
            consumer,
            producer,
            ..
        } = self;
        app.config.threads.blocking(move || drop(worker)).await;
        leave(&app, index, consumer).await;
        producer.close().await?;
        Ok(())
    }

    /// Leaves without another commit.
    async fn abandon(mut self) {
        self.stop_preparing().await;
        self.stop_step().await;
        let Self {
            app,
            index,
            worker,
            consumer,
            ..
        } = self;
        app.config.threads.blocking(move || drop(worker)).await;
        leave(&app, index, consumer).await;
    }
}

enum Happened {
    Told(Option<Control>),
    Step(Result<Done, ClientError>),
    Event(Event),
    Prepared(Result<Prepared, StreamsError>),
    Polled(Result<Poll, ClientError>),
    Due,
}

async fn join(step: &mut Option<Step>) -> Result<Done, ClientError> {
    match step {
        Some(step) => step
            .await
            .expect("steps do not panic and are not aborted while they are awaited"),
        None => std::future::pending().await,
    }
}

async fn join_prepared(preparing: &mut Option<Preparing>) -> Result<Prepared, StreamsError> {
    match preparing {
        Some((_, preparing)) => preparing
            .await
            .expect("preparation does not panic and is not aborted while it is awaited"),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
