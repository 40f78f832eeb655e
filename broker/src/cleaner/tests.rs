//! The configuration changes while logs are being cleaned, in virtual time.

use flumen_log::LogConfig;
use flumen_log::config::CleanupPolicy;
use flumen_log::dir::Identity;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::id::TopicId;

use super::*;
use crate::clock::Instant;
use crate::cluster::image::ClusterImage;
use crate::cluster::record::{ConfigRecord, MetadataRecord, ResourceKind};
use crate::config::BrokerConfig;
use crate::partition::leader::Durability;
use crate::partition::table::Topic;
use crate::partition::{Partition, PartitionParts};

const HOUR: (&str, &str) = ("log.cleaner.backoff.ms", "3600000");
const SOON: (&str, &str) = ("log.cleaner.backoff.ms", "1000");
/// At least, of each log.
const DIRTY_BYTES: u64 = 90_000;

struct Bench {
    cleaner: Arc<Cleaner>,
    image: ClusterImage,
    logs: Vec<Arc<Partition>>,
    stop: CancellationToken,
    _temp: tempfile::TempDir,
}

impl Bench {
    /// Dirty logs, and a cleaner that was started.
    fn start(logs: usize, properties: &[(&str, &str)]) -> Bench {
        let temp = tempfile::TempDir::new().unwrap();
        let identity = Identity {
            cluster_id: "cluster".to_owned(),
            node_id: 1,
            directory_id: TopicId([1; 16]),
        };
        let drivers = Drivers::os();
        let dir = LogDir::open(Arc::clone(&drivers.disk), temp.path(), &identity).unwrap();
        let config = BrokerConfig::from_properties(properties.iter().copied()).unwrap();
        let parts = CleanerParts {
            live: Arc::new(LiveConfig::new(Arc::new(config))),
            dir: Arc::new(dir),
            partitions: Arc::new(Partitions::default()),
            flush: FlushConductor::new(1),
            drivers,
        };
        let opened = (0..logs).map(|i| open(&parts, i));
        let bench = Bench {
            logs: opened.collect(),
            cleaner: Cleaner::new(parts),
            image: ClusterImage::default(),
            stop: CancellationToken::new(),
            _temp: temp,
        };
        bench.fill();
        bench.cleaner.start(&bench.stop);
        bench
    }

    /// One key, over and over, in closed segments.
    fn fill(&self) {
        for partition in &self.logs {
            for _ in 0..100 {
                let mut batch = BatchBuilder::new(BatchOptions::default());
                batch.push(1_000, Some(b"key"), Some(&[b'v'; 900]), &[]);
                let how = flumen_log::AppendAs::client(0);
                partition.append(batch.build(), &how, 1_000).unwrap();
            }
            partition.log().roll().unwrap();
            partition.on_flushed(partition.log().flush().unwrap());
        }
    }

    fn set(&mut self, (key, value): (&str, &str)) {
        self.image.apply(&MetadataRecord::Config(ConfigRecord {
            kind: ResourceKind::Broker,
            resource: String::new(),
            key: key.to_owned(),
            value: Some(value.to_owned()),
        }));
        self.cleaner.parts.live.follow(&self.image);
        self.cleaner.reconfigured();
    }

    fn now(&self) -> Instant {
        self.cleaner.parts.drivers.clock.now()
    }

    /// How long it took until it was so; an hour at most.
    async fn until(&self, is_so: impl Fn(&Bench) -> bool) -> Duration {
        let begin = self.now();
        while !is_so(self) {
            assert!(self.now() < begin + Duration::from_secs(3_600), "never");
            self.pass(Duration::from_millis(100)).await;
        }
        self.now() - begin
    }

    async fn pass(&self, time: Duration) {
        self.cleaner.parts.drivers.clock.sleep(time).await;
    }

    fn is_clean(&self) -> bool {
        let left = |partition: &Arc<Partition>| partition.log().size();
        self.logs.iter().all(|log| left(log) < DIRTY_BYTES / 4) && self.busy() == 0
    }

    fn busy(&self) -> usize {
        self.cleaner.state.lock().in_progress.len()
    }

