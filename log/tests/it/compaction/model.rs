//! Random histories of transactions, cleanings and restarts against a table of what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_log::AppendAs;
use flumen_log::disk::{Disk, OsDisk};
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::Offset;
use proptest::prelude::*;

use super::{Opened, keyed, open};
use crate::helpers::*;

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
