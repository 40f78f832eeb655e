//! Every metric of the broker: its name in one table, its value read when somebody asks.
//!
//! Rendered by `http.rs`. Names are those that existing dashboards query: family A as the JMX exporter spells Kafka's beans, family B
//! as kafka_exporter spells topics and groups, family C our own. Nothing is copied per record: partitions and the dispatcher count,
//! this file reads. Above [`PARTITIONS_MAX`] partitions the families with one series a partition are left out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flumen_protocol::api::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::cluster::image::ClusterImage;
use crate::dispatch::SERVED;
use crate::node::Node;
use crate::partition::Partition;

/// More partitions than this have no series of their own.
const PARTITIONS_MAX: usize = 5_000;
/// Upper bounds of the request histogram, seconds.
const BOUNDS: [f64; 10] = [
    0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0,
];

/// What is counted as it happens; everything else is read from the state that is there.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Vec<Requests>,
    pub(crate) connections: AtomicU64,
}

/// Requests of one API.
#[derive(Debug)]
struct Requests {
    answered: AtomicU64,
    seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let requests = SERVED.iter().map(|_| Requests {
            answered: AtomicU64::new(0),
            seconds: Histogram::new(BOUNDS),
        });
        Metrics {
            requests: requests.collect(),
            connections: AtomicU64::new(0),
        }
    }

    /// A request has its answer.
    pub(crate) fn on_request(&self, api: ApiKey, took: Duration) {
        let Some(at) = SERVED.iter().position(|served| *served == api) else {
            return;
        };
        self.requests[at].answered.fetch_add(1, Ordering::Relaxed);
        self.requests[at].seconds.observe(took.as_secs_f64());
    }
}

/// What one partition moved since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) records_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

