//! The data directory of this broker: opens the logs that the cluster image says are here, follows its changes, looks for old
//! segments, and closes everything at the end.
//!
//! The driver between `cluster` (what should be) and `flumen_log` (what lies on disk). Requests never come here; they find their
//! partition in [`Partitions`].

mod unopened;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flumen_log::config::FlushMode;
use flumen_log::dir::{Identity, LogDir};
use flumen_log::disk::{Disk, Space};
use flumen_log::{Log, LogConfig, OpenError, ReadError};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{Offset, TopicId, TopicPartition};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cleaner::{Cleaner, CleanerParts, CleanerStats};
use crate::cluster::controller::METADATA_TOPIC;
use crate::cluster::image::{ClusterImage, TopicImage};
use crate::cluster::record::{MetadataRecord, PartitionRecord, ResourceKind};
use crate::config::BrokerConfig;
use crate::config::live::LiveConfig;
use crate::driver::Drivers;
use crate::flush::FlushConductor;
use crate::partition::leader::Durability;
use crate::partition::table::{Partitions, Topic};
use crate::partition::{Partition, PartitionParts};
use crate::scrub;
use unopened::{Unopened, Wanted};

/// Recovery points move this often, and whenever much was appended: what was appended since is scanned after a crash.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// How often idle producers are looked for (Kafka: `producer.id.expiration.check.interval.ms`).
const EXPIRY_EVERY: Duration = Duration::from_secs(600);
/// A shorter `flush.ms` than this would keep the broker busy with itself.
const FLUSH_EVERY_MIN: Duration = Duration::from_millis(100);
/// One node has no registration epochs.
const NO_BROKER_EPOCH: i64 = -1;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Replicas {
    config: Arc<BrokerConfig>,
    live: Arc<LiveConfig>,
    /// A topic came, or its configuration changed: what upkeep waits for may be due earlier.
    adopted: Notify,
    drivers: Drivers,
    partitions: Arc<Partitions>,
    flush: Arc<FlushConductor>,
    metadata: Arc<Log>,
    dir: Arc<LogDir>,
    cleaner: Arc<Cleaner>,
    unopened: Unopened,
}

impl Replicas {
    /// Opens the data directory and the metadata log. A new directory begins a new cluster.
    pub(crate) async fn open(
        config: Arc<BrokerConfig>,
        drivers: Drivers,
    ) -> Result<Arc<Replicas>, OpenError> {
        let fresh = Identity {
            cluster_id: TopicId(drivers.random_id()).to_string(),
            node_id: config.node_id,
            directory_id: TopicId(drivers.random_id()),
        };
        let (disk, path) = (Arc::clone(&drivers.disk), config.data_dir());
        let (dir, metadata) = drivers
            .blocking(move || {
                let metadata_dir = path.join(metadata_partition().to_string());
                refuse_metadata_of_kafka(&*disk, &metadata_dir)?;
                let dir = LogDir::open(disk, &path, &fresh)?;
                let keep = BTreeMap::from([("cleanup.policy".to_owned(), String::new())]);
                let config = LogConfig::parse(&keep, &BTreeMap::new())
                    .expect("an empty policy keeps everything");
                let metadata = dir.open_log(&metadata_partition(), None, config)?;
                Ok::<_, OpenError>((dir, metadata))
            })
            .await?;
        let threads = usize::try_from(config.num_flush_threads).unwrap_or(1);
        let (dir, partitions) = (Arc::new(dir), Arc::new(Partitions::default()));
        let flush = FlushConductor::new(threads);
        let live = Arc::new(LiveConfig::new(Arc::clone(&config)));
        let cleaner = Cleaner::new(CleanerParts {
            live: Arc::clone(&live),
            dir: Arc::clone(&dir),
            partitions: Arc::clone(&partitions),
            flush: Arc::clone(&flush),
            drivers: drivers.clone(),
        });
        Ok(Arc::new(Replicas {
            flush,
            cleaner,
            partitions,
            metadata,
            dir,
            unopened: Unopened::default(),
            live,
            adopted: Notify::new(),
            config,
            drivers,
        }))
    }

