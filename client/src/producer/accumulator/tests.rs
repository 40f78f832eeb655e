//! The accumulator: when a batch is due, what it holds, how much may wait.

use proptest::prelude::*;

use super::*;
use crate::producer::block::RecordBlock;

fn accumulator(linger_ms: u64, batch_bytes: usize) -> Accumulator {
    Accumulator::new(AccumulatorConfig {
        linger: Duration::from_millis(linger_ms),
        batch_bytes,
        buffer_bytes: 10_000,
        delivery_timeout: Duration::from_secs(10),
        compression: Compression::None,
        transactional: false,
    })
}

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some beginning of time"
    )]
    Instant::now()
}

fn append(accumulator: &mut Accumulator, slot: Slot, value: &[u8], now: Instant) -> bool {
    let record = RecordParts {
        timestamp: 0,
        key: None,
        value: Some(value),
        headers: &[],
    };
    accumulator.append(slot, &record, now).1
}

fn take(accumulator: &mut Accumulator, now: Instant) -> Vec<(Slot, i32)> {
    accumulator.end_linger(now);
    let batches = accumulator.take(|_| true);
    batches
        .iter()
        .map(|batch| (batch.slot, batch.record_count))
        .collect()
}

#[test]
fn a_batch_waits_for_linger_and_for_nothing_longer() {
    let (mut accumulator, now) = (accumulator(5, 1000), start());
    let slot = accumulator.slot("t", 0);
    assert!(
        append(&mut accumulator, slot, b"a", now),
        "the first record begins a batch"
    );
    assert!(!append(&mut accumulator, slot, b"b", now));
    assert_eq!(take(&mut accumulator, now), []);
    let then = now + Duration::from_millis(5);
    assert_eq!(accumulator.next_linger(), Some(then));
    assert_eq!(take(&mut accumulator, then), [(slot, 2)]);
    assert_eq!(accumulator.next_linger(), None);
}

#[test]
fn a_full_batch_does_not_wait_and_the_next_one_has_its_own_time() {
    let (mut accumulator, now) = (accumulator(5, 200), start());
    let slot = accumulator.slot("t", 0);
    append(&mut accumulator, slot, &[0; 100], now);
    let then = now + Duration::from_millis(3);
    assert!(
        append(&mut accumulator, slot, &[0; 100], then),
        "does not fit: the first closes"
    );
    assert_eq!(take(&mut accumulator, then), [(slot, 1)]);
    assert_eq!(take(&mut accumulator, now + Duration::from_millis(5)), []);
    assert_eq!(
        take(&mut accumulator, then + Duration::from_millis(5)),
        [(slot, 1)]
    );
}

#[test]
fn a_partition_that_may_not_send_keeps_filling() {
    let (mut accumulator, now) = (accumulator(0, 1000), start());
    let slot = accumulator.slot("t", 0);
    append(&mut accumulator, slot, b"a", now);
    accumulator.end_linger(now);
    assert!(accumulator.take(|_| false).is_empty());
    append(&mut accumulator, slot, b"b", now);
    assert_eq!(accumulator.due().collect::<Vec<_>>(), [slot]);
    assert_eq!(take(&mut accumulator, now), [(slot, 2)]);
    assert_eq!(accumulator.due().count(), 0);
}

#[test]
fn bytes_are_free_again_only_when_the_batch_is_done() {
    let (mut accumulator, now) = (accumulator(0, 1000), start());
    let slot = accumulator.slot("t", 0);
    append(&mut accumulator, slot, &[0; 500], now);
    assert!(accumulator.has_room(9_000) && !accumulator.has_room(9_900));
    let batch = accumulator.take(|_| true).remove(0);
    assert!(!accumulator.has_room(9_900));
    accumulator.release(batch.id, batch.size);
    assert_eq!(accumulator.buffered_bytes(), 0);
    assert!(
        accumulator.has_room(1_000_000),
        "one record larger than the buffer may, alone"
    );
}

#[test]
fn a_block_goes_behind_what_was_sent_before_it() {
    let (mut accumulator, now) = (accumulator(1000, 1000), start());
    let slot = accumulator.slot("t", 0);
    append(&mut accumulator, slot, b"a", now);
    let mut block = RecordBlock::new(Compression::None);
    (0..7).for_each(|_| block.push(0, None, Some(b"b"), &[]));
    let (payload, timestamp) = block.into_payload();
    drop(accumulator.append_block(slot, payload, (7, timestamp), now));
    append(&mut accumulator, slot, b"c", now);
    assert_eq!(take(&mut accumulator, now), [(slot, 1)]);
    assert_eq!(take(&mut accumulator, now), [(slot, 7)]);
    assert_eq!(take(&mut accumulator, now), []);
    accumulator.flush();
    assert_eq!(take(&mut accumulator, now), [(slot, 1)]);
}

#[test]
fn what_nobody_takes_expires() {
    let (mut accumulator, now) = (accumulator(0, 1000), start());
    let slot = accumulator.slot("t", 0);
    append(&mut accumulator, slot, b"a", now);
    let late = now + Duration::from_secs(10);
    assert!(
        accumulator
            .take_expired(late - Duration::from_millis(1))
            .is_empty()
    );
    assert_eq!(accumulator.take_expired(late).len(), 1);
    assert_eq!(accumulator.due().count(), 0);
}

proptest! {
    /// Records come out once, in the order of their partition, and the count of bytes returns to zero.
    #[test]
    fn nothing_is_lost_or_reordered(steps in proptest::collection::vec((0..3_i32, 0..300_usize, 0..4_u8), 1..120)) {
        let (mut accumulator, mut now) = (accumulator(5, 600), start());
        let mut sent = [0_usize; 3];
        let mut taken = [0_usize; 3];
        let mut batches = Vec::new();
        for (partition, size, step) in steps {
            let slot = accumulator.slot("t", partition);
            append(&mut accumulator, slot, &vec![0; size], now);
            sent[usize::try_from(partition).unwrap()] += 1;
            if step == 0 {
                now += Duration::from_millis(3);
                accumulator.end_linger(now);
                batches.extend(accumulator.take(|slot| slot % 2 == 0));
            }
        }
        accumulator.flush();
        while let more = accumulator.take(|_| true) && !more.is_empty() {
            batches.extend(more);
        }
        let mut last = [None; 3];
        for batch in batches {
            let index = usize::try_from(accumulator.partition(batch.slot).1).unwrap();
            prop_assert!(last[index] < Some(batch.id));
            last[index] = Some(batch.id);
            taken[index] += usize::try_from(batch.record_count).unwrap();
            accumulator.release(batch.id, batch.size);
        }
        prop_assert_eq!((sent, accumulator.buffered_bytes()), (taken, 0));
    }
}
