//! Where a consumer is in each of its partitions, and what is fetched ahead. Pure.
//!
//! Owns position, buffer and state of every assigned partition. `fetcher.rs` asks what to look up and fetch next and brings the answers;
//! `Consumer::poll_batches` takes what is ready. Every seek and every new assignment starts a new *turn*; an answer of an older turn is dropped.
//!
//! ```text
//! Committed ─▶ Reset ─▶ Fetch ⇄ Validate      (committed offset unknown; policy; leader changed)
//!     └──────────────────▶ │
//!                          └─▶ Bounds ─▶ Lost  (out of range, truncated, another topic; until the caller seeks)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flumen_protocol::id::{TopicId, TopicPartition};

use super::fetched::FetchedRecords;
use crate::config::OffsetReset;

/// A committed or looked-up position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: i64,
    /// Of the last record before it; -1 where unknown.
    pub(crate) leader_epoch: i32,
}

/// What a partition needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The group's committed offset.
    Committed,
    /// The offset that the policy names.
    Reset(OffsetReset),
    /// Whether the log still holds what was read, after the leader changed (KIP-320).
    Validate,
    /// Records.
    Fetch,
    /// First and last offset, to tell how the position was lost.
    Bounds,
    /// The caller must seek.
    Nothing,
}

/// Names the period between two seeks or assignments of a partition.
pub(crate) type Turn = u64;

#[derive(Debug)]
struct Partition {
    turn: Turn,
    need: Need,
    /// A request for `need` is out.
    asked: bool,
    /// What the application has got.
    position: Option<Position>,
    /// What was fetched.
    fetched: Position,
    topic_id: TopicId,
    buffer: VecDeque<FetchedRecords>,
    buffered_bytes: usize,
    paused: bool,
    /// The application is giving it back: it gets nothing more of it.
    returning: bool,
    /// The application knows of it.
    started: bool,
    high_watermark: Option<i64>,
}

/// A partition to fetch from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetchable {
    pub(crate) partition: TopicPartition,
    pub(crate) turn: Turn,
    pub(crate) from: Position,
    pub(crate) topic_id: TopicId,
    /// Its buffer is full. A broker is not asked for others meanwhile: a parked fetch would keep this one waiting.
    pub(crate) full: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Positions {
    partitions: BTreeMap<TopicPartition, Partition>,
    policy: OffsetReset,
    /// There is a group that may have committed.
    has_group: bool,
    partition_bytes: usize,
    buffer_bytes: usize,
    buffered_bytes: usize,
    next_turn: Turn,
    last_served: Option<TopicPartition>,
}

impl Positions {
    pub(crate) fn new(
        policy: OffsetReset,
        has_group: bool,
        (partition_bytes, buffer_bytes): (usize, usize),
    ) -> Positions {
        Positions {
            partitions: BTreeMap::new(),
            policy,
            has_group,
            partition_bytes,
            buffer_bytes,
            buffered_bytes: 0,
            next_turn: 0,
            last_served: None,
        }
    }

    /// Adds partitions; those already there stay as they are. Not `started` ones wait until the application knows of them.
    pub(crate) fn add(&mut self, partitions: &[TopicPartition], started: bool) {
        for partition in partitions {
            if self.partitions.contains_key(partition) {
                continue;
            }
            let turn = self.turn();
            let need = match self.has_group {
                true => Need::Committed,
                false => Need::Reset(self.policy),
            };
            let fresh = Partition {
                turn,
                need,
                asked: false,
                position: None,
                fetched: Position {
                    offset: -1,
                    leader_epoch: -1,
                },
                topic_id: TopicId::NIL,
                buffer: VecDeque::new(),
                buffered_bytes: 0,
                paused: false,
                returning: false,
                started,
                high_watermark: None,
            };
            self.partitions.insert(partition.clone(), fresh);
        }
    }