    pub(crate) fn drivers(&self) -> &Drivers {
        &self.drivers
    }

    /// The configuration in force.
    pub(crate) fn live(&self) -> &LiveConfig {
        &self.live
    }

    pub(crate) fn partitions(&self) -> Arc<Partitions> {
        Arc::clone(&self.partitions)
    }

    pub(crate) fn metadata_log(&self) -> Arc<Log> {
        Arc::clone(&self.metadata)
    }

    pub(crate) fn cluster_id(&self) -> String {
        self.dir.identity().cluster_id.clone()
    }

    /// Opens every partition of the image, several at a time. Directories of partitions that the image does not know are renamed and
    /// kept: missing metadata is no reason to delete data. One that says it belongs to another topic of the same name stays where it
    /// is, and the partition closed: a flipped bit in its topic id must not make room for an empty log.
    pub(crate) async fn open_all(self: &Arc<Self>, image: &ClusterImage) -> Result<(), OpenError> {
        self.live.follow(image);
        for found in self.dir.found() {
            let known = image.topic(&found.partition.topic).is_some_and(|topic| {
                usize::try_from(found.partition.partition).is_ok_and(|n| n < topic.partitions.len())
            });
            if !known && found.partition != metadata_partition() {
                self.set_aside(&found.partition).await;
            }
        }
        let topics: Vec<_> = image.topics().cloned().collect();
        let each = topics.into_iter().map(|topic| {
            let (replicas, set) = (Arc::clone(self), topic_configs(image, &topic.name));
            self.drivers
                .blocking(move || replicas.open_topic(&topic, &set, None))
        });
        for opened in futures_util::future::join_all(each).await {
            self.partitions.insert(opened?);
        }
        self.settle_recovered().await;
        Ok(())
    }

    /// After a crash: what was recovered beyond the durable end is made durable before anybody is served, so that a restart does
    /// not take the high watermark back.
    async fn settle_recovered(&self) {
        let mut recovered = self.partitions.all();
        recovered.retain(|partition| partition.high_watermark() < partition.log().log_end_offset());
        if recovered.is_empty() {
            return;
        }
        let logs: Vec<Arc<Log>> = recovered
            .iter()
            .map(|partition| Arc::clone(partition.log()))
            .collect();
        let flushed = self
            .drivers
            .blocking(move || flumen_log::flush_many(&logs))
            .await;
        for (partition, flushed) in recovered.iter().zip(flushed) {
            match flushed {
                Ok(durable_end) => partition.on_flushed(durable_end),
                Err(error) => {
                    tracing::error!(partition = %partition.name(), %error, "recovered records stay hidden")
                }
            }
        }
    }

    async fn set_aside(self: &Arc<Self>, partition: &TopicPartition) {
        let (dir, partition) = (Arc::clone(&self.dir), partition.clone());
        let aside = self
            .drivers
            .blocking(move || (dir.set_aside(&partition), partition))
            .await;
        match aside {
            (Ok(Some(path)), partition) => {
                tracing::warn!(%partition, path = %path.display(), "a log that no topic knows was set aside");
            }
            (Ok(None), _) => {}
            (Err(error), partition) => {
                tracing::warn!(%partition, %error, "a log that no topic knows stays")
            }
        }
    }

    fn open_topic(
        &self,
        topic: &TopicImage,
        set: &BTreeMap<String, String>,
        open: Option<&Topic>,
    ) -> Result<Topic, OpenError> {
        let config = self.topic_config(set);
        let partitions = topic
            .partitions
            .iter()
            .map(|record| {
                match open.and_then(|open| open.partitions.get(record.partition as usize)) {
                    Some(there) => Ok(there.clone()),
                    None => self.open_partition(topic, &config, record),
                }
            })
            .collect::<Result<Vec<_>, OpenError>>()?;
        Ok(Topic {
            name: topic.name.clone(),
            id: topic.id,
            partitions,
        })
    }

