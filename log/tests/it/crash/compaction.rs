//! The same for logs that are compacted: no key loses its newest value, none comes back, no producer is forgotten, and readers of
//! committed data see nothing else, wherever a cleaning stops. And each operation may fail instead of being the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flumen_log::config::CleanupPolicy;
use flumen_log::disk::Disk;
use flumen_log::fault_disk::{Crash, Fault, FaultDisk};
use flumen_log::{AppendAs, CompactionOptions, Log, LogConfig};
use flumen_protocol::batch::{ControlRecord, RecordBatch};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::{Compression, DecompressionLimit};
use flumen_protocol::id::Offset;

use super::check::check_indexes;
use super::world::World;
use crate::helpers::*;

const DELETE_RETENTION_MS: i64 = 100;
const MAP_BYTES: u64 = 24 * 8;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A value for each of these keys, in one batch.
    Put(&'static str),
    /// A tombstone.
    Delete(&'static str),
    /// From producer 1.
    Idempotent(&'static str),
    /// From this producer, in a transaction.
    InTxn(i64, &'static str),
    End(i64, bool),
    Flush,
    Checkpoint,
    /// At this time.
    Compact(i64),
    Retention,
    /// Deletes all records but the newest this many.
    KeepNewest(i64),
    Restart,
    /// The process dies and starts again; the power stays.
    Kill,
}

#[derive(Clone, Debug, PartialEq)]
struct Written {
    key: String,
    value: Option<String>,
    producer: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    records: BTreeMap<Offset, Vec<Written>>,
    live: BTreeMap<Offset, Written>,
    /// By the offset of its marker: the records of a decided transaction, and whether it was committed.
    ended: BTreeMap<Offset, (Vec<Offset>, bool)>,
    open: BTreeMap<i64, Vec<Offset>>,
    end: Offset,
    /// All below was acknowledged.
    acked: Offset,
    /// Nothing at or above was ever cleaned.
    clean_max: Offset,
    start_max: Offset,
    epochs: BTreeMap<i64, i16>,
    sequences: BTreeMap<i64, i32>,
    acked_sequences: BTreeMap<i64, (i16, i32)>,
    tag: u64,
}

type Failed = Box<dyn std::error::Error>;

fn config() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        delete_retention_ms: DELETE_RETENTION_MS,
        min_cleanable_dirty_ratio: 0.0,
        segment_bytes: 700,
        ..small_config()
    }
}

fn bound(log: &Log) -> Offset {
    log.last_stable_offset(log.flushed_offset())
}

fn compact(world: &World, now_ms: i64, model: &mut Model) -> Result<(), Failed> {
    let dir = world.dir();
    for dirty in dir.dirty_logs(now_ms, |_, log| Some(bound(log))) {
        if !dirty.found.is_due {
            continue;
        }
        let options = CompactionOptions {
            map_bytes: MAP_BYTES,
            now_ms,
        };
        model.clean_max = model.clean_max.max(bound(&dirty.log));
        let Some(mut compaction) = dir.begin_compaction(&dirty, options)? else {
            continue;
        };
        let done = loop {
            match dirty.log.compact_step(&mut compaction, 400) {
                Ok(step) => {
                    if let Some(done) = step.done {
                        break done;
                    }
                }
                Err(error) => {
                    dirty.log.abandon_compaction(compaction);
                    return Err(error.into());
                }
            }
        };
        dir.compaction_done(&dirty.partition, &dirty.log, &done)?;
    }
    Ok(())
}

impl Model {
    fn write(
        &mut self,
        world: &World,
        keys: &str,
        (producer, transactional, tombstones): (Option<i64>, bool, bool),
    ) -> Result<(), Failed> {
        let epoch = producer.map_or(-1, |id| self.epochs.get(&id).copied().unwrap_or(0));
        let sequence = producer.map_or(-1, |id| self.sequences.get(&id).copied().unwrap_or(0));
        let codec = [Compression::None, Compression::Lz4][(self.tag % 2) as usize];
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: codec,
            producer_id: producer.unwrap_or(-1),
            producer_epoch: epoch,
            base_sequence: sequence,
            transactional,
            ..BatchOptions::default()
        });
        let base = world.log().log_end_offset();
        let mut written = Vec::new();
        for (key, offset) in keys.chars().zip(base..) {
            self.tag += 1;
            let value = format!("{}{}", self.tag, "-".repeat((self.tag % 40) as usize));
            let value = (!tombstones).then_some(value);
            let record = Written {
                key: key.to_string(),
                value: value.clone(),
                producer: producer.filter(|_| transactional),
            };
            builder.push(
                1_000 + self.tag as i64,
                Some(record.key.as_bytes()),
                value.as_deref().map(str::as_bytes),
                &[],
            );
            self.records.entry(offset).or_default().push(record.clone());
            written.push((offset, record));
        }
        append_client(world.log(), builder.build(), 1_000)?;
        if let Some(id) = producer {
            self.sequences.insert(id, sequence + written.len() as i32);
            if transactional {
                let open = self.open.entry(id).or_default();
                open.extend(written.iter().map(|(offset, _)| *offset));
            }
        }
        self.live.extend(written);
        self.end = world.log().log_end_offset();
        Ok(())
    }

    fn end(&mut self, world: &World, id: i64, commit: bool) -> Result<(), Failed> {
        let epoch = self.epochs.get(&id).copied().unwrap_or(0) + 1;
        let how = AppendAs::Marker {
            leader_epoch: 0,
            transaction_version: 2,
        };
        let at = world.log().log_end_offset();
        world
            .log()
            .append(marker(id, epoch, commit, 1_500), &how, 1_500)?;
        self.epochs.insert(id, epoch);
        self.sequences.insert(id, 0);
        let records = self.open.remove(&id).unwrap_or_default();
        self.ended.insert(at, (records, commit));
        self.end = world.log().log_end_offset();
        Ok(())
    }

    fn flushed(&mut self, world: &World, end: Offset) {
        if world.log().flushed_offset() >= end {
            self.acked = self.acked.max(end);
            let sequences = self.sequences.iter();
            self.acked_sequences = sequences
                .map(|(id, next)| (*id, (self.epochs.get(id).copied().unwrap_or(0), *next - 1)))
                .collect();
        }
    }

    /// After a start without a loss of power: what is there counts.
    fn look_again(&mut self, world: &World) {
        let end = world.log().log_end_offset();
        self.records.split_off(&end);
        self.live.split_off(&end);
        self.ended.split_off(&end);
        self.end = end;
        self.open.clear();
        self.sequences.clear();
        self.epochs.clear();
        for active in world.log().active_producers() {
            let next = active.last_sequence + 1;
            self.sequences.insert(active.producer_id, next);
            self.epochs.insert(active.producer_id, active.epoch);
            let decided: BTreeSet<_> = self
                .ended
                .values()
                .flat_map(|(records, _)| records.clone())
                .collect();
            let mine = |(offset, record): (&Offset, &Written)| {
                (record.producer == Some(active.producer_id) && !decided.contains(offset))
                    .then_some(*offset)
            };
            let open: Vec<_> = self.live.iter().filter_map(mine).collect();
            if active.txn_first_offset.is_some() {
                self.open.insert(active.producer_id, open);
            }
        }
    }
}

