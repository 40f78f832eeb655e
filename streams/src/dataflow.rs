//! The engine: a topology as one timely dataflow, built once, whose timestamps are commits.
//!
//! ```text
//! application / test driver: assign → feed(task, inputs) at the open epoch → close_epoch → step … completed → drain → send, commit → committed
//! ```
//! One timely operator per sub-topology (the chain); tasks are tags on what flows. When the frontier passes epoch `e`, every effect of
//! `e` exists: in the stores and in `drain(e)`. The only file that names timely. It holds no socket, clock or disk: whoever drives it does.
//! An engine lives on the thread that made it.

pub(crate) mod instance;
mod outbox;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use flumen_protocol::batch::RecordBatch;
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::Thread;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::Probe;
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;

pub use instance::{EngineCounters, TaskStart};
pub use outbox::{Outbox, Position, RawRecord, RecordBuffer};

use crate::error::EngineError;
use crate::state::{Epoch, Store};
use crate::topology::{Subtopology, TaskId, Topology};
use instance::{Flow, Instance, Shared, TaskContext};
use outbox::OpenOutbox;
pub(crate) use outbox::TopicIndex;

/// What an engine has to know besides the topology.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Prefix of internal topics.
    pub application_id: String,
    /// Partitions of every topic that is written, internal ones included; a topic not named counts as one.
    pub partitions: BTreeMap<String, i32>,
    /// Counters shared with whoever reports them.
    pub counters: Arc<EngineCounters>,
    /// A batch of outputs is closed when it has this many bytes.
    pub batch_bytes: usize,
}

/// [`EngineOptions::batch_bytes`] unless a topic takes less: half of Kafka's default `max.message.bytes`.
pub const BATCH_BYTES: usize = 512 << 10;

/// Records of one source of a task.
#[derive(Debug)]
pub struct SourceInput {
    /// Index in [`Subtopology::sources`].
    pub source: usize,
    /// The records, in order of offsets.
    pub records: SourceRecords,
    /// Records below this offset are skipped: the first batch of a fetch may begin before what was asked for.
    pub first_offset: i64,
    /// Offset of the record after them: the position that is committed with their effects.
    pub next_offset: i64,
}

/// Records as they came.
#[derive(Debug)]
pub enum SourceRecords {
    /// Whole batches, neither control nor aborted ones: decompressed and decoded on the engine's thread.
    Batches(Vec<RecordBatch>),
    /// One by one.
    Raw(Vec<RawRecord>),
}

/// What flows on a timely edge: the inputs of one task, to be merged by timestamp.
struct Envelope {
    task: TaskId,
    inputs: Vec<SourceInput>,
}

impl Clone for Envelope {
    fn clone(&self) -> Self {
        unreachable!("every edge of the dataflow has one reader, so timely never copies")
    }
}

type Tasks = Rc<RefCell<BTreeMap<TaskId, Instance>>>;
type Failure = Rc<RefCell<Option<EngineError>>>;

/// A topology running on this thread.
pub struct Engine {
    topology: Arc<Topology>,
    counters: Arc<EngineCounters>,
    shared: Rc<Shared>,
    tasks: Tasks,
    failure: Failure,
    worker: Worker,
    /// By sub-topology.
    inputs: Vec<InputHandle<Epoch, timely::container::CapacityContainerBuilder<Vec<Envelope>>>>,
    probe: ProbeHandle<Epoch>,
    open: Epoch,
    /// The last epoch each task was fed in.
    fed: BTreeMap<TaskId, Epoch>,
}

impl Engine {
    /// Builds the dataflow. Tasks come with [`Engine::assign`].
    pub fn new(topology: Arc<Topology>, options: EngineOptions) -> Self {
        let shared = Rc::new(Shared {
            application_id: Arc::from(options.application_id),
            partitions: RefCell::new(options.partitions),
            topics: RefCell::default(),
            outboxes: RefCell::default(),
            batch_bytes: options.batch_bytes,
            epoch: Cell::new(0),
            now_ms: Cell::new(0),
        });
        let (tasks, failure, probe) = (Tasks::default(), Failure::default(), ProbeHandle::new());
        let mut worker = Worker::new(
            WorkerConfig::default(),
            Allocator::Thread(Thread::default()),
            None,
        );
        let mut inputs: Vec<_> = topology
            .subtopologies()
            .iter()
            .map(|_| InputHandle::new())
            .collect();
        worker.dataflow::<Epoch, _, _>(|scope| {
            for (subtopology, input) in topology.subtopologies().iter().zip(&mut inputs) {
                let chain = Chain {
                    tasks: Rc::clone(&tasks),
                    failure: Rc::clone(&failure),
                    shared: Rc::clone(&shared),
                    stash: BTreeMap::new(),
                };
                install(subtopology, input.to_stream(scope), chain, &probe);
            }
        });
        Self {
            topology,
            counters: options.counters,
            shared,
            tasks,
            failure,
            worker,
            inputs,
            probe,
            open: 0,
            fed: BTreeMap::new(),
        }
    }

