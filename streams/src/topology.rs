//! The logical plan: nodes, sub-topologies, stores and internal topics. Pure; made by `StreamsBuilder::build`, read by everyone.
//!
//! A sub-topology is what hangs together without a topic in between; one of its partitions is a task. Repartitions cut. Names of
//! internal topics are Kafka Streams': `<application>-<name>-repartition`, `<application>-<store>-changelog`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::dataflow::instance::Instance;
use crate::error::TopologyError;
use crate::state::{StoreKind, StoreSpec};

/// Index of a node in its topology.
pub(crate) type NodeId = usize;

/// Makes the stage of a node for one task; called children first.
pub(crate) type Build = Arc<dyn Fn(&mut Instance) + Send + Sync>;

/// A step of a topology.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
    pub(crate) parents: Vec<NodeId>,
    pub(crate) children: Vec<NodeId>,
    pub(crate) stores: Vec<String>,
    pub(crate) build: Build,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Source(TopicRef),
    Processor,
    Sink(TopicRef),
}

/// A topic as the topology knows it, before the application has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// A topic of the user.
    External(String),
    /// An internal topic between two sub-topologies.
    Repartition {
        /// Name given by `Grouped`, `Repartitioned` or the store.
        name: String,
        /// Partitions asked for; `None`: as many as the tasks that write it.
        partitions: Option<i32>,
    },
}

impl TopicRef {
    /// The topic's name in the cluster.
    pub fn topic(&self, application_id: &str) -> String {
        match self {
            Self::External(name) => name.clone(),
            Self::Repartition { name, .. } => format!("{application_id}-{name}-repartition"),
        }
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External(name) => f.write_str(name),
            Self::Repartition { name, .. } => write!(f, "{name}-repartition"),
        }
    }
}

/// One partition of one sub-topology: the unit that moves between processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The sub-topology.
    pub subtopology: u32,
    /// Partition of its source topics.
    pub partition: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

/// Part of a topology that runs as one chain.
#[derive(Clone, Debug)]
pub struct Subtopology {
    /// Number, from 0 in the order of definition.
    pub id: u32,
    /// Topics it reads; the index is the `source` of [`SourceInput`](crate::dataflow::SourceInput).
    pub sources: Vec<TopicRef>,
    /// Topics it writes, changelogs apart.
    pub sinks: Vec<TopicRef>,
    /// Stores of each of its tasks.
    pub stores: Vec<StoreSpec>,
    /// Nodes, parents before children.
    pub(crate) nodes: Vec<NodeId>,
    /// Records have to go through one at a time, because paths that part meet again.
    pub(crate) one_by_one: bool,
}

/// A topic that the application makes for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopic {
    /// Name in the cluster.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Topic configuration by Kafka's keys.
    pub configs: BTreeMap<String, String>,
}

/// A checked plan of sources, processors and sinks. Made by [`StreamsBuilder::build`](crate::StreamsBuilder::build).
#[derive(Clone)]
pub struct Topology {
    pub(crate) nodes: Vec<Node>,
    subtopologies: Vec<Subtopology>,
}

impl Topology {
    pub(crate) fn new(
        nodes: Vec<Node>,
        stores: &BTreeMap<String, StoreSpec>,
    ) -> Result<Self, TopologyError> {
        check_names(&nodes, stores)?;
        let mut groups: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        let roots = roots(&nodes);
        for (node, root) in roots.iter().enumerate() {
            groups.entry(*root).or_default().push(node);
        }
        let subtopologies = (0u32..)
            .zip(groups.into_values())
            .map(|(id, members)| subtopology(id, members, &nodes, stores))
            .collect();
        Ok(Self {
            nodes,
            subtopologies,
        })
    }

    /// The sub-topologies, in order of their numbers.
    pub fn subtopologies(&self) -> &[Subtopology] {
        &self.subtopologies
    }

    /// Topics of the user that are read.
    pub fn source_topics(&self) -> BTreeSet<String> {
        external(
            self.subtopologies
                .iter()
                .flat_map(|subtopology| &subtopology.sources),
        )
    }

    /// Topics of the user that are written.
    pub fn sink_topics(&self) -> BTreeSet<String> {
        external(
            self.subtopologies
                .iter()
                .flat_map(|subtopology| &subtopology.sinks),
        )
    }

