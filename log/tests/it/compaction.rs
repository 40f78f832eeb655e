//! Compaction from outside: what is left against a model, and what happens to it, to readers and to the log meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flumen_log::config::CleanupPolicy;
use flumen_log::disk::{Disk, OpenMode, OsDisk};
use flumen_log::fault_disk::{Fault, FaultDisk, Kind};
use flumen_log::{
    AppendAs, CompactError, Compacted, CompactionOptions, Log, LogConfig, LogDir, ScrubPosition,
};
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::{Compression, DecompressionLimit};
use flumen_protocol::id::Offset;
use proptest::prelude::*;

use crate::helpers::*;

pub(crate) fn compacted_config() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        min_cleanable_dirty_ratio: 0.0,
        ..small_config()
    }
}

fn keyed(records: &[(&str, Option<&str>)], from: From, timestamp: i64) -> bytes::Bytes {
    let (producer_id, producer_epoch, base_sequence) = from.producer.unwrap_or((-1, -1, -1));
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: Compression::ALL[(timestamp % 5) as usize],
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: from.transactional,
        ..BatchOptions::default()
    });
    for (key, value) in records {
        builder.push(
            timestamp,
            Some(key.as_bytes()),
            value.map(str::as_bytes),
            &[(b"h", Some(b"x"))],
        );
    }
    builder.build()
}

struct Opened {
    dir: LogDir,
    log: Arc<Log>,
}

fn open(disk: &Arc<dyn Disk>, path: &Path) -> Opened {
    let dir = LogDir::open(disk.clone(), path, &identity()).unwrap();
    let log = dir
        .open_log(&partition(), None, compacted_config())
        .unwrap();
    Opened { dir, log }
}

fn on_fault_disk() -> (Arc<FaultDisk>, Opened) {
    let disk = Arc::new(FaultDisk::new());
    let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
    (disk, opened)
}

impl Opened {
    fn put(&self, key: &str, value: Option<&str>) -> Offset {
        append_client(
            &self.log,
            keyed(&[(key, value)], From::nobody(), 1_000),
            1_000,
        )
        .unwrap()
        .base_offset
    }

    /// Many batches of few keys, in closed segments.
    fn fill(&self, batches: i64) {
        for i in 0..batches {
            self.put(&format!("k{}", i % 7), Some(&format!("v{i}")));
        }
        self.log.roll().unwrap();
        self.log.flush().unwrap();
    }

    fn bound(&self) -> Offset {
        self.log.last_stable_offset(self.log.flushed_offset())
    }

    /// One cleaning, if one is due. Between two steps `meanwhile` is called.
    fn clean_while(
        &self,
        (map_bytes, step_bytes, now_ms): (u64, u64, i64),
        mut meanwhile: impl FnMut(),
    ) -> Result<Option<Compacted>, CompactError> {
        let found = self.dir.dirty_logs(now_ms, |_, _| Some(self.bound()));
        let Some(dirty) = found.into_iter().find(|dirty| dirty.found.is_due) else {
            return Ok(None);
        };
        let options = CompactionOptions { map_bytes, now_ms };
        let Some(mut compaction) = self.dir.begin_compaction(&dirty, options).unwrap() else {
            return Ok(None);
        };
        loop {
            meanwhile();
            match self.log.compact_step(&mut compaction, step_bytes) {
                Ok(step) => {
                    if let Some(done) = step.done {
                        self.dir
                            .compaction_done(&dirty.partition, &dirty.log, &done)
                            .unwrap();
                        return Ok(Some(done));
                    }
                }
                Err(error) => {
                    self.log.abandon_compaction(compaction);
                    return Err(error);
                }
            }
        }
    }

    fn clean(&self, now_ms: i64) -> Option<Compacted> {
        self.clean_while((1 << 20, 500, now_ms), || {}).unwrap()
    }
}

fn records(log: &Log) -> Vec<(Offset, String, Option<String>)> {
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut all = Vec::new();
    for batch in read_all(log)
        .iter()
        .filter(|batch| !batch.header().is_control())
    {
        for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
            let record = record.unwrap();
            assert_eq!(record.headers.last("h"), Some(Some(&b"x"[..])));
            all.push((
                record.offset,
                text(record.key.unwrap()),
                record.value.map(text),
            ));
        }
    }
    all
}

