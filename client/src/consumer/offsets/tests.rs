//! Positions: what is fetched, committed, lost and reset.

use flumen_protocol::batch::RecordBatch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};

use super::*;

const FROM_START: Position = Position {
    offset: 0,
    leader_epoch: -1,
};

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

/// Two partitions, assigned by hand and placed at offset 0.
fn positions() -> Positions {
    let mut positions = Positions::new(OffsetReset::Earliest, false, (1000, 3000));
    positions.assign(&[partition(0), partition(1)]);
    for (partition, turn, need) in positions.ask(|_| true) {
        assert_eq!(need, Need::Reset(OffsetReset::Earliest));
        positions.on_reset(&partition, turn, FROM_START);
    }
    positions
}

fn looked_up(need: Need) -> bool {
    !matches!(need, Need::Fetch | Need::Nothing)
}

fn batch(base_offset: i64, count: usize, bytes: usize) -> RecordBatch {
    let options = BatchOptions {
        base_offset,
        leader_epoch: 2,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    (0..count).for_each(|_| builder.push(0, None, Some(&vec![0; bytes]), &[]));
    RecordBatch::parse(builder.build()).unwrap()
}

fn piece(
    number: i32,
    from_offset: i64,
    batches: Vec<RecordBatch>,
    next_offset: i64,
) -> FetchedRecords {
    FetchedRecords {
        partition: partition(number),
        from_offset,
        batches,
        next_offset,
        leader_epoch: 2,
        high_watermark: 100,
        last_stable_offset: 100,
    }
}

fn turn_of(positions: &Positions, number: i32) -> Turn {
    positions
        .fetchable()
        .iter()
        .find(|each| each.partition == partition(number))
        .unwrap()
        .turn
}

#[test]
fn the_position_is_what_the_application_got_not_what_was_fetched() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    assert!(positions.on_fetched(turn, piece(0, 0, vec![batch(0, 3, 10)], 3)));
    assert_eq!(positions.position(&partition(0)).unwrap().offset, 0);
    assert_eq!(positions.fetched(&partition(0)).unwrap().offset, 3);
    let ready = positions.take_ready(usize::MAX);
    assert_eq!((ready.len(), ready[0].next_offset), (1, 3));
    let position = Position {
        offset: 3,
        leader_epoch: 2,
    };
    assert_eq!(positions.position(&partition(0)), Some(position));
}

#[test]
fn an_answer_from_before_a_seek_is_dropped() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    assert!(positions.seek(
        &partition(0),
        Position {
            offset: 50,
            leader_epoch: -1
        }
    ));
    assert!(!positions.on_fetched(turn, piece(0, 0, vec![batch(0, 3, 10)], 3)));
    assert!(positions.take_ready(usize::MAX).is_empty());
    assert_eq!(positions.position(&partition(0)).unwrap().offset, 50);
}

#[test]
fn what_was_fetched_before_a_seek_is_dropped_too() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    positions.on_fetched(turn, piece(0, 0, vec![batch(0, 3, 10)], 3));
    positions.seek(
        &partition(0),
        Position {
            offset: 1,
            leader_epoch: -1,
        },
    );
    assert!(positions.take_ready(usize::MAX).is_empty());
    assert_eq!(positions.buffered_bytes, 0);
}

#[test]
fn a_full_buffer_stops_fetching_until_it_is_polled() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    positions.on_fetched(turn, piece(0, 0, vec![batch(0, 1, 1200)], 1));
    let full = |positions: &Positions| -> Vec<(i32, bool)> {
        let mut all: Vec<_> = positions
            .fetchable()
            .iter()
            .map(|each| (each.partition.partition, each.full))
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(full(&positions), [(0, true), (1, false)]);
    positions.take_ready(usize::MAX);
    assert_eq!(full(&positions), [(0, false), (1, false)]);
}

#[test]
fn the_partition_served_last_comes_last() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    positions.on_fetched(turn, piece(0, 0, vec![batch(0, 1, 10)], 1));
    let order: Vec<i32> = positions
        .fetchable()
        .iter()
        .map(|each| each.partition.partition)
        .collect();
    assert_eq!(order, [1, 0]);
}