/// The text of a scrape.
pub(crate) async fn render(node: &Node) -> Result<String, fmt::Error> {
    let mut families = Families::default();
    requests(node, &mut families);
    cluster(node, &mut families);
    cleaner(node, &mut families);
    partitions(node, &mut families);
    groups(node, &mut families).await;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

type Labels = Vec<(&'static str, String)>;

/// One scrape: name → what it means, what it is, its series.
#[derive(Debug, Default)]
struct Families(BTreeMap<&'static str, Family>);

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: MetricType,
    series: Vec<(Labels, Value)>,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Histogram(Histogram),
}

impl Value {
    fn encode(&self, kind: MetricType, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match (self, kind) {
            (Value::Histogram(histogram), _) => histogram.encode(encoder),
            (Value::Number(number), MetricType::Counter) => {
                ConstCounter::new(*number).encode(encoder)
            }
            (Value::Number(number), _) => ConstGauge::new(*number).encode(encoder),
        }
    }
}

impl Families {
    fn add(
        &mut self,
        kind: MetricType,
        (name, help): (&'static str, &'static str),
        labels: Labels,
        value: Value,
    ) {
        let family = self.0.entry(name).or_insert_with(|| Family {
            help,
            kind,
            series: Vec::new(),
        });
        family.series.push((labels, value));
    }

    fn gauge(&mut self, named: (&'static str, &'static str), labels: Labels, value: f64) {
        self.add(MetricType::Gauge, named, labels, Value::Number(value));
    }

    /// Exposed with `_total` at the end of its name.
    fn counter(&mut self, named: (&'static str, &'static str), labels: Labels, value: f64) {
        self.add(MetricType::Counter, named, labels, Value::Number(value));
    }

    fn histogram(&mut self, named: (&'static str, &'static str), labels: Labels, value: Histogram) {
        self.add(
            MetricType::Histogram,
            named,
            labels,
            Value::Histogram(value),
        );
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (name, family) in &self.0 {
            let mut described = encoder.encode_descriptor(name, family.help, None, family.kind)?;
            for (labels, value) in &family.series {
                if labels.is_empty() {
                    value.encode(family.kind, described)?;
                    break;
                }
                let labels: Vec<(&str, &str)> = labels
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                value.encode(family.kind, described.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a 64-bit float by its format"
)]
fn float(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a 64-bit float by its format"
)]
fn signed(value: i64) -> f64 {
    value as f64
}

fn requests(node: &Node, families: &mut Families) {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (api, requests) in SERVED.iter().zip(&node.metrics.requests) {
        let answered = load(&requests.answered);
        if answered == 0 {
            continue;
        }
        let named = (
            "kafka_network_requestmetrics_requests",
            "Requests that were answered",
        );
        let labels = vec![("request", api.name().to_owned())];
        families.counter(named, labels, float(answered));
        let named = (
            "flumen_request_duration_seconds",
            "From a request decoded to its answer known; fetches wait as long as they are told to",
        );
        let labels = vec![("api", api.name().to_owned())];
        families.histogram(named, labels, requests.seconds.clone());
    }
    families.gauge(
        (
            "kafka_server_socket_server_metrics_connection_count",
            "Open connections",
        ),
        vec![("listener", "PLAINTEXT".to_owned())],
        float(load(&node.metrics.connections)),
    );
}

fn cluster(node: &Node, families: &mut Families) {
    let image = node.cluster.image();
    let partitions = image
        .topics()
        .map(|topic| topic.partitions.len() as u64)
        .sum::<u64>();
    let all = image.topics().flat_map(|topic| &topic.partitions);
    let under_replicated = all.filter(|p| p.isr.len() < p.replicas.len()).count() as u64;
    let open = node.partitions.all().len() as u64;
    let fenced = node.replicas.fenced().is_some();
    let down = float(u64::from(fenced));
    let gauges = [
        (
            "kafka_brokers",
            "Brokers of the cluster",
            float(image.brokers().count() as u64),
        ),
        (
            "kafka_controller_kafkacontroller_activecontrollercount",
            "Whether this node is the controller",
            1.0,
        ),
        (
            "kafka_controller_kafkacontroller_globaltopiccount",
            "Topics of the cluster",
            float(image.topics().count() as u64),
        ),
        (
            "kafka_controller_kafkacontroller_globalpartitioncount",
            "Partitions of the cluster",
            float(partitions),
        ),
        (
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions without a log that can be read",
            float(partitions.saturating_sub(open)),
        ),
        (
            "kafka_server_replicamanager_leadercount",
            "Partitions this broker leads",
            float(open),
        ),
        (
            "kafka_server_replicamanager_partitioncount",
            "Partitions on this broker",
            float(open),
        ),
        (
            "kafka_server_replicamanager_offlinereplicacount",
            "Replicas on this broker that cannot be served",
            float(partitions.saturating_sub(open)),
        ),
        (
            "kafka_server_replicamanager_underreplicatedpartitions",
            "Partitions with fewer replicas in sync than they have",
            float(under_replicated),
        ),
        (
            "kafka_log_logmanager_offlinelogdirectorycount",
            "Log directories that take no more writes",
            down,
        ),
    ];
    for (name, help, value) in gauges {
        families.gauge((name, help), Vec::new(), value);
    }
    topics(&image, families);
}

fn cleaner(node: &Node, families: &mut Families) {
    let stats = node.replicas.cleaner();
    for (name, help, value) in [
        (
            "kafka_log_logcleanermanager_uncleanable_partitions_count",
            "Logs that are not compacted any more, as a batch in them cannot be read",
            float(stats.uncleanable as u64),
        ),
        (
            "kafka_log_logcleanermanager_max_dirty_percent",
            "Share of the dirtiest compacted log that is not compacted, at the last look",
            stats.dirty_percent_max,
        ),
        (
            "kafka_log_logcleanermanager_time_since_last_run_ms",
            "Since the last look for logs to compact",
            signed(stats.idle_ms),
        ),
    ] {
        families.gauge((name, help), Vec::new(), value);
    }
}

fn topics(image: &ClusterImage, families: &mut Families) {
    for topic in image.topics() {
        families.gauge(
            ("kafka_topic_partitions", "Partitions of a topic"),
            vec![("topic", topic.name.clone())],
            float(topic.partitions.len() as u64),
        );
    }
}

fn partitions(node: &Node, families: &mut Families) {
    let (all, image) = (node.partitions.all(), node.cluster.image());
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut topics: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for partition in &all {
        let traffic = &partition.traffic;
        let moved = [&traffic.bytes_in, &traffic.records_in, &traffic.bytes_out];
        let sums = topics.entry(&partition.name().topic).or_default();
        for (sum, counter) in sums.iter_mut().zip(moved) {
            *sum += load(counter);
        }
        if all.len() <= PARTITIONS_MAX {
            partition_gauges(&image, partition, families);
        }
    }
    for (topic, sums) in topics {
        for (named, value) in TRAFFIC.into_iter().zip(sums) {
            let labels = vec![("topic", topic.to_owned())];
            families.counter(named, labels, float(value));
        }
    }
}

/// Of a topic: in the order of [`Traffic`].
const TRAFFIC: [(&str, &str); 3] = [
    ("kafka_server_brokertopicmetrics_bytesin", "Bytes produced"),
    (
        "kafka_server_brokertopicmetrics_messagesin",
        "Records produced",
    ),
    ("kafka_server_brokertopicmetrics_bytesout", "Bytes fetched"),
];

fn partition_gauges(image: &ClusterImage, partition: &Partition, families: &mut Families) {
    let (log, name) = (partition.log(), partition.name());
    let topic = image.topic_by_id(partition.topic_id());
    let number = usize::try_from(name.partition).unwrap_or(usize::MAX);
    // A topic that was deleted since the image was taken has no series any more.
    let Some(placed) = topic.and_then(|topic| topic.partitions.get(number)) else {
        return;
    };
    let (replicas, in_sync) = (placed.replicas.len() as u64, placed.isr.len() as u64);
    let (start, end) = (log.log_start_offset(), partition.high_watermark());
    for (family, help, value) in [
        (
            "kafka_log_log_size",
            "Bytes of its segments",
            float(log.size()),
        ),
        (
            "kafka_log_log_logstartoffset",
            "First offset",
            signed(start),
        ),
        (
            "kafka_log_log_logendoffset",
            "Offset after the last record",
            signed(log.log_end_offset()),
        ),
        (
            "kafka_topic_partition_oldest_offset",
            "First offset",
            signed(start),
        ),
        (
            "kafka_topic_partition_current_offset",
            "First offset that no consumer sees yet",
            signed(end),
        ),
        (
            "kafka_topic_partition_leader",
            "Who leads it",
            f64::from(placed.leader),
        ),
        (
            "kafka_topic_partition_replicas",
            "How many hold it",
            float(replicas),
        ),
        (
            "kafka_topic_partition_in_sync_replica",
            "How many are in sync",
            float(in_sync),
        ),
        (
            "kafka_topic_partition_under_replicated_partition",
            "Whether fewer are in sync than hold it",
            float(u64::from(in_sync < replicas)),
        ),
    ] {
        let labels = vec![
            ("topic", name.topic.clone()),
            ("partition", name.partition.to_string()),
        ];
        families.gauge((family, help), labels, value);
    }
}

/// A group whose coordinator is still loading has no series this time.
async fn groups(node: &Node, families: &mut Families) {
    let listed = node.coordinators.groups.list().await.unwrap_or_default();
    families.gauge(
        (
            "kafka_coordinator_group_groupmetadatamanager_numgroups",
            "Groups this broker coordinates",
        ),
        Vec::new(),
        float(listed.len() as u64),
    );
    let mut series = 0;
    for group in listed {
        let id = ("consumergroup", group.group_id.clone());
        if let Ok(Some(described)) = node.coordinators.groups.describe(&group.group_id).await {
            families.gauge(
                ("kafka_consumergroup_members", "Members of a group"),
                vec![id.clone()],
                float(described.members.len() as u64),
            );
        }
        let fetched = node
            .coordinators
            .groups
            .fetch(&group.group_id, None, false)
            .await;
        let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for fetched in fetched.unwrap_or_default() {
            let Ok(Some(committed)) = fetched.offset else {
                continue;
            };
            let at = fetched.partition;
            let end = match node.partitions.opened(&at.topic, at.partition) {
                Ok(partition) => partition.high_watermark(),
                Err(ErrorCode::UnknownTopicOrPartition) => continue,
                Err(_) => committed.offset,
            };
            // A lag below zero breaks whoever scales by it.
            let lag = (end - committed.offset).max(0);
            let sum = sums.entry(at.topic.clone()).or_default();
            (sum.0, sum.1) = (sum.0 + committed.offset, sum.1 + lag);
            series += 1;
            if series > PARTITIONS_MAX {
                continue;
            }
            let labels = vec![
                id.clone(),
                ("topic", at.topic.clone()),
                ("partition", at.partition.to_string()),
            ];
            let current = ("kafka_consumergroup_current_offset", "What is committed");
            families.gauge(current, labels.clone(), signed(committed.offset));
            let behind = ("kafka_consumergroup_lag", "Records not committed yet");
            families.gauge(behind, labels, signed(lag));
        }
        for (topic, (offsets, lag)) in sums {
            let labels = vec![id.clone(), ("topic", topic)];
            let current = ("kafka_consumergroup_current_offset_sum", "Over a topic");
            families.gauge(current, labels.clone(), signed(offsets));
            let behind = ("kafka_consumergroup_lag_sum", "Over a topic");
            families.gauge(behind, labels, signed(lag));
        }
    }
}
