//! Groupings and what becomes of them: count, reduce and aggregate, by key or by key and window.

use std::rc::Rc;
use std::sync::Arc;

use crate::builder::{Grouped, Materialized, NewNode, Plan};
use crate::dataflow::instance::Instance;
use crate::error::TopologyError;
use crate::kstream::{Cut, SharedCut, cut};
use crate::ktable::KTable;
use crate::operator::aggregate::{self, AggregateOptions, Step};
use crate::operator::window::{self, WindowOptions};
use crate::serdes::{self, Serde};
use crate::state::{StoreKey, StoreKind, StoreSerdes, StoreSpec};
use crate::topology::{NodeId, NodeKind};
use crate::window::{TimeWindows, Windowed};

/// Records grouped by key, ready to be aggregated.
///
/// If the key was changed on the way, a repartition topic brings equal keys together first.
/// Source: Kafka `KGroupedStream`.
pub struct KGroupedStream<K, V> {
    plan: Plan,
    node: NodeId,
    rekeyed: bool,
    grouped: Grouped<K, V>,
    cut: SharedCut,
}

impl<K: StoreKey, V: Clone + 'static> KGroupedStream<K, V> {
    /// How many records each key has.
    pub fn count(&self, store: Materialized<i64>) -> KTable<K, i64> {
        let serde = store.serde_or(Some(&count_serde()));
        self.keyed(
            "KSTREAM-AGGREGATE-",
            store.spec(StoreKind::KeyValue),
            serde,
            counting(),
        )
    }

    /// Folds the values of each key into one of the same type; the first value starts it.
    pub fn reduce(
        &self,
        reducer: impl Fn(V, V) -> V + Send + Sync + 'static,
        store: Materialized<V>,
    ) -> KTable<K, V> {
        let serde = store.serde_or(Some(&self.grouped.value));
        self.keyed(
            "KSTREAM-REDUCE-",
            store.spec(StoreKind::KeyValue),
            serde,
            reducing(reducer),
        )
    }

    /// Folds the values of each key, starting from what `initializer` gives.
    pub fn aggregate<A: Clone + 'static>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        store: Materialized<A>,
    ) -> KTable<K, A> {
        let serde = store.serde_or(None);
        self.keyed(
            "KSTREAM-AGGREGATE-",
            store.spec(StoreKind::KeyValue),
            serde,
            folding(initializer, aggregator),
        )
    }

    /// Aggregates each window of event time by itself.
    pub fn windowed_by(&self, windows: TimeWindows) -> TimeWindowedKStream<'_, K, V> {
        TimeWindowedKStream {
            grouped: self,
            windows,
        }
    }

    fn keyed<A: Clone + 'static>(
        &self,
        operation: &str,
        store: StoreSpec,
        value: Arc<dyn Serde<A>>,
        step: Step<K, V, A>,
    ) -> KTable<K, A> {
        let options = Arc::new(self.options(&store, value));
        self.stateful(operation, store, move |instance| {
            aggregate::build(instance, &options, &step)
        })
    }

    fn options<A>(&self, store: &StoreSpec, value: Arc<dyn Serde<A>>) -> AggregateOptions<K, A> {
        let serdes = StoreSerdes {
            key: Arc::clone(&self.grouped.key),
            value,
        };
        AggregateOptions {
            store: store.name.clone(),
            serdes,
            caching: store.caching,
        }
    }

    fn stateful<L: Clone + 'static, A: Clone + 'static>(
        &self,
        operation: &str,
        store: StoreSpec,
        build: impl Fn(&mut Instance) + Send + Sync + 'static,
    ) -> KTable<L, A> {
        let parents = vec![self.partitioned(&store.name)];
        let (name, stores) = (self.plan.numbered(operation), vec![store.name.clone()]);
        self.plan.add_store(store);
        let node = NewNode {
            name,
            kind: NodeKind::Processor,
            parents,
            stores,
            build: Arc::new(build),
        };
        KTable::new(&self.plan, self.plan.add(node))
    }

    /// The node after which equal keys are in one task: this one, or the source of a repartition topic.
    fn partitioned(&self, store: &str) -> NodeId {
        if !self.rekeyed {
            return self.node;
        }
        if let Some(source) = *self.cut.borrow() {
            return source;
        }
        let Grouped { name, key, value } = self.grouped.clone();
        let named = name.is_some();
        let through = Cut {
            name: name.unwrap_or_else(|| store.to_owned()),
            partitions: None,
            key,
            value,
        };
        let source = cut(&self.plan, self.node, through);
        if named {
            *self.cut.borrow_mut() = Some(source);
        }
        source
    }
}

