//! One group of segments becomes one segment: written beside, made durable, and put in their place.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flumen_protocol::batch::{BatchHeader, HEADER_BYTES, crc32c};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::{Offset, ProducerId};

use super::{Compacted, Reader};
use crate::compaction::{Fate, Filter, LastRecord, OffsetMap, Transactions};
use crate::disk::{self, DiskFile, OpenMode};
use crate::error::{CompactError, FlushError};
use crate::index::{AbortedTxn, encode_aborted};
use crate::log::Log;
use crate::segment::{Exists, Place, Segment, Stamped};
use crate::swap;

/// A group that is being rewritten.
#[derive(Debug)]
pub(super) struct Rewrite {
    group: Vec<Arc<Segment>>,
    /// Which segment of the group is read, and from where.
    at: usize,
    position: u64,
    /// The last one that holds anything.
    last: usize,
    output: Segment,
    place: Place,
    aborted: Vec<AbortedTxn>,
    /// What must be left of producers, as of the beginning: they only move on.
    last_records: BTreeMap<ProducerId, LastRecord>,
    changed: bool,
}

impl Rewrite {
    /// Everything was read and written.
    pub(super) fn is_whole(&self) -> bool {
        self.at == self.group.len()
    }

    fn base_offset(&self) -> Offset {
        self.group[0].base_offset
    }

    /// Removes what was written; what stays is removed by the next start.
    pub(super) fn discard(self) {
        let place = Place {
            suffix: "",
            ..self.place.clone()
        };
        let base = self.base_offset();
        drop(self.output);
        if let Err(error) = swap::remove_all(&place, base, swap::CLEANED) {
            tracing::debug!(log = %place.dir.display(), %error, "half a cleaned segment stays until the next start");
        }
    }
}

/// What is left of a batch, on its way.
struct Left {
    header: BatchHeader,
    bytes: bytes::Bytes,
}

impl Log {
    pub(super) fn begin_rewrite(&self, group: Vec<Arc<Segment>>) -> Result<Rewrite, CompactError> {
        let place = Place {
            suffix: swap::CLEANED,
            index_bytes: self.config().index_bytes,
            ..self.place.clone()
        };
        let base = group[0].base_offset;
        swap::remove_all(&self.place, base, swap::CLEANED)?;
        let last = group.iter().rposition(|segment| segment.extent().size > 0);
        let last_record = |producer: &crate::producers::Producer| LastRecord {
            last_data_offset: producer.batches.back().map(|batch| batch.last_offset),
            epoch: producer.epoch,
        };
        let producers = self.producers.lock();
        let last_records = producers
            .iter()
            .map(|(id, producer)| (id, last_record(producer)));
        let last_records = last_records.collect();
        drop(producers);
        Ok(Rewrite {
            changed: group.len() > 1,
            group,
            at: 0,
            position: 0,
            last: last.unwrap_or(0),
            output: Segment::new(&place, base, Exists::default()),
            place,
            aborted: Vec::new(),
            last_records,
        })
    }

    /// Reads a piece of the group and writes what is left of it. Returns the bytes read and written.
    pub(super) fn rewrite_some(
        &self,
        rewrite: &mut Rewrite,
        (map, transactions, now_ms): (&OffsetMap, &mut Transactions, i64),
        bytes_max: u64,
    ) -> Result<u64, CompactError> {
        let config = self.config();
        let segment = rewrite.group[rewrite.at].clone();
        let mut reader = Reader::new(self, &segment, rewrite.position, bytes_max)?;
        let mut filter = Filter {
            map,
            transactions,
            last_record: &|producer| rewrite.last_records.get(&producer).copied(),
            now_ms,
            delete_retention_ms: config.delete_retention_ms,
            limit: DecompressionLimit::DEFAULT,
        };
        let mut left: Vec<Left> = Vec::new();
        let mut written = 0;
        while let Some((located, batch)) = reader.next()? {
            let last = rewrite.at == rewrite.last && reader.is_at_end();
            let judged = filter.judge(&batch, last);
            let (fate, aborted) =
                judged.map_err(|error| reader.corrupt(&located, error.to_string()))?;
            rewrite.aborted.extend(aborted);
            rewrite.changed |= fate != Fate::Keep;
            let bytes = match fate {
                Fate::Keep => batch.bytes().clone(),
                Fate::Replace(bytes) => bytes,
                Fate::Drop => continue,
            };
            let header = BatchHeader::parse(&bytes).expect("it was one, or was just written");
            written += bytes.len() as u64;
            left.push(Left { header, bytes });
        }
        let stamped = left.iter().map(|Left { header, bytes }| Stamped {
            header: *header,
            records: &bytes[HEADER_BYTES..],
        });
        let stamped: Vec<_> = stamped.collect();
        if !stamped.is_empty() {
            rewrite
                .output
                .append(&stamped, config.index_interval_bytes)?;
        }
        let read = reader.position() - rewrite.position;
        rewrite.position = reader.position();
        if reader.is_at_end() {
            (rewrite.at, rewrite.position) = (rewrite.at + 1, 0);
        }
        Ok(read + written)
    }

