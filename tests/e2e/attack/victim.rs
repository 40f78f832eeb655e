//! A well-behaved client: writes a record, waits for its acknowledgement, reads it back, and again. What it is told is never wrong, and at the
//! end everything it wrote is there once, in order, whatever happened around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flumen::protocol::batch::batches;
use flumen::protocol::builder::{BatchBuilder, BatchOptions};
use flumen::protocol::compression::DecompressionLimit;
use flumen::protocol::message::create_topics_request::CreatableTopic;
use flumen::protocol::message::fetch_request::{FetchPartition, FetchTopic};
use flumen::protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen::protocol::message::{CreateTopicsRequest, FetchRequest, ProduceRequest};
use flumen::protocol::segment::Records;

use crate::server::Server;
use crate::wire::Wire;

/// See the head of the file.
pub(super) struct Victim {
    wire: Wire,
    topic: String,
    written: i64,
    waits: Vec<Duration>,
}

impl Victim {
    pub(super) fn new(server: &Server, topic: &str) -> Victim {
        let mut wire = Wire::connect(server);
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.to_owned(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let created = wire.ask(5, &request);
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        Victim {
            wire,
            topic: topic.to_owned(),
            written: 0,
            waits: Vec::new(),
        }
    }

    /// So many records written and read back.
    pub(super) fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.round();
        }
    }

    fn round(&mut self) {
        let begin = Instant::now();
        let mut builder = BatchBuilder::new(BatchOptions::default());
        // Of now: what is older than the topic's retention may be deleted at any time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_millis() as i64;
        let mut value = self.written.to_be_bytes().to_vec();
        if self.written % 20 == 7 {
            // Large enough that the broker must find memory for it.
            value.resize(200_000, 0);
        }
        builder.push(now, None, Some(&value), &[]);
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 60_000,
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: vec![PartitionProduceData {
                    records: Some(Records::Bytes(builder.build())),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.wire.ask(9, &request);
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, self.written));
        assert_eq!(self.read(self.written), [self.written]);
        self.written += 1;
        self.waits.push(begin.elapsed());
    }

    /// The records from an offset on, as far as one answer goes.
    fn read(&mut self, offset: i64) -> Vec<i64> {
        let request = FetchRequest {
            max_wait_ms: 60_000,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                partitions: vec![FetchPartition {
                    fetch_offset: offset,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut answer = self.wire.ask(11, &request);
        let partition = answer.responses.remove(0).partitions.remove(0);
        assert_eq!(partition.error_code, 0);
        let bytes = partition.records.expect("records").into_bytes();
        let mut values = Vec::new();
        for batch in batches(bytes.expect("in memory")) {
            let batch = batch.expect("a whole batch");
            let records = batch.records(DecompressionLimit::DEFAULT);
            for record in records.expect("records") {
                let value = record.expect("a record").value.expect("a value");
                let number = value.first_chunk::<8>().expect("eight bytes");
                values.push(i64::from_be_bytes(*number));
            }
        }
        values
    }

    /// Works until it is told to stop.
    pub(super) fn work(mut self, stop: &AtomicBool) -> Victim {
        while !stop.load(Ordering::Acquire) {
            self.round();
        }
        self
    }

    /// Says how long it had to wait, for the reader; nothing is asserted about time.
    pub(super) fn report(&mut self, when: &str) {
        self.waits.sort_unstable();
        let at = |share: f64| {
            let place = (self.waits.len() as f64 * share) as usize;
            self.waits
                .get(place.min(self.waits.len().saturating_sub(1)))
        };
        println!(
            "{when}: {} rounds, p50 {:?}, p99 {:?}",
            self.waits.len(),
            at(0.5),
            at(0.99)
        );
        self.waits.clear();
    }

    /// Everything that was acknowledged is there once, in order.
    pub(super) fn check(mut self) {
        let mut found = Vec::new();
        while (found.len() as i64) < self.written {
            let more = self.read(found.len() as i64);
            found.extend(more);
        }
        assert_eq!(found, (0..self.written).collect::<Vec<_>>());
    }
}

/// Runs `attack` while a victim works; returns what the attack returned, after the victim's facts have been checked.
pub(super) fn beside<T>(server: &Server, attack: impl FnOnce() -> T) -> T {
    let mut victim = Victim::new(server, "victim");
    victim.rounds(200);
    victim.report("before");
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let working = std::thread::spawn(move || victim.work(&told));
    let result = attack();
    stop.store(true, Ordering::Release);
    let mut victim = working.join().expect("the victim was answered every time");
    victim.report("during");
    victim.rounds(10);
    victim.check();
    result
}