    /// Number of tasks of each sub-topology, by its number: the most partitions any of its sources has. `external` says how many
    /// partitions the user's topics have; a topic it does not name counts as one.
    pub fn task_counts(&self, external: &BTreeMap<String, i32>) -> Vec<i32> {
        let mut counts = vec![1; self.subtopologies.len()];
        // A repartition topic is as wide as what writes it. Each pass settles one more sub-topology down the river.
        for _ in 0..self.subtopologies.len() {
            let next: Vec<i32> = self
                .subtopologies
                .iter()
                .map(|subtopology| self.width(subtopology, &counts, external))
                .collect();
            if next == counts {
                break;
            }
            counts = next;
        }
        counts
    }

    fn width(
        &self,
        subtopology: &Subtopology,
        counts: &[i32],
        external: &BTreeMap<String, i32>,
    ) -> i32 {
        let of_topic = |topic: &TopicRef| match topic {
            TopicRef::External(name) => external.get(name).copied().unwrap_or(1),
            TopicRef::Repartition {
                partitions: Some(partitions),
                ..
            } => *partitions,
            TopicRef::Repartition { .. } => {
                let writers = self
                    .subtopologies
                    .iter()
                    .filter(|other| other.sinks.contains(topic));
                writers
                    .map(|other| counts[other.id as usize])
                    .max()
                    .unwrap_or(1)
            }
        };
        subtopology.sources.iter().map(of_topic).max().unwrap_or(1)
    }

    /// The internal topics with their partitions and configuration: repartition topics keep records until they are deleted by
    /// offset, changelogs are compacted and never deleted by time, because event time may be of any year.
    pub fn internal_topics(
        &self,
        application_id: &str,
        external: &BTreeMap<String, i32>,
    ) -> Vec<InternalTopic> {
        let mut topics = Vec::new();
        for (subtopology, tasks) in self.subtopologies.iter().zip(self.task_counts(external)) {
            for source in subtopology
                .sources
                .iter()
                .filter(|source| matches!(source, TopicRef::Repartition { .. }))
            {
                let configs = [
                    ("cleanup.policy", "delete"),
                    ("retention.ms", "-1"),
                    ("retention.bytes", "-1"),
                ];
                topics.push(internal(source.topic(application_id), tasks, &configs));
            }
            for store in subtopology.stores.iter().filter(|store| store.logging) {
                topics.push(internal(
                    store.changelog_topic(application_id),
                    tasks,
                    &[("cleanup.policy", "compact")],
                ));
            }
        }
        topics
    }

    /// The topology in words, in the layout of Kafka Streams' `Topology#describe`.
    pub fn describe(&self) -> String {
        let mut text = "Topologies:\n ".to_owned();
        for subtopology in &self.subtopologies {
            text.push_str(&format!("  Sub-topology: {}\n", subtopology.id));
            let sizes = self.sizes(subtopology);
            let mut order = subtopology.nodes.clone();
            order.sort_by_key(|node| {
                (
                    std::cmp::Reverse(sizes[node]),
                    self.nodes[*node].name.clone(),
                )
            });
            for node in order {
                text.push_str(&self.describe_node(&self.nodes[node]));
            }
            text.push('\n');
        }
        text
    }

    fn describe_node(&self, node: &Node) -> String {
        let (children, parents) = (self.names(&node.children), self.names(&node.parents));
        match &node.kind {
            NodeKind::Source(topic) => format!(
                "    Source: {} (topics: [{topic}])\n      --> {children}\n",
                node.name
            ),
            NodeKind::Processor => {
                let stores = node.stores.join(", ");
                format!(
                    "    Processor: {} (stores: [{stores}])\n      --> {children}\n      <-- {parents}\n",
                    node.name
                )
            }
            NodeKind::Sink(topic) => format!(
                "    Sink: {} (topic: {topic})\n      <-- {parents}\n",
                node.name
            ),
        }
    }

