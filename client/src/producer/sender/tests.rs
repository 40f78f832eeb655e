//! The sender: numbers, retries and deadlines against a broker that answers anything.

use std::collections::VecDeque;

use flumen_protocol::batch::RecordBatch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::error_code::ErrorCode;
use proptest::prelude::*;

use super::*;
use crate::producer::block::Payload;

const LEADER: BrokerId = 1;

fn sender(guarantee: Guarantee) -> Sender {
    let mut sender = Sender::new(SenderConfig {
        guarantee,
        max_in_flight: 5,
        max_request_bytes: 1 << 20,
        retry_backoff: Duration::from_millis(100),
    });
    sender.set_identity(Identity {
        producer_id: 7,
        epoch: 0,
    });
    sender
}

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some beginning of time"
    )]
    Instant::now()
}

/// A batch of `count` records whose values are the batch's id.
fn ready(id: BatchId, slot: Slot, count: i32, now: Instant) -> ReadyBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    (0..count).for_each(|_| builder.push(0, None, Some(&id.to_be_bytes()), &[]));
    ReadyBatch {
        id,
        slot,
        record_count: count,
        size: builder.estimated_size(),
        payload: Payload::Open(builder),
        deadline: now + Duration::from_secs(120),
        completion: Completion::new("t".into(), i32::try_from(slot).unwrap()),
    }
}

fn answer(slot: Slot, code: ErrorCode, base_offset: i64) -> Answer {
    let error_code = code.code();
    Answer {
        slot,
        error_code,
        base_offset,
        log_append_time: -1,
        message: None,
    }
}

/// Producer epoch and base sequence of the only batch of a request.
fn numbers(outgoing: &Outgoing) -> (i16, i32) {
    let batch = RecordBatch::parse(outgoing.batches[0].1.clone()).unwrap();
    batch.verify_crc().unwrap();
    (batch.header().producer_epoch, batch.header().base_sequence)
}

fn send_one(sender: &mut Sender, id: BatchId, count: i32, now: Instant) -> Outgoing {
    assert!(sender.may_take(0), "batch {id} may enter the window");
    sender.admit(ready(id, 0, count, now), now);
    let mut planned = sender.plan(now, |_| Some(LEADER));
    assert_eq!(planned.len(), 1);
    planned.remove(0)
}

fn succeed(sender: &mut Sender, outgoing: &Outgoing, now: Instant) {
    let effects = sender.on_answers(outgoing.id, &[answer(0, ErrorCode::None, 0)], now);
    assert!(
        effects
            .finished
            .iter()
            .all(|finished| finished.outcome.is_ok())
    );
}

fn outcomes(effects: &Effects) -> Vec<(BatchId, bool)> {
    effects
        .finished
        .iter()
        .map(|finished| (finished.id, finished.outcome.is_ok()))
        .collect()
}

#[test]
fn sequences_follow_one_another_and_a_retry_keeps_its_own() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let first = send_one(&mut sender, 0, 3, now);
    assert!(
        !sender.may_take(0),
        "a partition's first batch travels alone"
    );
    succeed(&mut sender, &first, now);
    let second = send_one(&mut sender, 1, 2, now);
    let third = send_one(&mut sender, 2, 1, now);
    assert_eq!(
        (numbers(&first), numbers(&second), numbers(&third)),
        ((0, 0), (0, 3), (0, 5))
    );
    let lost = ClientError::closed("connection");
    sender.on_no_answer(second.id, &lost, true, now);
    sender.on_no_answer(third.id, &lost, true, now);
    assert_eq!(
        sender.plan(now, |_| Some(LEADER)),
        [],
        "retries wait for the back-off"
    );
    let later = now + Duration::from_millis(100);
    let again = sender.plan(later, |_| Some(LEADER));
    assert_eq!(
        again.len(),
        1,
        "after a failure only the first of the window is sent"
    );
    assert_eq!(numbers(&again[0]), (0, 3));
    succeed(&mut sender, &again[0], later);
    let again = sender.plan(later, |_| Some(LEADER));
    assert_eq!(numbers(&again[0]), (0, 5));
}

