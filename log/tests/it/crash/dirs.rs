//! The same for a whole data directory: topics are created, deleted and created again under their old name, set aside, rolled,
//! checkpointed and closed; and each operation may fail instead of being the last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use flumen_log::disk::Disk;
use flumen_log::fault_disk::{Crash, Fault, FaultDisk};
use flumen_log::{Log, LogDir, OpenOptions};
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::id::{Offset, TopicId, TopicPartition};

use crate::helpers::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Create(u8),
    /// This many batches.
    Append(u8, u64),
    Flush(u8),
    Checkpoint,
    KeepNewest(u8, i64),
    Delete(u8),
    /// As if the metadata of the topic had been lost.
    Forget(u8),
    /// A clean stop, if nothing failed before, and a start.
    Restart,
    /// The process dies and starts again; the power stays.
    Kill,
}

/// One topic of one partition, from its creation on.
#[derive(Debug, Default)]
struct Topic {
    written: BTreeMap<Offset, BTreeSet<u32>>,
    live: BTreeMap<Offset, u32>,
    acked: BTreeMap<Offset, u32>,
    log_start: Offset,
    forgotten: bool,
}

/// What the metadata of the cluster would say: durable before the directory hears of it.
#[derive(Debug, Default)]
struct Model {
    known: BTreeMap<u8, TopicId>,
    topics: BTreeMap<[u8; 16], Topic>,
    tag: u64,
}

fn name(topic: u8) -> TopicPartition {
    TopicPartition::new(format!("topic-{topic}"), 0)
}

type Failed = Box<dyn std::error::Error>;

struct World {
    disk: Arc<dyn Disk>,
    dir: Option<LogDir>,
}

impl World {
    /// Opens the directory and the logs in it as a broker does: what the metadata does not know is set aside.
    fn open(disk: &Arc<dyn Disk>, model: &Model) -> Result<Self, Failed> {
        let dir = open_dir(disk)?;
        let names: BTreeMap<_, _> = model
            .known
            .iter()
            .map(|(topic, id)| (name(*topic), *id))
            .collect();
        for found in dir.found() {
            let known = names.get(&found.partition);
            if known.is_none_or(|known| found.topic_id.is_some_and(|id| id != *known)) {
                dir.set_aside(&found.partition)?;
            }
        }
        for (name, id) in names {
            dir.open_log(&name, Some(id), small_config())?;
        }
        Ok(Self {
            disk: disk.clone(),
            dir: Some(dir),
        })
    }

    fn dir(&self) -> &LogDir {
        self.dir.as_ref().unwrap()
    }

    fn run(&mut self, step: Step, model: &mut Model) -> Result<(), Failed> {
        match step {
            Step::Create(topic) => {
                model.tag += 1;
                let id = TopicId([model.tag as u8; 16]);
                model.known.insert(topic, id);
                model.topics.insert(id.0, Topic::default());
                self.dir()
                    .open_log(&name(topic), Some(id), small_config())?;
            }
            Step::Append(topic, count) => {
                let log = self.log(topic)?;
                for _ in 0..count {
                    model.tag += 1;
                    self.append(&log, topic, model)?;
                }
            }
            Step::Flush(topic) => {
                let log = self.log(topic)?;
                let before = model.topic(topic).live.clone();
                log.flush()?;
                model.topic(topic).acked = before;
            }
            Step::Checkpoint => self.dir().checkpoint()?,
            Step::KeepNewest(topic, count) => {
                let log = self.log(topic)?;
                let start = (log.log_end_offset() - count).max(0);
                model.topic(topic).log_start = start;
                self.dir().delete_records(&name(topic), &log, start)?;
            }
            Step::Delete(topic) => {
                model.known.remove(&topic);
                self.dir().delete_log(&name(topic))?;
            }
            Step::Forget(topic) => {
                model.topic(topic).forgotten = true;
                model.known.remove(&topic);
                self.dir().set_aside(&name(topic))?;
            }
            Step::Restart => {
                let dir = self.dir.take().unwrap();
                let _ = dir.close(3);
                drop(dir);
                self.start(model)?;
            }
            Step::Kill => {
                self.dir = None;
                self.start(model)?;
            }
        }
        Ok(())
    }

    /// What is there is made durable and then served, as a broker does.
    fn start(&mut self, model: &mut Model) -> Result<(), Failed> {
        *self = Self::open(&self.disk, model)?;
        for topic in model.known.keys().copied().collect::<Vec<_>>() {
            let log = self.log(topic)?;
            log.flush()?;
            let found = read_all(&log);
            let topic = model.topic(topic);
            topic.live = found
                .iter()
                .map(|batch| (batch.header().base_offset, batch.header().crc))
                .collect();
            topic.acked = topic.live.clone();
        }
        Ok(())
    }

    fn log(&self, topic: u8) -> Result<Arc<Log>, Failed> {
        self.dir().get(&name(topic)).ok_or("not open".into())
    }

    fn append(&self, log: &Log, topic: u8, model: &mut Model) -> Result<(), Failed> {
        let bytes = batch_of(model.tag, 3, 1_000, From::nobody());
        let crc = RecordBatch::parse(bytes.clone()).unwrap().header().crc;
        let next = log.log_end_offset();
        let topic = model.topic(topic);
        topic.written.entry(next).or_default().insert(crc);
        append_client(log, bytes, 1_000)?;
        topic.live.insert(next, crc);
        Ok(())
    }
}

