//! Looking at what nobody reads: closed segments are read from time to time, batch by batch, and their CRCs checked.
//!
//! One call is one step of bounded size; when and how fast is the caller's matter (the broker: a pass a week, 5 MB/s). What is found
//! damaged is remembered until the log is opened anew: readers of it hear [`ReadError::Corrupt`], readers of what lies before and
//! behind it get that. Nothing is cut or repaired: one node has no copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flumen_protocol::batch;
use flumen_protocol::id::Offset;

use super::Log;
use super::read::read_error;
use crate::error::ReadError;
use crate::segment::Segment;
use crate::segment::walk::{WalkError, Walker};

/// Where a scrub stands in a log, to go on from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubPosition {
    /// Of the segment.
    base_offset: Offset,
    position: u64,
    /// Segments that had been rewritten by then: a position in one of them says nothing any more.
    swaps: u64,
}

/// What one step did.
#[derive(Clone, Debug)]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: u64,
    /// Damage that was not known before.
    pub found: Option<ReadError>,
    /// Where to go on; `None` at the end of the closed segments.
    pub next: Option<ScrubPosition>,
}

/// A range of offsets that must not be served, and why.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    from: Offset,
    upto: Offset,
    error: ReadError,
}

/// What a step found in one segment.
enum Found {
    /// All whole up to this position, where there is more.
    More(u64),
    End,
    /// From this offset on; up to the one behind it, or to the end of the segment if nothing behind can be made out.
    Damage {
        from: Offset,
        upto: Option<Offset>,
        position: u64,
        reason: String,
        next: Option<u64>,
    },
}

impl Log {
    /// Reads whole batches of closed segments from `from` on, about `bytes_max` bytes of them but at least one batch, and checks
    /// their CRCs, their offsets, and their leader epochs against the checkpoint.
    ///
    /// # Errors
    /// [`ReadError::Storage`]. Damage is no error: it is in the result, once.
    pub fn scrub(&self, from: ScrubPosition, bytes_max: u64) -> Result<Scrubbed, ReadError> {
        // Both of one moment: who swaps segments counts it under the same lock.
        let (segments, swaps) = {
            let segments = self.segments.read();
            (segments.clone(), self.swaps.load(Ordering::Acquire))
        };
        let closed = &segments[..segments.len() - 1];
        let at = closed.partition_point(|segment| segment.base_offset < from.base_offset);
        let Some(segment) = closed.get(at) else {
            return Ok(Scrubbed {
                bytes: 0,
                found: None,
                next: None,
            });
        };
        let start = match segment.base_offset == from.base_offset && from.swaps == swaps {
            true => from.position,
            false => 0,
        };
        let position = |position| {
            Some(ScrubPosition {
                base_offset: segment.base_offset,
                position,
                swaps,
            })
        };
        let following = closed.get(at + 1).map(|next| ScrubPosition {
            base_offset: next.base_offset,
            position: 0,
            swaps,
        });
        let found = self.scrub_segment(segment, start, bytes_max)?;
        let (end, found, next) = match found {
            Found::More(end) => (end, None, position(end)),
            Found::End => (segment.extent().size, None, following),
            Found::Damage {
                from,
                upto,
                position: at,
                reason,
                next,
            } => {
                let upto = upto.unwrap_or(segment.extent().next_offset);
                let reason = format!("offsets {from} to {}: {reason}", upto - 1);
                let found = self.remember_damage(segment, (from, upto), at, reason);
                let next = next.map_or(following, position);
                (at, found, next)
            }
        };
        Ok(Scrubbed {
            bytes: end.saturating_sub(start),
            found,
            next,
        })
    }

