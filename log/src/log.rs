//! One partition's log: ordered segments, the last one active. Assigns offsets, rolls, and publishes what it did.
//!
//! The verbs live beside this file: [`append`], [`read`], [`flush`], [`checkpoint`], [`truncate`], [`compact`], [`scrub`]. What they share is here.
//!
//! Locks, in the order they are taken: `compacting` (who takes segments away or rewrites them), `checkpointing`, `flushing` (one flush at a
//! time), `writer` (one append, roll or truncation at a time), then one of `producers`, `epochs`, `segments`, each held for memory
//! work only. Readers take none of the first four.
//!
//! What is published in which order by an append: bytes and extent of the segment, producers (so an open transaction is known),
//! then `log_end_offset`. So whoever sees an end sees all that lies below it, and a last stable offset that accounts for it.
//! Source: Kafka `UnifiedLog`, `LocalLog`.

mod append;
mod checkpoint;
mod compact;
mod flush;
mod read;
mod scrub;
mod truncate;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use flumen_protocol::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TopicId};
use parking_lot::{Mutex, RwLock};

use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile};
use crate::epochs::LeaderEpochs;
use crate::error::{Fenced, OpenError};
use crate::producers::{ActiveProducer, Producers, VerificationGuard};
use crate::recovery::{self, Loaded};
use crate::segment::{Place, Segment};

pub use append::{AppendAs, Appended};
pub(crate) use checkpoint::checkpoint_many;
pub use compact::{Compactable, Compacted, Compaction, CompactionOptions, CompactionStep};
pub use flush::flush_many;
pub use read::{Slice, TimestampAndOffset};
pub use scrub::{ScrubPosition, Scrubbed};
pub use truncate::Deleted;

/// How a log was left, as far as whoever opens it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// It was closed in order: nothing is scanned.
    pub clean: bool,
    /// All below was durable. `None`: nobody knows, everything is scanned, and damage outside of the newest segment is not taken
    /// for a torn tail.
    pub recovery_point: Option<Offset>,
    /// All below was deleted.
    pub log_start_offset: Offset,
    /// The topic's id, kept in `partition.metadata`; must be the one that is there.
    pub topic_id: Option<TopicId>,
    /// Apache Kafka wrote it last, whose compaction leaves holes between segments above the recovery point too: they are no sign
    /// of a loss.
    pub foreign: bool,
}

/// One partition's log. `&self` everywhere: share it in an `Arc`. See [the crate](crate) for an example.
#[derive(Debug)]
pub struct Log {
    place: Place,
    topic_id: Option<TopicId>,
    config: RwLock<Arc<LogConfig>>,
    compacting: Mutex<()>,
    checkpointing: Mutex<()>,
    flushing: Mutex<()>,
    writer: Mutex<Writer>,
    producers: Mutex<Producers>,
    epochs: RwLock<Epochs>,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    log_start_offset: AtomicI64,
    log_end_offset: AtomicI64,
    flushed_offset: AtomicI64,
    fenced: OnceLock<Fenced>,
    /// Segments that were rewritten: who remembers a position in one must find it again.
    swaps: AtomicU64,
    /// Found by [`Log::scrub`].
    damaged: RwLock<Arc<Vec<scrub::Damage>>>,
}

/// What only the holder of the writer's lock may touch.
#[derive(Debug)]
struct Writer {
    active: Arc<Segment>,
    /// Written to since the last flush, oldest first.
    dirty: Vec<Arc<Segment>>,
    /// Small files written since the last flush.
    dirty_files: Vec<Arc<dyn DiskFile>>,
    /// A name was added to the log's directory, or removed, since the last flush.
    dirty_dir: bool,
    /// Directories in which the log's own was created since the last flush.
    dirty_parents: Vec<PathBuf>,
    /// Segments whose indexes are not durable, oldest first; the active one is not among them.
    sealed: Vec<Arc<Segment>>,
    /// Offsets of the snapshots of producers that exist.
    snapshots: BTreeSet<Offset>,
    /// Recovery point of the last checkpoint.
    checkpointed: Offset,
    /// The log's end when its index files were last cut to what they hold.
    trimmed: Option<Offset>,
}

#[derive(Debug, Default)]
struct Epochs {
    known: LeaderEpochs,
    /// What the file holds differs.
    dirty: bool,
}

