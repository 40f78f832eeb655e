//! Opening a log: what a clean stop left is trusted; after any other stop all above the recovery point is looked at.
//!
//! Called by `Log::open` alone; truncation borrows [`producers_at`]. The rules:
//! - Below the recovery point everything was durable when it was written down: batches, index entries, a snapshot of producers,
//!   leader epochs. Only headers are read there, and only where no snapshot reaches.
//! - Above it, every batch is read and its CRC checked. The first one that is not whole is the *torn tail*: it and all behind it was
//!   never acknowledged, and is cut. Indexes, aborted transactions, epochs and producers are learned from the batches.
//! - A batch that is not whole *below* the recovery point is damage, not a torn tail: nothing is cut, the log is not opened.
//! - Without a recovery point nobody can tell the two apart: damage before the last segment is taken for damage.
//!
//! Recovery changes nothing that a second recovery would not change in the same way: it may be interrupted anywhere.
//! Source: Kafka `LogLoader`, `UnifiedLog.rebuildProducerState`; "Protocol-Aware Recovery", FAST '18.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::batch::{self, BatchHeader, ControlRecord, RecordBatch};
use flumen_protocol::id::{Offset, TopicId};

use crate::checkpoint;
use crate::config::LogConfig;
use crate::disk::{DiskFile, OpenMode};
use crate::epochs::LeaderEpochs;
use crate::error::OpenError;
use crate::log::OpenOptions;
use crate::producers::Producers;
use crate::segment::walk::{WalkError, Walker};
use crate::segment::{Exists, Extent, Place, Segment};
use crate::snapshot;

pub(crate) const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";
const METADATA_FILE: &str = "partition.metadata";
/// Bytes read at a time where whole batches are looked at.
const SCAN_WINDOW_BYTES: usize = 1 << 20;
/// Bytes read at a time where headers are.
const HEADER_WINDOW_BYTES: usize = 64 << 10;

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// In order; the last is active.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) producers: Producers,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) epochs_dirty: bool,
    pub(crate) log_start_offset: Offset,
    pub(crate) flushed_offset: Offset,
    pub(crate) touched: Touched,
    pub(crate) snapshots: BTreeSet<Offset>,
}

/// What was written while opening, or may not be durable since the last run.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    pub(crate) dir: bool,
    pub(crate) parent: bool,
}

/// The names found in the log's directory.
#[derive(Debug, Default)]
struct Names {
    segments: BTreeMap<Offset, Exists>,
    snapshots: BTreeSet<Offset>,
    metadata: bool,
    epochs: bool,
}

struct Loading<'a> {
    place: &'a Place,
    config: &'a LogConfig,
    options: &'a OpenOptions,
    touched: Touched,
    /// Learned from batches above the recovery point.
    epochs: LeaderEpochs,
    /// Indexes of aborted transactions are rebuilt from here on.
    txns_from: Offset,
}

/// Opens what lies in the directory of `place`, which is created if there is none.
pub(crate) fn load(
    place: &Place,
    config: &LogConfig,
    options: &OpenOptions,
) -> Result<Loaded, OpenError> {
    let mut loading = Loading {
        place,
        config,
        options,
        touched: Touched::default(),
        epochs: LeaderEpochs::default(),
        txns_from: Offset::MAX,
    };
    let names = loading.names()?;
    loading.check_metadata(&names)?;
    let mut segments: Vec<_> = names
        .segments
        .iter()
        .map(|(base, exists)| Arc::new(Segment::new(place, *base, *exists)))
        .collect();
    let recovery_point = loading.recover_segments(&mut segments)?;
    if segments.is_empty() {
        loading.begin_at(options.log_start_offset, &mut segments)?;
    }
    let log_end_offset = segments.last().expect("one was begun").extent().next_offset;
    let log_start_offset = options.log_start_offset.max(segments[0].base_offset);
    let (epochs, epochs_dirty) =
        loading.leader_epochs(&names, &segments, log_start_offset, log_end_offset)?;
    let mut snapshots = names.snapshots;
    let beyond = snapshots.split_off(&(log_end_offset + 1));
    for offset in beyond {
        let path = place.file(offset, "snapshot");
        place
            .disk
            .remove_file(&path)
            .map_err(OpenError::at(&path))?;
    }
    let flushed_offset = if options.clean {
        log_end_offset
    } else {
        recovery_point.min(log_end_offset).max(log_start_offset)
    };
    let usable = if options.clean {
        log_end_offset
    } else {
        recovery_point
    };
    let producers = loading.producers(&segments, &snapshots, usable)?;
    Ok(Loaded {
        segments,
        producers,
        epochs,
        epochs_dirty,
        log_start_offset,
        flushed_offset,
        touched: loading.touched,
        snapshots,
    })
}