fn step(world: &mut World, step: Step, model: &mut Model) -> Result<(), Failed> {
    match step {
        Step::Put(keys) => model.write(world, keys, (None, false, false))?,
        Step::Delete(keys) => model.write(world, keys, (None, false, true))?,
        Step::Idempotent(keys) => model.write(world, keys, (Some(1), false, false))?,
        Step::InTxn(id, keys) => model.write(world, keys, (Some(id), true, false))?,
        Step::End(id, commit) => model.end(world, id, commit)?,
        Step::Flush => {
            let end = model.end;
            world.log().flush()?;
            model.flushed(world, end);
        }
        Step::Checkpoint => {
            let end = model.end;
            world.dir().checkpoint()?;
            model.flushed(world, end);
        }
        Step::Compact(now_ms) => compact(world, now_ms, model)?,
        Step::Retention => drop(world.dir().retention_pass(1 << 40, |_, log| bound(log))?),
        Step::KeepNewest(count) => {
            let start = world.log().log_end_offset() - count;
            model.start_max = model.start_max.max(start);
            world
                .dir()
                .delete_records(&partition(), world.log(), start)?;
        }
        Step::Restart => {
            let end = model.end;
            let closed = world.dir().close(5);
            if closed.is_ok() {
                model.flushed(world, end);
            }
            world.reopen()?;
            world.log().flush()?;
            model.look_again(world);
        }
        Step::Kill => {
            world.reopen()?;
            world.log().flush()?;
            model.look_again(world);
            model.flushed(world, model.end);
        }
    }
    Ok(())
}