#[test]
fn at_most_five_batches_of_a_partition_are_on_their_way() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let first = send_one(&mut sender, 0, 1, now);
    succeed(&mut sender, &first, now);
    for id in 1..=5 {
        send_one(&mut sender, id, 1, now);
    }
    assert!(!sender.may_take(0));
    assert!(!sender.has_capacity(LEADER));
}

#[test]
fn a_duplicate_is_a_success_without_an_offset() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let sent = send_one(&mut sender, 0, 1, now);
    let duplicate = [answer(0, ErrorCode::DuplicateSequenceNumber, 99)];
    let effects = sender.on_answers(sent.id, &duplicate, now);
    assert_eq!(
        effects.finished[0].outcome.as_ref().unwrap().base_offset,
        -1
    );
}

#[test]
fn when_the_broker_forgot_the_producer_the_rest_starts_again_in_the_next_epoch() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let first = send_one(&mut sender, 0, 4, now);
    succeed(&mut sender, &first, now);
    let second = send_one(&mut sender, 1, 2, now);
    let third = send_one(&mut sender, 2, 1, now);
    assert_eq!(numbers(&third), (0, 6));
    let forgot = [answer(0, ErrorCode::UnknownProducerId, -1)];
    sender.on_answers(second.id, &forgot, now);
    let later = now + Duration::from_secs(1);
    assert_eq!(
        sender.plan(later, |_| Some(LEADER)),
        [],
        "not while the third is on its way"
    );
    sender.on_answers(
        third.id,
        &[answer(0, ErrorCode::OutOfOrderSequenceNumber, -1)],
        later,
    );
    let later = later + Duration::from_secs(1);
    let second = sender.plan(later, |_| Some(LEADER)).remove(0);
    assert_eq!(numbers(&second), (1, 0));
    succeed(&mut sender, &second, later);
    let third = sender.plan(later, |_| Some(LEADER)).remove(0);
    assert_eq!(numbers(&third), (1, 2));
}

#[test]
fn a_batch_of_uncertain_fate_is_asked_again_under_its_old_number_before_a_new_epoch() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let first = send_one(&mut sender, 0, 1, now);
    succeed(&mut sender, &first, now);
    let refused = send_one(&mut sender, 1, 1, now);
    let lost = send_one(&mut sender, 2, 1, now);
    let too_large = [answer(0, ErrorCode::MessageTooLarge, -1)];
    assert_eq!(
        outcomes(&sender.on_answers(refused.id, &too_large, now)),
        [(1, false)]
    );
    sender.on_no_answer(lost.id, &ClientError::closed("connection"), true, now);
    let later = now + Duration::from_secs(1);
    let asked = sender.plan(later, |_| Some(LEADER)).remove(0);
    assert_eq!(numbers(&asked), (0, 2), "the broker may have it");
    sender.on_answers(
        asked.id,
        &[answer(0, ErrorCode::OutOfOrderSequenceNumber, -1)],
        later,
    );
    let later = later + Duration::from_secs(1);
    let anew = sender.plan(later, |_| Some(LEADER)).remove(0);
    assert_eq!(numbers(&anew), (1, 0), "it has not");
}

#[test]
fn a_batch_whose_flush_failed_may_be_in_the_log_and_is_not_numbered_anew() {
    for code in [ErrorCode::KafkaStorageError, ErrorCode::NotLeaderOrFollower] {
        let (mut sender, now) = (sender(Guarantee::Idempotent), start());
        let first = send_one(&mut sender, 0, 1, now);
        succeed(&mut sender, &first, now);
        let refused = send_one(&mut sender, 1, 1, now);
        let appended = send_one(&mut sender, 2, 1, now);
        sender.on_answers(appended.id, &[answer(0, code, -1)], now);
        let too_large = [answer(0, ErrorCode::MessageTooLarge, -1)];
        sender.on_answers(refused.id, &too_large, now);
        let later = now + Duration::from_secs(1);
        let asked = sender.plan(later, |_| Some(LEADER)).remove(0);
        assert_eq!(numbers(&asked), (0, 2), "{code:?}: the broker may have it");
    }
}

