//! Aggregation by key: one store update per record, one result per key and epoch (or per record without caching).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::dataflow::instance::{EpochStage, Flow, Instance, Port, Sink, TaskContext};
use crate::error::EngineError;
use crate::record::{Headers, Record};
use crate::state::{KeyValueStore, StoreKey, StoreSerdes, Timestamped};
use crate::topology::NodeId;

/// One step of an aggregation: the key, the value and what there was before; `None` at a key's first record.
pub(crate) type Step<K, V, A> = Arc<dyn Fn(&K, V, Option<A>) -> A + Send + Sync>;

/// What an aggregation needs besides its step.
pub(crate) struct AggregateOptions<K, A> {
    pub(crate) store: String,
    pub(crate) serdes: StoreSerdes<K, A>,
    pub(crate) caching: bool,
}

struct Aggregate<K, V, A> {
    context: Rc<TaskContext>,
    node: NodeId,
    step: Step<K, V, A>,
    store: Rc<RefCell<KeyValueStore<K, A>>>,
    caching: bool,
    out: Vec<Record<K, A>>,
    port: Port<Record<K, A>>,
}

/// Builds the aggregation node.
pub(crate) fn build<K, V, A>(
    instance: &mut Instance,
    options: &Arc<AggregateOptions<K, A>>,
    step: &Step<K, V, A>,
) where
    K: StoreKey,
    V: 'static,
    A: Clone + 'static,
{
    let serdes = options.serdes.clone();
    let stage = Rc::new(RefCell::new(Aggregate {
        context: Rc::clone(&instance.context),
        node: instance.node(),
        step: Arc::clone(step),
        store: instance.store(&options.store, |spec, backend| {
            KeyValueStore::new(spec, serdes, backend)
        }),
        caching: options.caching,
        out: Vec::new(),
        port: instance.downstream(),
    }));
    instance.register::<Record<K, V>>(Rc::clone(&stage) as Port<Record<K, V>>);
    instance.register_epoch_stage(stage);
}

impl<K: StoreKey, V, A: Clone + 'static> Aggregate<K, V, A> {
    fn send(&mut self) -> Flow {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.port.borrow_mut().push(&mut self.out);
        self.out.clear();
        sent
    }
}

impl<K: StoreKey, V, A: Clone + 'static> Sink<Record<K, V>> for Aggregate<K, V, A> {
    fn push(&mut self, batch: &mut Vec<Record<K, V>>) -> Flow {
        self.context.running.set(self.node);
        let mut store = self.store.borrow_mut();
        store
            .prefetch(batch.iter().map(|record| &record.key))
            .map_err(EngineError::State)?;
        for Record {
            key,
            value,
            timestamp,
            ..
        } in batch.drain(..)
        {
            let step = &self.step;
            let (caching, out) = (self.caching, &mut self.out);
            let change = |before: Option<Timestamped<A>>| {
                let (before, time) = before.map_or((None, timestamp), |before| {
                    (Some(before.value), before.timestamp.max(timestamp))
                });
                let now = Timestamped {
                    value: step(&key, value, before),
                    timestamp: time,
                };
                if !caching {
                    out.push(Record {
                        key: key.clone(),
                        value: now.value.clone(),
                        timestamp: time,
                        headers: Headers::none(),
                    });
                }
                Some(now)
            };
            store.update(&key, change).map_err(EngineError::State)?;
        }
        drop(store);
        self.send()
    }
}

impl<K: StoreKey, V, A: Clone + 'static> EpochStage for Aggregate<K, V, A> {
    fn end_epoch(&mut self) -> Flow {
        if self.caching {
            let out = &mut self.out;
            self.store.borrow_mut().drain_updates(|key, _, now| {
                if let Some(Timestamped { value, timestamp }) = now {
                    out.push(Record {
                        key: key.clone(),
                        value: value.clone(),
                        timestamp: *timestamp,
                        headers: Headers::none(),
                    });
                }
            });
        }
        self.send()
    }
}
