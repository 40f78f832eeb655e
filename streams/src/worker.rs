//! The thread of an engine: takes commands, runs the dataflow, gives back what an epoch wants to send.
//!
//! Called by `session.rs` over two queues. The engine lives and dies here, because timely's dataflows do not leave their
//! thread. Decoding what came and encoding what goes happens here too, so that the network's threads only carry bytes. It
//! never waits for the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use flumen_client::RecordBlock;
use flumen_protocol::batch::RecordBatch;
use tokio::sync::mpsc;

use crate::dataflow::{
    Engine, EngineOptions, Outbox, Position, SourceInput, SourceRecords, TaskStart,
};
use crate::error::EngineError;
use crate::metrics::StreamsMetrics;
use crate::runtime::{self, Threads};
use crate::state::Epoch;
use crate::topology::{TaskId, Topology};

/// What one partition of a task brings.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) source: usize,
    /// Records before this were processed already: a batch may begin before.
    pub(crate) from: i64,
    pub(crate) next_offset: i64,
    pub(crate) batches: Vec<RecordBatch>,
}

/// When committed changes go to the backends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpillRule {
    pub(crate) due: bool,
    pub(crate) bytes: usize,
    pub(crate) cache_bytes: usize,
}

/// To the engine. Carried out in order.
pub(crate) enum Command {
    /// Start tasks, whose stores are restored.
    Assign(Vec<(TaskId, TaskStart)>),
    /// Process records in the open epoch.
    Feed {
        inputs: Vec<(TaskId, Vec<Fetched>)>,
        now_ms: i64,
        bytes: usize,
    },
    /// End the open epoch.
    Close,
    /// An epoch is committed.
    Committed {
        epoch: Epoch,
        positions: BTreeMap<(String, i32), i64>,
        spill: SpillRule,
    },
    /// End tasks; everything they did is committed.
    Revoke(Vec<TaskId>),
    /// Look into a store.
    Query(Box<dyn FnOnce(&mut Engine) + Send>),
}

/// From the engine.
pub(crate) enum Event {
    /// Records were worked off.
    Fed { bytes: usize },
    /// An epoch ended.
    Closed(Closed),
    /// Tasks ended; their state is in their backends.
    Revoked,
    /// The engine is gone, and with it what was not committed.
    Failed(EngineError),
}

/// Everything one epoch did.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) epoch: Epoch,
    /// In the order in which they have to be sent, by partition.
    pub(crate) blocks: Vec<(Arc<str>, i32, RecordBlock)>,
    pub(crate) positions: BTreeMap<(Arc<str>, i32), Position>,
}

impl Closed {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.positions.is_empty()
    }
}

/// A running engine.
#[derive(Debug)]
pub(crate) struct Worker {
    commands: Option<mpsc::UnboundedSender<Order>>,
    events: mpsc::UnboundedReceiver<Event>,
    thread: Option<JoinHandle<()>>,
    threads: Threads,
}

/// A command, and who waits until it is carried out: the other end learns it when this one is dropped.
type Order = (Command, Option<std::sync::mpsc::SyncSender<()>>);

impl Worker {
    /// Starts the thread with an engine without tasks.
    pub(crate) fn start(
        name: &str,
        topology: &Arc<Topology>,
        options: EngineOptions,
        metrics: &Arc<StreamsMetrics>,
        threads: Threads,
    ) -> std::io::Result<Self> {
        // Unbounded, because the session counts what it has fed and stops by itself.
        let (commands, todo) = mpsc::unbounded_channel();
        let (done, events) = mpsc::unbounded_channel();
        let (topology, metrics) = (Arc::clone(topology), Arc::clone(metrics));
        let thread = runtime::thread(name, move || run(topology, options, &metrics, todo, &done))?;
        Ok(Self {
            commands: Some(commands),
            events,
            thread: Some(thread),
            threads,
        })
    }

    /// Queues a command. An engine that is gone has said so in its last event.
    pub(crate) fn send(&self, command: Command) {
        let Some(commands) = &self.commands else {
            return;
        };
        if self.threads == Threads::Beside {
            let _ = commands.send((command, None));
            return;
        }
        let (done, waiting) = std::sync::mpsc::sync_channel(1);
        let _ = commands.send((command, Some(done)));
        let _ = waiting.recv(); // an error: it is carried out, or the engine is gone
    }

