//! One task's copy of a sub-topology: typed stages wired by ports, its stores, its sources.
//!
//! Built by the engine when a task is assigned, children before parents: each node asks for the port below it and registers its
//! own. A batch goes down by one virtual call per stage; loops over records are monomorphic. Knows nothing of timely.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::outbox::{OpenOutbox, Outbox, Position, TopicIndex};
use crate::error::EngineError;
use crate::operator::source::SourceStage;
use crate::state::memory::MemoryStore;
use crate::state::{Epoch, StateBackend, StateError, Store, StoreSpec};
use crate::time::NO_TIMESTAMP;
use crate::topology::{NodeId, NodeKind, Subtopology, TaskId, Topology};

/// Nothing, or why the task cannot go on. Boxed: the good case is one word.
pub(crate) type Flow = Result<(), Box<EngineError>>;

/// Receives batches of `T`.
pub(crate) trait Sink<T> {
    /// Takes the batch; what is left in it afterwards is cleared by the caller.
    fn push(&mut self, batch: &mut Vec<T>) -> Flow;
}

/// Where a stage sends its output.
pub(crate) type Port<T> = Rc<RefCell<dyn Sink<T>>>;

/// A stage that holds something back until its epoch ends, or that keeps a stream time.
pub(crate) trait EpochStage {
    /// Sends what it holds.
    fn end_epoch(&mut self) -> Flow;
    /// Name of its store and its stream time, if windows depend on it.
    fn stream_time(&self) -> Option<(&str, i64)> {
        None
    }
}

/// Counters of one engine; read by any thread.
#[derive(Debug, Default)]
pub struct EngineCounters {
    /// Records read from topics.
    pub records_in: AtomicU64,
    /// Records written to sinks and repartitions.
    pub records_out: AtomicU64,
    /// Records dropped because their windows were closed.
    pub dropped_late: AtomicU64,
    /// Records dropped because they had no key.
    pub dropped_null_key: AtomicU64,
    /// Records skipped or dead-lettered because they could not be read.
    pub dropped_unreadable: AtomicU64,
}

impl EngineCounters {
    /// Adds to a counter; true when the total passes a power of two, which is when a warning is due: once, twice, four times...
    pub(crate) fn add(counter: &AtomicU64, count: u64) -> bool {
        let before = counter.fetch_add(count, Ordering::Relaxed);
        (before + count).checked_ilog2() > before.checked_ilog2()
    }
}

/// What the stages of one task share.
pub(crate) struct TaskContext {
    pub(crate) task: TaskId,
    pub(crate) counters: Arc<EngineCounters>,
    pub(crate) shared: Rc<Shared>,
    /// Node whose user function runs; for the message of a panic.
    pub(crate) running: Cell<NodeId>,
}

/// What all tasks of an engine share.
pub(crate) struct Shared {
    pub(crate) application_id: Arc<str>,
    pub(crate) partitions: RefCell<BTreeMap<String, i32>>,
    /// Topics that are written, by their numbers.
    pub(crate) topics: RefCell<Vec<Arc<str>>>,
    pub(crate) outboxes: RefCell<BTreeMap<Epoch, OpenOutbox>>,
    /// Of a batch that is sent.
    pub(crate) batch_bytes: usize,
    /// The epoch whose records are being processed.
    pub(crate) epoch: Cell<Epoch>,
    pub(crate) now_ms: Cell<i64>,
}

impl Shared {
    /// Gives the outbox of the epoch being processed.
    pub(crate) fn with_outbox<R>(&self, act: impl FnOnce(&mut OpenOutbox) -> R) -> R {
        act(self
            .outboxes
            .borrow_mut()
            .entry(self.epoch.get())
            .or_insert_with(|| OpenOutbox::new(self.batch_bytes)))
    }

    /// Takes what an epoch wants to send.
    pub(crate) fn close_outbox(&self, epoch: Epoch) -> Outbox {
        let open = self
            .outboxes
            .borrow_mut()
            .remove(&epoch)
            .unwrap_or_default();
        open.close(epoch, &self.topics.borrow())
    }