    /// Puts a whole new segment in the place of its group.
    pub(super) fn finish_rewrite(
        &self,
        rewrite: Rewrite,
        compacted: &mut Compacted,
    ) -> Result<(), CompactError> {
        let size = |segment: &Arc<Segment>| segment.extent().size;
        compacted.segments_before += rewrite.group.len();
        compacted.bytes_before += rewrite.group.iter().map(size).sum::<u64>();
        compacted.segments_after += 1;
        compacted.bytes_after += rewrite.output.extent().size;
        if !rewrite.changed || rewrite.output.extent().size == 0 {
            rewrite.discard();
            return Ok(());
        }
        // No checkpoint writes small files of a segment meanwhile.
        let _checkpointing = self.checkpointing.lock();
        let list = self.segments();
        let holds = |first: usize| {
            let found = list.get(first..first + rewrite.group.len());
            found.is_some_and(|found| {
                found
                    .iter()
                    .zip(&rewrite.group)
                    .all(|(a, b)| Arc::ptr_eq(a, b))
            })
        };
        let first = list.partition_point(|segment| segment.base_offset < rewrite.base_offset());
        if !holds(first) {
            rewrite.discard();
            return Err(CompactError::Outdated);
        }
        match self.make_durable(&rewrite) {
            Ok(()) => {}
            Err(error) => {
                rewrite.discard();
                return Err(error);
            }
        }
        self.swap_in(&rewrite)?;
        self.publish_swap(&rewrite);
        for segment in &rewrite.group {
            let removed = swap::remove_all(&self.place, segment.base_offset, swap::DELETED);
            if let Err(error) = removed {
                tracing::warn!(log = %self.place.dir.display(), %error, "files of a cleaned segment stay until the next start");
            }
        }
        Ok(())
    }

    /// Step 1 of `swap.rs`: all of the new segment is on the disk under a name that does not count.
    fn make_durable(&self, rewrite: &Rewrite) -> Result<(), CompactError> {
        let output = &rewrite.output;
        output.finish()?;
        let mut files: Vec<Arc<dyn DiskFile>> = vec![output.file()?];
        files.extend(output.take_dirty_indexes());
        if !rewrite.aborted.is_empty() {
            let bytes = encode_aborted(&rewrite.aborted);
            let checksum = format!("{:08x}\n", crc32c(&bytes)).into_bytes();
            for (kind, bytes) in [("txnindex", bytes), ("txnindex.crc32c", checksum)] {
                let path = rewrite.place.file(output.base_offset, kind);
                let file = self.place.disk.open(&path, OpenMode::Create)?;
                disk::write_all_at(&*file, &mut [IoSlice::new(&bytes)], 0)?;
                files.push(file);
            }
        }
        for file in files {
            match file.sync_data() {
                // Nobody relies on it yet.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Err(error.into());
                }
                Err(error) => return Err(self.swap_failed("sync of a cleaned segment", error)),
                Ok(()) => {}
            }
        }
        let named = self.place.disk.sync_dir(&self.place.dir);
        named.map_err(|error| self.swap_failed("directory sync", error))
    }

    /// Steps 2 to 4.
    fn swap_in(&self, rewrite: &Rewrite) -> Result<(), CompactError> {
        let (place, base) = (&self.place, rewrite.base_offset());
        // Who reads the old ones reads on, though they lose their names.
        let held = rewrite.group.iter().try_for_each(|segment| segment.hold());
        let renamed = held.and_then(|()| swap::rename_all(place, base, swap::CLEANED, swap::SWAP));
        if let Err(error) = renamed {
            let cancelled = swap::cancel(place, base);
            cancelled.map_err(|error| self.swap_failed("taking back a cleaned segment", error))?;
            return Err(error.into());
        }
        let sync = || place.disk.sync_dir(&place.dir);
        let lost = |error| {
            swap::ask_to_renew(place, base);
            self.swap_failed("directory sync", error)
        };
        // From here on there is no way back but a start.
        let failed = |error| self.swap_failed("swapping in a cleaned segment", error);
        sync().map_err(lost)?;
        for segment in &rewrite.group {
            swap::rename_all(place, segment.base_offset, "", swap::DELETED).map_err(failed)?;
        }
        sync().map_err(lost)?;
        swap::rename_all(place, base, swap::SWAP, "").map_err(failed)?;
        sync().map_err(lost)
    }

    fn swap_failed(&self, what: &str, error: io::Error) -> CompactError {
        match self.flush_failed(what.to_owned(), error) {
            FlushError::Fenced(fenced) => fenced.into(),
            FlushError::Failed { .. } => self.fence(what.to_owned()).into(),
        }
    }

    /// Readers see the new segment from now on.
    fn publish_swap(&self, rewrite: &Rewrite) {
        let base = rewrite.base_offset();
        let exists = Exists {
            log: true,
            index: true,
            time_index: true,
            txn_index: !rewrite.aborted.is_empty(),
        };
        let new = Arc::new(Segment::new(&self.place, base, exists));
        new.set_extent(rewrite.output.extent());
        let kept =
            |segment: &Arc<Segment>| !rewrite.group.iter().any(|old| Arc::ptr_eq(old, segment));
        let mut writer = self.writer.lock();
        writer.dirty.retain(kept);
        writer.sealed.retain(kept);
        let mut segments = self.segments.write();
        let mut list = Vec::clone(&segments);
        let at = list.partition_point(|segment| segment.base_offset < base);
        list.retain(kept);
        list.insert(at, new);
        *segments = Arc::new(list);
        self.swaps.fetch_add(1, Ordering::Release);
    }
}