#[test]
fn a_refused_batch_alone_leaves_its_sequence_to_the_next() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let first = send_one(&mut sender, 0, 1, now);
    succeed(&mut sender, &first, now);
    let refused = send_one(&mut sender, 1, 8, now);
    sender.on_answers(
        refused.id,
        &[answer(0, ErrorCode::MessageTooLarge, -1)],
        now,
    );
    let next = send_one(&mut sender, 2, 1, now);
    assert_eq!(numbers(&next), (0, 1));
}

#[test]
fn when_epochs_are_used_up_a_new_producer_id_is_wanted() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    sender.set_identity(Identity {
        producer_id: 7,
        epoch: i16::MAX,
    });
    let sent = send_one(&mut sender, 0, 1, now);
    sender.on_answers(sent.id, &[answer(0, ErrorCode::UnknownProducerId, -1)], now);
    assert!(sender.needs_identity());
    let later = now + Duration::from_secs(1);
    assert_eq!(sender.plan(later, |_| Some(LEADER)), []);
    sender.set_identity(Identity {
        producer_id: 8,
        epoch: 0,
    });
    sender.adopt_new_identity();
    let anew = sender.plan(later, |_| Some(LEADER)).remove(0);
    assert_eq!(numbers(&anew), (0, 0));
}

#[test]
fn a_transaction_cannot_close_a_gap() {
    let (mut sender, now) = (sender(Guarantee::Transactional), start());
    let sent = send_one(&mut sender, 0, 1, now);
    let behind = send_one(&mut sender, 1, 1, now);
    let gap = [answer(0, ErrorCode::OutOfOrderSequenceNumber, -1)];
    let effects = sender.on_answers(sent.id, &gap, now);
    let outcome = effects.finished[0].outcome.as_ref();
    assert!(matches!(outcome, Err(ClientError::TransactionAbortable(_))));
    let lost = ClientError::closed("connection");
    assert_eq!(
        outcomes(&sender.on_no_answer(behind.id, &lost, true, now)),
        []
    );
    let aborted = sender.abort_waiting(&ClientError::closed("transaction"));
    assert_eq!(outcomes(&aborted), [(1, false)]);
    sender.set_identity(Identity {
        producer_id: 7,
        epoch: 1,
    });
    let next = send_one(&mut sender, 2, 1, now);
    assert_eq!(
        numbers(&next),
        (1, 0),
        "the next transaction begins at 0 in its own epoch"
    );
}

#[test]
fn fenced_in_a_transaction_stays_fenced() {
    let (mut sender, now) = (sender(Guarantee::Transactional), start());
    let sent = send_one(&mut sender, 0, 1, now);
    let effects = sender.on_answers(sent.id, &[answer(0, ErrorCode::ProducerFenced, -1)], now);
    assert!(matches!(
        effects.finished[0].outcome,
        Err(ClientError::Fenced(_))
    ));
}

#[test]
fn what_is_not_acknowledged_in_time_is_given_up_and_a_late_answer_ignored() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let sent = send_one(&mut sender, 0, 1, now);
    let late = now + Duration::from_secs(120);
    assert_eq!(sender.next_event(now), Some(late));
    let effects = sender.on_tick(late);
    assert!(matches!(
        effects.finished[0].outcome,
        Err(ClientError::Timeout(_))
    ));
    assert!(
        !sender.may_take(0),
        "what the broker has is not known before the request is over"
    );
    let effects = sender.on_answers(sent.id, &[answer(0, ErrorCode::None, 5)], late);
    assert_eq!(outcomes(&effects), []);
    let next = send_one(&mut sender, 1, 1, late);
    assert_eq!(
        numbers(&next),
        (1, 0),
        "nobody can tell which sequence is next in the old epoch"
    );
}

