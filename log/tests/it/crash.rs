//! The world stops at every single operation of a workload, in every way a loss of power may leave the disk; then the log is
//! opened again. What was acknowledged (appended and flushed) is there once, in order; nothing is there that was not written; the
//! indexes are those that would have been written; and opening may itself be stopped anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use flumen_log::disk::Disk;
use flumen_log::fault_disk::{Crash, FaultDisk};
use flumen_log::{AppendAs, Log, LogConfig, LogDir, OpenError};
use flumen_protocol::batch::{ControlRecord, RecordBatch};
use flumen_protocol::id::Offset;

use crate::helpers::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// From nobody, this many records.
    Append(usize),
    /// From producer 1, idempotent.
    Idempotent(usize),
    /// From this producer, in a transaction.
    InTxn(i64),
    /// Ends the transaction of this producer.
    End(i64, bool),
    Flush,
    Roll,
    Checkpoint,
    /// Deletes all records but the newest this many.
    KeepNewest(i64),
    Retention,
    /// Cuts this many records off the end.
    Truncate(i64),
    /// A clean stop and start.
    Restart,
}

/// What may be, and what must be, in the log after a crash.
#[derive(Clone, Debug, Default)]
struct Model {
    /// By base offset: the CRCs of batches that were written there.
    written: BTreeMap<Offset, BTreeSet<u32>>,
    /// By base offset: next offset and CRC of batches in the log now, by the model.
    live: BTreeMap<Offset, (Offset, u32)>,
    acked: BTreeMap<Offset, (Offset, u32)>,
    log_start_max: Offset,
    log_start_acked: Offset,
    sequences: BTreeMap<i64, i32>,
    epochs: BTreeMap<i64, i16>,
    tag: u64,
}

struct World {
    disk: Arc<dyn Disk>,
    config: LogConfig,
    /// None only within a restart.
    opened: Option<(LogDir, Arc<Log>)>,
}

type Stopped = ();

impl World {
    fn open(disk: &Arc<dyn Disk>, config: &LogConfig) -> Result<Self, OpenError> {
        let mut world = Self {
            disk: disk.clone(),
            config: config.clone(),
            opened: None,
        };
        world.start()?;
        Ok(world)
    }

    fn start(&mut self) -> Result<(), OpenError> {
        let dir = open_dir(&self.disk)?;
        let log = dir.open_log(&partition(), Some(topic_id()), self.config.clone())?;
        self.opened = Some((dir, log));
        Ok(())
    }

    fn dir(&self) -> &LogDir {
        &self.opened.as_ref().unwrap().0
    }

    fn log(&self) -> &Log {
        &self.opened.as_ref().unwrap().1
    }

    fn append(
        &self,
        model: &mut Model,
        bytes: bytes::Bytes,
        how: Option<AppendAs>,
    ) -> Result<(), Stopped> {
        let crc = RecordBatch::parse(bytes.clone()).unwrap().header().crc;
        let next = self.log().log_end_offset();
        model.written.entry(next).or_default().insert(crc);
        let appended = match how {
            None => append_client(self.log(), bytes, 1_000),
            Some(how) => self.log().append(bytes, &how, 1_000),
        }
        .map_err(|error| assert_stopped(&error))?;
        assert_eq!(appended.base_offset, next);
        model.live.insert(next, (appended.last_offset + 1, crc));
        Ok(())
    }

    fn run(&mut self, step: Step, model: &mut Model) -> Result<(), Stopped> {
        model.tag += 1;
        match step {
            Step::Append(_) | Step::Idempotent(_) | Step::InTxn(_) | Step::End(..) => {
                self.write(step, model)
            }
            Step::KeepNewest(_) | Step::Retention | Step::Truncate(_) => {
                self.take_away(step, model)
            }
            Step::Flush => {
                let before = model.live.clone();
                self.log().flush().map_err(|error| assert_stopped(&error))?;
                model.acked = before;
                Ok(())
            }
            Step::Roll => self.log().roll().map_err(|error| assert_stopped(&error)),
            Step::Checkpoint => {
                let before = model.live.clone();
                self.dir()
                    .checkpoint()
                    .map_err(|error| assert_stopped(&error))?;
                if self.log().fenced().is_none() {
                    self.check_flushed(model, before);
                }
                Ok(())
            }
            Step::Restart => self.restart(model),
        }
    }

