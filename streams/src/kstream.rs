//! `KStream`: the stateless verbs, split and merge, repartition, grouping and sinks.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::builder::{Grouped, NewNode, Plan, Produced, Repartitioned};
use crate::dataflow::instance::{EngineCounters, Instance};
use crate::error::TopologyError;
use crate::grouped::KGroupedStream;
use crate::operator::sink::{self, SinkOptions};
use crate::operator::source::{self, OnDeserializationError, SourceOptions};
use crate::operator::stateless;
use crate::record::Record;
use crate::serdes::Serde;
use crate::time::TimestampExtractor;
use crate::topology::{Build, NodeId, NodeKind, TopicRef};

/// A stream of records, each a fact of its own.
///
/// A handle: cheap to copy, and used twice it feeds two branches. Functions given to it run once per record and task; they must not
/// block, and a panic stops the engine with the node's name.
/// Source: Kafka `KStream`.
pub struct KStream<K, V> {
    plan: Plan,
    node: NodeId,
    /// The key may have changed since the records were partitioned by it.
    rekeyed: bool,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    pub(crate) fn new(plan: &Plan, node: NodeId, rekeyed: bool) -> Self {
        Self {
            plan: plan.clone(),
            node,
            rekeyed,
            types: PhantomData,
        }
    }

    fn then<L: Clone + 'static, W: Clone + 'static>(
        &self,
        operation: &str,
        rekeyed: bool,
        build: impl Fn(&mut Instance) + Send + Sync + 'static,
    ) -> KStream<L, W> {
        let name = self.plan.numbered(operation);
        let node = NewNode {
            name,
            kind: NodeKind::Processor,
            parents: vec![self.node],
            stores: vec![],
            build: Arc::new(build),
        };
        KStream::new(&self.plan, self.plan.add(node), rekeyed)
    }

    fn keep(
        &self,
        operation: &str,
        keep: impl Fn(&Record<K, V>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let keep = Arc::new(keep);
        self.then(operation, self.rekeyed, move |instance| {
            let keep = Arc::clone(&keep);
            stateless::in_place(instance, move |batch: &mut Vec<Record<K, V>>| {
                batch.retain(|record| keep(record))
            });
        })
    }

    fn each<L: Clone + 'static, W: Clone + 'static, F>(
        &self,
        operation: &str,
        rekeyed: bool,
        step: F,
    ) -> KStream<L, W>
    where
        F: Fn(Record<K, V>, &mut Vec<Record<L, W>>) + Send + Sync + 'static,
    {
        let step = Arc::new(step);
        self.then(operation, rekeyed, move |instance| {
            let step = Arc::clone(&step);
            stateless::transform(instance, move |batch: &mut Vec<Record<K, V>>, out| {
                out.reserve(batch.len());
                batch.drain(..).for_each(|record| step(record, out));
            });
        })
    }

    /// Keeps the records for which `predicate` holds.
    pub fn filter(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.keep("KSTREAM-FILTER-", move |record| {
            predicate(&record.key, &record.value)
        })
    }

    /// Keeps the records for which `predicate` does not hold.
    pub fn filter_not(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.keep("KSTREAM-FILTER-", move |record| {
            !predicate(&record.key, &record.value)
        })
    }

    /// Makes a new key and value of each record. Grouping after it repartitions.
    pub fn map<L: Clone + 'static, W: Clone + 'static>(
        &self,
        mapper: impl Fn(K, V) -> (L, W) + Send + Sync + 'static,
    ) -> KStream<L, W> {
        self.each(
            "KSTREAM-MAP-",
            true,
            move |Record {
                      key,
                      value,
                      timestamp,
                      headers,
                  },
                  out| {
                let (key, value) = mapper(key, value);
                out.push(Record {
                    key,
                    value,
                    timestamp,
                    headers,
                });
            },
        )
    }

    /// Makes a new value of each; keys, and the partitioning, stay.
    pub fn map_values<W: Clone + 'static>(
        &self,
        mapper: impl Fn(V) -> W + Send + Sync + 'static,
    ) -> KStream<K, W> {
        self.each(
            "KSTREAM-MAPVALUES-",
            self.rekeyed,
            move |Record {
                      key,
                      value,
                      timestamp,
                      headers,
                  },
                  out| {
                out.push(Record {
                    key,
                    value: mapper(value),
                    timestamp,
                    headers,
                });
            },
        )
    }

