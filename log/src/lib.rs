//! One partition's durable log in Kafka's on-disk format, and a directory of them.
//!
//! A log is a sequence of record batches with growing offsets. The verbs: [`Log::append`], [`Log::read`],
//! [`Log::flush`] (what was appended is durable), [`Log::truncate_to`] (a follower's log parts from its leader's),
//! [`Log::delete_records_before`] and retention (old data goes, whole segments at a time), [`Log::compact_step`] (of each key only the
//! newest record stays).
//!
//! ```text
//! data/                                    LogDir
//!   .lock  meta.properties  .kafka_cleanshutdown
//!   recovery-point-offset-checkpoint       all below it is durable and is not scanned after a crash
//!   log-start-offset-checkpoint            all below it is deleted
//!   orders-0/                              Log
//!     partition.metadata                   topic id
//!     leader-epoch-checkpoint              which leader wrote from which offset on
//!     00000000000000000000.log             Segment: batches as they came
//!     00000000000000000000.index           offset → position
//!     00000000000000000000.timeindex       timestamp → offset
//!     00000000000000000000.txnindex        aborted transactions
//!     00000000000000004711.log ...         the active segment
//!     00000000000000004711.snapshot        producers' state at that offset
//! ```
//!
//! The crate knows nothing of replication or of the network: up to where a reader may see is an argument. It waits for the disk
//! only: no async, no clock (time is an argument), no threads but those of a flush of many files.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use flumen_log::{AppendAs, Log, LogConfig, OpenOptions, disk::OsDisk};
//! use flumen_protocol::{batch, builder::{BatchBuilder, BatchOptions}, compression::DecompressionLimit};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let home = tempfile::tempdir()?;
//! let open = || Log::open(Arc::new(OsDisk::new()), &home.path().join("greetings-0"), LogConfig::default(), OpenOptions::default());
//!
//! let log = open()?;
//! let mut batch = BatchBuilder::new(BatchOptions::default());
//! batch.push(1_700_000_000_000, Some(b"en"), Some(b"hello"), &[]);
//! batch.push(1_700_000_000_001, Some(b"fr"), Some(b"bonjour"), &[]);
//! let appended = log.append(batch.build(), &AppendAs::client(0), 1_700_000_000_002)?;
//! assert_eq!((appended.base_offset, appended.last_offset), (0, 1));
//! assert_eq!(log.flush()?, 2); // durable: survives the loss of power
//! drop(log);
//!
//! let log = open()?;
//! let found = log.read(0, log.log_end_offset(), 1 << 20, true)?;
//! let bytes = found.records.expect("two records").read()?;
//! for batch in batch::batches(bytes) {
//!     for record in batch?.records(DecompressionLimit::DEFAULT)? {
//!         let record = record?;
//!         println!("{} at {}", String::from_utf8_lossy(&record.value.unwrap_or_default()), record.offset);
//!     }
//! }
//! # Ok(()) }
//! ```

pub mod config;
pub mod dir;
pub mod disk;
pub mod epochs;
pub mod error;
pub mod fault_disk;
#[doc(hidden)]
pub mod fuzz;

mod checkpoint;
mod compaction;
mod index;
mod log;
mod producers;
mod recovery;
mod retention;
mod sealed;
mod segment;
mod snapshot;
mod swap;
mod validate;

pub use config::LogConfig;
pub use dir::{Dirty, Found, Identity, LogDir};
pub use error::{
    AppendError, CompactError, Fenced, FlushError, OpenError, ProducerError, ReadError,
};
pub use index::AbortedTxn;
pub use log::{
    AppendAs, Appended, Compactable, Compacted, Compaction, CompactionOptions, CompactionStep,
    Deleted, Log, OpenOptions, ScrubPosition, Scrubbed, Slice, TimestampAndOffset, flush_many,
};
pub use producers::{ActiveProducer, VerificationGuard};