/// Runs the workload until it ends or nothing is open any more; what fails is passed over. How many steps went well.
fn run(disk: &Arc<FaultDisk>, steps: &[Step]) -> (Model, usize) {
    let mut model = Model::default();
    let shared: Arc<dyn Disk> = disk.clone();
    let Ok(mut world) = World::open(&shared, &config()) else {
        return (model, 0);
    };
    let mut done = 0;
    for each in steps {
        let ended = step(&mut world, *each, &mut model);
        done += usize::from(ended.is_ok());
        if world.opened.is_none() || disk.is_off() {
            break;
        }
    }
    (model, done)
}

/// Records and decided transactions that a client sees which reads committed data.
fn read_committed(log: &Log) -> Vec<(Offset, String, Option<String>)> {
    let upto = log.last_stable_offset(log.log_end_offset());
    let (mut seen, mut at) = (Vec::new(), log.log_start_offset());
    let mut skipped: BTreeSet<i64> = BTreeSet::new();
    while at < upto {
        let slice = log.read(at, upto, 300, true).unwrap();
        let mut aborted = slice.aborted_transactions(at).unwrap();
        aborted.reverse();
        let Some(range) = slice.records else { break };
        for batch in flumen_protocol::batch::batches(range.read().unwrap()) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let header = *batch.header();
            while aborted
                .last()
                .is_some_and(|txn| txn.first_offset <= header.last_offset())
            {
                skipped.insert(aborted.pop().unwrap().producer_id);
            }
            if header.is_control() {
                if header.record_count > 0
                    && matches!(batch.control_record().unwrap(), ControlRecord::Abort { .. })
                {
                    skipped.remove(&header.producer_id);
                }
                continue;
            }
            if header.is_transactional() && skipped.contains(&header.producer_id) {
                continue;
            }
            for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
                let record = record.unwrap();
                let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                if record.offset >= at {
                    seen.push((
                        record.offset,
                        record.key.map(text).unwrap(),
                        record.value.map(text),
                    ));
                }
            }
        }
        at = slice.next_offset;
    }
    seen
}