    /// The number of a topic, given at its first use.
    pub(crate) fn topic_index(&self, topic: &str) -> TopicIndex {
        let mut topics = self.topics.borrow_mut();
        topics
            .iter()
            .position(|known| &**known == topic)
            .unwrap_or_else(|| {
                topics.push(Arc::from(topic));
                topics.len() - 1
            })
    }

    /// Number of partitions of a topic; 1 where the application did not say.
    pub(crate) fn partitions_of(&self, topic: &str) -> i32 {
        self.partitions.borrow().get(topic).copied().unwrap_or(1)
    }
}

/// What a task starts from.
#[derive(Default)]
pub struct TaskStart {
    /// Restored backends by store name; a store without one starts empty, in memory.
    pub backends: BTreeMap<String, Arc<dyn StateBackend>>,
    /// Committed positions by index of the source, for partition and stream times.
    pub positions: BTreeMap<usize, Position>,
}

impl std::fmt::Debug for TaskStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TaskStart({:?}, {:?})",
            self.backends.keys(),
            self.positions
        )
    }
}

type StoreCell = Rc<RefCell<dyn Store>>;

/// The stages of one task.
pub(crate) struct Instance {
    pub(crate) context: Rc<TaskContext>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) sources: Vec<Box<dyn SourceStage>>,
    pub(crate) one_by_one: bool,
    node: NodeId,
    ports: BTreeMap<NodeId, Box<dyn Any>>,
    epoch_stages: BTreeMap<NodeId, Rc<RefCell<dyn EpochStage>>>,
    stores: BTreeMap<String, (StoreSpec, StoreCell, TopicIndex)>,
    store_specs: BTreeMap<String, StoreSpec>,
    start: TaskStart,
}

impl Instance {
    /// Builds the stages of `subtopology` for one task, from the sinks up.
    pub(crate) fn build(
        topology: &Arc<Topology>,
        subtopology: &Subtopology,
        context: Rc<TaskContext>,
        start: TaskStart,
    ) -> Self {
        let mut instance = Self {
            context,
            topology: Arc::clone(topology),
            sources: Vec::new(),
            one_by_one: subtopology.one_by_one,
            node: 0,
            ports: BTreeMap::new(),
            epoch_stages: BTreeMap::new(),
            stores: BTreeMap::new(),
            store_specs: subtopology
                .stores
                .iter()
                .map(|spec| (spec.name.clone(), spec.clone()))
                .collect(),
            start,
        };
        for node in subtopology.nodes.iter().rev() {
            instance.node = *node;
            let build = Arc::clone(&topology.nodes[*node].build);
            build(&mut instance);
        }
        instance.sources.reverse();
        instance.ports.clear();
        instance
    }

    /// The node being built.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Name of the node being built.
    pub(crate) fn node_name(&self) -> &str {
        &self.topology.nodes[self.node].name
    }

    /// Index the source being built will have, and its committed position.
    pub(crate) fn source_start(&self) -> Option<&Position> {
        let topic = &self.topology.nodes[self.node].kind;
        let sources = self.topology.subtopologies()[self.context.task.subtopology as usize]
            .sources
            .iter();
        let index = sources
            .enumerate()
            .find(|(_, source)| matches!(topic, NodeKind::Source(mine) if mine == *source))
            .map(|(index, _)| index)?;
        self.start.positions.get(&index)
    }

    /// Stream time at which the windows of `store` stood, as committed.
    pub(crate) fn stream_time_start(&self, store: &str) -> i64 {
        let positions = self.start.positions.values();
        let times = positions.filter_map(|position| position.stream_times.get(store));
        times.copied().max().unwrap_or(NO_TIMESTAMP)
    }