    /// As [`KStream::map_values`], with a look at the key.
    pub fn map_values_with_key<W: Clone + 'static>(
        &self,
        mapper: impl Fn(&K, V) -> W + Send + Sync + 'static,
    ) -> KStream<K, W> {
        self.each(
            "KSTREAM-MAPVALUES-",
            self.rekeyed,
            move |Record {
                      key,
                      value,
                      timestamp,
                      headers,
                  },
                  out| {
                let value = mapper(&key, value);
                out.push(Record {
                    key,
                    value,
                    timestamp,
                    headers,
                });
            },
        )
    }

    /// Makes any number of records of each, all with its timestamp and headers. Grouping after it repartitions.
    pub fn flat_map<L: Clone + 'static, W: Clone + 'static, I: IntoIterator<Item = (L, W)>>(
        &self,
        mapper: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<L, W> {
        self.each(
            "KSTREAM-FLATMAP-",
            true,
            move |Record {
                      key,
                      value,
                      timestamp,
                      headers,
                  },
                  out| {
                let made = mapper(key, value).into_iter();
                out.extend(made.map(|(key, value)| Record {
                    key,
                    value,
                    timestamp,
                    headers: headers.clone(),
                }));
            },
        )
    }

    /// Makes any number of values of each; keys, and the partitioning, stay.
    pub fn flat_map_values<W: Clone + 'static, I: IntoIterator<Item = W>>(
        &self,
        mapper: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, W> {
        self.each(
            "KSTREAM-FLATMAPVALUES-",
            self.rekeyed,
            move |Record {
                      key,
                      value,
                      timestamp,
                      headers,
                  },
                  out| {
                let made = mapper(value).into_iter();
                out.extend(made.map(|value| Record {
                    key: key.clone(),
                    value,
                    timestamp,
                    headers: headers.clone(),
                }));
            },
        )
    }

    /// Gives each record a new key. Grouping after it repartitions.
    pub fn select_key<L: Clone + 'static>(
        &self,
        selector: impl Fn(&K, &V) -> L + Send + Sync + 'static,
    ) -> KStream<L, V> {
        self.each(
            "KSTREAM-KEY-SELECT-",
            true,
            move |record: Record<K, V>, out| {
                let key = selector(&record.key, &record.value);
                out.push(record.with_key(key));
            },
        )
    }

    /// Looks at each record as it passes. What it does may be repeated after a crash.
    pub fn peek(&self, look: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        self.keep("KSTREAM-PEEK-", move |record| {
            look(&record.key, &record.value);
            true
        })
    }

    /// Does something with each record and ends the stream. What it does may be repeated after a crash.
    pub fn for_each(&self, act: impl Fn(&K, &V) + Send + Sync + 'static) {
        let _ended = self.keep("KSTREAM-FOREACH-", move |record| {
            act(&record.key, &record.value);
            false
        });
    }

    /// Parts the stream: each record goes to the first branch that takes it, or is dropped.
    ///
    /// ```
    /// # use flumen_streams::{Consumed, StreamsBuilder, serdes};
    /// # let builder = StreamsBuilder::new();
    /// # let numbers = builder.stream("numbers", Consumed::with(serdes::string(), serdes::i64()));
    /// let mut split = numbers.split();
    /// let negative = split.branch(|_, number| *number < 0);
    /// let small = split.branch(|_, number| *number < 100);
    /// let large = split.default_branch();
    /// ```
    pub fn split(&self) -> BranchedKStream<K, V> {
        let node: KStream<K, V> = self.then("KSTREAM-BRANCH-", self.rekeyed, |_| {});
        let split = BranchedKStream {
            stream: node,
            predicates: Vec::new(),
        };
        split.rebuild();
        split
    }

    /// Both streams in one. Order is kept within each; between the two it is that of timestamps as far as both are there.
    pub fn merge(&self, other: &Self) -> Self {
        if !self.plan.is(&other.plan) {
            self.plan.fail(TopologyError::InvalidOption {
                what: "merge".to_owned(),
                reason: "the streams come from two builders".to_owned(),
            });
            return self.clone();
        }
        let (name, parents) = (
            self.plan.numbered("KSTREAM-MERGE-"),
            vec![self.node, other.node],
        );
        let build: Build = Arc::new(stateless::pass::<Record<K, V>>);
        let node = self.plan.add(NewNode {
            name,
            kind: NodeKind::Processor,
            parents,
            stores: vec![],
            build,
        });
        KStream::new(&self.plan, node, self.rekeyed || other.rekeyed)
    }

    /// Sends the stream through a repartition topic, so that records with one key meet in one task.
    pub fn repartition(&self, repartitioned: Repartitioned<K, V>) -> Self {
        if repartitioned
            .partitions
            .is_some_and(|partitions| partitions < 1)
        {
            let reason = "a topic has at least one partition".to_owned();
            self.plan.fail(TopologyError::InvalidOption {
                what: format!("repartition {}", repartitioned.name),
                reason,
            });
        }
        let Repartitioned {
            name,
            partitions,
            key,
            value,
        } = repartitioned;
        let source = cut(
            &self.plan,
            self.node,
            Cut {
                name,
                partitions,
                key,
                value,
            },
        );
        KStream::new(&self.plan, source, false)
    }

    /// Groups by the key the records have.
    pub fn group_by_key(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        KGroupedStream::new(&self.plan, self.node, self.rekeyed, grouped)
    }

    /// Groups by a new key; repartitions.
    pub fn group_by<L: Clone + 'static>(
        &self,
        selector: impl Fn(&K, &V) -> L + Send + Sync + 'static,
        grouped: Grouped<L, V>,
    ) -> KGroupedStream<L, V> {
        self.select_key(selector).group_by_key(grouped)
    }

    /// Writes the stream to a topic.
    pub fn to(&self, topic: &str, produced: Produced<K, V>) {
        let topic = TopicRef::External(topic.to_owned());
        let options = Arc::new(SinkOptions {
            topic: topic.clone(),
            key: produced.key,
            value: produced.value,
        });
        let build: Build = Arc::new(move |instance| sink::build(instance, &options));
        let name = self.plan.numbered("KSTREAM-SINK-");
        self.plan.add(NewNode {
            name,
            kind: NodeKind::Sink(topic),
            parents: vec![self.node],
            stores: vec![],
            build,
        });
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<Option<K>, V> {
    /// Drops records without a key, counted and warned about, as Kafka Streams does before it groups.
    pub fn drop_null_keys(&self) -> KStream<K, V> {
        self.then("KSTREAM-FILTER-", self.rekeyed, |instance| {
            let context = Rc::clone(&instance.context);
            stateless::transform(
                instance,
                move |batch: &mut Vec<Record<Option<K>, V>>, out| {
                    let before = batch.len();
                    out.extend(batch.drain(..).filter_map(
                        |Record {
                             key,
                             value,
                             timestamp,
                             headers,
                         }| {
                            Some(Record {
                                key: key?,
                                value,
                                timestamp,
                                headers,
                            })
                        },
                    ));
                    let counter = &context.counters.dropped_null_key;
                    if EngineCounters::add(counter, (before - out.len()) as u64) {
                        let (task, dropped) = (context.task, counter.load(Ordering::Relaxed));
                        tracing::warn!(%task, dropped, "records without a key are dropped");
                    }
                },
            );
        })
    }
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            rekeyed: self.rekeyed,
            types: PhantomData,
        }
    }
}

