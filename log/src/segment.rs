//! One `.log` file with its indexes: batches as they came, one after the other.
//!
//! Owned by `Log`, which serialises writes; any number of readers look at it meanwhile, below the [`Extent`] that was
//! published last. A segment knows offsets and positions, nothing of producers, epochs or retention.
//! Source: Kafka `LogSegment`.

pub(crate) mod walk;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_protocol::batch::{BatchHeader, HEADER_BYTES};
use flumen_protocol::id::Offset;
use flumen_protocol::segment::FileRange;
use parking_lot::{Mutex, RwLock};

use crate::disk::{self, Disk, DiskFile, OpenMode};
use crate::index::{OffsetIndex, OffsetPosition, TimeIndex, TimestampOffset, TxnIndex};
use crate::sealed;
use walk::{Located, WalkError, Walker};

/// Header bytes looked at per read of the disk when a batch is searched.
const SEARCH_WINDOW_BYTES: usize = 4096;
/// Batches per vectored write: two parts each, of which a system takes 1,024.
const BATCHES_PER_WRITE: usize = 500;

/// Where the segments of a log lie, and how their indexes are laid out.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: Arc<Path>,
    pub(crate) index_bytes: usize,
    /// Behind the name of each file of a segment: none, or that of a segment that does not count yet.
    pub(crate) suffix: &'static str,
}

impl Place {
    /// `<dir>/<base offset in 20 digits>.<kind><suffix>`
    pub(crate) fn file(&self, base_offset: Offset, kind: &str) -> PathBuf {
        let suffix = self.suffix;
        self.dir.join(format!("{base_offset:020}.{kind}{suffix}"))
    }
}

/// Base offset and what follows the point; `None` if that is no file of a segment.
pub(crate) fn parse_name(name: &str) -> Option<(Offset, &str)> {
    let (base, rest) = name.split_once('.')?;
    let base = base.parse().ok().filter(|_| base.len() == 20)?;
    Some((base, rest))
}

/// Which files of a segment exist.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exists {
    pub(crate) log: bool,
    pub(crate) index: bool,
    pub(crate) time_index: bool,
    pub(crate) txn_index: bool,
}

/// How far a segment goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes of whole batches.
    pub(crate) size: u64,
    /// Offset after the last record.
    pub(crate) next_offset: Offset,
    /// Largest timestamp, and the last offset of the first batch that has it.
    pub(crate) max: Option<TimestampOffset>,
    /// Bytes since the batch of the last index entry began.
    pub(crate) since_entry: u64,
    /// Largest timestamp of the first batch.
    pub(crate) first_timestamp: Option<i64>,
}

/// One batch on its way into a segment: final header, and the bytes behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamped<'a> {
    pub(crate) header: BatchHeader,
    pub(crate) records: &'a [u8],
}

/// Whole batches found by [`Segment::read`].
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) range: FileRange,
    pub(crate) base_offset: Offset,
    /// First offset that is not in it.
    pub(crate) next_offset: Offset,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    place: Place,
    file: RwLock<Option<Arc<dyn DiskFile>>>,
    extent: Mutex<Extent>,
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    pub(crate) txns: TxnIndex,
}