    fn write(&self, step: Step, model: &mut Model) -> Result<(), Stopped> {
        let timestamp = 1_000 + (model.tag as i64 * 7919) % 500;
        let of = |id: i64, model: &Model| {
            (
                model.epochs.get(&id).copied().unwrap_or(0),
                model.sequences.get(&id).copied().unwrap_or(0),
            )
        };
        match step {
            Step::Idempotent(count) => {
                let (epoch, sequence) = of(1, model);
                self.append(
                    model,
                    batch_of(
                        model.tag,
                        count,
                        timestamp,
                        From::producer(1, epoch, sequence),
                    ),
                    None,
                )?;
                model.sequences.insert(1, sequence + count as i32);
            }
            Step::InTxn(id) => {
                let (epoch, sequence) = of(id, model);
                self.append(
                    model,
                    batch_of(model.tag, 2, timestamp, From::in_txn(id, epoch, sequence)),
                    None,
                )?;
                model.sequences.insert(id, sequence + 2);
            }
            Step::End(id, commit) => {
                let epoch = of(id, model).0 + 1;
                let how = AppendAs::Marker {
                    leader_epoch: 0,
                    transaction_version: 2,
                };
                self.append(model, marker(id, epoch, commit, timestamp), Some(how))?;
                model.epochs.insert(id, epoch);
                model.sequences.insert(id, 0);
            }
            Step::Append(count) => self.append(
                model,
                batch_of(model.tag, count, timestamp, From::nobody()),
                None,
            )?,
            _ => unreachable!("not a write"),
        }
        Ok(())
    }

    fn take_away(&self, step: Step, model: &mut Model) -> Result<(), Stopped> {
        let log = self.log();
        match step {
            Step::KeepNewest(count) => {
                let start = (log.log_end_offset() - count).max(0);
                model.log_start_max = model.log_start_max.max(start);
                self.dir()
                    .delete_records(&partition(), log, start)
                    .map_err(|error| assert_stopped(&error))?;
                model.log_start_acked = model.log_start_acked.max(start);
            }
            Step::Truncate(count) => {
                let to = (log.log_end_offset() - count).max(log.log_start_offset());
                model.acked.retain(|_, (next, _)| *next <= to);
                let end = self
                    .dir()
                    .truncate(&partition(), log, to)
                    .map_err(|error| assert_stopped(&error))?;
                model.live.retain(|_, (next, _)| *next <= end);
                model.sequences.clear();
            }
            _ => {
                if let Some(start) = log
                    .retention_start(1 << 40, log.flushed_offset())
                    .map_err(|error| assert_stopped(&error))?
                {
                    model.log_start_max = model.log_start_max.max(start);
                }
                self.dir()
                    .retention_pass(1 << 40, |_, log| log.flushed_offset())
                    .map_err(|error| assert_stopped(&error))?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, model: &mut Model) -> Result<(), Stopped> {
        let before = model.live.clone();
        self.dir()
            .close(5)
            .map_err(|error| assert_stopped(&error))?;
        model.acked = before;
        // The lock must be gone before the next one opens.
        self.opened = None;
        self.start().map_err(|error| assert_stopped(&error))?;
        assert_eq!(self.dir().clean_stop(), Some(5));
        assert_eq!(self.log().flushed_offset(), self.log().log_end_offset());
        Ok(())
    }

    fn check_flushed(&self, model: &mut Model, before: BTreeMap<Offset, (Offset, u32)>) {
        if before
            .values()
            .last()
            .is_none_or(|(next, _)| *next <= self.log().flushed_offset())
        {
            model.acked = before;
        }
    }
}

/// Only the power may stop a workload.
fn assert_stopped(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(
        text.contains("the power is off") || text.contains("fenced"),
        "{text}"
    );
}

/// Runs the workload until it ends or the power goes.
fn run(disk: &Arc<dyn Disk>, config: &LogConfig, steps: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok(mut world) = World::open(disk, config) else {
        return model;
    };
    for step in steps {
        if world.run(*step, &mut model).is_err() {
            break;
        }
    }
    model
}

/// Opens what a crash left, and checks all that is promised.
fn check(disk: &FaultDisk, config: &LogConfig, model: &Model, context: &str) {
    let as_disk: Arc<dyn Disk> = Arc::new(disk.after_crash(Crash::KeepAll, 0));
    let world = World::open(&as_disk, config).unwrap_or_else(|error| panic!("{context}: {error}"));
    let log = world.log();
    let start = log.log_start_offset();
    assert!(
        (model.log_start_acked..=model.log_start_max).contains(&start),
        "{context}: log start {start}"
    );
    let found = read_all(log);
    let mut next = None;
    for batch in &found {
        let header = batch.header();
        assert!(
            next.is_none_or(|next| next == header.base_offset),
            "{context}: a hole before {}",
            header.base_offset
        );
        let written = model.written.get(&header.base_offset);
        assert!(
            written.is_some_and(|crcs| crcs.contains(&header.crc)),
            "{context}: nobody wrote what is at {}",
            header.base_offset
        );
        next = Some(header.next_offset());
    }
    assert_eq!(
        next.unwrap_or(log.log_end_offset()),
        log.log_end_offset(),
        "{context}"
    );
    let by_offset: BTreeMap<_, _> = found
        .iter()
        .map(|batch| (batch.header().base_offset, batch.header().crc))
        .collect();
    for (base, (next, crc)) in &model.acked {
        assert!(
            *next <= start || by_offset.get(base) == Some(crc),
            "{context}: acknowledged batch at {base} is gone"
        );
    }
    check_txns(log, &found, context);
    check_indexes(&world, context);
    check_goes_on(&world, context);
}

/// Aborted transactions and the last stable offset against a naive walk over the batches.
fn check_txns(log: &Log, found: &[RecordBatch], context: &str) {
    let mut open: BTreeMap<i64, Offset> = BTreeMap::new();
    let mut aborted = Vec::new();
    let mut truncated_start = BTreeSet::new();
    for batch in found {
        let header = batch.header();
        if header.is_control() {
            let first = open.remove(&header.producer_id);
            if first.is_none() {
                truncated_start.insert(header.base_offset);
            }
            if let (Some(first), ControlRecord::Abort { .. }) =
                (first, batch.control_record().unwrap())
            {
                aborted.push((header.producer_id, first, header.base_offset));
            }
        } else if header.is_transactional() {
            open.entry(header.producer_id).or_insert(header.base_offset);
        }
    }
    let whole = found
        .first()
        .is_none_or(|first| first.header().base_offset == 0);
    let listed: Vec<_> = log
        .aborted_transactions(log.log_start_offset(), log.log_end_offset())
        .unwrap();
    let listed: BTreeSet<_> = listed
        .iter()
        .map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset))
        .collect();
    if whole {
        let aborted: BTreeSet<_> = aborted.into_iter().collect();
        assert_eq!(listed, aborted, "{context}");
        assert_eq!(
            log.first_unstable_offset(),
            open.values().min().copied(),
            "{context}"
        );
    } else {
        // The beginning of a transaction may be deleted; its end is known all the same.
        for (id, _, last) in aborted {
            assert!(
                listed.iter().any(|txn| txn.0 == id && txn.2 == last),
                "{context}"
            );
        }
    }
}