#[test]
fn a_poll_of_few_records_takes_whole_batches_and_leaves_the_rest() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    let batches = vec![batch(0, 3, 10), batch(3, 3, 10), batch(6, 3, 10)];
    positions.on_fetched(turn, piece(0, 0, batches, 10));
    let first = positions.take_ready(4);
    assert_eq!((first[0].record_count(), first[0].next_offset), (6, 6));
    assert_eq!(positions.position(&partition(0)).unwrap().offset, 6);
    let second = positions.take_ready(4);
    assert_eq!(
        (
            second[0].from_offset,
            second[0].record_count(),
            second[0].next_offset
        ),
        (6, 3, 10)
    );
    assert_eq!(positions.buffered_bytes, 0);
}

#[test]
fn a_piece_without_batches_moves_the_position() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    assert!(positions.on_fetched(turn, piece(0, 0, vec![], 4)));
    let ready = positions.take_ready(usize::MAX);
    assert_eq!((ready[0].batches.len(), ready[0].next_offset), (0, 4));
    assert!(
        !positions.on_fetched(turn, piece(0, 4, vec![], 4)),
        "nothing new is nothing"
    );
}

#[test]
fn paused_and_returning_partitions_give_nothing() {
    let mut positions = positions();
    for number in [0, 1] {
        let turn = turn_of(&positions, number);
        positions.on_fetched(turn, piece(number, 0, vec![batch(0, 1, 10)], 1));
    }
    assert!(positions.set_paused(&partition(0), true));
    positions.set_returning(&[partition(1)]);
    assert!(positions.take_ready(usize::MAX).is_empty() && positions.fetchable().is_empty());
    assert_eq!(positions.remove_returning(), [partition(1)]);
    positions.set_paused(&partition(0), false);
    assert_eq!(positions.take_ready(usize::MAX).len(), 1);
    assert_eq!(positions.buffered_bytes, 0);
}

#[test]
fn nothing_is_asked_of_a_partition_the_application_does_not_know_yet() {
    let mut positions = Positions::new(OffsetReset::Earliest, true, (1000, 3000));
    positions.add(&[partition(0)], false);
    assert!(positions.ask(|_| true).is_empty());
    positions.seek(
        &partition(0),
        Position {
            offset: 9,
            leader_epoch: -1,
        },
    );
    assert!(positions.fetchable().is_empty());
    positions.start();
    assert_eq!(positions.fetchable()[0].from.offset, 9, "its seek holds");
}

#[test]
fn without_a_committed_offset_the_policy_decides() {
    let mut positions = Positions::new(OffsetReset::Latest, true, (1000, 3000));
    positions.assign(&[partition(0), partition(1)]);
    let asked = positions.ask(|_| true);
    assert!(asked.iter().all(|(.., need)| *need == Need::Committed));
    assert!(positions.ask(|_| true).is_empty(), "asked once");
    let committed = Position {
        offset: 5,
        leader_epoch: 1,
    };
    positions.on_committed(&asked[0].0, asked[0].1, Some(committed));
    positions.on_committed(&asked[1].0, asked[1].1, None);
    assert_eq!(positions.position(&partition(0)), Some(committed));
    assert_eq!(
        positions.ask(looked_up)[0].2,
        Need::Reset(OffsetReset::Latest)
    );
}

#[test]
fn a_later_leader_must_confirm_what_was_read() {
    let mut positions = positions();
    let id = TopicId([1; 16]);
    positions.seek(
        &partition(0),
        Position {
            offset: 7,
            leader_epoch: 2,
        },
    );
    let turn = turn_of(&positions, 0);
    positions.check_leader(&partition(0), 2, id);
    assert_eq!(positions.fetchable().len(), 2, "the same leader");
    positions.check_leader(&partition(0), 3, id);
    assert_eq!(positions.ask(|need| need == Need::Validate).len(), 1);
    positions.on_valid(&partition(0), turn, 3);
    positions.check_leader(&partition(0), 3, id);
    assert_eq!(positions.fetchable().len(), 2, "confirmed");
}

#[test]
fn another_topic_of_the_same_name_is_a_lost_position() {
    let mut positions = positions();
    let turn = turn_of(&positions, 0);
    positions.check_leader(&partition(0), 0, TopicId([1; 16]));
    positions.check_leader(&partition(0), 0, TopicId([2; 16]));
    assert_eq!(positions.ask(|need| need == Need::Bounds).len(), 1);
    assert_eq!(positions.on_bounds(&partition(0), turn), Some(0));
    assert!(
        positions.ask(looked_up).is_empty(),
        "until the caller seeks"
    );
    assert!(positions.seek(&partition(0), FROM_START));
    assert_eq!(positions.fetchable().len(), 2);
}