    fn open_partition(
        &self,
        topic: &TopicImage,
        config: &LogConfig,
        record: &PartitionRecord,
    ) -> Result<Option<Arc<Partition>>, OpenError> {
        let name = TopicPartition::new(topic.name.clone(), record.partition);
        let log = match self.dir.open_log(&name, Some(topic.id), config.clone()) {
            // The others are not to suffer for it.
            Err(error) if error.is_damage() => {
                tracing::error!(
                    partition = %name, %error,
                    "partition is damaged and stays closed: bring back its directory from a copy and restart, or move it away and lose its records"
                );
                return Ok(None);
            }
            opened => opened?,
        };
        Ok(Some(Partition::new(PartitionParts {
            name,
            topic_id: topic.id,
            leader_epoch: record.leader_epoch,
            log,
            durability: durability(topic, config),
            flush: Arc::clone(&self.flush),
        })))
    }

    /// What was set for the topic over the broker's defaults over Kafka's. All of it was checked when it was set.
    fn topic_config(&self, set: &BTreeMap<String, String>) -> LogConfig {
        LogConfig::parse(set, &self.live.now().log_defaults).unwrap_or_else(|error| {
            tracing::error!(%error, "a topic's configuration cannot be read any more; its defaults are used");
            LogConfig::default()
        })
    }

