//! Batches and indexes: from where each segment is believed, how far it goes, and what is cut.

use std::io;
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

/// Batches behind the last index entry that cost a read more than an index made anew is worth.
const NOT_INDEXED_MAX_BYTES: u64 = 1 << 20;

/// What a walk over a segment found.
struct Walked {
    torn: Option<Torn>,
    /// Bytes from the last index entry to the last batch, to which an entry could lead.
    not_indexed: u64,
}

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
        let known = self.options.recovery_point.is_some() && !self.options.foreign;
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
    /// they are missing, cannot be right, or leave out much.
    fn trust(
        &mut self,
        segment: &Segment,
        size: u64,
        next_offset: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        if indexes_plausible(segment, size, next_offset) {
            let walked = self.walk(segment, size, Offset::MAX, u64::MAX)?;
            let interval_bytes = self.config.index_interval_bytes;
            let most = match segment.offsets.last() {
                // The interval may have been another one.
                Ok(Some(_)) => interval_bytes.max(NOT_INDEXED_MAX_BYTES),
                _ => interval_bytes,
            };
            // Before the segment is called damaged, it is walked without the help of its index.
            if walked.torn.is_none() && walked.not_indexed <= most {
                return Ok(None);
            }
        }
        self.rebuild(segment, size, Offset::MAX)
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
        let at = |error| OpenError::at(&segment.path())(error);
        let holds = last_entry_holds(segment, size)
            .and_then(|holds| Ok(holds && times_follow(segment)?))
            .map_err(at)?;
        match torn_entry || !(holds || planted(Bug::IndexPastEnd)) {
            true => self.rebuild(segment, size, recovery_point),
            false => {
                let interval_bytes = self.config.index_interval_bytes;
                let walked = self.walk(segment, size, recovery_point, interval_bytes)?;
                Ok(walked.torn)
            }
        }
    }

    /// Makes both indexes anew. The old ones are there until the new ones are durable: no later start could tell a half made
    /// index of a segment that it does not scan from a whole one.
    fn rebuild(
        &mut self,
        segment: &Segment,
        size: u64,
        check_from: Offset,
    ) -> Result<Option<Torn>, OpenError> {
        let (offsets, times) = (segment.offsets.table(), segment.times.table());
        let at = |error| OpenError::at(&segment.path())(error);
        offsets
            .begin_anew()
            .and_then(|()| times.begin_anew())
            .map_err(at)?;
        let torn = self
            .walk(segment, size, check_from, self.config.index_interval_bytes)?
            .torn;
        let at = |error| OpenError::at(&segment.path())(error);
        times
            .finish_anew()
            .and_then(|()| offsets.finish_anew())
            .map_err(at)?;
        self.touched.dir = true;
        Ok(torn)
    }

    /// Walks from the last index entry to the end of the file, taking every batch into the extent and, with an entry for every
    /// `interval_bytes`, into the indexes. Batches that reach above `check_from` are read as a whole. Stops at the first that is not.
    fn walk(
        &mut self,
        segment: &Segment,
        size: u64,
        check_from: Offset,
        interval_bytes: u64,
    ) -> Result<Walked, OpenError> {
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
            return Ok(Walked {
                torn: None,
                not_indexed: 0,
            });
        }
        let window = if check_from == Offset::MAX {
            HEADER_WINDOW_BYTES
        } else {
            SCAN_WINDOW_BYTES
        };
        let file = segment.file().map_err(at)?;
        let mut walker = Walker::new(file, segment.base_offset, size, window).starting_at(start);
        let mut not_indexed = 0;
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
                    not_indexed = extent.since_entry;
                    segment.note(&mut extent, &header, interval_bytes);
                }
                Err(error) => match error.damage() {
                    Ok((_, reason)) => break torn(reason),
                    Err(error) => return Err(at(error)),
                },
            }
        };
        if start > 0 {
            extent.first_timestamp = None;
        }
        segment.set_extent(extent);
        Ok(Walked { torn, not_indexed })
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

/// Whether the indexes are there, and their ends fit the segment and each other. What is wrong further in is noticed by reads.
fn indexes_plausible(segment: &Segment, size: u64, next_offset: Offset) -> bool {
    let within = |offset: Offset| (segment.base_offset..next_offset).contains(&offset);
    let Ok(last) = segment.offsets.last() else {
        return false;
    };
    let offsets_fit = last.is_none_or(|last| last.position < size && within(last.offset));
    let times_fit = match segment.times.newest() {
        Ok([None, _]) => last.is_none(),
        Ok([Some(last), before]) => {
            within(last.offset)
                && before.is_none_or(|before| {
                    before.timestamp < last.timestamp && before.offset < last.offset
                })
        }
        Err(_) => false,
    };
    segment.offsets.table().exists()
        && segment.times.table().exists()
        && offsets_fit
        && times_fit
        && last_entry_holds(segment, size).unwrap_or(false)
}

/// Whether the walk behind the last index entry would begin at the batch that the entry is for.
fn last_entry_holds(segment: &Segment, size: u64) -> io::Result<bool> {
    match segment.offsets.last()? {
        Some(last) => segment.entry_holds(last, size),
        None => Ok(true),
    }
}

/// Whatever has an offset entry has a time entry, unless its records have no time: one of the two may have been made anew before a
/// crash, and the other one not.
fn times_follow(segment: &Segment) -> io::Result<bool> {
    Ok(segment.offsets.last()?.is_none() || segment.times.last()?.is_some())
}