impl<K, V> std::fmt::Debug for KStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KStream(node {})", self.node)
    }
}

type Predicate<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;

/// A stream being parted; see [`KStream::split`].
pub struct BranchedKStream<K, V> {
    stream: KStream<K, V>,
    predicates: Vec<Predicate<K, V>>,
}

impl<K: Clone + 'static, V: Clone + 'static> BranchedKStream<K, V> {
    /// The records for which `predicate` holds and no branch before has taken.
    pub fn branch(
        &mut self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> KStream<K, V> {
        self.predicates.push(Arc::new(predicate));
        self.rebuild();
        self.stream.then(
            "KSTREAM-BRANCHCHILD-",
            self.stream.rekeyed,
            stateless::pass::<Record<K, V>>,
        )
    }

    /// The records that no branch has taken.
    pub fn default_branch(mut self) -> KStream<K, V> {
        self.branch(|_, _| true)
    }

    /// The node knows its predicates when the topology is built; until then each branch adds one.
    fn rebuild(&self) {
        let predicates = self.predicates.clone();
        let build = move |instance: &mut Instance| {
            let predicates = predicates.clone();
            stateless::branch(instance, move |record: &Record<K, V>| {
                predicates
                    .iter()
                    .position(|takes| takes(&record.key, &record.value))
            });
        };
        self.stream
            .plan
            .set_build(self.stream.node, Arc::new(build));
    }
}

impl<K, V> std::fmt::Debug for BranchedKStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BranchedKStream({} branches)", self.predicates.len())
    }
}

/// A repartition topic between two sub-topologies.
pub(crate) struct Cut<K, V> {
    pub(crate) name: String,
    pub(crate) partitions: Option<i32>,
    pub(crate) key: Arc<dyn Serde<K>>,
    pub(crate) value: Arc<dyn Serde<V>>,
}

/// Ends a sub-topology at `node` with a sink and begins another with a source; returns the source.
pub(crate) fn cut<K: Clone + 'static, V: Clone + 'static>(
    plan: &Plan,
    node: NodeId,
    cut: Cut<K, V>,
) -> NodeId {
    let Cut {
        name,
        partitions,
        key,
        value,
    } = cut;
    let topic = TopicRef::Repartition {
        name: name.clone(),
        partitions,
    };
    let into = Arc::new(SinkOptions {
        topic: topic.clone(),
        key: Arc::clone(&key),
        value: Arc::clone(&value),
    });
    let build: Build = Arc::new(move |instance| sink::build(instance, &into));
    let sink = NewNode {
        name: format!("{name}-repartition-sink"),
        kind: NodeKind::Sink(topic.clone()),
        parents: vec![node],
        stores: vec![],
        build,
    };
    plan.add(sink);
    let extractor = TimestampExtractor::record();
    let from = Arc::new(SourceOptions {
        topic: topic.clone(),
        key,
        value,
        extractor,
        on_error: OnDeserializationError::Fail,
    });
    let build: Build = Arc::new(move |instance| source::build(instance, &from));
    plan.add(NewNode {
        name: format!("{name}-repartition-source"),
        kind: NodeKind::Source(topic),
        parents: vec![],
        stores: vec![],
        build,
    })
}

/// The one cut of a named grouping, made at first use.
pub(crate) type SharedCut = Rc<RefCell<Option<NodeId>>>;