    /// The epoch that [`Engine::feed`] feeds.
    pub fn open_epoch(&self) -> Epoch {
        self.open
    }

    /// Says how many partitions a topic has, before the tasks that write it are assigned.
    pub fn set_partitions(&mut self, topic: &str, partitions: i32) {
        self.shared
            .partitions
            .borrow_mut()
            .insert(topic.to_owned(), partitions);
    }

    /// Starts a task at the next record fed to it. Its stores are restored, its positions those that were committed.
    /// # Errors
    /// [`EngineError::Misuse`]: the engine has the task, or the topology has no such sub-topology.
    pub fn assign(&mut self, task: TaskId, start: TaskStart) -> Result<(), EngineError> {
        let Some(subtopology) = self.topology.subtopologies().get(task.subtopology as usize) else {
            return Err(EngineError::Misuse(format!(
                "task {task}: the topology has no sub-topology {}",
                task.subtopology
            )));
        };
        if self.tasks.borrow().contains_key(&task) {
            return Err(EngineError::Misuse(format!(
                "task {task} is assigned already"
            )));
        }
        let context = TaskContext {
            task,
            counters: Arc::clone(&self.counters),
            shared: Rc::clone(&self.shared),
            running: Cell::new(0),
        };
        let instance = Instance::build(&self.topology, subtopology, Rc::new(context), start);
        self.tasks.borrow_mut().insert(task, instance);
        Ok(())
    }

    /// Ends a task. Call it when every epoch it was fed in is committed: its stores spill what they hold.
    /// # Errors
    /// [`EngineError::Misuse`]: the engine has no such task, or epochs are open. [`EngineError::State`]: the spill failed.
    pub fn revoke(&mut self, task: TaskId) -> Result<(), EngineError> {
        if self
            .fed
            .get(&task)
            .is_some_and(|epoch| *epoch >= self.completed())
        {
            return Err(EngineError::Misuse(format!(
                "task {task} has records in an epoch that is not complete"
            )));
        }
        self.fed.remove(&task);
        let Some(instance) = self.tasks.borrow_mut().remove(&task) else {
            return Err(EngineError::Misuse(format!("task {task} is not assigned")));
        };
        for (_, store) in instance.stores() {
            store.borrow_mut().spill()?;
        }
        Ok(())
    }

    /// The tasks it has.
    pub fn tasks(&self) -> Vec<TaskId> {
        self.tasks.borrow().keys().copied().collect()
    }

    /// Gives a task records at the open epoch; they are merged by timestamp over the sources. `now_ms` is the wall clock.
    /// # Errors
    /// [`EngineError::Misuse`]: the engine has no such task.
    pub fn feed(
        &mut self,
        task: TaskId,
        inputs: Vec<SourceInput>,
        now_ms: i64,
    ) -> Result<(), EngineError> {
        if !self.tasks.borrow().contains_key(&task) {
            return Err(EngineError::Misuse(format!("task {task} is not assigned")));
        }
        self.shared.now_ms.set(now_ms);
        self.fed.insert(task, self.open);
        let input = &mut self.inputs[task.subtopology as usize];
        input.send(Envelope { task, inputs });
        input.flush();
        Ok(())
    }

    /// Closes the open epoch: what is fed from now on belongs to the next. Returns the closed one, which is complete
    /// when [`Engine::completed`] has passed it.
    pub fn close_epoch(&mut self) -> Epoch {
        let closed = self.open;
        self.open += 1;
        for input in &mut self.inputs {
            input.advance_to(self.open);
        }
        closed
    }

