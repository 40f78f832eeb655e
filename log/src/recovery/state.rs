//! What is not in the segments' own files: leader epochs, and the producers' state from a snapshot and the batches behind it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flumen_planted::{Bug, planted};
use flumen_protocol::batch::{BatchHeader, ControlRecord, RecordBatch};
use flumen_protocol::id::Offset;

use super::segments::HEADER_WINDOW_BYTES;
use super::{LEADER_EPOCH_FILE, Loading, Names};
use crate::checkpoint;
use crate::epochs::LeaderEpochs;
use crate::error::OpenError;
use crate::producers::{CompletedTxn, Producers};
use crate::sealed::{self, Sealed};
use crate::segment::walk::{WalkError, Walker};
use crate::segment::{Place, Segment};
use crate::snapshot;

/// How far before a snapshot, in each of two segments, a producer's older batches are looked for.
const OLDER_BATCHES_WINDOW_BYTES: u64 = 4 << 20;

impl Loading<'_> {
    /// From the file, and from the batches above the recovery point; from all batches if the file is missing though there must have
    /// been one. Returns whether the file differs.
    pub(super) fn leader_epochs(
        &mut self,
        names: &Names,
        segments: &[Arc<Segment>],
        start: Offset,
        end: Offset,
    ) -> Result<(LeaderEpochs, bool), OpenError> {
        let path = self.place.dir.join(LEADER_EPOCH_FILE);
        let read = match names.epochs {
            true => sealed::read(&*self.place.disk, &path).map_err(OpenError::at(&path))?,
            false => Sealed::Missing,
        };
        let in_file = match read {
            Sealed::Whole(bytes) => checkpoint::decode_epochs(&bytes),
            Sealed::Missing | Sealed::Damaged => None,
        };
        let mut epochs = in_file.clone().unwrap_or_default();
        // Batches below the recovery point were not looked at.
        if in_file.is_none() && self.txns_from > segments[0].base_offset {
            for segment in segments {
                visit_headers(segment, 0, |header, _| {
                    _ = epochs.assign(header.partition_leader_epoch, header.base_offset)
                })
                .map_err(|error| self.broken(segment, error))?;
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
    pub(super) fn producers(
        &mut self,
        segments: &[Arc<Segment>],
        snapshots: &BTreeSet<Offset>,
        usable: Offset,
    ) -> Result<Producers, OpenError> {
        let (mut usable, mut txns_from) = (usable, self.txns_from);
        if let Some(i) = damaged_txns(segments)? {
            // What the file says less than it should is told by the markers, from there on.
            segments[i..]
                .iter()
                .for_each(|segment| segment.txns.begin_anew());
            let from = segments[i].base_offset;
            (usable, txns_from) = (usable.min(from), txns_from.min(from));
        }
        let (mut producers, from) = newest_snapshot(self.place, snapshots, usable);
        let broken = |(segment, error): Broken| self.broken(&segment, error);
        remember_older(segments, from, &mut producers).map_err(broken)?;
        replay(
            segments,
            from,
            &mut producers,
            |segment, producers, completed| match completed.marker_offset >= txns_from {
                true => segment.txns.append(producers.aborted(completed)),
                false => Ok(()),
            },
        )
        .map_err(broken)?;
        if planted(Bug::DedupLostAtRestart) {
            // Wrong: a producer whose last word nobody timed counts as silent for ever, and its repeats as new.
            producers.expire(i64::MAX, 0);
        }
        Ok(producers)
    }
}

/// A segment, and what is wrong with it.
type Broken = (Arc<Segment>, WalkError);

/// The first segment whose index of aborted transactions does not hold all that was written to it.
fn damaged_txns(segments: &[Arc<Segment>]) -> Result<Option<usize>, OpenError> {
    for (i, segment) in segments.iter().enumerate() {
        let damaged = segment.txns.is_damaged();
        if damaged.map_err(OpenError::at(segment.txns.path()))? {
            return Ok(Some(i));
        }
    }
    Ok(None)
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
    remember_older(segments, from, &mut producers).map_err(|(_, error)| error)?;
    replay(segments, from, &mut producers, |_, _, _| Ok(())).map_err(|(_, error)| error)?;
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

/// A snapshot holds one batch per producer; the others that a repeat is known by are looked for in the last few MiB before it.
/// Without them, a producer whose answers got lost in a restart would hear that its second newest batch is out of order.
fn remember_older(
    segments: &[Arc<Segment>],
    before: Offset,
    producers: &mut Producers,
) -> Result<(), Broken> {
    if producers.len() == 0 {
        return Ok(());
    }
    let reaching = segments.partition_point(|segment| segment.base_offset < before);
    for segment in &segments[reaching.saturating_sub(2)..reaching] {
        remember_older_in(segment, before, producers).map_err(|error| (segment.clone(), error))?;
    }
    Ok(())
}

fn remember_older_in(
    segment: &Segment,
    before: Offset,
    producers: &mut Producers,
) -> Result<(), WalkError> {
    let size = segment.extent().size;
    if size == 0 {
        return Ok(());
    }
    let tail = size.saturating_sub(OLDER_BATCHES_WINDOW_BYTES);
    let start = segment.offsets.last_where(|entry| entry.position <= tail)?;
    let start = start.map_or(0, |entry| entry.position);
    let mut walker = headers_from(segment, start, size)?;
    while let Some(found) = walker.next()? {
        if found.header.base_offset >= before {
            break;
        }
        producers.remember_older(&found.header);
    }
    Ok(())
}

/// Applies all batches from offset `from` on; tells `on_aborted` of each transaction that was aborted.
fn replay(
    segments: &[Arc<Segment>],
    from: Offset,
    producers: &mut Producers,
    mut on_aborted: impl FnMut(&Segment, &Producers, CompletedTxn) -> io::Result<()>,
) -> Result<(), Broken> {
    for segment in segments
        .iter()
        .filter(|segment| segment.extent().next_offset > from)
    {
        let broken = |error| (segment.clone(), error);
        let mut result = Ok(());
        visit_headers(segment, from, |header, marker| {
            let completed = producers.apply(header, marker, None);
            if let (Some(completed), Some(ControlRecord::Abort { .. }), true) =
                (completed, marker, result.is_ok())
            {
                result = on_aborted(segment, producers, completed);
            }
        })
        .map_err(broken)?;
        result.map_err(|error| broken(error.into()))?;
    }
    Ok(())
}

fn headers_from(segment: &Segment, start: u64, end: u64) -> io::Result<Walker> {
    let walker = Walker::new(
        segment.file()?,
        segment.base_offset,
        end,
        HEADER_WINDOW_BYTES,
    );
    Ok(walker.starting_at(start))
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
    let mut walker = headers_from(segment, start, end)?;
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