impl Loading<'_> {
    /// Reads the directory, creating it if need be, and removes what an interrupted write left.
    fn names(&mut self) -> Result<Names, OpenError> {
        let (disk, dir) = (&self.place.disk, &*self.place.dir);
        let entries = match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create_dir(dir).map_err(OpenError::at(dir))?;
                self.touched.parent = true;
                Vec::new()
            }
            listed => listed.map_err(OpenError::at(dir))?,
        };
        let mut names = Names::default();
        for entry in entries {
            let path = dir.join(&entry.name);
            match entry.name.as_str() {
                METADATA_FILE => names.metadata = true,
                LEADER_EPOCH_FILE => names.epochs = true,
                name if name.ends_with(".swap") => {
                    let reason = "left by an interrupted compaction of Apache Kafka; start Kafka once on this directory".into();
                    return Err(OpenError::Mismatch { path, reason });
                }
                name if [".tmp", ".deleted", ".cleaned"]
                    .iter()
                    .any(|suffix| name.ends_with(suffix)) =>
                {
                    disk.remove_file(&path).map_err(OpenError::at(&path))?;
                }
                name => names.note(name),
            }
        }
        for base in names.orphans() {
            for suffix in ["index", "timeindex", "txnindex"] {
                let path = self.place.file(base, suffix);
                match disk.remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(OpenError::at(&path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(names)
    }

    /// The topic's id must be the one given; it is written if there is none.
    fn check_metadata(&mut self, names: &Names) -> Result<(), OpenError> {
        let Some(wanted) = self.options.topic_id else {
            return Ok(());
        };
        let path = self.place.dir.join(METADATA_FILE);
        let disk = &*self.place.disk;
        let found = match names.metadata {
            true => checkpoint::read(disk, &path)
                .map_err(OpenError::at(&path))?
                .and_then(|bytes| decode_metadata(&bytes)),
            false => None,
        };
        match found {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(OpenError::Mismatch {
                path,
                reason: format!("belongs to topic id {found}, not {wanted}"),
            }),
            // None, or damaged: the metadata of the cluster knows better. Durable before the first batch is.
            None => {
                let text = format!("version: 0\ntopic_id: {wanted}\n");
                let file = disk
                    .open(&path, OpenMode::Create)
                    .map_err(OpenError::at(&path))?;
                let written = file.set_len(0).and_then(|()| {
                    crate::disk::write_all_at(&*file, &mut [io::IoSlice::new(text.as_bytes())], 0)
                });
                written.map_err(OpenError::at(&path))?;
                self.touched.files.push(file);
                self.touched.dir = true;
                Ok(())
            }
        }
    }

    /// Gives every segment its extent, cutting the torn tail. Returns the recovery point in force.
    fn recover_segments(&mut self, segments: &mut Vec<Arc<Segment>>) -> Result<Offset, OpenError> {
        let known = self.options.recovery_point;
        let recovery_point = match (self.options.clean, known) {
            (true, _) => Offset::MAX,
            (false, known) => known.unwrap_or(0),
        };
        self.txns_from = recovery_point;
        let mut i = 0;
        while i < segments.len() {
            let segment = segments[i].clone();
            let next_base = segments.get(i + 1).map(|next| next.base_offset);
            let path = segment.path();
            let size = segment
                .file()
                .and_then(|file| file.len())
                .map_err(OpenError::at(&path))?;
            let torn = match next_base {
                Some(next_base) if next_base <= recovery_point => {
                    self.trust(&segment, size, next_base)?
                }
                None if self.options.clean => self.trust_active(&segment, size)?,
                _ => self.scan(&segment, size, recovery_point)?,
            };
            let end = segment.extent().next_offset;
            let overlap = next_base
                .filter(|next_base| *next_base < end)
                .map(|next_base| Torn {
                    position: size,
                    offset: end,
                    reason: format!("the next segment begins at {next_base}"),
                });
            if let Some(torn) = torn.or(overlap) {
                let is_last = i + 1 == segments.len();
                if torn.offset < recovery_point
                    || self.options.clean
                    || (known.is_none() && !is_last)
                {
                    let Torn {
                        position,
                        offset,
                        reason,
                    } = torn;
                    return Err(OpenError::Corrupt {
                        file: path,
                        position,
                        offset,
                        recovery_point: recovery_point.min(end.max(offset)),
                        reason,
                    });
                }
                tracing::warn!(segment = %path.display(), position = torn.position, offset = torn.offset, reason = torn.reason, "torn tail cut");
                self.cut_after(segments, i, &segment)?;
            }
            i += 1;
        }
        let last = segments.last();
        let end = last.map_or(0, |last| last.extent().next_offset);
        let start = self.options.log_start_offset;
        // A log that was never written to may begin anywhere.
        let expected = match (last, known) {
            (Some(_), _) if end < start => start,
            (_, Some(known)) if !self.options.clean && known > start => known,
            _ => return Ok(recovery_point),
        };
        if end >= expected {
            return Ok(recovery_point);
        }
        let file = last.map_or_else(|| self.place.dir.to_path_buf(), |last| last.path());
        Err(OpenError::Corrupt {
            file,
            position: 0,
            offset: end,
            recovery_point: expected,
            reason: "the log ends before it".into(),
        })
    }

    /// Cuts segment `i` to its extent and removes the later ones.
    fn cut_after(
        &mut self,
        segments: &mut Vec<Arc<Segment>>,
        i: usize,
        segment: &Arc<Segment>,
    ) -> Result<(), OpenError> {
        while segments.len() > i + 1 {
            let later = segments.pop().expect("more than i + 1");
            later.delete().map_err(OpenError::at(&later.path()))?;
        }
        let cut = segment
            .file()
            .and_then(|file| file.set_len(segment.extent().size));
        cut.map_err(OpenError::at(&segment.path()))?;
        self.touched.dir = true;
        Ok(())
    }

    /// A segment that lies below the recovery point as a whole. Its indexes are rebuilt if they are missing or cannot be right.
    fn trust(
        &mut self,
        segment: &Segment,
        size: u64,
        next_base: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        segment.set_extent(Extent {
            size,
            next_offset: next_base,
            ..Extent::default()
        });
        match indexes_plausible(segment, size, next_base) {
            true => Ok(None),
            false => {
                let torn = self.rebuild(segment, size, Offset::MAX)?;
                let extent = segment.extent();
                segment.set_extent(Extent {
                    next_offset: next_base.max(extent.next_offset),
                    ..extent
                });
                segment.seal();
                Ok(torn)
            }
        }
    }

    /// The active segment after a clean stop: what lies behind the last index entry is looked at.
    fn trust_active(&mut self, segment: &Segment, size: u64) -> Result<Option<Torn>, OpenError> {
        segment.set_extent(Extent {
            size,
            next_offset: Offset::MAX,
            ..Extent::default()
        });
        if !indexes_plausible(segment, size, Offset::MAX) {
            return self.rebuild(segment, size, Offset::MAX);
        }
        self.walk(segment, size, Offset::MAX)
    }

    /// A segment that reaches above the recovery point.
    fn scan(
        &mut self,
        segment: &Arc<Segment>,
        size: u64,
        recovery_point: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        let at = |error| OpenError::at(&segment.path())(error);
        self.touched.segments.push(segment.clone());
        segment.offsets.recover(recovery_point, size).map_err(at)?;
        let at = |error| OpenError::at(&segment.path())(error);
        segment.times.recover(recovery_point).map_err(at)?;
        segment
            .txns
            .truncate_to_offset(recovery_point)
            .map_err(at)?;
        // An entry of 12 bytes may have been torn in two, its offset left zero: then none is believed.
        let torn_entry = segment
            .times
            .first()
            .map_err(at)?
            .is_some_and(|first| first.offset == segment.base_offset);
        match torn_entry {
            true => self.rebuild(segment, size, recovery_point),
            false => self.walk(segment, size, recovery_point),
        }
    }

    /// Makes both indexes anew.
    fn rebuild(
        &mut self,
        segment: &Segment,
        size: u64,
        check_from: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        let emptied = segment
            .offsets
            .table()
            .recover(|_| false)
            .and_then(|()| segment.times.table().recover(|_| false));
        emptied.map_err(OpenError::at(&segment.path()))?;
        self.walk(segment, size, check_from)
    }

    /// Walks from the last index entry to the end of the file, taking every batch into the extent and the indexes. Batches that
    /// reach above `check_from` are read as a whole. Stops at the first that is not whole.
    fn walk(
        &mut self,
        segment: &Segment,
        size: u64,
        check_from: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        let path = segment.path();
        let at = |error| OpenError::at(&path)(error);
        let start = segment
            .offsets
            .last()
            .map_err(at)?
            .map_or(0, |entry| entry.position);
        let max = segment.times.last().map_err(at)?;
        let mut extent = Extent {
            size: start,
            next_offset: segment.base_offset,
            max,
            since_entry: 0,
            first_timestamp: None,
        };
        if size == 0 {
            segment.set_extent(extent);
            return Ok(None);
        }
        let window = if check_from == Offset::MAX {
            HEADER_WINDOW_BYTES
        } else {
            SCAN_WINDOW_BYTES
        };
        let mut walker = Walker::new(segment.file().map_err(at)?, start, size, window);
        let torn = loop {
            let torn = |reason: String| {
                Some(Torn {
                    position: extent.size,
                    offset: extent.next_offset,
                    reason,
                })
            };
            match next_whole(&mut walker, check_from) {
                Ok(None) => break None,
                Ok(Some(header)) if header.base_offset < extent.next_offset => {
                    break torn(format!("offset goes back to {}", header.base_offset));
                }
                Ok(Some(header))
                    if i32::try_from(header.last_offset() - segment.base_offset).is_err() =>
                {
                    break torn("offset is out of the segment".into());
                }
                Ok(Some(header)) => {
                    if header.last_offset() >= check_from {
                        self.epochs
                            .assign(header.partition_leader_epoch, header.base_offset);
                    }
                    segment.note(&mut extent, &header, self.config.index_interval_bytes);
                }
                Err(WalkError::Corrupt { reason, .. }) => break torn(reason),
                Err(WalkError::Storage(error)) => return Err(at(error)),
            }
        };
        if start > 0 {
            extent.first_timestamp = None;
        }
        segment.set_extent(extent);
        Ok(torn)
    }

    /// The first segment of a log that has none.
    fn begin_at(
        &mut self,
        offset: Offset,
        segments: &mut Vec<Arc<Segment>>,
    ) -> Result<(), OpenError> {
        let active = Arc::new(Segment::new(self.place, offset, Exists::default()));
        // The first one is created lazily; later ones tell the next offset by their name.
        if offset > 0 {
            active.create().map_err(OpenError::at(&active.path()))?;
            self.touched.dir = true;
        }
        segments.push(active);
        Ok(())
    }

    /// From the file, and from the batches above the recovery point; from all batches if the file is missing though there must have
    /// been one. Returns whether the file differs.
    fn leader_epochs(
        &mut self,
        names: &Names,
        segments: &[Arc<Segment>],
        start: Offset,
        end: Offset,
    ) -> Result<(LeaderEpochs, bool), OpenError> {
        let path = self.place.dir.join(LEADER_EPOCH_FILE);
        let read = match names.epochs {
            true => checkpoint::read(&*self.place.disk, &path).map_err(OpenError::at(&path))?,
            false => None,
        };
        let in_file = read.and_then(|bytes| checkpoint::decode_epochs(&bytes));
        let mut epochs = in_file.clone().unwrap_or_default();
        // Batches below the recovery point were not looked at.
        if in_file.is_none() && self.txns_from > segments[0].base_offset {
            for segment in segments {
                visit_headers(segment, 0, |header, _| {
                    _ = epochs.assign(header.partition_leader_epoch, header.base_offset)
                })
                .map_err(|error| OpenError::at(&segment.path())(io_error(error)))?;
            }
        }
        // What the file says of offsets that were scanned may come from a tail that was cut.
        epochs.truncate_from_end(self.txns_from);
        for learned in self.epochs.entries() {
            epochs.assign(learned.epoch, learned.start_offset);
        }
        epochs.truncate_from_end(end);
        epochs.truncate_from_start(start);
        let dirty = in_file.unwrap_or_default() != epochs;
        Ok((epochs, dirty))
    }

    /// From the newest snapshot that can be relied on, and from all batches behind it.
    fn producers(
        &mut self,
        segments: &[Arc<Segment>],
        snapshots: &BTreeSet<Offset>,
        usable: Offset,
    ) -> Result<Producers, OpenError> {
        let (mut producers, from) = newest_snapshot(self.place, snapshots, usable);
        let txns_from = self.txns_from;
        replay(
            segments,
            from,
            &mut producers,
            |segment, producers, completed| match completed.marker_offset >= txns_from {
                true => segment.txns.append(producers.aborted(completed)),
                false => Ok(()),
            },
        )
        .map_err(|error| OpenError::at(&self.place.dir)(io_error(error)))?;
        Ok(producers)
    }
}

impl Names {
    fn note(&mut self, name: &str) {
        let Some((base, suffix)) = name.split_once('.') else {
            return;
        };
        let Some(base) = base.parse().ok().filter(|_| base.len() == 20) else {
            return;
        };
        match suffix {
            "log" => self.segments.entry(base).or_default().log = true,
            "index" => self.segments.entry(base).or_default().index = true,
            "timeindex" => self.segments.entry(base).or_default().time_index = true,
            "txnindex" => self.segments.entry(base).or_default().txn_index = true,
            "snapshot" => _ = self.snapshots.insert(base),
            _ => {}
        }
    }

    /// Takes out indexes without a log.
    fn orphans(&mut self) -> Vec<Offset> {
        let orphans: Vec<_> = self
            .segments
            .iter()
            .filter(|(_, exists)| !exists.log)
            .map(|(base, _)| *base)
            .collect();
        self.segments.retain(|_, exists| exists.log);
        orphans
    }
}

/// Where a segment stops making sense, and which offset was expected there.
struct Torn {
    position: u64,
    offset: Offset,
    reason: String,
}

/// The next batch, with its CRC checked if it reaches above `check_from`.
fn next_whole(walker: &mut Walker, check_from: Offset) -> Result<Option<BatchHeader>, WalkError> {
    let Some(found) = walker.next()? else {
        return Ok(None);
    };
    if found.header.last_offset() >= check_from {
        let checked = batch::verify_crc(walker.contents(&found)?);
        checked.map_err(|error| WalkError::Corrupt {
            position: found.position,
            reason: error.to_string(),
        })?;
    }
    Ok(Some(found.header))
}

/// Whether the indexes are there and their ends fit the segment. What is wrong further in is noticed by reads.
fn indexes_plausible(segment: &Segment, size: u64, next_offset: Offset) -> bool {
    let offsets_fit = match segment.offsets.last() {
        Ok(Some(last)) => {
            last.position < size && (segment.base_offset..next_offset).contains(&last.offset)
        }
        Ok(None) => true,
        Err(_) => false,
    };
    let times_fit = match segment.times.last() {
        Ok(Some(last)) => (segment.base_offset..next_offset).contains(&last.offset),
        Ok(None) => true,
        Err(_) => false,
    };
    segment.offsets.table().exists() && segment.times.table().exists() && offsets_fit && times_fit
}

/// The state of producers at `end`, which the segments reach: after a truncation.
pub(crate) fn producers_at(
    place: &Place,
    segments: &[Arc<Segment>],
    end: Offset,
) -> Result<Producers, WalkError> {
    let mut names = Names::default();
    place
        .disk
        .list(&place.dir)?
        .iter()
        .for_each(|entry| names.note(&entry.name));
    let (mut producers, from) = newest_snapshot(place, &names.snapshots, end);
    replay(segments, from, &mut producers, |_, _, _| Ok(()))?;
    Ok(producers)
}

/// The newest readable snapshot at or below `usable`, and where it holds; nothing at the beginning of time.
fn newest_snapshot(
    place: &Place,
    snapshots: &BTreeSet<Offset>,
    usable: Offset,
) -> (Producers, Offset) {
    for offset in snapshots.range(..=usable).rev() {
        let path = place.file(*offset, "snapshot");
        let read = checkpoint::read(&*place.disk, &path).ok().flatten();
        match read.as_deref().map(snapshot::decode) {
            Some(Ok(producers)) => return (producers, *offset),
            damaged => {
                tracing::warn!(snapshot = %path.display(), ?damaged, "producer snapshot skipped")
            }
        }
    }
    (Producers::default(), 0)
}

/// Applies all batches from offset `from` on; tells `on_aborted` of each transaction that was aborted.
fn replay(
    segments: &[Arc<Segment>],
    from: Offset,
    producers: &mut Producers,
    mut on_aborted: impl FnMut(&Segment, &Producers, crate::producers::CompletedTxn) -> io::Result<()>,
) -> Result<(), WalkError> {
    for segment in segments
        .iter()
        .filter(|segment| segment.extent().next_offset > from)
    {
        let mut result = Ok(());
        visit_headers(segment, from, |header, marker| {
            let completed = producers.apply(header, marker, None);
            if let (Some(completed), Some(ControlRecord::Abort { .. }), true) =
                (completed, marker, result.is_ok())
            {
                result = on_aborted(segment, producers, completed);
            }
        })?;
        result?;
    }
    Ok(())
}

/// Calls `visit` for each batch from offset `from` on, with the content of control batches.
fn visit_headers(
    segment: &Segment,
    from: Offset,
    mut visit: impl FnMut(&BatchHeader, Option<ControlRecord>),
) -> Result<(), WalkError> {
    let end = segment.extent().size;
    if end == 0 {
        return Ok(());
    }
    let start = segment.offsets.position_before(from)?;
    let mut walker = Walker::new(segment.file()?, start, end, HEADER_WINDOW_BYTES);
    while let Some(found) = walker.next()? {
        if found.header.base_offset < from {
            continue;
        }
        let marker = match found.header.is_control() && found.header.record_count > 0 {
            true => RecordBatch::parse(Bytes::copy_from_slice(walker.contents(&found)?))
                .and_then(|batch| batch.control_record())
                .ok(),
            false => None,
        };
        visit(&found.header, marker);
    }
    Ok(())
}

/// The topic id in a log's directory, if it tells one.
pub(crate) fn read_topic_id(
    disk: &dyn crate::disk::Disk,
    dir: &std::path::Path,
) -> io::Result<Option<TopicId>> {
    Ok(checkpoint::read(disk, &dir.join(METADATA_FILE))?.and_then(|bytes| decode_metadata(&bytes)))
}

fn decode_metadata(bytes: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("topic_id:"))
        .and_then(|id| id.trim().parse().ok())
}

/// For callers that have no better word for damage.
pub(crate) fn io_error(error: WalkError) -> io::Error {
    match error {
        WalkError::Storage(error) => error,
        WalkError::Corrupt { position, reason } => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("at byte {position}: {reason}"),
        ),
    }
}
