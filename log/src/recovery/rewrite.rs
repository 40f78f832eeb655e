//! After a failed sync: what the log holds above its recovery point is written again.
//!
//! The kernel calls the pages of a failed sync clean and keeps them for a while: a process that started again, without a loss of power
//! in between, would read batches that are nowhere on the disk, and a sync of them would be called a success. So a log that
//! fences itself leaves a note, and the next start copies what it found. The note need not be durable: it lives and dies with such
//! pages. Source: "Can Applications Recover from fsync Failures?", USENIX ATC '20.

use std::io::{self, IoSlice};
use std::sync::Arc;

use flumen_protocol::id::Offset;

use super::Loading;
use crate::disk::{self, DiskFile, OpenMode};
use crate::error::OpenError;
use crate::segment::{Place, Segment};

pub(super) const NOTE_FILE: &str = ".fenced";
const COPY_BYTES: usize = 1 << 20;

/// Leaves the note, if the disk still takes one.
pub(crate) fn ask_to_rewrite(place: &Place) {
    if let Err(error) = place
        .disk
        .open(&place.dir.join(NOTE_FILE), OpenMode::Create)
    {
        tracing::warn!(log = %place.dir.display(), %error, "could not note that writes may be lost");
    }
}

impl Loading<'_> {
    /// Copies every segment that reaches above the recovery point, under its own name, durably.
    pub(super) fn rewrite(
        &mut self,
        segments: &[Arc<Segment>],
        recovery_point: Offset,
    ) -> Result<(), OpenError> {
        for segment in segments {
            let extent = segment.extent();
            if extent.next_offset > recovery_point || extent.size == 0 {
                let path = segment.path();
                tracing::warn!(segment = %path.display(), bytes = extent.size, "a sync had failed: written again");
                let copied = segment.replace_file(|from, to| copy(from, to, extent.size));
                copied.map_err(OpenError::at(&path))?;
            }
        }
        let (disk, dir) = (&self.place.disk, &self.place.dir);
        disk.sync_dir(dir)
            .and_then(|()| disk.remove_file(&dir.join(NOTE_FILE)))
            .map_err(OpenError::at(dir))
    }
}

fn copy(from: &dyn DiskFile, to: &dyn DiskFile, size: u64) -> io::Result<()> {
    let mut position = 0;
    let mut buffer = vec![0; COPY_BYTES];
    while position < size {
        let part = buffer.len().min((size - position) as usize);
        let read = disk::read_up_to(from, &mut buffer[..part], position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        disk::write_all_at(to, &mut [IoSlice::new(&buffer[..read])], position)?;
        position += read as u64;
    }
    to.sync_data()
}
