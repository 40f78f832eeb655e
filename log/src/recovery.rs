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
//! - After a fence, what lies above the recovery point may be in memory only, though nobody will ever write it: it is copied.
//!
//! Recovery changes nothing that a second recovery would not change in the same way: it may be interrupted anywhere.
//! Source: Kafka `LogLoader`, `UnifiedLog.rebuildProducerState`; "Protocol-Aware Recovery", FAST '18.

mod rewrite;
mod segments;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_protocol::id::{Offset, TopicId};

use crate::checkpoint;
use crate::config::LogConfig;
use crate::disk::{self, Disk, DiskFile, OpenMode};
use crate::epochs::LeaderEpochs;
use crate::error::OpenError;
use crate::log::OpenOptions;
use crate::producers::Producers;
use crate::segment::walk::WalkError;
use crate::segment::{Exists, Place, Segment, parse_name};
use crate::swap;

pub(crate) use rewrite::ask_to_rewrite;
pub(crate) use state::producers_at;

pub(crate) const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";
const METADATA_FILE: &str = "partition.metadata";

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
    pub(crate) parents: Vec<PathBuf>,
}

/// The names found in the log's directory.
#[derive(Debug, Default)]
struct Names {
    segments: BTreeMap<Offset, Exists>,
    snapshots: BTreeSet<Offset>,
    metadata: bool,
    epochs: bool,
    fenced: bool,
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
    if names.fenced {
        loading.rewrite(&segments, recovery_point)?;
    }
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
    /// A batch below the recovery point that cannot be walked over.
    fn broken(&self, segment: &Segment, error: WalkError) -> OpenError {
        let file = segment.path();
        match error.damage() {
            Err(error) => OpenError::at(&file)(error),
            Ok((position, reason)) => OpenError::Corrupt {
                file,
                position,
                offset: segment.base_offset,
                recovery_point: self.options.recovery_point.unwrap_or(0),
                reason,
            },
        }
    }

    /// Reads the directory, creating it if need be, and removes what an interrupted write left.
    fn names(&mut self) -> Result<Names, OpenError> {
        let (disk, dir) = (&self.place.disk, &*self.place.dir);
        swap::finish(self.place).map_err(OpenError::at(dir))?;
        let entries = match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.touched.parents = disk.create_dir(dir).map_err(OpenError::at(dir))?;
                Vec::new()
            }
            listed => {
                if !self.options.clean {
                    // Whoever died here may not have come to sync the names it gave, the log's own among them.
                    self.touched.dir = true;
                    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
                    self.touched
                        .parents
                        .push(parent.unwrap_or(Path::new(".")).to_owned());
                }
                listed.map_err(OpenError::at(dir))?
            }
        };
        let mut names = Names::default();
        for entry in entries {
            let path = dir.join(&entry.name);
            match entry.name.as_str() {
                METADATA_FILE => names.metadata = true,
                rewrite::NOTE_FILE => names.fenced = true,
                LEADER_EPOCH_FILE => names.epochs = true,
                name if name.ends_with(".tmp") => {
                    disk.remove_file(&path).map_err(OpenError::at(&path))?;
                }
                name => names.note(name),
            }
        }
        for base in names.orphans() {
            for suffix in ["index", "timeindex", "txnindex", "txnindex.crc32c"] {
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
            Some(found) if found == wanted && !names.fenced => Ok(()),
            Some(found) if found != wanted => Err(OpenError::Mismatch {
                path,
                reason: format!("belongs to topic id {found}, not {wanted}"),
            }),
            // None, or damaged: the metadata of the cluster knows better. Durable before the first batch is.
            _ => {
                let text = format!("version: 0\ntopic_id: {wanted}\n");
                let file = disk
                    .open(&path, OpenMode::Create)
                    .map_err(OpenError::at(&path))?;
                let written = file.set_len(0).and_then(|()| {
                    disk::write_all_at(&*file, &mut [io::IoSlice::new(text.as_bytes())], 0)
                });
                written.map_err(OpenError::at(&path))?;
                self.touched.files.push(file);
                self.touched.dir = true;
                Ok(())
            }
        }
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
}

impl Names {
    fn note(&mut self, name: &str) {
        let Some((base, kind)) = parse_name(name) else {
            return;
        };
        match kind {
            "log" => self.segments.entry(base).or_default().log = true,
            "index" => self.segments.entry(base).or_default().index = true,
            "timeindex" => self.segments.entry(base).or_default().time_index = true,
            "txnindex" => self.segments.entry(base).or_default().txn_index = true,
            // Goes with its segment.
            "txnindex.crc32c" => _ = self.segments.entry(base).or_default(),
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

/// The topic id in a log's directory, if it tells one.
pub(crate) fn read_topic_id(disk: &dyn Disk, dir: &Path) -> io::Result<Option<TopicId>> {
    Ok(checkpoint::read(disk, &dir.join(METADATA_FILE))?.and_then(|bytes| decode_metadata(&bytes)))
}

pub(crate) fn decode_metadata(bytes: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("topic_id:"))
        .and_then(|id| id.trim().parse().ok())
}

/// For callers that have no better word for damage.
pub(crate) fn io_error(error: WalkError) -> io::Error {
    match error.damage() {
        Err(error) => error,
        Ok((position, reason)) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("at byte {position}: {reason}"),
        ),
    }
}