    /// Makes `stage` the input of the node being built.
    pub(crate) fn register<T: 'static>(&mut self, stage: Port<T>) {
        self.ports.insert(self.node, Box::new(stage));
    }

    /// Has `stage` called at the end of every epoch, parents before children.
    pub(crate) fn register_epoch_stage(&mut self, stage: Rc<RefCell<dyn EpochStage>>) {
        self.epoch_stages.insert(self.node, stage);
    }

    /// The inputs of the children of the node being built, in their order.
    pub(crate) fn child_ports<T: 'static>(&self) -> Vec<Port<T>> {
        let children = &self.topology.nodes[self.node].children;
        children.iter().map(|child| self.port_of(*child)).collect()
    }

    fn port_of<T: 'static>(&self, node: NodeId) -> Port<T> {
        let port = self.ports[&node].downcast_ref::<Port<T>>();
        Rc::clone(port.expect("the typed handles of the DSL connect nodes of one type"))
    }

    /// Where the node being built sends its output: one port, whatever the number of children.
    pub(crate) fn downstream<T: Clone + 'static>(&self) -> Port<T> {
        let mut ports = self.child_ports();
        match ports.len() {
            0 => Rc::new(RefCell::new(Nowhere)),
            1 => ports.remove(0),
            _ => Rc::new(RefCell::new(Tee {
                ports,
                copy: Vec::new(),
            })),
        }
    }

    /// The store `name`, made by `open` at first use.
    pub(crate) fn store<S: Store + 'static>(
        &mut self,
        name: &str,
        open: impl FnOnce(StoreSpec, Arc<dyn StateBackend>) -> S,
    ) -> Rc<RefCell<S>> {
        let spec = self.store_specs[name].clone();
        let backend = self
            .start
            .backends
            .remove(name)
            .unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let store = Rc::new(RefCell::new(open(spec.clone(), backend)));
        let shared = &self.context.shared;
        let changelog = shared.topic_index(&spec.changelog_topic(&shared.application_id));
        self.stores.insert(
            name.to_owned(),
            (spec, Rc::clone(&store) as StoreCell, changelog),
        );
        store
    }

    /// Sends what stages hold back, then a changelog record for every entry the epoch changed.
    pub(crate) fn end_epoch(&mut self, epoch: Epoch) -> Flow {
        for (node, stage) in &self.epoch_stages {
            self.context.running.set(*node);
            stage.borrow_mut().end_epoch()?;
        }
        let (shared, partition) = (&self.context.shared, self.context.task.partition);
        for (spec, store, changelog) in self.stores.values() {
            let mut store = store.borrow_mut();
            let ended: Result<(), StateError> = shared.with_outbox(|outbox| {
                store.end_epoch(epoch, &mut |record| {
                    if spec.logging {
                        let none = crate::record::Headers::none();
                        outbox.buffer(*changelog, partition).push(
                            record.timestamp,
                            Some(record.key),
                            record.value,
                            &none,
                        );
                    }
                })
            });
            ended.map_err(|error| Box::new(error.into()))?;
        }
        self.note_positions();
        Ok(())
    }

    fn note_positions(&self) {
        let task = self.context.task;
        let mut stream_times = BTreeMap::new();
        for stage in self.epoch_stages.values() {
            if let Some((store, time)) = stage.borrow().stream_time() {
                stream_times.insert(store.to_owned(), time);
            }
        }
        for source in &self.sources {
            if let Some((topic, next_offset, partition_time)) = source.position() {
                let position = Position {
                    task,
                    next_offset,
                    partition_time,
                    stream_times: stream_times.clone(),
                };
                self.context.shared.with_outbox(|outbox| {
                    outbox.positions.insert((topic, task.partition), position)
                });
            }
        }
    }

    /// Every store of the task.
    pub(crate) fn stores(&self) -> impl Iterator<Item = (&StoreSpec, &StoreCell)> {
        self.stores.values().map(|(spec, store, _)| (spec, store))
    }

    /// The store `name`, if the task has it.
    pub(crate) fn store_named(&self, name: &str) -> Option<&StoreCell> {
        self.stores.get(name).map(|(_, store, _)| store)
    }
}

/// The end of a stream that nobody reads.
struct Nowhere;

impl<T> Sink<T> for Nowhere {
    fn push(&mut self, _batch: &mut Vec<T>) -> Flow {
        Ok(())
    }
}

/// A stream that several nodes read.
struct Tee<T> {
    ports: Vec<Port<T>>,
    copy: Vec<T>,
}

impl<T: Clone> Sink<T> for Tee<T> {
    fn push(&mut self, batch: &mut Vec<T>) -> Flow {
        let (last, others) = self
            .ports
            .split_last()
            .expect("a tee has two ports or more");
        for port in others {
            self.copy.clone_from(batch);
            port.borrow_mut().push(&mut self.copy)?;
        }
        last.borrow_mut().push(batch)
    }
}
