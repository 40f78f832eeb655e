//! `StreamsBuilder` and the options of sources, sinks, groupings and stores.
//!
//! Handles (`KStream`, `KTable`, ...) add nodes to the plan the builder owns; nothing runs and nothing fails before
//! [`StreamsBuilder::build`], which checks the whole and returns the [`Topology`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TopologyError;
use crate::kstream::KStream;
use crate::operator::source::{self, OnDeserializationError, SourceOptions};
use crate::serdes::{self, Serde};
use crate::state::{StoreKind, StoreSpec};
use crate::time::TimestampExtractor;
use crate::topology::{Build, Node, NodeId, NodeKind, TopicRef, Topology};

/// Where a topology is written down.
///
/// ```
/// use flumen_streams::{Consumed, Produced, StreamsBuilder, serdes};
/// let builder = StreamsBuilder::new();
/// let orders = builder.stream("orders", Consumed::with(serdes::string(), serdes::i64()));
/// orders.filter(|_, cents| *cents > 10_000).to("large-orders", Produced::with(serdes::string(), serdes::i64()));
/// let topology = builder.build()?;
/// # Ok::<(), flumen_streams::TopologyError>(())
/// ```
#[derive(Default)]
pub struct StreamsBuilder {
    plan: Plan,
}

impl StreamsBuilder {
    /// An empty topology.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a topic as a stream of records.
    pub fn stream<K: Clone + 'static, V: Clone + 'static>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let topic = TopicRef::External(topic.to_owned());
        let options = SourceOptions {
            topic: topic.clone(),
            key: consumed.key,
            value: consumed.value,
            extractor: consumed.extractor,
            on_error: consumed.on_error,
        };
        let options = Arc::new(options);
        let build: Build = Arc::new(move |instance| source::build(instance, &options));
        let name = self.plan.numbered("KSTREAM-SOURCE-");
        let node = self.plan.add(NewNode {
            name,
            kind: NodeKind::Source(topic),
            parents: vec![],
            stores: vec![],
            build,
        });
        KStream::new(&self.plan, node, false)
    }

    /// Checks and returns the topology.
    /// # Errors
    /// What is wrong with it, the first thing if there are several.
    pub fn build(&self) -> Result<Topology, TopologyError> {
        let plan = self.plan.0.borrow();
        match &plan.error {
            Some(error) => Err(error.clone()),
            None => Topology::new(plan.nodes.clone(), &plan.stores),
        }
    }
}

impl std::fmt::Debug for StreamsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "StreamsBuilder({} nodes)",
            self.plan.0.borrow().nodes.len()
        )
    }
}

/// The nodes so far; shared by the builder and all handles.
#[derive(Clone, Default)]
pub(crate) struct Plan(Rc<RefCell<PlanState>>);

#[derive(Default)]
struct PlanState {
    nodes: Vec<Node>,
    stores: BTreeMap<String, StoreSpec>,
    numbers: usize,
    error: Option<TopologyError>,
}

/// A node to add.
pub(crate) struct NewNode {
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
    pub(crate) parents: Vec<NodeId>,
    pub(crate) stores: Vec<String>,
    pub(crate) build: Build,
}

impl Plan {
    /// A name like Kafka Streams': the operation and ten digits.
    pub(crate) fn numbered(&self, operation: &str) -> String {
        let mut plan = self.0.borrow_mut();
        let name = format!("{operation}{:010}", plan.numbers);
        plan.numbers += 1;
        name
    }

    pub(crate) fn add(&self, node: NewNode) -> NodeId {
        let mut plan = self.0.borrow_mut();
        let id = plan.nodes.len();
        for parent in &node.parents {
            plan.nodes[*parent].children.push(id);
        }
        let NewNode {
            name,
            kind,
            parents,
            stores,
            build,
        } = node;
        plan.nodes.push(Node {
            name,
            kind,
            parents,
            children: Vec::new(),
            stores,
            build,
        });
        id
    }

    pub(crate) fn set_build(&self, node: NodeId, build: Build) {
        self.0.borrow_mut().nodes[node].build = build;
    }

    pub(crate) fn add_store(&self, spec: StoreSpec) {
        let mut plan = self.0.borrow_mut();
        let name = spec.name.clone();
        if plan.stores.insert(name.clone(), spec).is_some() {
            plan.error
                .get_or_insert(TopologyError::DuplicateName { name });
        }
    }

