//! What readers are shown, whatever is appended, flushed and decided in whatever order.

use flumen_log::LogConfig;
use flumen_log::dir::{Identity, LogDir};
use flumen_log::disk::OsDisk;
use flumen_protocol::builder::{BatchBuilder, BatchOptions, EndTxnMarker, end_txn_marker};
use proptest::prelude::*;

use super::*;

struct Bench {
    _temp: tempfile::TempDir,
    partition: Arc<Partition>,
    /// First offset of each producer's open transaction.
    open: std::collections::BTreeMap<i64, Offset>,
    /// First offset and marker of the transactions that are decided.
    decided: Vec<(Offset, Offset)>,
}

impl Bench {
    fn new() -> Bench {
        let temp = tempfile::TempDir::new().unwrap();
        let identity = Identity {
            cluster_id: "cluster".to_owned(),
            node_id: 1,
            directory_id: TopicId([1; 16]),
        };
        let dir = LogDir::open(Arc::new(OsDisk::default()), temp.path(), &identity).unwrap();
        let name = TopicPartition::new("t", 0);
        let log = dir.open_log(&name, None, LogConfig::default()).unwrap();
        let partition = Partition::new(PartitionParts {
            name,
            topic_id: TopicId([2; 16]),
            leader_epoch: 0,
            log,
            durability: Durability::Flushed,
            flush: FlushConductor::new(1),
        });
        Bench {
            _temp: temp,
            partition,
            open: std::collections::BTreeMap::new(),
            decided: Vec::new(),
        }
    }

    /// A record outside of transactions (producer -1) or in its producer's.
    fn append(&mut self, producer_id: i64) {
        let transactional = producer_id >= 0;
        let options = BatchOptions {
            producer_id,
            producer_epoch: if transactional { 0 } else { -1 },
            transactional,
            ..BatchOptions::default()
        };
        let mut batch = BatchBuilder::new(options);
        batch.push(1_000, None, Some(b"value"), &[]);
        let log = self.partition.log();
        let guard = match transactional {
            true => log.start_verification(producer_id, 0, -1, false),
            false => None,
        };
        let how = AppendAs::Coordinator {
            leader_epoch: 0,
            guard: guard.unwrap_or(VerificationGuard::NONE),
        };
        let appended = self.partition.append(batch.build(), &how, 1_000).unwrap();
        if transactional {
            self.open.entry(producer_id).or_insert(appended.base_offset);
        }
    }

    fn decide(&mut self, producer_id: i64, commit: bool) {
        let marker = EndTxnMarker {
            producer_id,
            producer_epoch: 0,
            commit,
            coordinator_epoch: 0,
            timestamp: 1_000,
        };
        let how = AppendAs::Marker {
            leader_epoch: 0,
            transaction_version: 0,
        };
        let appended = self.partition.append(end_txn_marker(&marker), &how, 1_000);
        if let Some(first) = self.open.remove(&producer_id) {
            self.decided.push((first, appended.unwrap().base_offset));
        }
    }

    /// Below this all is decided, and the decision is on disk.
    fn stable_at_most(&self) -> Offset {
        let high_watermark = self.partition.high_watermark();
        let undurable = self.decided.iter();
        let undurable = undurable.filter(|(_, marker)| *marker >= high_watermark);
        let held = self.open.values().copied();
        held.chain(undurable.map(|(first, _)| *first))
            .chain([high_watermark])
            .min()
            .unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// T-12: the last stable offset is never ahead of a transaction whose decision is not on disk, never behind what is decided, and
    /// never goes back; and so the high watermark.
    #[test]
    fn readers_of_committed_data_are_never_ahead_of_what_is_decided(steps in prop::collection::vec((0..7u8, 0..3i64), 1..50)) {
        let mut bench = Bench::new();
        let mut before = (0, 0);
        for (step, producer_id) in steps {
            match step {
                0 | 1 => bench.append(producer_id),
                2 => bench.append(-1),
                3 => bench.decide(producer_id, true),
                4 => bench.decide(producer_id, false),
                _ => {
                    let durable = bench.partition.log().flush().unwrap();
                    bench.partition.on_flushed(durable);
                }
            }
            let now = (bench.partition.high_watermark(), bench.partition.last_stable_offset());
            prop_assert!(now.1 <= bench.stable_at_most(), "{now:?}, at most {}", bench.stable_at_most());
            prop_assert!(now.0 >= before.0 && now.1 >= before.1, "{before:?} → {now:?}");
            before = now;
        }
        for producer_id in 0..3 {
            bench.decide(producer_id, true);
        }
        let durable = bench.partition.log().flush().unwrap();
        bench.partition.on_flushed(durable);
        prop_assert_eq!(bench.partition.last_stable_offset(), durable, "all is decided");
    }
}