#[test]
fn without_idempotence_batches_carry_no_producer() {
    let (mut sender, now) = (sender(Guarantee::Plain), start());
    let sent = send_one(&mut sender, 0, 1, now);
    let batch = RecordBatch::parse(sent.batches[0].1.clone()).unwrap();
    assert_eq!(
        (batch.header().producer_id, batch.header().base_sequence),
        (-1, -1)
    );
}

/// One partition of a broker, as far as idempotence goes. Source: Kafka `ProducerAppendInfo`, `ProducerStateEntry`.
#[derive(Default)]
struct ModelLog {
    producer: Option<(i64, i16)>,
    /// (first, last) sequence of the last five batches.
    recent: VecDeque<(i32, i32)>,
    /// Ids of the batches, in order.
    batches: Vec<BatchId>,
}

impl ModelLog {
    fn append(&mut self, bytes: Bytes) -> ErrorCode {
        let batch = RecordBatch::parse(bytes).unwrap();
        batch.verify_crc().unwrap();
        let header = *batch.header();
        let (who, first) = (
            (header.producer_id, header.producer_epoch),
            header.base_sequence,
        );
        let range = (first, header.last_sequence());
        match self.producer {
            Some((id, epoch)) if id == who.0 && who.1 < epoch => {
                return ErrorCode::InvalidProducerEpoch;
            }
            Some(known) if known == who => {
                if self.recent.contains(&range) {
                    return ErrorCode::DuplicateSequenceNumber;
                }
                let last = self.recent.back().map_or(-1, |(_, last)| *last);
                if first != last + 1 {
                    return ErrorCode::OutOfOrderSequenceNumber;
                }
            }
            Some((id, _)) if id == who.0 && first != 0 => {
                return ErrorCode::OutOfOrderSequenceNumber;
            }
            _ => {}
        }
        if self.producer != Some(who) {
            self.recent.clear();
        }
        self.producer = Some(who);
        self.recent.push_back(range);
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        let mut records = batch.records(DecompressionLimit::DEFAULT).unwrap();
        let value = records.next().unwrap().unwrap().value.unwrap();
        self.batches
            .push(BatchId::from_be_bytes(value[..].try_into().unwrap()));
        ErrorCode::None
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy)]
enum Lot {
    Answered,
    /// Written, the answer is lost.
    AnswerLost,
    /// Never arrives.
    RequestLost,
    /// Refused for now.
    NotLeader,
    /// Refused for good.
    TooLarge,
    /// The broker lost what it knew of producers, then answers. Retention does it.
    Forgotten,
    /// Written, then the broker restarts: it remembers the producer's last batch only. The answer is lost.
    Restarted,
}

fn fates() -> impl Strategy<Value = Vec<Lot>> {
    let fate = prop_oneof![
        6 => Just(Lot::Answered),
        2 => Just(Lot::AnswerLost),
        2 => Just(Lot::RequestLost),
        2 => Just(Lot::NotLeader),
        1 => Just(Lot::TooLarge),
        2 => Just(Lot::Restarted),
    ];
    proptest::collection::vec(fate, 0..60)
}