impl Log {
    /// Opens the log in `dir`, creating the directory if there is none, and recovers it as far as `options` ask for. Files are
    /// created lazily: an empty log costs its directory.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] if bytes that were durable are damaged; nothing is cut then. [`OpenError::Mismatch`] for another
    /// topic id. [`OpenError::Storage`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        let place = Place {
            disk,
            dir: Arc::from(dir),
            index_bytes: config.index_bytes,
            suffix: "",
        };
        let loaded = recovery::load(&place, &config, &options)?;
        let Loaded {
            segments,
            producers,
            epochs,
            epochs_dirty,
            log_start_offset,
            flushed_offset,
            touched,
            snapshots,
        } = loaded;
        let active = segments
            .last()
            .expect("a log has an active segment")
            .clone();
        let log_end_offset = active.extent().next_offset;
        let writer = Writer {
            dirty: touched.segments,
            dirty_files: touched.files,
            dirty_dir: touched.dir,
            dirty_parents: touched.parents,
            sealed: segments[..segments.len() - 1]
                .iter()
                .filter(|segment| {
                    segment.extent().next_offset > flushed_offset
                        || segment.txns.unsaved().is_some()
                })
                .cloned()
                .collect(),
            snapshots,
            checkpointed: flushed_offset,
            trimmed: None,
            active,
        };
        Ok(Self {
            topic_id: options.topic_id,
            config: RwLock::new(Arc::new(config)),
            compacting: Mutex::new(()),
            checkpointing: Mutex::new(()),
            flushing: Mutex::new(()),
            writer: Mutex::new(writer),
            producers: Mutex::new(producers),
            epochs: RwLock::new(Epochs {
                known: epochs,
                dirty: epochs_dirty,
            }),
            segments: RwLock::new(Arc::new(segments)),
            log_start_offset: AtomicI64::new(log_start_offset),
            log_end_offset: AtomicI64::new(log_end_offset),
            flushed_offset: AtomicI64::new(flushed_offset),
            fenced: OnceLock::new(),
            swaps: AtomicU64::new(0),
            damaged: RwLock::default(),
            place,
        })
    }

    /// The directory of this log.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The topic's id, if it was given.
    pub fn topic_id(&self) -> Option<TopicId> {
        self.topic_id
    }

    /// The options in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.read().clone()
    }

    /// Changes the options. Index sizes hold for segments that are begun from now on.
    pub fn set_config(&self, config: LogConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset.load(Ordering::Acquire)
    }

    /// Offset after the last record.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset.load(Ordering::Acquire)
    }

    /// All below this offset is durable.
    pub fn flushed_offset(&self) -> Offset {
        self.flushed_offset.load(Ordering::Acquire)
    }

    /// Bytes of all segments.
    pub fn size(&self) -> u64 {
        self.segments()
            .iter()
            .map(|segment| segment.extent().size)
            .sum()
    }

    /// Number of segments, the active one included.
    pub fn segment_count(&self) -> usize {
        self.segments().len()
    }

    /// First offset of the active segment.
    pub fn active_segment_base_offset(&self) -> Offset {
        self.segments()
            .last()
            .expect("a log has an active segment")
            .base_offset
    }

    /// The leader epochs of this log.
    pub fn leader_epochs(&self) -> LeaderEpochs {
        self.epochs.read().known.clone()
    }

    /// The newest leader epoch that wrote here.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.read().known.latest()
    }

    /// Where `epoch` ends in this log: see [`LeaderEpochs::end_offset_for`].
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs
            .read()
            .known
            .end_offset_for(epoch, self.log_end_offset())
    }

    /// A new leader begins at the log's end; kept once it has written a batch, as Kafka does.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) {
        let _writer = self.writer.lock();
        self.note_epoch(epoch, self.log_end_offset());
    }

    fn note_epoch(&self, epoch: LeaderEpoch, offset: Offset) {
        if self.epochs.read().known.latest() == Some(epoch) {
            return;
        }
        let mut epochs = self.epochs.write();
        if epochs.known.assign(epoch, offset) {
            epochs.dirty = true;
        }
    }

    /// First offset of the oldest transaction that is open here.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        self.producers.lock().first_open_offset()
    }

    /// Up to where a `read_committed` reader may see, given the high watermark (which never goes back): below it every
    /// transaction is decided, and its marker is replicated. Never below the log's start: what is deleted is not waited for.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        let stable = self.producers.lock().last_stable_offset(high_watermark);
        stable.max(self.log_start_offset())
    }

    /// Asks for permission to begin a transaction here, to be given to [`AppendAs::Client`] once the coordinator has confirmed
    /// that the partition belongs to it; `None` if it is open here already. `bumps_epoch`: the client speaks
    /// `transaction.version` 2.
    pub fn start_verification(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        bumps_epoch: bool,
    ) -> Option<VerificationGuard> {
        self.producers
            .lock()
            .start_verification(producer_id, epoch, sequence, bumps_epoch)
    }

    /// Everybody who has written here and is not forgotten yet, by producer id.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.producers.lock().active()
    }

    /// Forgets producers not heard of for `expiration_ms` (`producer.id.expiration.ms`).
    pub fn expire_producers(&self, now_ms: i64, expiration_ms: i64) {
        self.producers.lock().expire(now_ms, expiration_ms);
    }

    /// Why the log refuses writes, if it does.
    pub fn fenced(&self) -> Option<&Fenced> {
        self.fenced.get()
    }

    fn check_fenced(&self) -> Result<(), Fenced> {
        self.fenced
            .get()
            .map_or(Ok(()), |fenced| Err(fenced.clone()))
    }

    /// No write from now on, for this reason or an earlier one.
    pub(crate) fn fence(&self, reason: String) -> Fenced {
        let fenced = Fenced {
            dir: self.place.dir.to_path_buf(),
            reason,
        };
        if self.fenced.set(fenced).is_ok() {
            recovery::ask_to_rewrite(&self.place);
            tracing::error!(log = %self.place.dir.display(), reason = self.fenced.get().map_or("", |f| &f.reason), "log fenced");
        }
        self.fenced.get().expect("set above").clone()
    }

    fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.read().clone()
    }

    fn snapshot_path(&self, offset: Offset) -> PathBuf {
        self.place.file(offset, "snapshot")
    }
}