impl Segment {
    /// The segment at `base_offset`. Files are opened, or created, when they are first needed; the caller sets the extent.
    pub(crate) fn new(place: &Place, base_offset: Offset, exists: Exists) -> Self {
        let disk = &place.disk;
        let path = |suffix| place.file(base_offset, suffix);
        let bytes = place.index_bytes;
        Self {
            base_offset,
            file: RwLock::new(None),
            extent: Mutex::new(Extent {
                next_offset: base_offset,
                ..Extent::default()
            }),
            offsets: OffsetIndex::new(
                disk.clone(),
                path("index"),
                base_offset,
                bytes,
                exists.index,
            ),
            times: TimeIndex::new(
                disk.clone(),
                path("timeindex"),
                base_offset,
                bytes,
                exists.time_index,
            ),
            txns: TxnIndex::new(disk.clone(), path("txnindex"), exists.txn_index),
            place: place.clone(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.file(self.base_offset, "log")
    }

    pub(crate) fn extent(&self) -> Extent {
        *self.extent.lock()
    }

    pub(crate) fn set_extent(&self, extent: Extent) {
        *self.extent.lock() = extent;
    }

    /// The file, opened; it must exist.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open(OpenMode::Write)
    }

    /// The file, created if need be.
    pub(crate) fn create(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open(OpenMode::Create)
    }

    /// Whether the file was opened or created by this process.
    pub(crate) fn is_open(&self) -> bool {
        self.file.read().is_some()
    }

    fn open(&self, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &*self.file.read() {
            return Ok(file.clone());
        }
        let mut slot = self.file.write();
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = self.place.disk.open(&self.path(), mode)?;
        *slot = Some(file.clone());
        Ok(file)
    }

    /// Puts another file in place of the `.log`: whatever `fill` makes of the old one. Readers of the old one can read on.
    pub(crate) fn replace_file(
        &self,
        fill: impl FnOnce(&dyn DiskFile, &dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let old = self.file()?;
        let path = self.path();
        let tmp = path.with_extension("log.tmp");
        let new = self.place.disk.open(&tmp, OpenMode::Create)?;
        new.set_len(0)?;
        fill(&*old, &*new)?;
        self.place.disk.rename(&tmp, &path)?;
        *self.file.write() = Some(new);
        Ok(())
    }

    /// Appends batches whose offsets follow each other. On error nothing is published and the file may hold a part of them:
    /// see [`Self::undo`].
    pub(crate) fn append(&self, batches: &[Stamped<'_>], interval_bytes: u64) -> io::Result<()> {
        let file = self.create()?;
        let mut extent = self.extent();
        let mut position = extent.size;
        for chunk in batches.chunks(BATCHES_PER_WRITE) {
            let mut headers = vec![[0; HEADER_BYTES]; chunk.len()];
            let mut parts = Vec::with_capacity(2 * chunk.len());
            for (bytes, batch) in headers.iter_mut().zip(chunk) {
                batch.header.write(bytes);
                parts.push(IoSlice::new(bytes));
                parts.push(IoSlice::new(batch.records));
            }
            disk::write_all_at(&*file, &mut parts, position)?;
            position += chunk
                .iter()
                .map(|batch| batch.header.size_in_bytes() as u64)
                .sum::<u64>();
        }
        for batch in batches {
            self.note(&mut extent, &batch.header, interval_bytes);
        }
        self.set_extent(extent);
        Ok(())
    }

    /// Takes a batch that lies at the end of `extent` into it, with an index entry if one is due. The same line of code for
    /// appending and for rebuilding, so that rebuilt indexes equal the written ones.
    pub(crate) fn note(&self, extent: &mut Extent, batch: &BatchHeader, interval_bytes: u64) {
        if extent
            .max
            .is_none_or(|max| batch.max_timestamp > max.timestamp)
        {
            extent.max = Some(TimestampOffset {
                timestamp: batch.max_timestamp,
                offset: batch.last_offset(),
            });
        }
        if extent.first_timestamp.is_none() {
            extent.first_timestamp = Some(batch.max_timestamp);
        }
        if extent.since_entry > interval_bytes {
            // Time first: so the newest time entry is never older than the newest offset entry, and what lies behind that
            // one is all that has to be looked at for the largest timestamp.
            let max = extent.max.expect("set above");
            let added = self
                .times
                .append_if_newer(max)
                .and_then(|()| self.offsets.append(batch.last_offset(), extent.size));
            match added {
                Ok(()) => extent.since_entry = 0,
                Err(error) => {
                    tracing::debug!(segment = %self.path().display(), %error, "index entry left out")
                }
            }
        }
        let size = batch.size_in_bytes() as u64;
        extent.size += size;
        extent.since_entry += size;
        extent.next_offset = batch.next_offset();
    }

    /// After a failed append: cuts the file to what is published.
    pub(crate) fn undo(&self) -> io::Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        self.file()?.set_len(self.extent().size)
    }

    fn walker(&self, end: u64) -> io::Result<Walker> {
        let window = SEARCH_WINDOW_BYTES;
        Ok(Walker::new(self.file()?, self.base_offset, end, window))
    }

    /// A walk over the batches from byte `position` to the published end.
    pub(crate) fn walk_from(&self, position: u64) -> io::Result<Walker> {
        let end = self.extent().size;
        match end {
            0 => Ok(Walker::empty()),
            end => Ok(self.walker(end)?.starting_at(position)),
        }
    }

    /// Whole batches from the one that holds `from`, or the next one if that offset was compacted away. All below `upto`,
    /// at most `max_bytes`, but always the first if `min_one_batch`.
    pub(crate) fn read(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: u64,
        min_one_batch: bool,
    ) -> Result<Option<Found>, WalkError> {
        let extent = self.extent();
        if from >= extent.next_offset || extent.size == 0 {
            return Ok(None);
        }
        let Some((first, walker)) = self.locate(from, &extent)? else {
            return Ok(None);
        };
        if first.header.base_offset > from {
            check_gap(&first, walker.clone(), &extent)?;
        }
        let first_end = first.position + first.header.size_in_bytes() as u64;
        let too_large = first_end - first.position > max_bytes && !min_one_batch;
        if first.header.last_offset() >= upto || too_large {
            return Ok(None);
        }
        let limit = (first.position.saturating_add(max_bytes)).max(first_end);
        let (end, next_offset) = self.end_of_read(&first, walker, &extent, (limit, upto))?;
        let range = FileRange {
            source: self.file()?,
            position: first.position,
            len: (end - first.position) as usize,
        };
        Ok(Some(Found {
            range,
            base_offset: first.header.base_offset,
            next_offset,
        }))
    }

    /// The batch that holds `offset`, or the first one above it, and a walker that stands behind it.
    ///
    /// The index is a cache that may have rotted: what it says must fit what is found there, else the segment is walked from its
    /// start.
    fn locate(
        &self,
        offset: Offset,
        extent: &Extent,
    ) -> Result<Option<(Located, Walker)>, WalkError> {
        let wanted = |header: &BatchHeader| header.last_offset() >= offset;
        let entry = self.offsets.last_where(|entry| entry.offset <= offset);
        if let Ok(Some(entry)) = entry
            && self.entry_holds(entry, extent.size)?
        {
            let mut by_index = self.walker(extent.size)?.starting_at(entry.position);
            match by_index.find(wanted) {
                Ok(Some(found)) => return Ok(Some((found, by_index))),
                Err(WalkError::Storage(error)) => return Err(error.into()),
                Ok(None) | Err(_) => {}
            }
        }
        let mut from_start = self.walker(extent.size)?;
        let found = from_start.find(wanted)?;
        Ok(found.map(|found| (found, from_start)))
    }

    /// Whether the batch that an index entry names is there.
    pub(crate) fn entry_holds(&self, entry: OffsetPosition, size: u64) -> io::Result<bool> {
        if entry.position >= size {
            return Ok(false);
        }
        let mut walker = self.walker(size)?.starting_at(entry.position);
        match walker.next() {
            Ok(found) => Ok(found.is_some_and(|found| found.header.last_offset() == entry.offset)),
            Err(WalkError::Storage(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Where a read ends, by position and offset: the walker stands behind its first batch, which is in. Ends before what is
    /// damaged, so that the next read is told of it.
    fn end_of_read(
        &self,
        first: &Located,
        mut walker: Walker,
        extent: &Extent,
        (limit, upto): (u64, Offset),
    ) -> Result<(u64, Offset), WalkError> {
        let whole = extent.next_offset <= upto && extent.size <= limit;
        let fits = |entry: OffsetPosition| {
            entry.position < extent.size && entry.position <= limit && entry.offset < upto
        };
        let mut last = *first;
        for step in 0.. {
            let (position, next_offset) = (walker.position(), walker.next_offset());
            match walker.next() {
                Ok(None) => return Ok((position, extent.next_offset)),
                Ok(Some(batch))
                    if batch.header.last_offset() >= upto || walker.position() > limit =>
                {
                    // Behind a skip, the index entry bears out what the batch says.
                    let skipped =
                        batch.position > last.position + last.header.size_in_bytes() as u64;
                    let at = if skipped {
                        batch.header.base_offset
                    } else {
                        next_offset
                    };
                    return Ok((position, at));
                }
                // The one behind the first bears out its offset; those that follow are for whoever reads them.
                Ok(Some(_)) if step == 0 && whole => {
                    return Ok((extent.size, extent.next_offset));
                }
                Ok(Some(batch)) => last = batch,
                Err(WalkError::Corrupt { .. }) => return Ok((position, next_offset)),
                Err(WalkError::GoesBack { .. }) if step > 0 => {
                    return Ok((last.position, last.header.base_offset));
                }
                Err(error) => return Err(error),
            }
            if step == 0
                && let Ok(Some(entry)) = self.offsets.last_where(fits)
                && self.entry_holds(entry, extent.size)?
            {
                walker.skip_to(entry.position);
            }
        }
        unreachable!("a file has an end")
    }

    /// The largest timestamp and the last offset of its batch; `None` without batches.
    pub(crate) fn max_timestamp(&self) -> Result<Option<TimestampOffset>, WalkError> {
        let extent = self.extent();
        if extent.max.is_some() || extent.size == 0 {
            return Ok(extent.max);
        }
        let mut max = self.times.last()?;
        let start = self.offsets.last()?.map_or(0, |entry| entry.position);
        let mut walker = self.walk_from(start)?;
        while let Some(batch) = walker.next()? {
            if max.is_none_or(|max| batch.header.max_timestamp > max.timestamp) {
                max = Some(TimestampOffset {
                    timestamp: batch.header.max_timestamp,
                    offset: batch.header.last_offset(),
                });
            }
        }
        let mut published = self.extent.lock();
        published.max = published.max.or(max);
        Ok(max)
    }

    /// Largest timestamp of the first batch: the age of the segment counts from it.
    pub(crate) fn first_timestamp(&self) -> Result<Option<i64>, WalkError> {
        let extent = self.extent();
        if extent.first_timestamp.is_some() || extent.size == 0 {
            return Ok(extent.first_timestamp);
        }
        let first = self.walk_from(0)?.next()?;
        let timestamp = first.map(|batch| batch.header.max_timestamp);
        self.extent.lock().first_timestamp = timestamp;
        Ok(timestamp)
    }

    /// No more batches will come: gives the time index its last entry and cuts the index files to what they hold. What fails
    /// here costs a longer scan later, so it is only noted.
    pub(crate) fn seal(&self) {
        if let Err(error) = self.finish() {
            tracing::warn!(segment = %self.path().display(), %error, "could not finish the indexes");
        }
    }

    /// As [`Self::seal`], for who cannot do without.
    pub(crate) fn finish(&self) -> io::Result<()> {
        if let Some(max) = self.extent().max {
            self.times.append_if_newer(max)?;
        }
        self.trim()
    }

    /// Opens all its files, so that it can be read whatever becomes of their names.
    pub(crate) fn hold(&self) -> io::Result<()> {
        self.file()?;
        self.offsets.last()?;
        self.times.last()?;
        self.txns.load()
    }

    /// The bytes of the larger of its two indexes, if it were closed.
    pub(crate) fn index_size(&self) -> io::Result<u64> {
        let (offsets, times) = (self.offsets.table().size()?, self.times.table().size()?);
        Ok(offsets.max(times))
    }

    /// Cuts the index files to what they hold; creates them if they hold nothing, so that a missing one is seen as missing.
    pub(crate) fn trim(&self) -> io::Result<()> {
        self.offsets.table().trim()?;
        self.times.table().trim()
    }

    /// Index files that were written to since this was asked for: now they are to be synced.
    pub(crate) fn take_dirty_indexes(&self) -> impl Iterator<Item = Arc<dyn DiskFile>> {
        let files = [
            self.offsets.table().take_dirty(),
            self.times.table().take_dirty(),
        ];
        files.into_iter().flatten()
    }

    /// Whether the indexes have room for another batch.
    pub(crate) fn indexes_full(&self) -> bool {
        self.offsets.table().is_full() || self.times.table().is_full()
    }

    /// Where a truncation to `offset` cuts: the position and the offset behind the last batch that lies wholly below it.
    pub(crate) fn end_below(&self, offset: Offset) -> Result<(u64, Offset), WalkError> {
        let before = |entry: OffsetPosition| entry.offset < offset;
        let start = self.offsets.last_where(before)?;
        let mut walker = self.walk_from(start.map_or(0, |entry| entry.position))?;
        let mut end = (0, self.base_offset);
        while let Some(batch) = walker.next()? {
            if batch.header.last_offset() >= offset {
                break;
            }
            end = (walker.position(), batch.header.next_offset());
        }
        Ok(end)
    }

    /// Cuts the segment behind the last batch that lies wholly below `offset`; returns the offset that comes next then.
    pub(crate) fn truncate_to(&self, offset: Offset) -> Result<Offset, WalkError> {
        let mut extent = self.extent();
        let (position, next) = self.end_below(offset)?;
        if position == extent.size {
            return Ok(extent.next_offset);
        }
        self.offsets.truncate_to_position(position)?;
        self.times.truncate_to_offset(next)?;
        self.txns.truncate_to_offset(next)?;
        self.file()?.set_len(position)?;
        extent.size = position;
        extent.next_offset = next;
        extent.max = None;
        extent.first_timestamp = None;
        extent.since_entry = position - self.offsets.last()?.map_or(0, |entry| entry.position);
        self.set_extent(extent);
        // Known again before the next append compares with it.
        self.max_timestamp()?;
        Ok(next)
    }

    /// Removes the files, the `.log` first. Who has it open can read on.
    pub(crate) fn delete(&self) -> io::Result<()> {
        // Opened now if it can be: a reader that holds the segment, but has not read yet, must still be able to.
        let _ = self.file();
        let indexes = [
            self.offsets.table().path(),
            self.times.table().path(),
            self.txns.path(),
        ];
        for path in std::iter::once(&self.path()).chain(indexes) {
            match self.place.disk.remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sealed::remove_checksum(&*self.place.disk, self.txns.path())
    }
}

/// `first` begins above the offset that is asked for. Compaction leaves such gaps, but so does a base offset that rotted, where no CRC
/// looks: then it reaches over what comes next.
fn check_gap(first: &Located, mut behind: Walker, extent: &Extent) -> Result<(), WalkError> {
    let goes_back = match behind.next() {
        Ok(None) if first.header.next_offset() > extent.next_offset => WalkError::GoesBack {
            position: first.position,
            offset: extent.next_offset,
            expected: first.header.next_offset(),
        },
        Err(error @ WalkError::GoesBack { .. }) => error,
        _ => return Ok(()),
    };
    Err(goes_back)
}