const INDEXES: [&str; 3] = [".index", ".timeindex", ".txnindex"];

/// Closing, throwing the indexes away and opening again gives the same bytes.
fn check_indexes(world: &World, context: &str) {
    let disk = &world.disk;
    let path = PathBuf::from("/data/orders-0");
    world.log().flush().unwrap();
    let copy: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    copy.create_dir(&path).unwrap();
    for (name, bytes) in files(&**disk, &path, &[".log"]) {
        let file = copy
            .open(&path.join(name), flumen_log::disk::OpenMode::Create)
            .unwrap();
        file.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
    }
    let options = flumen_log::OpenOptions {
        recovery_point: Some(0),
        ..flumen_log::OpenOptions::default()
    };
    let rebuilt = Log::open(copy.clone(), &path, world.config.clone(), options).unwrap();
    assert_eq!(
        rebuilt.log_end_offset(),
        world.log().log_end_offset(),
        "{context}"
    );
    rebuilt.close().unwrap();
    let again: Arc<dyn Disk> = disk.clone();
    let before = world.log().checkpoint().unwrap();
    assert_eq!(before, world.log().log_end_offset());
    let (ours, theirs) = (
        files(&*again, &path, &INDEXES),
        files(&*copy, &path, &INDEXES),
    );
    // Transactions that began before the first record can only be known by who saw it.
    let whole = world.log().log_start_offset() == 0;
    for (name, bytes) in &theirs {
        if bytes.is_empty() || (name.ends_with(".txnindex") && !whole) {
            continue;
        }
        let mut written = ours.get(name).cloned().unwrap_or_default();
        // The active segment's indexes are as long as they may become.
        let active = name.starts_with(&format!("{:020}", world.log().active_segment_base_offset()));
        if active && written.len() > bytes.len() {
            assert!(
                written[bytes.len()..].iter().all(|byte| *byte == 0),
                "{context}: {name}"
            );
            written.truncate(bytes.len());
        }
        assert!(
            written == *bytes,
            "{context}: {name} differs, {} bytes written, {} rebuilt",
            written.len(),
            bytes.len()
        );
    }
}

/// The log takes more, and what it took is there after another crash.
fn check_goes_on(world: &World, context: &str) {
    let appended = append_client(
        world.log(),
        batch_of(999_999, 1, 2_000, From::nobody()),
        2_000,
    )
    .unwrap();
    world
        .log()
        .flush()
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(
        world.log().flushed_offset(),
        appended.last_offset + 1,
        "{context}"
    );
}