    /// Does some work; whether there may be more.
    /// # Errors
    /// What stopped the engine. It does nothing from then on: drop it and start another from the committed positions.
    pub fn step(&mut self) -> Result<bool, EngineError> {
        if self.failure.borrow().is_none() {
            self.worker.step();
        }
        match &*self.failure.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(self.probe.less_than(&self.open)),
        }
    }

    /// Steps until `epoch` is complete.
    /// # Errors
    /// As [`Engine::step`].
    pub fn finish(&mut self, epoch: Epoch) -> Result<(), EngineError> {
        while self.completed() <= epoch {
            self.step()?;
        }
        Ok(())
    }

    /// Every epoch below this is complete.
    pub fn completed(&self) -> Epoch {
        self.probe
            .with_frontier(|frontier| frontier.first().copied().unwrap_or(Epoch::MAX))
    }

    /// Takes what a complete epoch wants to send and commit. Empty if nothing happened in it: then no commit is needed.
    pub fn drain(&mut self, epoch: Epoch) -> Outbox {
        self.shared.close_outbox(epoch)
    }

    /// Bytes of records waiting in all epochs' outboxes: stop feeding when they are too many.
    pub fn outbox_bytes(&self) -> usize {
        self.shared
            .outboxes
            .borrow()
            .values()
            .map(OpenOutbox::bytes)
            .sum()
    }

    /// Tells the stores that `epoch` is committed; `positions` are the next offsets of changelog partitions, as far as known.
    pub fn committed(&mut self, epoch: Epoch, positions: &BTreeMap<(String, i32), i64>) {
        for (task, instance) in self.tasks.borrow().iter() {
            for (spec, store) in instance.stores() {
                let changelog = (
                    spec.changelog_topic(&self.shared.application_id),
                    task.partition,
                );
                store
                    .borrow_mut()
                    .committed(epoch, positions.get(&changelog).copied());
            }
        }
    }

    /// Has every store give its committed changes to its backend.
    /// # Errors
    /// [`EngineError::State`].
    pub fn spill(&mut self) -> Result<(), EngineError> {
        for instance in self.tasks.borrow().values() {
            for (_, store) in instance.stores() {
                store.borrow_mut().spill()?;
            }
        }
        Ok(())
    }

    /// Bytes (about) that the stores hold and their backends do not.
    pub fn dirty_bytes(&self) -> usize {
        let tasks = self.tasks.borrow();
        tasks
            .values()
            .flat_map(Instance::stores)
            .map(|(_, store)| store.borrow().dirty_bytes())
            .sum()
    }

    /// Lets entries that are in the backends go from memory until about `keep_bytes` are left in all.
    pub fn evict(&mut self, keep_bytes: usize) {
        let tasks = self.tasks.borrow();
        let stores = || {
            tasks
                .values()
                .flat_map(Instance::stores)
                .map(|(_, store)| store)
        };
        let cached: usize = stores().map(|store| store.borrow().cached_bytes()).sum();
        if cached > keep_bytes {
            for store in stores() {
                let mut store = store.borrow_mut();
                let share = store.cached_bytes() as u128 * keep_bytes as u128 / cached as u128;
                store.evict(usize::try_from(share).unwrap_or(keep_bytes));
            }
        }
    }

    /// Lets `query` read a store of a task by its type, for example `KeyValueStore<String, i64>`.
    /// # Errors
    /// [`EngineError::Misuse`]: no such task, store or type.
    pub fn with_store<S: Store + 'static, R>(
        &self,
        task: TaskId,
        name: &str,
        query: impl FnOnce(&mut S) -> R,
    ) -> Result<R, EngineError> {
        let tasks = self.tasks.borrow();
        let Some(store) = tasks
            .get(&task)
            .and_then(|instance| instance.store_named(name))
        else {
            return Err(EngineError::Misuse(format!(
                "task {task} has no store {name}"
            )));
        };
        match store.borrow_mut().as_any().downcast_mut::<S>() {
            Some(store) => Ok(query(store)),
            None => Err(EngineError::Misuse(format!(
                "store {name} holds other types than {}",
                std::any::type_name::<S>()
            ))),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine(epoch {}, tasks {:?})", self.open, self.tasks())
    }
}

