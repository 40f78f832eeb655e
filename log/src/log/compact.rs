//! Compaction over files: one cleaning of one log, in steps of bounded size. What stays is decided in `compaction.rs`.
//!
//! A cleaning reads the dirty part of the closed segments into the offset map, then rewrites all closed segments below that part's end,
//! group by group; each group takes the place of its segments as soon as it is whole and durable (`swap.rs`). Between two steps
//! anything may happen to the log: if a segment that is being rewritten is gone, the cleaning is over and nothing is lost.
//! Only what lies below the recovery point is touched: recovery believes that there are no holes above it.
//!
//! Driven by `LogDir` for the broker's cleaner, which also keeps where each log was cleaned up to.

mod rewrite;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flumen_planted::{Bug, planted};
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::id::Offset;
use flumen_protocol::record::RecordRef;

use super::Log;
use super::read::read_error;
use crate::compaction::{
    GroupLimits, GroupMember, OffsetMap, Range, SegmentSize, Transactions, groups,
};
use crate::error::{CompactError, ReadError};
use crate::segment::Segment;
use crate::segment::walk::{Located, WalkError, Walker};
use rewrite::Rewrite;

/// Largest batch that is read into memory, unless `max.message.bytes` is larger.
const BATCH_BYTES_MAX: usize = 128 << 20;

/// What a cleaning of a log would find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compactable {
    range: Range,
    /// Whether the log is dirty enough, or was dirty for long enough.
    pub is_due: bool,
}

impl Compactable {
    /// Bytes that were never cleaned and may be.
    pub fn dirty_bytes(&self) -> u64 {
        self.range.dirty_bytes
    }

    /// First offset that must not be touched yet.
    pub(crate) fn end(&self) -> Offset {
        self.range.first_uncleanable
    }

    /// Share of them in all that may be cleaned, from 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        self.range.dirty_ratio
    }
}

/// How a log is to be cleaned.
#[derive(Clone, Copy, Debug)]
pub struct CompactionOptions {
    /// Memory for the newest offsets of keys; what does not fit is left for the next cleaning.
    pub map_bytes: u64,
    /// The broker's clock, milliseconds since 1970.
    pub now_ms: i64,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// All below is clean now.
    pub clean_offset: Offset,
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// Bytes of what took their place.
    pub bytes_after: u64,
    /// Number of them before.
    pub segments_before: usize,
    /// Number of them after.
    pub segments_after: usize,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionStep {
    /// Bytes read and written.
    pub bytes: u64,
    /// Set when the cleaning is over.
    pub done: Option<Compacted>,
}

/// A cleaning that is going on.
#[derive(Debug)]
pub struct Compaction {
    first_dirty: Offset,
    /// Begins a segment; nothing at or above it is touched.
    end: Offset,
    now_ms: i64,
    map: OffsetMap,
    transactions: Transactions,
    phase: Phase,
    compacted: Compacted,
}

#[derive(Debug)]
enum Phase {
    /// Reading these segments into the map, from this byte of the first one on.
    Map {
        segments: VecDeque<Arc<Segment>>,
        position: u64,
    },
    /// Rewriting these groups.
    Rewrite {
        groups: VecDeque<Vec<Arc<Segment>>>,
        current: Option<Box<Rewrite>>,
    },
}

impl Log {
    /// What a cleaning would find. `clean`: where the last one ended, if that is known; `bound`: the last stable offset.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn compactable(
        &self,
        clean: Option<Offset>,
        bound: Offset,
        now_ms: i64,
    ) -> Result<Compactable, ReadError> {
        let segments = self.segments();
        let mut sizes = Vec::with_capacity(segments.len());
        for segment in segments.iter() {
            let wrong = |error| read_error(segment, error);
            let largest = segment.max_timestamp().map_err(wrong)?;
            sizes.push(SegmentSize {
                base_offset: segment.base_offset,
                size: segment.extent().size,
                largest_timestamp: largest.map_or(-1, |largest| largest.timestamp),
                first_timestamp: segment.first_timestamp().map_err(wrong)?.unwrap_or(-1),
            });
        }
        let config = self.config();
        let range = Range::of(
            &sizes,
            &config,
            (self.log_start_offset(), clean),
            bound,
            now_ms,
        );
        Ok(Compactable {
            range,
            is_due: config.cleanup_policy.compact && range.is_due(&config),
        })
    }

    /// All below is durable, and written down to be.
    pub(crate) fn recovery_point(&self) -> Offset {
        self.writer.lock().checkpointed
    }