    /// Removes partitions with all that was fetched of them.
    pub(crate) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(gone) = self.partitions.remove(partition) {
                self.buffered_bytes -= gone.buffered_bytes;
            }
        }
    }

    /// Exactly these, and the application knows of them.
    pub(crate) fn assign(&mut self, partitions: &[TopicPartition]) {
        let keep: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let gone: Vec<TopicPartition> = self
            .partitions
            .keys()
            .filter(|each| !keep.contains(each))
            .cloned()
            .collect();
        self.remove(&gone);
        self.add(partitions, true);
        self.start();
    }

    /// The application has been told of everything that was added.
    pub(crate) fn start(&mut self) {
        self.partitions
            .values_mut()
            .for_each(|state| state.started = true);
    }

    /// The application is giving these back.
    pub(crate) fn set_returning(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.returning = true;
            }
        }
    }

    /// It has given back what it was giving back; returns those.
    pub(crate) fn remove_returning(&mut self) -> Vec<TopicPartition> {
        let returned: Vec<TopicPartition> = self
            .partitions
            .iter()
            .filter(|(_, state)| state.returning)
            .map(|(partition, _)| partition.clone())
            .collect();
        self.remove(&returned);
        returned
    }

    pub(crate) fn assigned(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    pub(crate) fn contains(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition)
    }

    /// False if it is not assigned.
    pub(crate) fn set_paused(&mut self, partition: &TopicPartition, paused: bool) -> bool {
        let Some(state) = self.partitions.get_mut(partition) else {
            return false;
        };
        state.paused = paused;
        true
    }

    /// Goes to `offset`; false if it is not assigned.
    pub(crate) fn seek(&mut self, partition: &TopicPartition, position: Position) -> bool {
        if !self.restart(partition, Need::Fetch) {
            return false;
        }
        self.place(partition, position);
        true
    }

    /// Goes to where the policy `to` says; false if it is not assigned.
    pub(crate) fn reset(&mut self, partition: &TopicPartition, to: OffsetReset) -> bool {
        self.restart(partition, Need::Reset(to))
    }

    fn restart(&mut self, partition: &TopicPartition, need: Need) -> bool {
        let turn = self.turn();
        let Some(state) = self.partitions.get_mut(partition) else {
            return false;
        };
        self.buffered_bytes -= state.buffered_bytes;
        state.buffered_bytes = 0;
        state.buffer.clear();
        state.turn = turn;
        state.need = need;
        state.asked = false;
        state.position = None;
        state.topic_id = TopicId::NIL;
        true
    }

    fn turn(&mut self) -> Turn {
        self.next_turn += 1;
        self.next_turn
    }

    fn place(&mut self, partition: &TopicPartition, position: Position) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.position = Some(position);
            state.fetched = position;
            state.need = Need::Fetch;
            state.asked = false;
        }
    }

    /// The next record the application gets; none while that is being looked up.
    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.partitions.get(partition)?.position
    }

    /// The end of what was fetched.
    pub(crate) fn fetched(&self, partition: &TopicPartition) -> Option<Position> {
        Some(self.partitions.get(partition)?.fetched)
    }

    /// All positions known.
    pub(crate) fn positions(&self) -> Vec<(TopicPartition, Position)> {
        let known = |(partition, state): (&TopicPartition, &Partition)| {
            Some((partition.clone(), state.position?))
        };
        self.partitions.iter().filter_map(known).collect()
    }

    pub(crate) fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.high_watermark
    }

    /// Partitions that need `need` and are not asked for yet; from now on they are.
    pub(crate) fn ask(
        &mut self,
        wanted: impl Fn(Need) -> bool,
    ) -> Vec<(TopicPartition, Turn, Need)> {
        let mut asked = Vec::new();
        for (partition, state) in &mut self.partitions {
            if state.started && !state.asked && wanted(state.need) {
                state.asked = true;
                asked.push((partition.clone(), state.turn, state.need));
            }
        }
        asked
    }

    /// The question could not be answered now; it may be asked again.
    pub(crate) fn on_unanswered(&mut self, partition: &TopicPartition, turn: Turn) {
        if let Some(state) = self.current(partition, turn) {
            state.asked = false;
        }
    }

    fn current(&mut self, partition: &TopicPartition, turn: Turn) -> Option<&mut Partition> {
        self.partitions
            .get_mut(partition)
            .filter(|state| state.turn == turn)
    }

    /// The group's committed position, or none.
    pub(crate) fn on_committed(
        &mut self,
        partition: &TopicPartition,
        turn: Turn,
        committed: Option<Position>,
    ) {
        let policy = self.policy;
        let Some(state) = self.current(partition, turn) else {
            return;
        };
        match committed {
            Some(position) => self.place(partition, position),
            None => {
                state.need = Need::Reset(policy);
                state.asked = false;
            }
        }
    }

    /// The offset that the policy named.
    pub(crate) fn on_reset(&mut self, partition: &TopicPartition, turn: Turn, position: Position) {
        if self.current(partition, turn).is_some() {
            self.place(partition, position);
        }
    }

    /// There is no policy: only a seek helps.
    pub(crate) fn on_no_policy(&mut self, partition: &TopicPartition, turn: Turn) {
        if let Some(state) = self.current(partition, turn) {
            state.need = Need::Nothing;
            state.asked = false;
        }
    }

    /// The position no longer exists: find out what does.
    pub(crate) fn on_out_of_range(&mut self, partition: &TopicPartition, turn: Turn) {
        if let Some(state) = self.current(partition, turn) {
            state.need = Need::Bounds;
            state.asked = false;
        }
    }

    /// Where the log begins and ends is known. Returns the lost position, unless the position is inside after all.
    pub(crate) fn on_bounds(&mut self, partition: &TopicPartition, turn: Turn) -> Option<i64> {
        let state = self.current(partition, turn)?;
        state.need = Need::Nothing;
        state.asked = false;
        Some(state.fetched.offset)
    }

    /// A new leader holds what was read: go on under its epoch.
    pub(crate) fn on_valid(&mut self, partition: &TopicPartition, turn: Turn, leader_epoch: i32) {
        if let Some(state) = self.current(partition, turn) {
            state.need = Need::Fetch;
            state.asked = false;
            state.fetched.leader_epoch = leader_epoch;
        }
    }

    /// Compares with what metadata says now: a leader of a later epoch must be asked whether it has what was read, and
    /// another topic of the same name is not the one that was read.
    pub(crate) fn check_leader(
        &mut self,
        partition: &TopicPartition,
        epoch: i32,
        topic_id: TopicId,
    ) {
        let Some(state) = self.partitions.get_mut(partition) else {
            return;
        };
        if state.need != Need::Fetch || state.asked {
            return;
        }
        if state.topic_id.is_nil() {
            state.topic_id = topic_id;
        } else if !topic_id.is_nil() && state.topic_id != topic_id {
            state.need = Need::Bounds;
            return;
        }
        if state.fetched.leader_epoch >= 0 && epoch > state.fetched.leader_epoch {
            state.need = Need::Validate;
        }
    }

    /// Partitions to fetch from, beginning behind the one served last.
    pub(crate) fn fetchable(&self) -> Vec<Fetchable> {
        let room = self.buffered_bytes < self.buffer_bytes;
        let fetchable = |(partition, state): (&TopicPartition, &Partition)| {
            let wanted = state.started
                && !state.paused
                && !state.returning
                && state.need == Need::Fetch
                && !state.asked;
            wanted.then(|| Fetchable {
                partition: partition.clone(),
                turn: state.turn,
                from: state.fetched,
                topic_id: state.topic_id,
                full: !room || state.buffered_bytes >= self.partition_bytes,
            })
        };
        let mut all: Vec<Fetchable> = self.partitions.iter().filter_map(fetchable).collect();
        if let Some(last) = &self.last_served {
            let behind = all.partition_point(|each| each.partition <= *last);
            all.rotate_left(behind);
        }
        all
    }

    /// A fetch of it is out, or back.
    pub(crate) fn set_asked(&mut self, partition: &TopicPartition, turn: Turn, asked: bool) {
        if let Some(state) = self.current(partition, turn) {
            state.asked = asked;
        }
    }

    /// Puts away what was fetched. Says whether it still counts.
    pub(crate) fn on_fetched(&mut self, turn: Turn, records: FetchedRecords) -> bool {
        let size = records.size_bytes();
        let partition = records.partition.clone();
        let Some(state) = self.current(&partition, turn) else {
            return false;
        };
        if records.from_offset != state.fetched.offset {
            return false;
        }
        state.high_watermark = Some(records.high_watermark);
        if records.next_offset == records.from_offset {
            return false;
        }
        let leader_epoch = records.leader_epoch.max(state.fetched.leader_epoch);
        state.fetched = Position {
            offset: records.next_offset,
            leader_epoch,
        };
        state.buffered_bytes += size;
        state.buffer.push_back(records);
        self.buffered_bytes += size;
        self.last_served = Some(partition);
        true
    }

    /// What the application gets now: everything ready, or at least one piece and no more whole batches than reach `records_max`.
    pub(crate) fn take_ready(&mut self, records_max: usize) -> Vec<FetchedRecords> {
        let mut ready: Vec<FetchedRecords> = Vec::new();
        let mut count = 0;
        for (partition, state) in &mut self.partitions {
            if !state.started || state.paused || state.returning {
                continue;
            }
            while count < records_max
                && let Some(mut piece) = state.buffer.pop_front()
            {
                let size = piece.size_bytes();
                if let Some(rest) = split(&mut piece, records_max - count) {
                    state.buffer.push_front(rest);
                }
                let taken = piece.size_bytes();
                debug_assert!(taken <= size, "a piece does not grow");
                state.buffered_bytes -= taken;
                self.buffered_bytes -= taken;
                count += piece.record_count();
                let leader_epoch = piece.leader_epoch;
                state.position = Some(Position {
                    offset: piece.next_offset,
                    leader_epoch,
                });
                match ready.last_mut().filter(|last| last.partition == *partition) {
                    Some(last) => join(last, piece),
                    None => ready.push(piece),
                }
            }
        }
        ready
    }
}