/// The operator of one sub-topology: it keeps epochs apart, runs the tasks and ends their epochs.
struct Chain {
    tasks: Tasks,
    failure: Failure,
    shared: Rc<Shared>,
    /// Envelopes by epoch, until their epoch is the oldest open one.
    stash: BTreeMap<Epoch, (Vec<Envelope>, Vec<TaskId>)>,
}

/// Puts the chain of a sub-topology between its input and the probe.
fn install(
    subtopology: &Subtopology,
    stream: timely::dataflow::Stream<'_, Epoch, Vec<Envelope>>,
    mut chain: Chain,
    probe: &ProbeHandle<Epoch>,
) {
    let name = format!("sub-topology {}", subtopology.id);
    let mut capabilities = BTreeMap::new();
    stream
        .unary_frontier::<timely::container::CapacityContainerBuilder<Vec<Envelope>>, _, _, _>(
            Pipeline,
            &name,
            move |_, _| {
                move |(input, frontier), _output| {
                    input.for_each(|capability, envelopes| {
                        let epoch = *capability.time();
                        capabilities
                            .entry(epoch)
                            .or_insert_with(|| capability.retain(0));
                        chain.stash.entry(epoch).or_default().0.append(envelopes);
                    });
                    // An epoch runs as soon as all before it have ended, and ends when no more can come.
                    while let Some(oldest) = chain.stash.keys().next().copied() {
                        let over = !frontier.less_equal(&oldest);
                        chain.run(oldest, over);
                        if !over {
                            break;
                        }
                        chain.stash.remove(&oldest);
                        capabilities.remove(&oldest);
                    }
                }
            },
        )
        .probe_with(probe);
}

impl Chain {
    /// Runs what has come for `epoch`, and ends it if it is `over`. After a failure it only swallows.
    fn run(&mut self, epoch: Epoch, over: bool) {
        let Some((envelopes, touched)) = self.stash.get_mut(&epoch) else {
            return;
        };
        let envelopes = std::mem::take(envelopes);
        if self.failure.borrow().is_some() {
            return;
        }
        self.shared.epoch.set(epoch);
        let mut tasks = self.tasks.borrow_mut();
        for Envelope { task, inputs } in envelopes {
            let Some(instance) = tasks.get_mut(&task) else {
                continue;
            };
            if !touched.contains(&task) {
                touched.push(task);
            }
            let ran = guarded(instance, |instance| process(instance, inputs));
            if let Err(error) = ran {
                *self.failure.borrow_mut() = Some(*error);
                return;
            }
        }
        if over {
            for task in touched.iter() {
                let Some(instance) = tasks.get_mut(task) else {
                    continue;
                };
                if let Err(error) = guarded(instance, |instance| instance.end_epoch(epoch)) {
                    *self.failure.borrow_mut() = Some(*error);
                    return;
                }
            }
        }
    }
}

/// Runs user code: a panic becomes an error that names the node.
fn guarded(instance: &mut Instance, run: impl FnOnce(&mut Instance) -> Flow) -> Flow {
    match catch_unwind(AssertUnwindSafe(|| run(instance))) {
        Ok(flow) => flow,
        Err(panic) => {
            let context = &instance.context;
            let node = instance.topology.nodes[context.running.get()].name.clone();
            Err(Box::new(EngineError::Panic {
                node,
                task: context.task.to_string(),
                message: message_of(&*panic),
            }))
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Feeds the sources of a task and runs them in the order of timestamps (Kafka: `PartitionGroup`): always the source whose next
/// record is the earliest, the first of them where they are equal, for as long as it stays the earliest.
fn process(instance: &mut Instance, inputs: Vec<SourceInput>) -> Flow {
    for input in inputs {
        instance.sources[input.source].take(input)?;
    }
    let count = if instance.one_by_one { 1 } else { usize::MAX };
    loop {
        let heads = || {
            instance
                .sources
                .iter()
                .enumerate()
                .filter_map(|(index, source)| Some((source.head()?, index)))
        };
        let Some((_, first)) = heads().min() else {
            return Ok(());
        };
        let next_best = heads().filter(|(_, index)| *index != first).min();
        let upto = next_best.map_or(i64::MAX, |(timestamp, index)| {
            if index > first {
                timestamp
            } else {
                timestamp - 1
            }
        });
        instance.sources[first].run(upto, count)?;
    }
}

#[cfg(test)]
mod tests;