fn names(disk: &FaultDisk) -> Vec<String> {
    let names = disk.list(Path::new("/data/orders-0")).unwrap();
    names.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn the_closed_segments_become_few_and_hold_each_key_once() {
    let (disk, opened) = on_fault_disk();
    opened.fill(100);
    let end = opened.log.log_end_offset();
    let before = opened.log.segment_count();
    let done = opened.clean(0).unwrap();
    assert_eq!(
        (
            done.clean_offset,
            done.segments_before,
            done.segments_after < before
        ),
        (end, before - 1, true)
    );
    assert!(done.bytes_after < done.bytes_before);
    let expected: Vec<_> = (93..100)
        .map(|i| (i, format!("k{}", i % 7), Some(format!("v{i}"))))
        .collect();
    assert_eq!(records(&opened.log), expected);
    assert_eq!(
        (opened.log.log_start_offset(), opened.log.log_end_offset()),
        (0, end)
    );
    assert_eq!(opened.clean(0), None, "it is clean");
    assert!(names(&disk).iter().all(|name| {
        ![".cleaned", ".swap", ".deleted"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
    }));
    for from in 0..=end {
        let slice = opened.log.read(from, end, 1 << 20, true).unwrap();
        assert_eq!(slice.records.is_some(), from < end, "from {from}");
        assert!(slice.next_offset > from || from == end);
    }
}

#[test]
fn more_keys_than_fit_the_memory_are_cleaned_part_by_part() {
    let (_disk, opened) = on_fault_disk();
    for round in 0..3 {
        for i in 0..40 {
            opened.put(&format!("k{i}"), Some(&round.to_string()));
        }
    }
    opened.log.roll().unwrap();
    opened.log.flush().unwrap();
    let mut cleanings = 0;
    let mut clean = 0;
    // Nine keys at a time.
    while let Some(done) = opened.clean_while((24 * 10, 300, 0), || {}).unwrap() {
        assert!(
            done.clean_offset > clean,
            "each goes on where the last one ended"
        );
        clean = done.clean_offset;
        cleanings += 1;
    }
    assert!(cleanings > 10, "{cleanings}");
    let left = records(&opened.log);
    assert_eq!(left.len(), 40);
    assert!(
        left.iter()
            .all(|(_, _, value)| value.as_deref() == Some("2"))
    );
}

#[test]
fn readers_of_what_was_rewritten_read_on_and_know_what_was_aborted() {
    let (_disk, opened) = on_fault_disk();
    append_client(
        &opened.log,
        keyed(&[("a", Some("aborted"))], From::in_txn(7, 0, 0), 1_000),
        1_000,
    )
    .unwrap();
    let how = AppendAs::Marker {
        leader_epoch: 0,
        transaction_version: 2,
    };
    opened
        .log
        .append(marker(7, 1, false, 1_000), &how, 1_000)
        .unwrap();
    opened.fill(30);
    let slice = opened.log.read(0, opened.bound(), 1 << 20, true).unwrap();
    let aborted = slice.aborted_transactions(0).unwrap();
    assert_eq!(aborted.len(), 1);
    let bytes = slice.records.as_ref().unwrap().read().unwrap();
    for now_ms in [0, 1 << 40, 1 << 41] {
        opened.put("zz", None);
        opened.log.roll().unwrap();
        opened.log.flush().unwrap();
        assert!(opened.clean(now_ms).is_some());
    }
    assert_eq!(
        opened.log.aborted_transactions(0, opened.bound()).unwrap(),
        []
    );
    assert_eq!(slice.records.as_ref().unwrap().read().unwrap(), bytes);
    assert_eq!(slice.aborted_transactions(0).unwrap(), aborted);
}

#[test]
fn a_repeat_is_known_after_cleaning_and_restart() {
    let (disk, opened) = on_fault_disk();
    for sequence in 0..3 {
        let batch = keyed(
            &[("a", Some("mine"))],
            From::producer(7, 0, sequence),
            1_000,
        );
        append_client(&opened.log, batch, 1_000).unwrap();
    }
    opened.fill(40);
    opened.put("a", Some("newer"));
    opened.log.roll().unwrap();
    opened.log.flush().unwrap();
    opened.clean(0).unwrap();
    assert!(
        records(&opened.log)
            .iter()
            .all(|(_, _, value)| value.as_deref() != Some("mine"))
    );
    drop(opened);
    // Without a snapshot the log itself must know.
    for name in names(&disk)
        .iter()
        .filter(|name| name.ends_with(".snapshot"))
    {
        disk.remove_file(&Path::new("/data/orders-0").join(name))
            .unwrap();
    }
    let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
    let repeat = keyed(&[("a", Some("mine"))], From::producer(7, 0, 2), 1_000);
    let appended = append_client(&opened.log, repeat, 1_000).unwrap();
    assert_eq!((appended.duplicate, appended.base_offset), (true, 2));
    let next = keyed(&[("a", Some("mine"))], From::producer(7, 0, 3), 1_000);
    assert!(!append_client(&opened.log, next, 1_000).unwrap().duplicate);
}

#[test]
fn what_is_deleted_cut_off_or_closed_meanwhile_ends_a_cleaning_and_nothing_else() {
    for what in 0..3 {
        for at in 1..40 {
            let (disk, opened) = on_fault_disk();
            opened.fill(60);
            let mut step = 0;
            let before = records(&opened.log);
            let cleaned = opened.clean_while((1 << 20, 300, 0), || {
                step += 1;
                if step != at {
                    return;
                }
                match what {
                    0 => drop(opened.log.delete_segments_before(25).unwrap()),
                    1 => drop(opened.dir.truncate(&partition(), &opened.log, 30).unwrap()),
                    _ => opened.dir.close(1).unwrap(),
                }
            });
            let newest: BTreeMap<_, _> = before
                .iter()
                .map(|(at, key, value)| (key.clone(), (*at, value.clone())))
                .collect();
            let left: BTreeMap<_, _> = records(&opened.log)
                .into_iter()
                .map(|(at, key, value)| (key, (at, value)))
                .collect();
            if at <= step && what == 1 {
                // What was newest may be cut off, and older ones cleaned away: a leader never cuts what is replicated.
                assert!(left.iter().all(|(key, found)| before.contains(&(
                    found.0,
                    key.clone(),
                    found.1.clone()
                ))));
            } else {
                assert_eq!(left, newest, "{what} at {at}: {cleaned:?}");
            }
            drop(opened);
            let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
            let again: BTreeMap<_, _> = records(&opened.log)
                .into_iter()
                .map(|(at, key, value)| (key, (at, value)))
                .collect();
            assert_eq!(again, left);
            while opened.clean(0).is_some() {}
        }
    }
}

#[test]
fn a_batch_that_cannot_be_read_stops_the_cleaning_and_nothing_is_changed() {
    let (disk, opened) = on_fault_disk();
    opened.fill(60);
    let path = Path::new("/data/orders-0/00000000000000000000.log");
    disk.flip(path, 300, 1).unwrap();
    let before = names(&disk);
    let cleaned = opened.clean_while((1 << 20, 500, 0), || {});
    assert!(
        matches!(cleaned, Err(CompactError::Corrupt(_))),
        "{cleaned:?}"
    );
    disk.flip(path, 300, 1).unwrap();
    assert_eq!(
        before.iter().filter(|name| name.ends_with(".log")).count(),
        opened.log.segment_count()
    );
    assert_eq!(records(&opened.log).len(), 60);
    assert!(opened.clean(0).is_some());
}

#[test]
fn a_disk_without_room_loses_nothing_and_is_tried_again() {
    let mut refused = 0;
    for capacity in (1_000..24_000).step_by(500) {
        let (disk, opened) = on_fault_disk();
        opened.fill(60);
        opened.dir.checkpoint().unwrap();
        disk.set_capacity(Some(capacity));
        match opened.clean_while((1 << 20, 500, 0), || {}) {
            Err(CompactError::Storage(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                refused += 1;
            }
            Ok(_) => {}
            Err(error) => panic!("{capacity}: {error}"),
        }
        assert!(opened.log.fenced().is_none(), "{capacity}");
        let newest = |left: Vec<(Offset, String, Option<String>)>| -> BTreeMap<_, _> {
            left.into_iter().map(|(at, key, _)| (key, at)).collect()
        };
        let keys = newest(records(&opened.log));
        assert_eq!(
            (keys.len(), keys.values().copied().min()),
            (7, Some(53)),
            "{capacity}"
        );
        disk.set_capacity(None);
        while opened.clean(0).is_some() {}
        assert_eq!(newest(records(&opened.log)), keys, "{capacity}");
        assert_eq!(records(&opened.log).len(), 7, "{capacity}");
    }
    assert!(refused > 0);
}

#[test]
fn a_sync_that_fails_fences_and_readers_read_on() {
    for kind in [Kind::Sync, Kind::SyncDir] {
        for coming in 1..4 {
            let (disk, opened) = on_fault_disk();
            opened.fill(60);
            opened.dir.checkpoint().unwrap();
            let newest = records(&opened.log).split_off(53);
            disk.fail_coming(kind, coming, Fault::Io);
            let cleaned = opened.clean_while((1 << 20, 500, 0), || {});
            assert!(
                matches!(cleaned, Err(CompactError::Fenced(_))) && opened.log.fenced().is_some(),
                "{kind:?} {coming}: {cleaned:?}"
            );
            assert!(records(&opened.log).ends_with(&newest), "{kind:?} {coming}");
            drop(opened);
            let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
            assert!(records(&opened.log).ends_with(&newest), "{kind:?} {coming}");
            while opened.clean(0).is_some() {}
            assert_eq!(records(&opened.log), newest, "{kind:?} {coming}");
        }
    }
}

#[test]
fn a_scrub_goes_on_in_a_segment_that_was_rewritten() {
    let (_disk, opened) = on_fault_disk();
    opened.fill(60);
    let first = opened.log.scrub(ScrubPosition::default(), 300).unwrap();
    opened.clean(0).unwrap();
    let mut at = first.next;
    while let Some(from) = at {
        let scrubbed = opened.log.scrub(from, 300).unwrap();
        assert!(scrubbed.found.is_none(), "{scrubbed:?}");
        at = scrubbed.next;
    }
}

/// What Apache Kafka may leave: its swap does not say which segments it replaces but by what is left in it.
#[test]
fn a_swap_of_another_hand_is_finished_or_taken_back() {
    for (suffix, finished) in [(".swap", true), (".cleaned", false)] {
        let (disk, opened) = on_fault_disk();
        opened.fill(30);
        let original = records(&opened.log);
        drop(opened);
        let shared: Arc<dyn Disk> = disk.clone();
        let (source, opened) = on_fault_disk();
        opened.fill(30);
        opened.clean(0).unwrap();
        let cleaned = records(&opened.log);
        let end = files(&*source, Path::new("/data/orders-0"), &[".log"])
            .into_keys()
            .nth(1)
            .unwrap();
        let end: Offset = end.trim_end_matches(".log").parse().unwrap();
        for (name, bytes) in files(
            &*source,
            Path::new("/data/orders-0"),
            &[".log", ".index", ".timeindex"],
        ) {
            if name.starts_with("00000000000000000000.") {
                let path = Path::new("/data/orders-0").join(format!("{name}{suffix}"));
                let file = shared.open(&path, OpenMode::Create).unwrap();
                file.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
            }
        }
        let opened = open(&shared, Path::new("/data"));
        let expected: Vec<_> = match finished {
            true => {
                let below = cleaned.into_iter().filter(|(at, ..)| *at < end);
                below
                    .chain(original.into_iter().filter(|(at, ..)| *at >= end))
                    .collect()
            }
            false => original,
        };
        assert_eq!(records(&opened.log), expected, "{suffix}");
        assert!(!names(&disk).iter().any(|name| name.ends_with(suffix)));
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// Keys, and which of them are deleted.
    Put(Vec<(u8, bool)>),
    InTxn(i64, Vec<(u8, bool)>),
    End(i64, bool),
    Roll,
    /// Slots of the map, bytes a step, time since the last one.
    Clean(u64, u64, i64),
    Reopen(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let keys = || prop::collection::vec((0u8..12, any::<bool>()), 1..6);
    prop_oneof![
        8 => keys().prop_map(Act::Put),
        4 => (7i64..9, keys()).prop_map(|(id, keys)| Act::InTxn(id, keys)),
        3 => (7i64..9, any::<bool>()).prop_map(|(id, commit)| Act::End(id, commit)),
        2 => Just(Act::Roll),
        3 => (2u64..40, 100u64..2_000, 0i64..200_000_000).prop_map(|(slots, step, ms)| Act::Clean(slots, step, ms)),
        1 => any::<bool>().prop_map(Act::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    /// Everything that was ever committed: key and value by offset.
    committed: BTreeMap<Offset, (String, Option<String>)>,
    open: BTreeMap<i64, BTreeMap<Offset, (String, Option<String>)>>,
    epochs: BTreeMap<i64, (i16, i32)>,
    now_ms: i64,
}

impl Model {
    /// The newest value of each key below the last stable offset, if it is not deleted.
    fn table(&self, stable: Offset) -> BTreeMap<String, (Offset, String)> {
        let mut table = BTreeMap::new();
        for (offset, (key, value)) in self.committed.range(..stable) {
            match value {
                Some(value) => _ = table.insert(key.clone(), (*offset, value.clone())),
                None => _ = table.remove(key),
            }
        }
        table
    }

    fn write(&mut self, opened: &Opened, producer: Option<i64>, keys: &[(u8, bool)]) {
        let next = opened.log.log_end_offset();
        let named: Vec<_> = keys
            .iter()
            .zip(next..)
            .map(|((key, delete), offset)| {
                (format!("k{key}"), (!delete).then(|| format!("v{offset}")))
            })
            .collect();
        let borrowed: Vec<_> = named
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        let state = producer.map(|id| (id, *self.epochs.entry(id).or_default()));
        let from = state.map_or(From::nobody(), |(id, (epoch, sequence))| {
            From::in_txn(id, epoch, sequence)
        });
        append_client(&opened.log, keyed(&borrowed, from, 1_000 + next), 1_000).unwrap();
        let written = (next..).zip(named);
        match producer {
            Some(id) => {
                self.epochs.get_mut(&id).unwrap().1 += keys.len() as i32;
                self.open.entry(id).or_default().extend(written);
            }
            None => self.committed.extend(written),
        }
    }
}

/// What a reader of committed data sees, newest by key.
fn table(opened: &Opened) -> BTreeMap<String, (Offset, String)> {
    let stable = opened.bound();
    let aborted = opened.log.aborted_transactions(0, stable).unwrap();
    let is_aborted = |batch: &RecordBatch| {
        let header = batch.header();
        let covers = |txn: &&flumen_log::AbortedTxn| {
            txn.producer_id == header.producer_id
                && (txn.first_offset..txn.last_offset).contains(&header.base_offset)
        };
        header.is_transactional() && aborted.iter().any(|txn| covers(&txn))
    };
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut table = BTreeMap::new();
    for batch in read_range(&opened.log, 0, stable) {
        if batch.header().is_control() || is_aborted(&batch) {
            continue;
        }
        for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
            let record = record.unwrap();
            let key = text(record.key.unwrap());
            match record.value {
                Some(value) => _ = table.insert(key, (record.offset, text(value))),
                None => _ = table.remove(&key),
            }
        }
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written, cleaned and restarted: a reader from the start ends with the same table.
    #[test]
    fn a_cleaned_log_gives_the_same_table(acts in prop::collection::vec(act(), 1..100)) {
        let home = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
        let mut opened = open(&disk, home.path());
        let mut model = Model { now_ms: 1, ..Model::default() };
        for act in acts {
            match act {
                Act::Put(keys) => model.write(&opened, None, &keys),
                Act::InTxn(id, keys) => model.write(&opened, Some(id), &keys),
                Act::End(id, commit) => {
                    let (epoch, sequence) = model.epochs.entry(id).or_default();
                    (*epoch, *sequence) = (*epoch + 1, 0);
                    let how = AppendAs::Marker { leader_epoch: 0, transaction_version: 2 };
                    opened.log.append(marker(id, *epoch, commit, 1_000), &how, 1_000).unwrap();
                    let records = model.open.remove(&id).unwrap_or_default();
                    if commit {
                        model.committed.extend(records);
                    }
                }
                Act::Roll => opened.log.roll().unwrap(),
                Act::Clean(slots, step, ms) => {
                    opened.log.flush().unwrap();
                    model.now_ms += ms;
                    opened.clean_while((24 * slots, step, model.now_ms), || {}).unwrap();
                }
                Act::Reopen(clean) => {
                    opened.log.flush().unwrap();
                    if clean {
                        opened.dir.close(1).unwrap();
                    }
                    drop(opened);
                    opened = open(&disk, home.path());
                }
            }
            opened.log.flush().unwrap();
            prop_assert_eq!(table(&opened), model.table(opened.bound()));
        }
        let known: BTreeMap<_, _> = opened.log.active_producers().into_iter().map(|known| (known.producer_id, known)).collect();
        for (id, (epoch, sequence)) in &model.epochs {
            if let Some(found) = known.get(id) {
                prop_assert_eq!((found.epoch, found.last_sequence), (*epoch, sequence - 1));
            }
        }
    }
}