    /// Begins to clean what `found` names, as far as it lies below the recovery point; `None` if there is nothing. Nothing is touched
    /// before the first [`Log::compact_step`].
    pub fn begin_compaction(
        &self,
        found: &Compactable,
        options: CompactionOptions,
    ) -> Option<Compaction> {
        let segments = self.segments();
        let bound = found.range.first_uncleanable.min(self.recovery_point());
        let whole = segments
            .iter()
            .take_while(|segment| segment.base_offset <= bound);
        let end = whole.last()?.base_offset;
        let first_dirty = found.range.first_dirty;
        if end <= first_dirty {
            return None;
        }
        let dirty: VecDeque<_> = overlapping(&segments, first_dirty, end).cloned().collect();
        let position = dirty
            .front()?
            .offsets
            .position_before(first_dirty)
            .unwrap_or(0);
        Some(Compaction {
            first_dirty,
            end,
            now_ms: options.now_ms,
            map: OffsetMap::new(options.map_bytes, (end - first_dirty).unsigned_abs()),
            transactions: Transactions::default(),
            phase: Phase::Map {
                segments: dirty,
                position,
            },
            compacted: Compacted::default(),
        })
    }

    /// Goes on with a cleaning: reads about `bytes_max` bytes, but at least one batch. After an error the cleaning is over; segments
    /// that were rewritten before stay so.
    ///
    /// # Errors
    /// [`CompactError`].
    pub fn compact_step(
        &self,
        compaction: &mut Compaction,
        bytes_max: u64,
    ) -> Result<CompactionStep, CompactError> {
        // Nobody deletes, cuts or closes the log during a step.
        let _compacting = self.compacting.lock();
        self.check_fenced()?;
        match &compaction.phase {
            Phase::Map { .. } => self.map_step(compaction, bytes_max),
            Phase::Rewrite { .. } => self.rewrite_step(compaction, bytes_max),
        }
    }

    /// Reads a piece of the dirty part into the map; goes over to rewriting when it is read, or the map is full.
    fn map_step(
        &self,
        compaction: &mut Compaction,
        bytes_max: u64,
    ) -> Result<CompactionStep, CompactError> {
        let Compaction {
            first_dirty,
            end,
            map,
            transactions,
            phase: Phase::Map { segments, position },
            ..
        } = compaction
        else {
            unreachable!("called in this phase only")
        };
        if map.end() == 0 {
            transactions.expect(self.aborted_transactions(*first_dirty, *end)?);
            map.set_end(*first_dirty);
        }
        let Some(segment) = segments.front().cloned() else {
            return self.begin_rewrites(compaction);
        };
        let mut reader = Reader::new(self, &segment, *position, bytes_max)?;
        while let Some((located, batch)) = reader.next()? {
            let header = batch.header();
            if header.is_control() {
                let marker = batch.control_record().ok();
                transactions.on_marker(header, marker);
            } else if !transactions.on_batch(header) || planted(Bug::CleanerCountsAborted) {
                let mapped = map_batch(map, &batch, *first_dirty);
                if let Some(full_at) = mapped.map_err(|why| reader.corrupt(&located, why))? {
                    map.set_end(full_at);
                    segments.clear();
                    break;
                }
            }
            map.set_end(header.next_offset());
        }
        let bytes = reader.position() - *position;
        *position = reader.position();
        if !segments.is_empty() && reader.is_at_end() {
            segments.pop_front();
            *position = 0;
            // What no batch holds any more is known, too.
            map.set_end(segments.front().map_or(*end, |next| next.base_offset));
        }
        Ok(CompactionStep { bytes, done: None })
    }

    fn begin_rewrites(&self, compaction: &mut Compaction) -> Result<CompactionStep, CompactError> {
        let list = self.segments();
        let end = compaction.map.end();
        if compaction.end > self.active_segment_base_offset() {
            return Err(CompactError::Outdated);
        }
        let cleaned: Vec<_> = overlapping(&list, Offset::MIN, end.min(compaction.end)).collect();
        let mut members = Vec::with_capacity(cleaned.len());
        for (i, segment) in cleaned.iter().enumerate() {
            members.push(GroupMember {
                base_offset: segment.base_offset,
                end_offset: list[i + 1].base_offset,
                size: segment.extent().size,
                index_size: segment.index_size()?,
            });
        }
        let config = self.config();
        let limits = GroupLimits {
            segment_bytes: config.segment_bytes,
            index_bytes: config.index_bytes as u64,
        };
        let upto = members.last().map_or(end, |last| last.end_offset);
        let mut rest = cleaned.into_iter().cloned();
        let groups = groups(&members, limits)
            .into_iter()
            .map(|count| rest.by_ref().take(count).collect())
            .collect();
        compaction.compacted.clean_offset = end;
        compaction.transactions = Transactions::default();
        let aborted = self.aborted_transactions(self.log_start_offset(), upto)?;
        compaction.transactions.expect(aborted);
        compaction.phase = Phase::Rewrite {
            groups,
            current: None,
        };
        Ok(CompactionStep {
            bytes: 0,
            done: None,
        })
    }