    /// Remembers the first error, for `build`.
    pub(crate) fn fail(&self, error: TopologyError) {
        self.0.borrow_mut().error.get_or_insert(error);
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// How a topic is read.
pub struct Consumed<K, V> {
    key: Arc<dyn Serde<K>>,
    value: Arc<dyn Serde<V>>,
    extractor: TimestampExtractor<K, V>,
    on_error: OnDeserializationError,
}

impl<K, V> Consumed<K, V> {
    /// With these serdes and the timestamps of the records.
    pub fn with(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self {
            key: Arc::new(key),
            value: Arc::new(value),
            extractor: TimestampExtractor::record(),
            on_error: OnDeserializationError::Fail,
        }
    }

    /// Takes event times from `extractor`.
    #[must_use]
    pub fn timestamp_extractor(self, extractor: TimestampExtractor<K, V>) -> Self {
        Self { extractor, ..self }
    }

    /// Does `policy` with records that cannot be read; by default they stop the application.
    #[must_use]
    pub fn on_deserialization_error(self, policy: OnDeserializationError) -> Self {
        Self {
            on_error: policy,
            ..self
        }
    }
}

impl<V> Consumed<(), V> {
    /// Reads values and ignores keys, for topics whose keys say nothing: `KStream<(), V>`.
    pub fn values(value: impl Serde<V> + 'static) -> Self {
        Self::with(serdes::nothing(), value)
    }
}

/// How a topic is written.
pub struct Produced<K, V> {
    pub(crate) key: Arc<dyn Serde<K>>,
    pub(crate) value: Arc<dyn Serde<V>>,
}

impl<K, V> Produced<K, V> {
    /// With these serdes; partitions by the key's bytes as every Kafka client does.
    pub fn with(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self {
            key: Arc::new(key),
            value: Arc::new(value),
        }
    }
}

/// How records are grouped: the serdes of a repartition topic, should one be needed, and of the store's keys.
pub struct Grouped<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Arc<dyn Serde<K>>,
    pub(crate) value: Arc<dyn Serde<V>>,
}

impl<K, V> Grouped<K, V> {
    /// With these serdes. A repartition topic is named after the store, unless [`Grouped::named`] says otherwise.
    pub fn with(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self {
            name: None,
            key: Arc::new(key),
            value: Arc::new(value),
        }
    }

    /// Names the repartition topic `<application>-<name>-repartition`. Aggregations of one named grouping share it.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..self
        }
    }
}

impl<K, V> Clone for Grouped<K, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            key: Arc::clone(&self.key),
            value: Arc::clone(&self.value),
        }
    }
}

/// How a stream is repartitioned.
pub struct Repartitioned<K, V> {
    pub(crate) name: String,
    pub(crate) partitions: Option<i32>,
    pub(crate) key: Arc<dyn Serde<K>>,
    pub(crate) value: Arc<dyn Serde<V>>,
}

impl<K, V> Repartitioned<K, V> {
    /// Through the topic `<application>-<name>-repartition`, as wide as the tasks that write it.
    pub fn with(name: &str, key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self {
            name: name.to_owned(),
            partitions: None,
            key: Arc::new(key),
            value: Arc::new(value),
        }
    }

    /// With `partitions` partitions.
    #[must_use]
    pub fn number_of_partitions(self, partitions: i32) -> Self {
        Self {
            partitions: Some(partitions),
            ..self
        }
    }
}

/// The store of an aggregation. Its name is part of the changelog topic's, so a changed topology finds its state again.
pub struct Materialized<V> {
    pub(crate) name: String,
    serde: Arc<dyn Serde<V>>,
    explicit: bool,
    caching: bool,
    logging: bool,
    retention: Option<Duration>,
}

impl<V: Serialize + DeserializeOwned + 'static> Materialized<V> {
    /// A store called `name`, values in MessagePack (counts as Kafka's 64 bits, reduced values in the serde they were grouped with).
    pub fn as_(name: &str) -> Self {
        Self {
            explicit: false,
            ..Self::with(name, serdes::message_pack())
        }
    }
}

impl<V> Materialized<V> {
    /// A store called `name`, values by `serde`.
    pub fn with(name: &str, serde: impl Serde<V> + 'static) -> Self {
        Self {
            name: name.to_owned(),
            serde: Arc::new(serde),
            explicit: true,
            caching: true,
            logging: true,
            retention: None,
        }
    }

    /// Passes on every update, not the last of each commit.
    #[must_use]
    pub fn with_caching_disabled(self) -> Self {
        Self {
            caching: false,
            ..self
        }
    }

    /// Keeps no changelog: on another machine, or after a loss of the folder, the store starts empty.
    #[must_use]
    pub fn with_logging_disabled(self) -> Self {
        Self {
            logging: false,
            ..self
        }
    }

    /// Keeps windows readable for `retention` after their start; at least, and by default, size and grace.
    #[must_use]
    pub fn with_retention(self, retention: Duration) -> Self {
        Self {
            retention: Some(retention),
            ..self
        }
    }

    /// The values' serde: the one given, else `default`, else MessagePack.
    pub(crate) fn serde_or(&self, default: Option<&Arc<dyn Serde<V>>>) -> Arc<dyn Serde<V>> {
        match default {
            Some(default) if !self.explicit => Arc::clone(default),
            _ => Arc::clone(&self.serde),
        }
    }

    pub(crate) fn retention_ms(&self) -> i64 {
        self.retention.map_or(0, |retention| {
            i64::try_from(retention.as_millis()).unwrap_or(i64::MAX / 4)
        })
    }

    pub(crate) fn spec(self, kind: StoreKind) -> StoreSpec {
        StoreSpec {
            name: self.name,
            kind,
            caching: self.caching,
            logging: self.logging,
        }
    }
}

macro_rules! debug_as_name {
    ($($name:ident<$($param:ident),*>),*) => {$(
        impl<$($param),*> std::fmt::Debug for $name<$($param),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
debug_as_name!(Consumed<K, V>, Produced<K, V>, Grouped<K, V>, Repartitioned<K, V>, Materialized<V>);