    /// The next event. Cancel-safe.
    pub(crate) async fn event(&mut self) -> Event {
        let gone = || {
            Event::Failed(EngineError::Misuse(
                "the engine's thread ended without a word".to_owned(),
            ))
        };
        self.events.recv().await.unwrap_or_else(gone)
    }
}

impl Drop for Worker {
    /// Waits until the thread has let go of the backends: the next engine must not meet it there.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    topology: Arc<Topology>,
    options: EngineOptions,
    metrics: &StreamsMetrics,
    mut todo: mpsc::UnboundedReceiver<Order>,
    done: &mpsc::UnboundedSender<Event>,
) {
    let mut engine = Engine::new(topology, options);
    while let Some((command, _waits)) = todo.blocking_recv() {
        match carry_out(&mut engine, command, metrics) {
            Ok(Some(event)) => {
                let _ = done.send(event);
            }
            Ok(None) => {}
            Err(error) => {
                let _ = done.send(Event::Failed(error));
                return;
            }
        }
    }
}

fn carry_out(
    engine: &mut Engine,
    command: Command,
    metrics: &StreamsMetrics,
) -> Result<Option<Event>, EngineError> {
    Ok(match command {
        Command::Assign(tasks) => {
            for (task, start) in tasks {
                engine.assign(task, start)?;
            }
            None
        }
        Command::Feed {
            inputs,
            now_ms,
            bytes,
        } => {
            for (task, fetched) in inputs {
                engine.feed(
                    task,
                    fetched.into_iter().map(source_input).collect(),
                    now_ms,
                )?;
                engine.step()?;
            }
            Some(Event::Fed { bytes })
        }
        Command::Close => {
            let epoch = engine.close_epoch();
            engine.finish(epoch)?;
            Some(Event::Closed(encode(engine.drain(epoch))))
        }
        Command::Committed {
            epoch,
            positions,
            spill,
        } => {
            engine.committed(epoch, &positions);
            if spill.due || engine.dirty_bytes() >= spill.bytes {
                engine.spill()?;
                engine.evict(spill.cache_bytes);
                StreamsMetrics::add(&metrics.spills, 1);
            }
            None
        }
        Command::Revoke(tasks) => {
            tasks.into_iter().try_for_each(|task| engine.revoke(task))?;
            Some(Event::Revoked)
        }
        Command::Query(query) => {
            query(engine);
            None
        }
    })
}

fn source_input(fetched: Fetched) -> SourceInput {
    let Fetched {
        source,
        from,
        next_offset,
        batches,
        ..
    } = fetched;
    SourceInput {
        source,
        records: SourceRecords::Batches(batches),
        first_offset: from,
        next_offset,
    }
}

fn encode(outbox: Outbox) -> Closed {
    let Outbox {
        epoch,
        records,
        positions,
    } = outbox;
    let mut blocks = Vec::new();
    for ((topic, partition), buffer) in records {
        for batch in buffer.into_batches() {
            blocks.push((Arc::clone(&topic), partition, RecordBlock::from(batch)));
        }
    }
    Closed {
        epoch,
        blocks,
        positions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Consumed, Produced, StreamsBuilder, serdes};

    #[test]
    fn a_worker_that_is_waited_for_has_answered_when_the_command_returns() {
        let (builder, strings) = (StreamsBuilder::new(), serdes::string);
        let stream = builder.stream("in", Consumed::with(strings(), strings()));
        stream.to("out", Produced::with(strings(), strings()));
        let topology = Arc::new(builder.build().unwrap());
        let options = EngineOptions {
            application_id: "app".to_owned(),
            partitions: BTreeMap::new(),
            counters: Arc::default(),
            batch_bytes: crate::dataflow::BATCH_BYTES,
        };
        let metrics = Arc::default();
        let started = Worker::start("w", &topology, options, &metrics, Threads::Waiting);
        let mut worker = started.unwrap();
        worker.send(Command::Close);
        let Ok(Event::Closed(closed)) = worker.events.try_recv() else {
            panic!("no answer yet")
        };
        assert!(closed.is_empty());
    }
}