    /// Makes the disk follow `records`, which led to `image`.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        image: &Arc<ClusterImage>,
        records: &[MetadataRecord],
    ) {
        let mut touched: BTreeSet<TopicId> = BTreeSet::new();
        for record in records {
            match record {
                MetadataRecord::Topic(topic) => {
                    touched.insert(topic.id);
                }
                MetadataRecord::Partition(partition) => {
                    touched.insert(partition.topic_id);
                }
                MetadataRecord::RemoveTopic(remove) => self.remove(remove.id).await,
                MetadataRecord::Config(config) if config.kind == ResourceKind::Topic => {
                    touched.extend(image.topic(&config.resource).map(|topic| topic.id));
                }
                MetadataRecord::Config(_) => {
                    self.live.follow(image);
                    self.cleaner.reconfigured();
                    // Defaults of topics may have changed.
                    touched.extend(image.topics().map(|topic| topic.id));
                }
                _ => {}
            }
        }
        for topic in touched.into_iter().filter_map(|id| image.topic_by_id(id)) {
            self.adopt(image, topic).await;
        }
    }

    /// Opens a topic or what of it is new, and gives what is open its new configuration.
    async fn adopt(self: &Arc<Self>, image: &ClusterImage, topic: &Arc<TopicImage>) {
        self.adopt_now(image, topic).await;
        self.adopted.notify_one();
    }

    async fn adopt_now(self: &Arc<Self>, image: &ClusterImage, topic: &Arc<TopicImage>) {
        let set = topic_configs(image, &topic.name);
        let open = self.partitions.topic_by_id(topic.id);
        if let Some(open) = &open {
            let config = self.topic_config(&set);
            for partition in open.partitions.iter().flatten() {
                partition.log().set_config(config.clone());
                partition.set_durability(durability(topic, &config));
            }
            if open.partitions.len() == topic.partitions.len() {
                return;
            }
        }
        let topic = Arc::clone(topic);
        self.open_or_try_again(Wanted { topic, set }).await;
    }

    async fn remove(self: &Arc<Self>, id: TopicId) {
        self.forget_unopened(id).await;
        let Some(topic) = self.partitions.remove(id) else {
            return;
        };
        for partition in topic.partitions.iter().flatten() {
            let (dir, name) = (Arc::clone(&self.dir), partition.name().clone());
            let deleted = self.drivers.blocking(move || dir.delete_log(&name)).await;
            if let Err(error) = deleted {
                tracing::warn!(partition = %partition.name(), %error, "log of a deleted topic stays until the next start");
            }
        }
    }

    /// Moves the start of a log up to `offset`, durably, and says where it is now.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE`; `KAFKA_STORAGE_ERROR` if it could not be written down.
    pub(crate) async fn delete_records(
        &self,
        partition: &Arc<Partition>,
        offset: Offset,
    ) -> Result<Offset, ErrorCode> {
        let (dir, of) = (Arc::clone(&self.dir), Arc::clone(partition));
        let moved = self
            .drivers
            .blocking(move || dir.delete_records(of.name(), of.log(), offset));
        moved.await.map_err(|error| match error {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            error => {
                tracing::error!(partition = %partition.name(), %error, "the start of a log cannot be moved");
                ErrorCode::KafkaStorageError
            }
        })
    }

    /// Why the data directory takes no more writes, once a flush has failed.
    pub(crate) fn fenced(&self) -> Option<String> {
        self.flush.fenced()
    }

    /// The data directory, and the size of the file system it is on.
    pub(crate) fn data_dir(&self) -> (&Path, Option<Space>) {
        let path = self.dir.path();
        (path, self.drivers.disk.space(path))
    }

    /// What the cleaner does.
    pub(crate) fn cleaner(&self) -> CleanerStats {
        self.cleaner.stats()
    }

    /// End of the log of cluster metadata.
    pub(crate) fn metadata_end(&self) -> Offset {
        self.metadata.log_end_offset()
    }

    /// Starts what runs in the background until `stop`.
    pub(crate) fn start(self: &Arc<Self>, stop: &CancellationToken) {
        self.drivers
            .spawn("flush", Arc::clone(&self.flush).run(self.drivers.clone()));
        self.drivers
            .spawn("upkeep", Arc::clone(self).upkeep(stop.clone()));
        let (dir, drivers) = (Arc::clone(&self.dir), self.drivers.clone());
        self.drivers
            .spawn("scrub", scrub::run(dir, drivers, stop.clone()));
        self.cleaner.start(stop);
    }

    /// Looks for old segments, old producers and recovery points that can move, each in its own interval.
    async fn upkeep(self: Arc<Self>, stop: CancellationToken) {
        let millis = |n: i64| Duration::from_millis(u64::try_from(n).unwrap_or(0));
        let clock = Arc::clone(&self.drivers.clock);
        let start = clock.now();
        let mut retention = start + millis(self.config.log_initial_task_delay_ms);
        let mut checkpoint = start + CHECKPOINT_EVERY;
        let mut expiry = start + EXPIRY_EVERY;
        let mut flushed = start;
        loop {
            let flush = self.flush_every().map(|every| flushed + every);
            let due = retention.min(checkpoint).min(expiry);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = clock.sleep_until(flush.map_or(due, |flush| flush.min(due))) => {}
                () = self.flush.checkpoint_due() => checkpoint = clock.now(),
                () = self.adopted.notified() => {}
            }
            let now = clock.now();
            if flush.is_some_and(|flush| now >= flush) {
                self.flush_what_is_left();
                flushed = now;
            }
            if now >= retention {
                self.retention().await;
                retention = clock.now() + millis(self.config.log_retention_check_interval_ms);
            }
            if now >= checkpoint {
                self.checkpoint().await;
                checkpoint = clock.now() + CHECKPOINT_EVERY;
            }
            if now >= expiry {
                self.expire_producers();
                expiry = clock.now() + EXPIRY_EVERY;
            }
        }
    }

    /// The shortest `flush.ms` of topics that do not wait for the disk; none, if no such topic has one.
    fn flush_every(&self) -> Option<Duration> {
        let partitions = self.partitions.all();
        let configs = partitions.iter().map(|partition| partition.log().config());
        let timed = configs.filter(|config| has_flush_timer(config));
        let shortest = timed.map(|config| config.flush_ms).min()?;
        Some(Duration::from_millis(shortest).max(FLUSH_EVERY_MIN))
    }

    fn flush_what_is_left(&self) {
        for partition in self.partitions.all() {
            if has_flush_timer(&partition.log().config()) {
                partition.flush_what_is_left();
            }
        }
    }

    /// One pass over all logs: deletes what their topics no longer keep, below their high watermarks.
    async fn retention(self: &Arc<Self>) {
        let (replicas, now_ms) = (Arc::clone(self), self.drivers.clock.wall_ms());
        let bound = move || {
            replicas.dir.retention_pass(now_ms, |name, log| {
                // The metadata log has no partition: what its replay needs is never old.
                replicas
                    .partitions
                    .get(name)
                    .map_or(log.log_start_offset(), |partition| {
                        partition.high_watermark()
                    })
            })
        };
        match self.drivers.blocking(bound).await {
            Ok(deleted) => {
                for (partition, deleted) in deleted {
                    tracing::info!(%partition, ?deleted, "old segments deleted");
                }
            }
            Err(error) => tracing::warn!(%error, "no segment was deleted"),
        }
    }

    async fn checkpoint(self: &Arc<Self>) {
        if self.flush.fenced().is_some() {
            return;
        }
        let dir = Arc::clone(&self.dir);
        if let Err(error) = self.drivers.blocking(move || dir.checkpoint()).await {
            tracing::warn!(%error, "recovery points stay where they were");
        }
    }

    fn expire_producers(&self) {
        let now_ms = self.drivers.clock.wall_ms();
        let idle_max = i64::from(self.live.now().producer_id_expiration_ms);
        for (_, log) in self.dir.logs() {
            log.expire_producers(now_ms, idle_max);
        }
    }

    /// Flushes and closes everything, and marks the stop as clean. Nothing may be appended any more.
    pub(crate) async fn close(&self) {
        self.flush.drained().await;
        let dir = Arc::clone(&self.dir);
        let epoch = NO_BROKER_EPOCH;
        if let Err(error) = self.drivers.blocking(move || dir.close(epoch)).await {
            tracing::error!(%error, "the stop is not a clean one: the next start recovers");
        }
    }
}

