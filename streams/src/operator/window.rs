//! Aggregation by key and window: late records are dropped, counted and warned about; closed windows leave the store.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::aggregate::{AggregateOptions, Step};
use crate::dataflow::instance::{
    EngineCounters, EpochStage, Flow, Instance, Port, Sink, TaskContext,
};
use crate::error::EngineError;
use crate::record::{Headers, Record};
use crate::state::{StoreKey, Timestamped, WindowStore};
use crate::topology::NodeId;
use crate::window::{TimeWindows, Window, Windowed};

struct WindowedAggregate<K, V, A> {
    context: Rc<TaskContext>,
    node: NodeId,
    name: String,
    windows: TimeWindows,
    retention_ms: i64,
    step: Step<K, V, A>,
    store: Rc<RefCell<WindowStore<K, A>>>,
    store_name: String,
    /// Largest event time seen (Kafka: `observedStreamTime`); survives restarts in the committed position.
    stream_time: i64,
    caching: bool,
    out: Vec<Record<Windowed<K>, A>>,
    port: Port<Record<Windowed<K>, A>>,
}

/// The windows of an aggregation and how long they stay.
#[derive(Clone, Copy)]
pub(crate) struct WindowOptions {
    pub(crate) windows: TimeWindows,
    pub(crate) retention_ms: i64,
}

/// Builds the windowed aggregation node.
pub(crate) fn build<K, V, A>(
    instance: &mut Instance,
    options: &Arc<AggregateOptions<K, A>>,
    window: WindowOptions,
    step: &Step<K, V, A>,
) where
    K: StoreKey,
    V: Clone + 'static,
    A: Clone + 'static,
{
    let serdes = options.serdes.clone();
    let stage = Rc::new(RefCell::new(WindowedAggregate {
        context: Rc::clone(&instance.context),
        node: instance.node(),
        name: instance.node_name().to_owned(),
        windows: window.windows,
        retention_ms: window.retention_ms,
        step: Arc::clone(step),
        store_name: options.store.clone(),
        stream_time: instance.stream_time_start(&options.store),
        store: instance.store(&options.store, |spec, backend| {
            WindowStore::new(spec, serdes, backend)
        }),
        caching: options.caching,
        out: Vec::new(),
        port: instance.downstream(),
    }));
    instance.register::<Record<K, V>>(Rc::clone(&stage) as Port<Record<K, V>>);
    instance.register_epoch_stage(stage);
}

impl<K: StoreKey, V: Clone, A: Clone + 'static> WindowedAggregate<K, V, A> {
    fn send(&mut self) -> Flow {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.port.borrow_mut().push(&mut self.out);
        self.out.clear();
        sent
    }

    fn windowed(&self, key: &K, start: i64) -> Windowed<K> {
        Windowed {
            key: key.clone(),
            window: Window {
                start,
                end: start + self.windows.size_ms,
            },
        }
    }

    /// One record in one of its windows.
    fn add(&mut self, record: &Record<K, V>, start: i64) -> Result<(), EngineError> {
        let (step, value, timestamp) = (&self.step, record.value.clone(), record.timestamp);
        let mut result = None;
        let caching = self.caching;
        self.store
            .borrow_mut()
            .update(&record.key, start, |before| {
                let (before, time) = before.map_or((None, timestamp), |before| {
                    (Some(before.value), before.timestamp.max(timestamp))
                });
                let now = Timestamped {
                    value: step(&record.key, value, before),
                    timestamp: time,
                };
                if !caching {
                    result = Some(now.clone());
                }
                Some(now)
            })?;
        if let Some(Timestamped { value, timestamp }) = result {
            self.out.push(Record {
                key: self.windowed(&record.key, start),
                value,
                timestamp,
                headers: Headers::none(),
            });
        }
        Ok(())
    }

    fn warn_late(&self, record: &Record<K, V>, start: i64, late: u64) {
        let counter = &self.context.counters.dropped_late;
        if EngineCounters::add(counter, late) {
            let (dropped, partition) =
                (counter.load(Ordering::Relaxed), self.context.task.partition);
            let (window_end, stream_time) = (start + self.windows.size_ms, self.stream_time);
            tracing::warn!(
                node = self.name,
                partition,
                timestamp = record.timestamp,
                window_end,
                stream_time,
                dropped,
                "record is later than its window's end and grace, and is dropped"
            );
        }
    }
}

impl<K: StoreKey, V: Clone, A: Clone + 'static> Sink<Record<K, V>> for WindowedAggregate<K, V, A> {
    fn push(&mut self, batch: &mut Vec<Record<K, V>>) -> Flow {
        self.context.running.set(self.node);
        let windows = self.windows;
        let touched = batch.iter().flat_map(|record| {
            windows
                .starts(record.timestamp)
                .map(|start| (&record.key, start))
        });
        self.store
            .borrow_mut()
            .prefetch(touched)
            .map_err(EngineError::State)?;
        for record in batch.drain(..) {
            self.stream_time = self.stream_time.max(record.timestamp);
            for start in self.windows.starts(record.timestamp) {
                if self.windows.is_closed(start, self.stream_time) {
                    self.warn_late(&record, start, 1);
                } else {
                    self.add(&record, start)?;
                }
            }
        }
        self.send()
    }
}

impl<K: StoreKey, V: Clone, A: Clone + 'static> EpochStage for WindowedAggregate<K, V, A> {
    fn end_epoch(&mut self) -> Flow {
        if self.caching {
            let size = self.windows.size_ms;
            let out = &mut self.out;
            self.store.borrow_mut().drain_updates(|key, start, _, now| {
                if let Some(Timestamped { value, timestamp }) = now {
                    let key = Windowed {
                        key: key.clone(),
                        window: Window {
                            start,
                            end: start + size,
                        },
                    };
                    out.push(Record {
                        key,
                        value: value.clone(),
                        timestamp: *timestamp,
                        headers: Headers::none(),
                    });
                }
            });
        }
        self.send()?;
        // Windows that start at or before this are past their retention, which is at least their size and grace: nothing reaches them again.
        self.store.borrow_mut().expire(
            self.stream_time
                .saturating_sub(self.retention_ms)
                .saturating_add(1),
        );
        Ok(())
    }

    fn stream_time(&self) -> Option<(&str, i64)> {
        Some((&self.store_name, self.stream_time))
    }
}
