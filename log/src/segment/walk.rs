//! Going from batch to batch in a segment file by the lengths in their headers.
//!
//! Used by reads to find where to begin and end, by truncation, and by recovery, which also looks at the bytes.

use std::io;
use std::sync::Arc;

use flumen_protocol::batch::{BatchHeader, HEADER_BYTES};
use flumen_protocol::id::Offset;

use crate::disk::{self, DiskFile};

/// A batch and where it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

/// Why a walk cannot go on.
#[derive(Debug)]
pub(crate) enum WalkError {
    /// The bytes at this position are no whole batch.
    Corrupt { position: u64, reason: String },
    /// The batch at this position has offsets that the one before it has passed: one of the two is damaged where no CRC looks.
    GoesBack {
        position: u64,
        offset: Offset,
        expected: Offset,
    },
    /// The disk did not answer.
    Storage(io::Error),
}

impl WalkError {
    /// Position and words, if it tells of damage.
    pub(crate) fn damage(self) -> Result<(u64, String), io::Error> {
        match self {
            Self::Corrupt { position, reason } => Ok((position, reason)),
            Self::GoesBack {
                position,
                offset,
                expected,
            } => Ok((
                position,
                format!("offset goes back to {offset} where {expected} was expected"),
            )),
            Self::Storage(error) => Err(error),
        }
    }
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}

/// Stands before a batch, or at the end. Reads the file in windows.
#[derive(Clone, Debug)]
pub(crate) struct Walker {
    file: Option<Arc<dyn DiskFile>>,
    position: u64,
    end: u64,
    /// No batch to come begins below it: base offsets lie outside the CRC.
    next_offset: Offset,
    window: usize,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Walker {
    /// From the start of the file, which holds offsets from `base_offset` on, to `end`.
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        base_offset: Offset,
        end: u64,
        window: usize,
    ) -> Self {
        Self {
            file: Some(file),
            position: 0,
            end,
            next_offset: base_offset,
            window,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// A walk that is over.
    pub(crate) fn empty() -> Self {
        Self {
            file: None,
            position: 0,
            end: 0,
            next_offset: 0,
            window: 0,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Offset that the next batch begins at, or a lower one.
    pub(crate) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Goes on at `position`, which must be the start of a batch, if that is ahead.
    pub(crate) fn skip_to(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    /// As [`Self::skip_to`].
    pub(crate) fn starting_at(mut self, position: u64) -> Self {
        self.skip_to(position);
        self
    }

    /// The next batch; `None` at the end. After an error the walker stands where it stood.
    pub(crate) fn next(&mut self) -> Result<Option<Located>, WalkError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let (position, left) = (self.position, self.end - self.position);
        let corrupt = |reason: String| WalkError::Corrupt { position, reason };
        let bytes = self.bytes(position, HEADER_BYTES)?;
        let header = BatchHeader::parse(bytes).map_err(|error| corrupt(error.to_string()))?;
        if header.size_in_bytes() as u64 > left {
            return Err(corrupt(format!(
                "batch of {} bytes where {left} are left",
                header.size_in_bytes()
            )));
        }
        if header.base_offset < 0 || header.last_offset_delta < 0 {
            return Err(corrupt("offset is negative".into()));
        }
        if header.base_offset < self.next_offset {
            return Err(WalkError::GoesBack {
                position,
                offset: header.base_offset,
                expected: self.next_offset,
            });
        }
        self.position += header.size_in_bytes() as u64;
        self.next_offset = header.next_offset();
        Ok(Some(Located { position, header }))
    }

    /// The next batch for which `wanted` holds.
    pub(crate) fn find(
        &mut self,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<Located>, WalkError> {
        while let Some(batch) = self.next()? {
            if wanted(&batch.header) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// All bytes of a batch that [`Self::next`] gave.
    pub(crate) fn contents(&mut self, batch: &Located) -> Result<&[u8], WalkError> {
        let len = batch.header.size_in_bytes();
        let bytes = self.bytes(batch.position, len)?;
        match bytes.len() == len {
            true => Ok(bytes),
            false => Err(WalkError::Corrupt {
                position: batch.position,
                reason: "file ends inside the batch".into(),
            }),
        }
    }

    /// Up to `len` bytes from `position`, fewer at the end.
    fn bytes(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let buffered = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        let wanted_end = (position + len as u64).min(self.end);
        if position < buffered.start || wanted_end > buffered.end {
            let Some(file) = &self.file else {
                return Ok(&[]);
            };
            let fill = (self.end - position).min(len.max(self.window) as u64);
            self.buffer.resize(fill as usize, 0);
            let read = disk::read_up_to(&**file, &mut self.buffer, position)?;
            self.buffer.truncate(read);
            self.buffer_at = position;
        }
        let from = (position - self.buffer_at) as usize;
        let to = (from + len).min(self.buffer.len());
        Ok(&self.buffer[from.min(to)..to])
    }
}