/// Opens what is left and checks all that is promised.
fn check(left: &FaultDisk, model: &Model, context: &str, whole_indexes: bool) {
    let disk: Arc<dyn Disk> = Arc::new(left.after_crash(Crash::KeepAll, 0));
    let world = World::open(&disk, &config()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let log = world.log();
    assert!(
        log.log_end_offset() >= model.acked,
        "{context}: ends at {}",
        log.log_end_offset()
    );
    let mut last = None;
    for batch in read_all(log) {
        check_batch(&batch, model, context);
        assert!(
            last.is_none_or(|last| last < batch.header().base_offset),
            "{context}: goes back"
        );
        last = Some(batch.header().last_offset());
    }
    check_visible(log, model, context);
    check_producers(log, model, context);
    if whole_indexes {
        check_indexes(&world, context, false);
    }
    // It can be cleaned, and takes more, and is still what it was.
    let mut again = model.clone();
    compact(&world, 1 << 40, &mut again).unwrap_or_else(|error| panic!("{context}: {error}"));
    check_visible(world.log(), &again, &format!("{context}, cleaned again"));
    append_client(
        world.log(),
        batch_of(999_999, 1, 2_000, From::nobody()),
        2_000,
    )
    .unwrap();
    world.log().flush().unwrap();
}

fn check_batch(batch: &RecordBatch, model: &Model, context: &str) {
    if batch.header().is_control() {
        return;
    }
    for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
        let record = record.unwrap();
        let written = model.records.get(&record.offset).into_iter().flatten();
        let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let (key, value) = (
            record.key.as_ref().map(text),
            record.value.as_ref().map(text),
        );
        let same = |written: &Written| Some(&written.key) == key.as_ref() && written.value == value;
        assert!(
            written.into_iter().any(same),
            "{context}: nobody wrote what is at {}",
            record.offset
        );
    }
}

/// The newest acknowledged value of each key is there; nothing older came back; nothing of an aborted transaction is seen; what was
/// never cleaned is all there.
fn check_visible(log: &Log, model: &Model, context: &str) {
    let seen = read_committed(log);
    let stable = log.last_stable_offset(log.log_end_offset());
    let mut undecided: BTreeSet<Offset> = BTreeSet::new();
    for (offset, record) in &model.live {
        if record.producer.is_some() {
            undecided.insert(*offset);
        }
    }
    let mut aborted = BTreeSet::new();
    for (at, (records, commit)) in &model.ended {
        for offset in records {
            if *at < log.log_end_offset() {
                undecided.remove(offset);
            }
            if !commit {
                aborted.insert(*offset);
            }
        }
    }
    for (offset, ..) in &seen {
        assert!(!aborted.contains(offset), "{context}: {offset} was aborted");
    }
    let start = log.log_start_offset();
    assert!(start <= model.start_max, "{context}: starts at {start}");
    let mut newest: BTreeMap<&str, (Offset, &Written)> = BTreeMap::new();
    for (offset, record) in model.live.range(..stable.min(model.acked)) {
        if !aborted.contains(offset) && !undecided.contains(offset) {
            newest.insert(&record.key, (*offset, record));
            let present = seen.iter().any(|(at, ..)| at == offset);
            assert!(
                *offset < model.clean_max || *offset < start || present,
                "{context}: {offset} was never cleaned and is gone"
            );
        }
    }
    for (key, (offset, record)) in newest {
        let of_key: Vec<_> = seen.iter().filter(|(_, of, _)| of == key).collect();
        match of_key.last() {
            Some((at, _, value)) => assert!(
                *at > offset || (*at == offset && *value == record.value),
                "{context}: {key} is {value:?} of {at}, not {:?} of {offset}",
                record.value
            ),
            None => assert!(
                record.value.is_none() || offset < start,
                "{context}: {key} is gone, it was at {offset}"
            ),
        }
    }
}

fn check_producers(log: &Log, model: &Model, context: &str) {
    let known: BTreeMap<_, _> = log
        .active_producers()
        .into_iter()
        .map(|active| (active.producer_id, (active.epoch, active.last_sequence)))
        .collect();
    for (id, acked) in &model.acked_sequences {
        let found = known.get(id);
        assert!(
            found.is_some_and(|found| found >= acked),
            "{context}: producer {id} is at {found:?}, it was at {acked:?}"
        );
    }
}