/// Apache Kafka keeps its cluster metadata in a directory of the same name, in records of its own. Taken for ours they would be an
/// error nobody understands, or, where a snapshot has replaced them, a cluster without topics that sets every log aside.
fn refuse_metadata_of_kafka(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let kafkas = |name: &str| name == "quorum-state" || name.ends_with(".checkpoint");
    // A directory that is not there holds nothing.
    let entries = disk.list(dir).unwrap_or_default();
    match entries.iter().find(|entry| kafkas(&entry.name)) {
        None => Ok(()),
        Some(entry) => Err(OpenError::Mismatch {
            path: dir.join(&entry.name),
            reason: "the metadata of an Apache Kafka cluster is not taken over. Begin with an empty directory, create the topics, stop, and \
                     put the files of their partitions (all but partition.metadata) in place: docs/compatibility.md"
                .to_owned(),
        }),
    }
}

/// The directory of cluster metadata; it is no topic that a client could name or create.
fn metadata_partition() -> TopicPartition {
    TopicPartition::new(METADATA_TOPIC, 0)
}

fn topic_configs(image: &ClusterImage, topic: &str) -> BTreeMap<String, String> {
    image
        .config(ResourceKind::Topic, topic)
        .cloned()
        .unwrap_or_default()
}

/// Whether the topic's records reach the disk by the clock.
fn has_flush_timer(config: &LogConfig) -> bool {
    config.flush_mode == FlushMode::Async && config.flush_ms < i64::MAX.unsigned_abs()
}

/// Offsets, transactions and metadata are always on disk before their reply.
fn durability(topic: &TopicImage, config: &LogConfig) -> Durability {
    match config.flush_mode {
        // A flush after every record is one before its acknowledgement, as in Kafka.
        FlushMode::Async if !topic.is_internal() && config.flush_messages > 1 => {
            Durability::Written {
                flush_messages: config.flush_messages,
            }
        }
        _ => Durability::Flushed,
    }
}