impl<K, V> KGroupedStream<K, V> {
    pub(crate) fn new(plan: &Plan, node: NodeId, rekeyed: bool, grouped: Grouped<K, V>) -> Self {
        Self {
            plan: plan.clone(),
            node,
            rekeyed,
            grouped,
            cut: SharedCut::default(),
        }
    }
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            rekeyed: self.rekeyed,
            grouped: self.grouped.clone(),
            cut: Rc::clone(&self.cut),
        }
    }
}

fn count_serde() -> Arc<dyn Serde<i64>> {
    Arc::new(serdes::i64())
}

fn counting<K, V>() -> Step<K, V, i64> {
    Arc::new(|_, _, count| count.unwrap_or(0) + 1)
}

fn reducing<K, V: 'static>(reducer: impl Fn(V, V) -> V + Send + Sync + 'static) -> Step<K, V, V> {
    Arc::new(move |_, value, before| match before {
        Some(before) => reducer(before, value),
        None => value,
    })
}

fn folding<K: 'static, V: 'static, A: 'static>(
    initializer: impl Fn() -> A + Send + Sync + 'static,
    aggregator: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
) -> Step<K, V, A> {
    Arc::new(move |key, value, before| aggregator(key, value, before.unwrap_or_else(&initializer)))
}

/// Records grouped by key and window.
/// Source: Kafka `TimeWindowedKStream`.
pub struct TimeWindowedKStream<'g, K, V> {
    grouped: &'g KGroupedStream<K, V>,
    windows: TimeWindows,
}

impl<K: StoreKey, V: Clone + 'static> TimeWindowedKStream<'_, K, V> {
    /// How many records each key has in each window.
    pub fn count(&self, store: Materialized<i64>) -> KTable<Windowed<K>, i64> {
        let serde = store.serde_or(Some(&count_serde()));
        self.windowed("KSTREAM-AGGREGATE-", store, serde, counting())
    }

    /// Folds the values of each key and window into one of the same type; the first value starts it.
    pub fn reduce(
        &self,
        reducer: impl Fn(V, V) -> V + Send + Sync + 'static,
        store: Materialized<V>,
    ) -> KTable<Windowed<K>, V> {
        let serde = store.serde_or(Some(&self.grouped.grouped.value));
        self.windowed("KSTREAM-REDUCE-", store, serde, reducing(reducer))
    }

    /// Folds the values of each key and window, starting from what `initializer` gives.
    pub fn aggregate<A: Clone + 'static>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        store: Materialized<A>,
    ) -> KTable<Windowed<K>, A> {
        let serde = store.serde_or(None);
        self.windowed(
            "KSTREAM-AGGREGATE-",
            store,
            serde,
            folding(initializer, aggregator),
        )
    }

    fn windowed<A: Clone + 'static>(
        &self,
        operation: &str,
        store: Materialized<A>,
        value: Arc<dyn Serde<A>>,
        step: Step<K, V, A>,
    ) -> KTable<Windowed<K>, A> {
        let windows = self.windows;
        if let Some(reason) = windows.problem() {
            let (what, reason) = (
                format!("windows of store {}", store.name),
                reason.to_owned(),
            );
            self.grouped
                .plan
                .fail(TopologyError::InvalidOption { what, reason });
        }
        let retention_ms = store
            .retention_ms()
            .max(windows.size_ms.saturating_add(windows.grace_ms));
        let store = store.spec(StoreKind::Window {
            size_ms: windows.size_ms,
            retention_ms,
        });
        let options = Arc::new(self.grouped.options(&store, value));
        let window = WindowOptions {
            windows,
            retention_ms,
        };
        self.grouped.stateful(operation, store, move |instance| {
            window::build(instance, &options, window, &step)
        })
    }
}

impl<K, V> std::fmt::Debug for KGroupedStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KGroupedStream(node {})", self.node)
    }
}

impl<K, V> std::fmt::Debug for TimeWindowedKStream<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimeWindowedKStream({:?})", self.windows)
    }
}