impl Model {
    fn topic(&mut self, topic: u8) -> &mut Topic {
        let id = self.known.get(&topic).expect("the workload knows it");
        self.topics.get_mut(&id.0).unwrap()
    }
}

/// Runs the workload until it ends or nothing is open any more; what fails is passed over.
fn run(disk: &Arc<FaultDisk>, steps: &[Step]) -> Model {
    let mut model = Model::default();
    let shared: Arc<dyn Disk> = disk.clone();
    let Ok(mut world) = World::open(&shared, &model) else {
        return model;
    };
    for step in steps {
        let _ = world.run(*step, &mut model);
        if world.dir.is_none() || disk.is_off() {
            break;
        }
    }
    model
}

/// Opens what is left: every topic that the metadata knows has what was acknowledged in it, and nothing of another; what the
/// metadata lost is still there.
fn check(left: &FaultDisk, model: &Model, context: &str) {
    let disk: Arc<dyn Disk> = Arc::new(left.after_crash(Crash::KeepAll, 0));
    let world = World::open(&disk, model).unwrap_or_else(|error| panic!("{context}: {error}"));
    for (topic, id) in &model.known {
        let log = world.log(*topic).unwrap();
        check_topic(
            &log,
            &model.topics[&id.0],
            &format!("{context}, topic {topic}"),
        );
    }
    for (_, topic) in model.topics.iter().filter(|(_, topic)| topic.forgotten) {
        check_forgotten(&disk, topic, context);
    }
    world
        .dir()
        .close(9)
        .unwrap_or_else(|error| panic!("{context}: {error}"));
}

fn check_topic(log: &Log, topic: &Topic, context: &str) {
    let mut found = BTreeMap::new();
    for batch in read_all(log) {
        let header = batch.header();
        let written = topic.written.get(&header.base_offset);
        assert!(
            written.is_some_and(|crcs| crcs.contains(&header.crc)),
            "{context}: nobody wrote what is at {}",
            header.base_offset
        );
        found.insert(header.base_offset, header.crc);
    }
    for (base, crc) in &topic.acked {
        assert!(
            *base < topic.log_start || found.get(base) == Some(crc),
            "{context}: acknowledged batch at {base} is gone"
        );
    }
}

/// Its log lies in some directory that was set aside.
fn check_forgotten(disk: &Arc<dyn Disk>, topic: &Topic, context: &str) {
    let asides = disk.list(Path::new("/data")).unwrap();
    let asides = asides.iter().filter(|entry| entry.name.ends_with("-stray"));
    let kept = asides.into_iter().any(|entry| {
        let options = OpenOptions {
            recovery_point: Some(0),
            ..OpenOptions::default()
        };
        let path = Path::new("/data").join(&entry.name);
        let log = Log::open(disk.clone(), &path, small_config(), options).unwrap();
        let found: BTreeSet<_> = read_all(&log)
            .iter()
            .map(|batch| batch.header().crc)
            .collect();
        topic.acked.values().all(|crc| found.contains(crc))
    });
    assert!(
        kept || topic.acked.is_empty(),
        "{context}: what was set aside is gone"
    );
}

const LIFE: &[Step] = {
    use Step::*;
    &[
        Create(1),
        Append(1, 4),
        Flush(1),
        Create(2),
        KeepNewest(1, 5),
        Append(2, 3),
        Flush(2),
        Append(1, 9),
        Checkpoint,
        Append(2, 2),
        Kill,
        Append(1, 1),
        Delete(1),
        Create(1),
        Append(1, 2),
        Flush(1),
        Create(3),
        Append(3, 2),
        Append(2, 8),
        Flush(3),
        Forget(3),
        Flush(2),
        Kill,
        Delete(1),
        Append(2, 1),
        Restart,
        Create(1),
        Append(1, 9),
        Append(2, 1),
        Flush(1),
        Checkpoint,
        Flush(2),
        Append(2, 9),
        Kill,
        Append(1, 1),
        Flush(1),
    ]
};

#[test]
fn topics_come_and_go_wherever_the_power_does() {
    let disk = Arc::new(FaultDisk::new());
    let model = run(&disk, LIFE);
    assert_eq!((model.known.len(), model.topics.len()), (2, 5));
    let ops = disk.ops();
    for op in 1..=ops + 1 {
        let disk = Arc::new(FaultDisk::new());
        disk.power_off_at(op);
        let model = run(&disk, LIFE);
        for how in Crash::ALL {
            let context = format!("stopped at {op} of {ops}, {how:?}, seed {op}");
            check(&disk.after_crash(how, op), &model, &context);
        }
    }
}

#[test]
fn an_operation_that_fails_makes_no_success_that_is_not_one() {
    let disk = Arc::new(FaultDisk::new());
    run(&disk, LIFE);
    let ops = disk.ops();
    for op in 1..=ops {
        for fault in [Fault::Io, Fault::NoSpace] {
            let disk = Arc::new(FaultDisk::new());
            disk.fail_at(op, fault);
            let model = run(&disk, LIFE);
            for how in [
                Crash::LoseUnsynced,
                Crash::KeepAll,
                Crash::Tear,
                Crash::Mixed,
            ] {
                let context = format!("{fault:?} at {op} of {ops}, {how:?}");
                check(&disk.after_crash(how, op), &model, &context);
            }
        }
    }
}