const LIFE: &[Step] = {
    use Step::*;
    &[
        Put("abc"),
        Flush,
        Idempotent("ad"),
        InTxn(7, "ab"),
        Put("ca"),
        End(7, false),
        Idempotent("be"),
        Put("aaa"),
        Delete("d"),
        Flush,
        InTxn(8, "f"),
        Put("ab"),
        End(8, true),
        Put("gg"),
        Put("h"),
        Put("ii"),
        Flush,
        Compact(1_000),
        Put("ab"),
        Delete("c"),
        InTxn(7, "ax"),
        Put("jjj"),
        Flush,
        Put("kk"),
        Compact(1_050),
        End(7, false),
        Put("ll"),
        Idempotent("a"),
        Flush,
        Kill,
        Put("mm"),
        Put("nnn"),
        Flush,
        Compact(1_200),
        Checkpoint,
        Put("ooo"),
        Delete("g"),
        Put("pp"),
        Put("qq"),
        Flush,
        Restart,
        Compact(1_300),
        Put("rrr"),
        KeepNewest(12),
        Put("sab"),
        Put("tab"),
        Flush,
        Compact(2_000),
        Retention,
        Put("a"),
        Flush,
    ]
};

#[test]
fn no_key_loses_its_newest_value_wherever_a_cleaning_stops() {
    let disk = Arc::new(FaultDisk::new());
    let (model, done) = run(&disk, LIFE);
    assert_eq!(done, LIFE.len());
    check(&disk, &model, "without faults", true);
    let ops = disk.ops();
    for op in 1..=ops + 1 {
        let disk = Arc::new(FaultDisk::new());
        disk.power_off_at(op);
        let (model, _) = run(&disk, LIFE);
        for (i, how) in Crash::ALL.into_iter().enumerate() {
            let context = format!("stopped at {op} of {ops}, {how:?}");
            let left = disk.after_crash(how, op);
            check(&left, &model, &context, true);
            if (op as usize + i).is_multiple_of(29) {
                stop_recovery_everywhere(&left, &model, &context);
            }
        }
    }
}

fn stop_recovery_everywhere(left: &FaultDisk, model: &Model, context: &str) {
    let whole = Arc::new(left.after_crash(Crash::KeepAll, 0));
    let opened = World::open(&(whole.clone() as Arc<dyn Disk>), &config()).unwrap();
    opened.log().flush().unwrap();
    for op in 1..=whole.ops() {
        for how in [Crash::LoseUnsynced, Crash::Tear, Crash::KeepAll] {
            let disk = Arc::new(left.after_crash(Crash::KeepAll, 0));
            disk.power_off_at(op);
            if let Ok(world) = World::open(&(disk.clone() as Arc<dyn Disk>), &config()) {
                let _ = world.log().flush();
            }
            let context = format!("{context}; recovery stopped at {op}, {how:?}");
            check(&disk.after_crash(how, op), model, &context, true);
        }
    }
}

#[test]
fn a_cleaning_that_fails_loses_nothing_now_or_later() {
    use Step::*;
    // Whatever failed before: the process starts again without a loss of power, goes on, cleans again, and then the power goes.
    let after = [
        Kill,
        Put("abz"),
        Put("yy"),
        Put("xx"),
        Put("ww"),
        Flush,
        Compact(3_000),
        Put("a"),
        Flush,
    ];
    let steps: Vec<Step> = LIFE.iter().chain(&after).copied().collect();
    let disk = Arc::new(FaultDisk::new());
    run(&disk, LIFE);
    let ops = disk.ops();
    for op in 1..=ops {
        for fault in [Fault::Io, Fault::NoSpace] {
            let disk = Arc::new(FaultDisk::new());
            disk.fail_at(op, fault);
            let (model, _) = run(&disk, &steps);
            for how in [
                Crash::LoseUnsynced,
                Crash::KeepAll,
                Crash::Tear,
                Crash::Mixed,
            ] {
                let context = format!("{fault:?} at {op} of {ops}, {how:?}");
                // An index entry that could not be written is left out.
                check(&disk.after_crash(how, op), &model, &context, false);
            }
        }
    }
}