    fn scrub_segment(
        &self,
        segment: &Segment,
        start: u64,
        bytes_max: u64,
    ) -> Result<Found, ReadError> {
        let epochs = self.leader_epochs();
        let size = segment.extent().size;
        let window = usize::try_from(bytes_max)
            .unwrap_or(usize::MAX)
            .min(1 << 20);
        let mut walker =
            Walker::new(segment.file()?, segment.base_offset, size, window).starting_at(start);
        let mut before_last = walker.next_offset();
        while walker.position() < size {
            if walker.position() - start >= bytes_max {
                return Ok(Found::More(walker.position()));
            }
            let (position, expected) = (walker.position(), walker.next_offset());
            let batch = match walker.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => return damaged_walk(error, before_last, expected),
            };
            before_last = expected;
            let wrong = match walker.contents(&batch) {
                Ok(bytes) => batch::verify_crc(bytes)
                    .err()
                    .map(|error| error.to_string()),
                Err(error) => return Err(read_error(segment, error)),
            };
            let header = &batch.header;
            let end = self.end_of(segment);
            // What no CRC covers, and how it can be told to be wrong.
            let wrong = wrong.or_else(|| match epochs.epoch_of(header.base_offset) {
                _ if header.next_offset() > end => Some(format!(
                    "reaches beyond offset {end}, where the segment ends"
                )),
                Some(known) if known != header.partition_leader_epoch => {
                    let epoch = header.partition_leader_epoch;
                    Some(format!("leader epoch {epoch} where {known} wrote"))
                }
                _ => None,
            });
            if let Some(reason) = wrong {
                let behind = walker.position();
                return Ok(Found::Damage {
                    from: expected,
                    // What it says of itself is not to be believed.
                    upto: begins_at(segment, behind, size)?.or((behind == size).then_some(end)),
                    position,
                    reason,
                    next: Some(behind),
                });
            }
        }
        Ok(Found::End)
    }

    /// Where a closed segment ends: no batch in it may reach further.
    fn end_of(&self, segment: &Segment) -> Offset {
        let segments = self.segments();
        let mut behind = segments
            .iter()
            .filter(|next| next.base_offset > segment.base_offset);
        behind.next().map_or(Offset::MAX, |next| next.base_offset)
    }

    /// None if it is known.
    fn remember_damage(
        &self,
        segment: &Segment,
        (from, upto): (Offset, Offset),
        position: u64,
        reason: String,
    ) -> Option<ReadError> {
        let mut damaged = self.damaged.write();
        if damaged
            .iter()
            .any(|known| known.from == from && known.upto == upto)
        {
            return None;
        }
        let error = ReadError::Corrupt {
            file: segment.path(),
            position,
            reason,
        };
        let mut list = Vec::clone(&damaged);
        list.push(Damage {
            from,
            upto,
            error: error.clone(),
        });
        *damaged = Arc::new(list);
        Some(error)
    }

    /// Up to where a read from `from` may go without touching what is known to be damaged.
    pub(super) fn undamaged_up_to(&self, from: Offset, upto: Offset) -> Result<Offset, ReadError> {
        let damaged = self.damaged.read().clone();
        let mut upto = upto;
        for damage in damaged.iter().filter(|damage| damage.upto > from) {
            if damage.from <= from {
                return Err(damage.error.clone());
            }
            upto = upto.min(damage.from);
        }
        Ok(upto)
    }
}

/// `expected` is where the batch that cannot be walked over should begin, `before_last` where the one before it should have.
fn damaged_walk(
    error: WalkError,
    before_last: Offset,
    expected: Offset,
) -> Result<Found, ReadError> {
    let goes_back = match &error {
        WalkError::GoesBack { offset, .. } => Some(*offset),
        _ => None,
    };
    let (position, reason) = error.damage()?;
    let (from, upto, next) = match goes_back {
        // The one before claims too much: this one continues what lies before that.
        Some(offset) if offset > before_last => (before_last, Some(offset), Some(position)),
        Some(_) => (expected, Some(expected + 1), Some(position)),
        // Nobody knows where the next one begins.
        None => (expected, None, None),
    };
    Ok(Found::Damage {
        from,
        upto,
        position,
        reason,
        next,
    })
}

/// The first offset of the batch at this position, if one can be made out.
fn begins_at(segment: &Segment, position: u64, size: u64) -> Result<Option<Offset>, ReadError> {
    let window = flumen_protocol::batch::HEADER_BYTES;
    let walker = Walker::new(segment.file()?, segment.base_offset, size, window);
    match walker.starting_at(position).next() {
        Ok(found) => Ok(found.map(|batch| batch.header.base_offset)),
        Err(WalkError::Storage(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}