/// Stops the workload at each operation, in each way; and the recovery after it at a sample of its operations.
fn stop_everywhere(config: &LogConfig, steps: &[Step]) {
    let disk = Arc::new(FaultDisk::new());
    let model = run(&(disk.clone() as Arc<dyn Disk>), config, steps);
    assert!(
        model.tag as usize == steps.len(),
        "the workload runs to its end without faults"
    );
    let ops = disk.ops();
    for op in 1..=ops + 1 {
        let disk = Arc::new(FaultDisk::new());
        disk.power_off_at(op);
        let model = run(&(disk.clone() as Arc<dyn Disk>), config, steps);
        for (i, how) in Crash::ALL.into_iter().enumerate() {
            let seeds = if how.has_choices() { 3 } else { 1 };
            for seed in 0..seeds {
                let context = format!("stopped at operation {op} of {ops}, {how:?}, seed {seed}");
                let left = disk.after_crash(how, seed * 7 + op);
                check(&left, config, &model, &context);
                if (op as usize + i).is_multiple_of(23) {
                    stop_recovery_everywhere(&left, config, &model, &context);
                }
            }
        }
    }
}

fn stop_recovery_everywhere(left: &FaultDisk, config: &LogConfig, model: &Model, context: &str) {
    let whole = Arc::new(left.after_crash(Crash::KeepAll, 0));
    let opened = World::open(&(whole.clone() as Arc<dyn Disk>), config).unwrap();
    opened.log().flush().unwrap();
    for op in 1..=whole.ops() {
        for how in [Crash::LoseUnsynced, Crash::Tear] {
            let disk = Arc::new(left.after_crash(Crash::KeepAll, 0));
            disk.power_off_at(op);
            if let Ok(world) = World::open(&(disk.clone() as Arc<dyn Disk>), config) {
                let _ = world.log().flush();
            }
            check(
                &disk.after_crash(how, op),
                config,
                model,
                &format!("{context}; recovery stopped at {op}, {how:?}"),
            );
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_appends_flushes_and_rolls_stop() {
    use Step::*;
    let mut steps = Vec::new();
    for i in 0..14 {
        steps.push(Append(1 + i % 3));
        steps.push(Idempotent(2));
        if i % 2 == 0 {
            steps.push(Flush);
        }
    }
    steps.extend([Roll, Append(2), Flush]);
    stop_everywhere(&small_config(), &steps);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_checkpoints_and_restarts_stop() {
    use Step::*;
    let round = [
        Append(2),
        Idempotent(3),
        Flush,
        Checkpoint,
        Append(4),
        Idempotent(1),
        Append(2),
        Flush,
        Idempotent(5),
        Checkpoint,
        Append(1),
        Restart,
    ];
    let steps: Vec<_> = round
        .iter()
        .cycle()
        .take(3 * round.len())
        .copied()
        .collect();
    stop_everywhere(&small_config(), &steps);
}

#[test]
fn transactions_stay_whole_wherever_they_stop() {
    use Step::*;
    let steps = [
        InTxn(7),
        Append(1),
        InTxn(8),
        Flush,
        End(7, false),
        Flush,
        InTxn(7),
        End(8, true),
        Flush,
        Checkpoint,
        InTxn(9),
        Append(2),
        End(7, true),
        Flush,
        InTxn(8),
        End(9, false),
        Flush,
        End(8, false),
        Flush,
        InTxn(7),
        Checkpoint,
        End(7, false),
        Append(3),
        Flush,
        Restart,
        InTxn(8),
        Flush,
    ];
    stop_everywhere(&small_config(), &steps);
}

#[test]
fn retention_and_deleted_records_never_take_more_than_they_should() {
    use Step::*;
    let config = LogConfig {
        retention_ms: Some(1),
        ..small_config()
    };
    let steps = [
        Append(3),
        Idempotent(2),
        Append(4),
        Flush,
        Append(9),
        Append(9),
        Flush,
        Retention,
        Append(5),
        Flush,
        KeepNewest(4),
        Append(9),
        Flush,
        Checkpoint,
        Retention,
        Append(2),
        Flush,
        Retention,
        Append(1),
        Flush,
        Restart,
        Append(1),
        Flush,
    ];
    stop_everywhere(&config, &steps);
}

#[test]
fn a_truncated_tail_does_not_come_back_over_what_replaced_it() {
    use Step::*;
    let steps = [
        Append(3),
        Append(4),
        Flush,
        Append(9),
        Append(9),
        Append(9),
        Flush,
        Checkpoint,
        Truncate(12),
        Append(2),
        Flush,
        Append(9),
        Append(9),
        Flush,
        Truncate(3),
        Append(5),
        Flush,
        Checkpoint,
        Append(9),
        Append(9),
        Truncate(20),
        Append(1),
        Flush,
        Restart,
        Append(1),
        Flush,
    ];
    stop_everywhere(&small_config(), &steps);
}
