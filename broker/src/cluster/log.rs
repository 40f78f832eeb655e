//! The metadata log: one batch per decision, flushed before it counts.
//!
//! Owned by `cluster/mod.rs`. A batch is written whole or cut off by recovery, so a decision of many records is never half there.
//! Keys are not used; values are [`MetadataRecord`]s.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flumen_log::{AppendAs, AppendError, FlushError, Log, ReadError};
use flumen_protocol::batch::{BatchError, batches};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::Offset;

use super::image::ClusterImage;
use super::record::{MetadataRecord, RecordError};
use crate::driver::Drivers;

/// Bytes read at once during replay.
const REPLAY_BYTES: usize = 1 << 20;
/// One node writes alone, in one epoch.
const EPOCH: i32 = 0;

/// Why the metadata log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataLogError {
    /// Not written; the disk may be full.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Written, not durable: nothing more is accepted.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// Not readable.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Not readable.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A batch is damaged.
    #[error("batch at offset {offset}: {source}")]
    Batch {
        /// Where.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// A record is damaged or of a newer version.
    #[error("record at offset {offset}: {source}")]
    Record {
        /// Where.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct MetadataLog {
    log: Arc<Log>,
}

impl MetadataLog {
    /// Replays `log` from its beginning.
    pub(crate) fn open(log: Arc<Log>) -> Result<(MetadataLog, ClusterImage), MetadataLogError> {
        // What recovery found counts from here on: it must not be lost again.
        log.flush()?;
        let mut image = ClusterImage::default();
        let (mut next, end) = (log.log_start_offset(), log.log_end_offset());
        while next < end {
            let slice = log.read(next, end, REPLAY_BYTES, true)?;
            let bytes = match slice.records {
                Some(range) if slice.next_offset > next => range.read()?,
                _ => break,
            };
            replay(&mut image, next, bytes)?;
            next = slice.next_offset;
        }
        Ok((MetadataLog { log }, image))
    }

    /// Makes `records` durable, all or none.
    pub(crate) async fn append(
        &mut self,
        drivers: &Drivers,
        records: &[MetadataRecord],
    ) -> Result<(), MetadataLogError> {
        let now_ms = drivers.clock.wall_ms();
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for record in records {
            builder.push(now_ms, None, Some(&record.encode()), &[]);
        }
        let batch = builder.build();
        let log = Arc::clone(&self.log);
        drivers
            .blocking(move || {
                log.append(batch, &AppendAs::coordinator(EPOCH), now_ms)?;
                log.flush()?;
                Ok(())
            })
            .await
    }
}

fn replay(image: &mut ClusterImage, offset: Offset, bytes: Bytes) -> Result<(), MetadataLogError> {
    for batch in batches(bytes) {
        let whole = batch.and_then(|batch| batch.verify_crc().map(|()| batch));
        let records = whole.and_then(|batch| batch.records(DecompressionLimit::DEFAULT));
        for record in records.map_err(|source| MetadataLogError::Batch { offset, source })? {
            let record = record.map_err(|source| MetadataLogError::Batch { offset, source })?;
            let value = record.value.unwrap_or_default();
            let change =
                MetadataRecord::decode(value).map_err(|source| MetadataLogError::Record {
                    offset: record.offset,
                    source,
                })?;
            image.apply(&change);
        }
    }
    Ok(())
}