    fn names(&self, nodes: &[NodeId]) -> String {
        if nodes.is_empty() {
            return "none".to_owned();
        }
        nodes
            .iter()
            .map(|node| self.nodes[*node].name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Nodes below each node, itself included, by every path: Kafka prints the largest first.
    fn sizes(&self, subtopology: &Subtopology) -> BTreeMap<NodeId, usize> {
        let mut sizes = BTreeMap::new();
        for node in subtopology.nodes.iter().rev() {
            let below: usize = self.nodes[*node]
                .children
                .iter()
                .map(|child| sizes[child])
                .sum();
            sizes.insert(*node, 1 + below);
        }
        sizes
    }
}

impl StoreSpec {
    /// Name of the changelog topic.
    pub fn changelog_topic(&self, application_id: &str) -> String {
        format!("{application_id}-{}-changelog", self.name)
    }

    /// Whether keys carry a window.
    pub fn is_windowed(&self) -> bool {
        matches!(self.kind, StoreKind::Window { .. })
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

fn internal(name: String, partitions: i32, configs: &[(&str, &str)]) -> InternalTopic {
    let configs = configs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    InternalTopic {
        name,
        partitions,
        configs,
    }
}

fn external<'t>(topics: impl Iterator<Item = &'t TopicRef>) -> BTreeSet<String> {
    topics
        .filter_map(|topic| {
            if let TopicRef::External(name) = topic {
                Some(name.clone())
            } else {
                None
            }
        })
        .collect()
}

/// The first node each node hangs together with, by edges and by shared stores.
fn roots(nodes: &[Node]) -> Vec<NodeId> {
    let mut roots: Vec<NodeId> = (0..nodes.len()).collect();
    let mut join = |left: NodeId, right: NodeId| {
        let (keep, replace) = (roots[left].min(roots[right]), roots[left].max(roots[right]));
        roots
            .iter_mut()
            .filter(|root| **root == replace)
            .for_each(|root| *root = keep);
    };
    let mut owner_of_store: BTreeMap<&str, NodeId> = BTreeMap::new();
    for (id, node) in nodes.iter().enumerate() {
        node.parents.iter().for_each(|parent| join(*parent, id));
        for store in &node.stores {
            join(*owner_of_store.entry(store).or_insert(id), id);
        }
    }
    roots
}

fn subtopology(
    id: u32,
    members: Vec<NodeId>,
    nodes: &[Node],
    stores: &BTreeMap<String, StoreSpec>,
) -> Subtopology {
    let names: BTreeSet<&String> = members
        .iter()
        .flat_map(|node| &nodes[*node].stores)
        .collect();
    let mut sources = Vec::new();
    let mut sinks = BTreeSet::new();
    for node in &members {
        match &nodes[*node].kind {
            NodeKind::Source(topic) => sources.push(topic.clone()),
            NodeKind::Sink(topic) => drop(sinks.insert(topic.clone())),
            NodeKind::Processor => {}
        }
    }
    Subtopology {
        id,
        sources,
        sinks: sinks.into_iter().collect(),
        stores: names.into_iter().map(|name| stores[name].clone()).collect(),
        one_by_one: paths_meet_again(&members, nodes),
        nodes: members,
    }
}

/// Whether two paths from one node end in one node or one topic: then a batch may not run ahead on one of them, or the order of
/// records (and the stream time seen) would differ from record-by-record processing.
fn paths_meet_again(members: &[NodeId], nodes: &[Node]) -> bool {
    let mut above: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    let mut topics: BTreeMap<&TopicRef, BTreeSet<NodeId>> = BTreeMap::new();
    for id in members {
        let mut mine = BTreeSet::from([*id]);
        for parent in &nodes[*id].parents {
            if nodes[*id].parents.len() > 1 && above[parent].iter().any(|node| mine.contains(node))
            {
                return true;
            }
            mine.extend(&above[parent]);
        }
        if let NodeKind::Sink(topic) = &nodes[*id].kind {
            let seen = topics.entry(topic).or_default();
            if mine.iter().any(|node| seen.contains(node)) {
                return true;
            }
            seen.extend(&mine);
        }
        above.insert(*id, mine);
    }
    false
}

fn check_names(nodes: &[Node], stores: &BTreeMap<String, StoreSpec>) -> Result<(), TopologyError> {
    if !nodes
        .iter()
        .any(|node| matches!(node.kind, NodeKind::Source(_)))
    {
        return Err(TopologyError::Empty);
    }
    let (mut seen, mut topics) = (BTreeSet::new(), BTreeSet::new());
    for node in nodes {
        if !seen.insert(&node.name) {
            return Err(TopologyError::DuplicateName {
                name: node.name.clone(),
            });
        }
        if let NodeKind::Source(topic) = &node.kind
            && !topics.insert(topic)
        {
            return Err(TopologyError::TopicReadTwice {
                topic: topic.to_string(),
            });
        }
        if let NodeKind::Sink(TopicRef::Repartition { name, .. }) = &node.kind {
            check_name(name)?;
        }
    }
    stores.keys().try_for_each(|name| check_name(name))
}

/// Names become parts of topic names, so Kafka's rule for those holds.
fn check_name(name: &str) -> Result<(), TopologyError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let reason = match name {
        "" => {
            "it is empty; stateful nodes need a name, so that a changed topology finds its state again"
        }
        _ if name.len() > 200 => "it is longer than 200 characters",
        _ if !name.chars().all(legal) => "only ASCII letters, digits, '.', '_' and '-' are allowed",
        _ => return Ok(()),
    };
    Err(TopologyError::InvalidName {
        name: name.to_owned(),
        reason,
    })
}
