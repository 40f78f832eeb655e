//! `KTable`: the latest value of each key, as a stream of updates.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::builder::{NewNode, Plan};
use crate::dataflow::instance::Instance;
use crate::kstream::KStream;
use crate::operator::stateless;
use crate::record::Record;
use crate::topology::{NodeId, NodeKind};

/// A table: each record is the new value of its key.
///
/// The value's type says whether rows can go: after [`KTable::filter`] it is `Option<V>`, and `None` removes a row.
/// Source: Kafka `KTable`.
pub struct KTable<K, V> {
    plan: Plan,
    node: NodeId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    pub(crate) fn new(plan: &Plan, node: NodeId) -> Self {
        Self {
            plan: plan.clone(),
            node,
            types: PhantomData,
        }
    }

    fn then(
        &self,
        operation: &str,
        build: impl Fn(&mut Instance) + Send + Sync + 'static,
    ) -> NodeId {
        let name = self.plan.numbered(operation);
        self.plan.add(NewNode {
            name,
            kind: NodeKind::Processor,
            parents: vec![self.node],
            stores: vec![],
            build: Arc::new(build),
        })
    }

    fn mapped<W: Clone + 'static>(
        &self,
        operation: &str,
        mapper: impl Fn(&K, V) -> W + Send + Sync + 'static,
    ) -> KTable<K, W> {
        let mapper = Arc::new(mapper);
        let node = self.then(operation, move |instance| {
            let mapper = Arc::clone(&mapper);
            stateless::transform(instance, move |batch: &mut Vec<Record<K, V>>, out| {
                out.extend(batch.drain(..).map(
                    |Record {
                         key,
                         value,
                         timestamp,
                         headers,
                     }| {
                        let value = mapper(&key, value);
                        Record {
                            key,
                            value,
                            timestamp,
                            headers,
                        }
                    },
                ));
            });
        });
        KTable::new(&self.plan, node)
    }

    /// The updates as records.
    pub fn to_stream(&self) -> KStream<K, V> {
        KStream::new(
            &self.plan,
            self.then("KTABLE-TOSTREAM-", stateless::pass::<Record<K, V>>),
            false,
        )
    }

    /// A table of values made from these.
    pub fn map_values<W: Clone + 'static>(
        &self,
        mapper: impl Fn(V) -> W + Send + Sync + 'static,
    ) -> KTable<K, W> {
        self.mapped("KTABLE-MAPVALUES-", move |_, value| mapper(value))
    }

    /// As [`KTable::map_values`], with a look at the key.
    pub fn map_values_with_key<W: Clone + 'static>(
        &self,
        mapper: impl Fn(&K, V) -> W + Send + Sync + 'static,
    ) -> KTable<K, W> {
        self.mapped("KTABLE-MAPVALUES-", mapper)
    }

    /// The rows for which `predicate` holds. An update for which it does not removes the row: it goes on as `None`.
    pub fn filter(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> KTable<K, Option<V>> {
        self.mapped("KTABLE-FILTER-", move |key, value| {
            predicate(key, &value).then_some(value)
        })
    }

    /// The rows for which `predicate` does not hold.
    pub fn filter_not(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> KTable<K, Option<V>> {
        self.filter(move |key, value| !predicate(key, value))
    }
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            types: PhantomData,
        }
    }
}

impl<K, V> std::fmt::Debug for KTable<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KTable(node {})", self.node)
    }
}