    fn cleaners(&self) -> i32 {
        self.cleaner.state.lock().cleaners
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn open(parts: &CleanerParts, number: usize) -> Arc<Partition> {
    let name = TopicPartition::new(format!("t{number}"), 0);
    let config = LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        segment_bytes: 10_000,
        index_bytes: 4_096,
        ..LogConfig::default()
    };
    let id = TopicId([u8::try_from(number).unwrap() + 2; 16]);
    let partition = Partition::new(PartitionParts {
        log: parts.dir.open_log(&name, Some(id), config).unwrap(),
        name,
        topic_id: id,
        leader_epoch: 0,
        durability: Durability::Flushed,
        flush: Arc::clone(&parts.flush),
    });
    parts.partitions.insert(Topic {
        name: partition.name().topic.clone(),
        id,
        partitions: vec![Some(Arc::clone(&partition))],
    });
    partition
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_next_look_takes_over_another_pause() {
    let mut bench = Bench::start(1, &[HOUR]);
    bench.pass(Duration::from_secs(1_800)).await;
    assert!(!bench.is_clean(), "it pauses");
    bench.set(SOON);
    for _ in 0..2 {
        let took = bench.until(Bench::is_clean).await;
        assert!(took < Duration::from_secs(3), "{took:?}");
        bench.fill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cleaning_takes_over_another_rate() {
    let crawl = ("log.cleaner.io.max.bytes.per.second", "0.5");
    let mut bench = Bench::start(1, &[SOON, crawl]);
    bench.pass(Duration::from_secs(5_400)).await;
    assert!(!bench.is_clean() && bench.busy() == 1, "it crawls");
    bench.set(("log.cleaner.io.max.bytes.per.second", "1e9"));
    let took = bench.until(Bench::is_clean).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn all_cleaners_together_keep_one_rate() {
    for cleaners in ["1", "2"] {
        let rate = ("log.cleaner.io.max.bytes.per.second", "10000");
        let bench = Bench::start(2, &[SOON, rate, ("log.cleaner.threads", cleaners)]);
        let bytes: u64 = bench.logs.iter().map(|log| log.log().size()).sum();
        let took = bench.until(Bench::is_clean).await;
        // Everything is read twice: for its keys, and for what stays, which is next to nothing.
        let least = 2.0 * bytes as f64 / 10_000.0;
        let within = least * 0.95..least * 1.2;
        assert!(
            within.contains(&took.as_secs_f64()),
            "{cleaners}: {took:?}, {least}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn cleaners_come_when_there_are_to_be_more_and_go_when_they_are_done() {
    let crawl = ("log.cleaner.io.max.bytes.per.second", "10");
    let mut bench = Bench::start(3, &[SOON, crawl]);
    bench.until(|bench| bench.busy() == 1).await;
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!((bench.cleaners(), bench.busy()), (1, 1));
    bench.set(("log.cleaner.threads", "3"));
    bench.until(|bench| bench.busy() == 3).await;
    bench.set(("log.cleaner.threads", "1"));
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(bench.cleaners(), 3, "none leaves a log half done");
    bench.set(("log.cleaner.io.max.bytes.per.second", "1e9"));
    bench
        .until(|bench| bench.is_clean() && bench.cleaners() == 1)
        .await;
    bench.fill();
    bench.until(Bench::is_clean).await;
    bench.stop.cancel();
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&bench.cleaner), 1, "all have ended");
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_the_next_cleaning_is_what_is_set() {
    let mut bench = Bench::start(0, &[HOUR]);
    assert_eq!(bench.cleaner.options().map_bytes, 128 << 20);
    bench.set(("log.cleaner.dedupe.buffer.size", "6000000"));
    assert_eq!(bench.cleaner.options().map_bytes, 6_000_000);
    bench.set(("log.cleaner.threads", "3"));
    assert_eq!(bench.cleaner.options().map_bytes, 2_000_000);
}

#[tokio::test(start_paused = true)]
async fn without_a_cleaner_there_is_none_whatever_is_set() {
    let mut bench = Bench::start(1, &[SOON, ("log.cleaner.enable", "false")]);
    bench.set(("log.cleaner.threads", "2"));
    bench.pass(Duration::from_secs(60)).await;
    assert!(bench.cleaners() == 0 && !bench.is_clean());
}