/// Sends 30 batches to a model broker, whose connection carries requests in order; returns its log and which batches succeeded.
fn run(fates: Vec<Lot>) -> (Vec<BatchId>, Vec<(BatchId, bool)>) {
    let mut sender = sender(Guarantee::Idempotent);
    let mut log = ModelLog::default();
    let mut now = start();
    let mut fates = fates.into_iter();
    let (mut next, mut finished) = (0, Vec::new());
    let mut wire: VecDeque<Outgoing> = VecDeque::new();
    for _ in 0..10_000 {
        while next < 30 && sender.may_take(0) {
            sender.admit(
                ready(next, 0, 1 + i32::try_from(next % 3).unwrap(), now),
                now,
            );
            next += 1;
            wire.extend(sender.plan(now, |_| Some(LEADER)));
        }
        wire.extend(sender.plan(now, |_| Some(LEADER)));
        let Some(request) = wire.pop_front() else {
            if next == 30 && sender.is_empty() {
                return (log.batches, finished);
            }
            now += Duration::from_millis(100);
            continue;
        };
        let lost = ClientError::closed("connection");
        let bytes = request.batches[0].1.clone();
        let effects = match fates.next().unwrap_or(Lot::Answered) {
            Lot::Answered => {
                let code = log.append(bytes);
                sender.on_answers(request.id, &[answer(0, code, 0)], now)
            }
            Lot::Forgotten => {
                log.producer = None;
                log.recent.clear();
                sender.on_answers(request.id, &[answer(0, log.append(bytes), 0)], now)
            }
            Lot::AnswerLost => {
                log.append(bytes);
                sender.on_no_answer(request.id, &lost, true, now)
            }
            Lot::Restarted => {
                log.append(bytes);
                let last = log.recent.pop_back();
                log.recent.clear();
                log.recent.extend(last);
                // What else was on its way is lost with the connection.
                let mut effects = sender.on_no_answer(request.id, &lost, true, now);
                for request in wire.drain(..) {
                    effects
                        .finished
                        .extend(sender.on_no_answer(request.id, &lost, true, now).finished);
                }
                effects
            }
            Lot::RequestLost => sender.on_no_answer(request.id, &lost, true, now),
            Lot::NotLeader => {
                let code = ErrorCode::NotLeaderOrFollower;
                sender.on_answers(request.id, &[answer(0, code, -1)], now)
            }
            Lot::TooLarge => {
                let code = ErrorCode::MessageTooLarge;
                sender.on_answers(request.id, &[answer(0, code, -1)], now)
            }
        };
        finished.extend(outcomes(&effects));
    }
    panic!("the sender does not come to an end");
}

proptest! {
    /// Whatever is lost on the way: no batch twice, all in order, and success means it is in the log.
    #[test]
    fn every_batch_is_written_once_and_in_order(fates in fates()) {
        let (log, finished) = run(fates);
        prop_assert!(log.is_sorted(), "{log:?}");
        let mut once = log.clone();
        once.dedup();
        prop_assert_eq!(&once, &log, "twice");
        prop_assert_eq!(finished.len(), 30);
        for (id, success) in finished {
            if success {
                prop_assert!(log.contains(&id), "batch {} was acknowledged and is not there: {:?}", id, log);
            }
        }
    }
}

#[test]
fn a_broker_that_forgets_between_batches_changes_nothing() {
    let mut fates = vec![Lot::Answered; 10];
    fates[4] = Lot::Forgotten;
    let (log, finished) = run(fates);
    assert_eq!(log, (0..30).collect::<Vec<BatchId>>());
    assert!(finished.iter().all(|(_, success)| *success));
}

#[test]
fn a_restarted_broker_that_remembers_one_batch_does_not_get_the_earlier_ones_twice() {
    let (mut sender, now) = (sender(Guarantee::Idempotent), start());
    let first = send_one(&mut sender, 0, 1, now);
    succeed(&mut sender, &first, now);
    let sent = [1, 2].map(|id| send_one(&mut sender, id, 1, now));
    let lost = ClientError::closed("connection");
    for request in &sent {
        sender.on_no_answer(request.id, &lost, true, now);
    }
    let later = now + Duration::from_secs(1);
    let asked = sender.plan(later, |_| Some(LEADER)).remove(0);
    assert_eq!(numbers(&asked), (0, 1));
    let gap = [answer(0, ErrorCode::OutOfOrderSequenceNumber, -1)];
    assert_eq!(outcomes(&sender.on_answers(asked.id, &gap, later)), []);
    let probe = sender.plan(later, |_| Some(LEADER)).remove(0);
    assert_eq!(
        numbers(&probe),
        (0, 2),
        "the last one it took it still knows"
    );
    let effects = sender.on_answers(probe.id, &[answer(0, ErrorCode::None, 2)], later);
    let mut done = outcomes(&effects);
    done.sort_unstable();
    assert_eq!(done, [(1, true), (2, true)]);
    assert_eq!(
        numbers(&send_one(&mut sender, 3, 1, later)),
        (0, 3),
        "no new epoch"
    );
}