    fn rewrite_step(
        &self,
        compaction: &mut Compaction,
        bytes_max: u64,
    ) -> Result<CompactionStep, CompactError> {
        let Compaction {
            now_ms,
            map,
            transactions,
            phase: Phase::Rewrite { groups, current },
            compacted,
            ..
        } = compaction
        else {
            unreachable!("called in this phase only")
        };
        let mut rewrite = match current.take() {
            Some(rewrite) => rewrite,
            None => match groups.pop_front() {
                Some(group) => Box::new(self.begin_rewrite(group)?),
                None => {
                    let done = Some(*compacted);
                    return Ok(CompactionStep { bytes: 0, done });
                }
            },
        };
        let step = self.rewrite_some(&mut rewrite, (map, transactions, *now_ms), bytes_max);
        let bytes = match step {
            Ok(bytes) => bytes,
            Err(error) => {
                rewrite.discard();
                return Err(error);
            }
        };
        match rewrite.is_whole() {
            true => self.finish_rewrite(*rewrite, compacted)?,
            false => *current = Some(rewrite),
        }
        Ok(CompactionStep { bytes, done: None })
    }

    /// Gives a cleaning up: what was half written is removed.
    pub fn abandon_compaction(&self, compaction: Compaction) {
        let _compacting = self.compacting.lock();
        // The directory of a closed log may be another one's by now.
        if let (
            Phase::Rewrite {
                current: Some(rewrite),
                ..
            },
            None,
        ) = (compaction.phase, self.fenced())
        {
            rewrite.discard();
        }
    }
}

/// The segments that hold offsets of `[from, upto)`.
fn overlapping(
    list: &[Arc<Segment>],
    from: Offset,
    upto: Offset,
) -> impl Iterator<Item = &Arc<Segment>> {
    let next_base = |i: usize| list.get(i + 1).map_or(Offset::MAX, |next| next.base_offset);
    let holds = move |(i, segment): &(usize, &Arc<Segment>)| {
        segment.base_offset < upto && next_base(*i) > from
    };
    list.iter()
        .enumerate()
        .filter(holds)
        .map(|(_, segment)| segment)
}

/// Notes the keys of a batch. Returns the offset of the first record that found no room.
fn map_batch(
    map: &mut OffsetMap,
    batch: &RecordBatch,
    from: Offset,
) -> Result<Option<Offset>, String> {
    let header = batch.header();
    let payload = batch
        .payload(DecompressionLimit::DEFAULT)
        .map_err(|error| error.to_string())?;
    let mut rest = &payload[..];
    for index in 0..header.record_count {
        let record =
            RecordRef::parse(&mut rest).map_err(|error| format!("record {index}: {error}"))?;
        let offset = header
            .base_offset
            .saturating_add(i64::from(record.offset_delta));
        if let Some(key) = record.key
            && offset >= from
            && !map.put(key, offset)
        {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

/// Reads whole batches of one segment, checked, about as many bytes as are asked for.
struct Reader<'a> {
    segment: &'a Segment,
    walker: Walker,
    start: u64,
    size: u64,
    bytes_max: u64,
    batch_bytes_max: usize,
}

impl<'a> Reader<'a> {
    fn new(log: &Log, segment: &'a Segment, start: u64, bytes_max: u64) -> io::Result<Self> {
        let size = segment.extent().size;
        let window =
            usize::try_from(bytes_max.clamp(4 << 10, 1 << 20)).expect("a megabyte at most");
        let walker = match size {
            0 => Walker::empty(),
            _ => Walker::new(segment.file()?, segment.base_offset, size, window).starting_at(start),
        };
        Ok(Self {
            segment,
            walker,
            start,
            size,
            bytes_max,
            batch_bytes_max: log.config().max_message_bytes.max(BATCH_BYTES_MAX),
        })
    }

    fn position(&self) -> u64 {
        self.walker.position()
    }

    fn is_at_end(&self) -> bool {
        self.walker.position() >= self.size
    }

    /// `None` at the end, or when enough was read.
    fn next(&mut self) -> Result<Option<(Located, RecordBatch)>, CompactError> {
        if self.position() > self.start && self.position() - self.start >= self.bytes_max {
            return Ok(None);
        }
        let segment = self.segment;
        let wrong = |error| CompactError::from(read_error(segment, error));
        let Some(found) = self.walker.next().map_err(wrong)? else {
            return Ok(None);
        };
        if found.header.size_in_bytes() > self.batch_bytes_max {
            return Err(self.corrupt(&found, "batch is larger than any that is accepted".into()));
        }
        let bytes = self.walker.contents(&found).map_err(wrong)?;
        let bytes = Bytes::copy_from_slice(bytes);
        let batch = RecordBatch::parse(bytes);
        let checked = batch.and_then(|batch| batch.verify_crc().map(|()| batch));
        match checked {
            Ok(batch) => Ok(Some((found, batch))),
            Err(error) => Err(self.corrupt(&found, error.to_string())),
        }
    }

    fn corrupt(&self, found: &Located, reason: String) -> CompactError {
        let position = found.position;
        read_error(self.segment, WalkError::Corrupt { position, reason }).into()
    }
}