/// Cuts a piece behind the batch with which it reaches `records_max`; returns the rest.
fn split(piece: &mut FetchedRecords, records_max: usize) -> Option<FetchedRecords> {
    let mut count = 0;
    let keep = piece.batches.iter().position(|batch| {
        count += usize::try_from(batch.header().record_count).unwrap_or(0);
        count >= records_max
    })? + 1;
    if keep >= piece.batches.len() {
        return None;
    }
    let rest = piece.batches.split_off(keep);
    let last = piece.batches[keep - 1].header();
    let from_offset = last.next_offset();
    let rest = FetchedRecords {
        from_offset,
        batches: rest,
        ..piece.clone_without_batches()
    };
    piece.next_offset = from_offset;
    piece.leader_epoch = last.partition_leader_epoch;
    Some(rest)
}

fn join(first: &mut FetchedRecords, second: FetchedRecords) {
    first.batches.extend(second.batches);
    first.next_offset = second.next_offset;
    first.leader_epoch = second.leader_epoch;
    first.high_watermark = second.high_watermark;
    first.last_stable_offset = second.last_stable_offset;
}

impl FetchedRecords {
    fn clone_without_batches(&self) -> FetchedRecords {
        FetchedRecords {
            batches: Vec::new(),
            partition: self.partition.clone(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests;
