//! Batches and indexes: from where each segment is believed, how far it goes, and what is cut.

use std::sync::Arc;

use flumen_planted::{Bug, planted};
use flumen_protocol::batch::{self, BatchHeader};
use flumen_protocol::id::Offset;

use super::Loading;
use crate::error::OpenError;
use crate::segment::walk::{WalkError, Walker};
use crate::segment::{Extent, Segment};

/// Bytes read at a time where whole batches are looked at.
const SCAN_WINDOW_BYTES: usize = 1 << 20;
/// Bytes read at a time where headers are.
pub(super) const HEADER_WINDOW_BYTES: usize = 64 << 10;

/// Where a segment stops making sense, and which offset was expected there.
struct Torn {
    position: u64,
    offset: Offset,
    reason: String,
}

impl Loading<'_> {
    /// Gives every segment its extent, cutting the torn tail. Returns the recovery point in force.
    pub(super) fn recover_segments(
        &mut self,
        segments: &mut Vec<Arc<Segment>>,
    ) -> Result<Offset, OpenError> {
        let recovery_point = match self.options.clean {
            true => Offset::MAX,
            false => self.options.recovery_point.unwrap_or(0),
        };
        self.txns_from = recovery_point;
        let mut i = 0;
        while i < segments.len() {
            let next_base = segments.get(i + 1).map(|next| next.base_offset);
            if let Some(torn) = self.recover_segment(&segments[i], next_base, recovery_point)? {
                let segment = segments[i].clone();
                let unsure = self.options.recovery_point.is_none() && next_base.is_some();
                if torn.offset < recovery_point || self.options.clean || unsure {
                    let recovery_point = self.options.recovery_point.unwrap_or(recovery_point);
                    let Torn {
                        position,
                        offset,
                        reason,
                    } = torn;
                    return Err(OpenError::Corrupt {
                        file: segment.path(),
                        position,
                        offset,
                        recovery_point,
                        reason,
                    });
                }
                let Torn {
                    position,
                    offset,
                    reason,
                } = torn;
                tracing::warn!(segment = %segment.path().display(), position, offset, reason, "torn tail cut");
                self.cut_after(segments, i, &segment)?;
            }
            i += 1;
        }
        // Only the last one goes on.
        segments
            .iter()
            .rev()
            .skip(1)
            .for_each(|segment| segment.seal());
        self.check_end(segments)?;
        Ok(recovery_point)
    }

    fn recover_segment(
        &mut self,
        segment: &Arc<Segment>,
        next_base: Option<Offset>,
        recovery_point: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        let size = segment
            .file()
            .and_then(|file| file.len())
            .map_err(OpenError::at(&segment.path()))?;
        let torn = match next_base {
            Some(next_base) if next_base <= recovery_point => {
                self.trust(segment, size, next_base)?
            }
            None if self.options.clean => self.trust(segment, size, Offset::MAX)?,
            _ => self.scan(segment, size, recovery_point)?,
        };
        let Extent {
            size,
            next_offset: end,
            ..
        } = segment.extent();
        // What was written behind a hole was flushed only together with what is missing from it. Compaction leaves holes too, but
        // below the recovery point.
        let known = self.options.recovery_point.is_some();
        let misfits =
            |next: &Offset| *next < end || (*next > end && known && end >= recovery_point);
        Ok(torn.or(next_base.filter(misfits).map(|next| Torn {
            position: size,
            offset: end,
            reason: format!("the next segment begins at {next}"),
        })))
    }

    /// What was durable must be there.
    fn check_end(&self, segments: &[Arc<Segment>]) -> Result<(), OpenError> {
        let last = segments.last();
        let end = last.map_or(0, |last| last.extent().next_offset);
        let start = self.options.log_start_offset;
        // A log that was never written to may begin anywhere.
        let expected = match (last, self.options.recovery_point) {
            (Some(_), _) if end < start => start,
            (_, Some(known)) if !self.options.clean && known > start => known,
            _ => return Ok(()),
        };
        if end >= expected {
            return Ok(());
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

    /// A segment that lies below the recovery point as a whole, or the active one after a clean stop. Its indexes are made anew if
    /// they are missing or cannot be right; what lies behind their last entries is looked at, which completes indexes that a crash
    /// left half made.
    fn trust(
        &mut self,
        segment: &Segment,
        size: u64,
        next_offset: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        match indexes_plausible(segment, size, next_offset) {
            true => self.walk(segment, size, Offset::MAX),
            false => self.rebuild(segment, size, Offset::MAX),
        }
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
}

/// The next batch, with its CRC checked if it reaches above `check_from`.
fn next_whole(walker: &mut Walker, check_from: Offset) -> Result<Option<BatchHeader>, WalkError> {
    let Some(found) = walker.next()? else {
        return Ok(None);
    };
    // Planted, wrong: the header looks well, so the records are believed.
    if found.header.last_offset() >= check_from && !planted(Bug::TornBatchKept) {
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
