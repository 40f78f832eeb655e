//! Requests that arrive late, on another connection: they touch nothing but the transaction they belong to.

use flumen_protocol::error_code::ErrorCode;
use proptest::prelude::*;

use super::{Producer, open_end, stable};
use crate::support::{Wire, World};

/// T-1: under version 2 the commit or abort of transaction n, delayed into n + 1, is fenced and changes nothing.
#[tokio::test]
async fn a_delayed_end_cannot_touch_the_next_transaction() {
    for delayed_commit in [true, false] {
        let world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut other = world.client().await;
        let mut producer = Producer::init(&mut client, 2).await;
        producer.send(&mut client, "first").await;
        let delayed = producer;
        assert_eq!(
            producer.end(&mut client, delayed_commit).await,
            ErrorCode::None
        );
        producer.send(&mut client, "second").await;
        let before = open_end(&mut client).await;
        assert_eq!(
            delayed.end_code(&mut other, 5, delayed_commit).await,
            ErrorCode::ProducerFenced
        );
        assert_eq!(open_end(&mut client).await, before, "nothing was ended");
        // The producer notices nothing of it, and ends its transaction the other way.
        assert_eq!(
            producer.end(&mut client, !delayed_commit).await,
            ErrorCode::None
        );
        let kept = if delayed_commit { "first" } else { "second" };
        assert_eq!(stable(&mut client).await, [kept]);
    }
}

/// T-1: the limit of version 1 (KAFKA-17754). A client that keeps its epoch cannot be protected from its own delayed request: the
/// commit of n ends n + 1. Clients of ours never use version 1; this is what others must live with, as with Apache Kafka.
#[tokio::test]
async fn a_delayed_end_of_a_client_that_keeps_its_epoch_ends_its_next_transaction() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut other = world.client().await;
    let mut producer = Producer::init(&mut client, 1).await;
    producer.send(&mut client, "first").await;
    let delayed = producer;
    producer.end(&mut client, true).await;
    producer.send(&mut client, "second").await;
    assert_eq!(delayed.end_code(&mut other, 1, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["first", "second"]);
    assert_eq!(
        producer.end(&mut client, false).await,
        ErrorCode::InvalidTxnState,
        "its abort is not told as done"
    );
}

/// T-2: a record of the aborted transaction n, delayed into n + 1, is not written; of version 1 the log knows it by its sequence,
/// or the coordinator by its partition.
#[tokio::test]
async fn a_delayed_record_cannot_slip_into_the_next_transaction() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 2).await;
    let mut other = world.client().await;
    let mut producer = Producer::init(&mut client, 1).await;
    producer.send(&mut client, "aborted").await;
    let delayed = Producer {
        sequence: 0,
        ..producer
    };
    assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
    stable(&mut client).await;
    assert_eq!(producer.send(&mut client, "kept").await, ErrorCode::None);
    // The same record again: it is told where it lies, in the aborted transaction.
    let repeated = delayed.produce_to(&mut other, 9, 0, "aborted").await;
    assert_eq!((repeated.error_code, repeated.base_offset), (0, 0));
    // One that had never arrived, of a partition that is not in this transaction.
    let never = delayed.produce_to(&mut other, 9, 1, "aborted").await;
    assert_eq!(
        ErrorCode::from_code(never.error_code),
        ErrorCode::InvalidTxnState
    );
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["kept"]);
}

/// T-2, T-3: after the end of its transaction a record is refused, whether another is open or none; nothing hangs.
#[tokio::test]
async fn a_late_record_of_an_ended_transaction_is_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "a").await;
    let mut late = producer;
    producer.end(&mut client, false).await;
    stable(&mut client).await;
    assert_eq!(
        late.send(&mut client, "late").await,
        ErrorCode::InvalidProducerEpoch
    );
    producer.send(&mut client, "b").await;
    assert_eq!(
        late.send(&mut client, "later").await,
        ErrorCode::InvalidProducerEpoch
    );
    producer.end(&mut client, true).await;
    assert_eq!(stable(&mut client).await, ["b"]);
    // A client that keeps its epoch: what comes after the end is not in a transaction, and cannot begin one that nobody ends.
    let mut producer = Producer::init(&mut client, 1).await;
    producer.send(&mut client, "c").await;
    producer.end(&mut client, false).await;
    stable(&mut client).await;
    assert_eq!(
        producer.produce(&mut client, 9, "late").await,
        ErrorCode::InvalidTxnState
    );
    let (stable_offset, high_watermark) = open_end(&mut client).await;
    assert_eq!(stable_offset, high_watermark, "no transaction hangs");
}

/// T-4: nothing is written before the coordinator knows of it.
#[tokio::test]
async fn a_record_before_its_partition_was_added_is_refused_in_the_code_of_its_version() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 1).await;
    for (version, code) in [
        (9, ErrorCode::InvalidTxnState),
        (10, ErrorCode::InvalidTxnState),
        (11, ErrorCode::TransactionAbortable),
    ] {
        assert_eq!(
            producer.produce(&mut client, version, "x").await,
            code,
            "v{version}"
        );
    }
    assert_eq!(open_end(&mut client).await, (0, 0));
}

/// One request, by now perhaps long overtaken.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Record(Producer),
    End(Producer, bool),
}

async fn arrive(client: &mut Wire, sent: Sent) -> Option<Producer> {
    match sent {
        Sent::Record(producer) => {
            let version = if producer.version == 1 { 9 } else { 12 };
            if producer.version == 1 {
                producer.add(client, "t").await;
            }
            producer.produce_to(client, version, 0, "x").await;
            None
        }
        Sent::End(producer, committed) => {
            let version = if producer.version == 1 { 1 } else { 5 };
            let ended = producer.end_as(client, version, committed).await;
            (ended.error_code == 0).then_some(Producer {
                id: ended.producer_id,
                epoch: ended.producer_epoch,
                sequence: 0,
                ..producer
            })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// T-3: whatever of its requests arrive again or late, in whatever order, a producer of version 2 leaves no transaction that
    /// nobody ends: at the latest when its time is over all is decided.
    #[test]
    fn no_transaction_hangs(steps in prop::collection::vec((0..6u8, any::<prop::sample::Index>()), 1..40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let world = World::start(&[]).await;
            let mut client = world.client_with_topic("t", 1).await;
            let mut other = world.client().await;
            let mut producer = Producer::init_with(&mut client, 2, 300).await;
            let mut sent = vec![Sent::Record(producer)];
            for (step, which) in steps {
                let now = match step {
                    0 | 1 => Sent::Record(producer),
                    2 => Sent::End(producer, true),
                    3 => Sent::End(producer, false),
                    _ => {
                        arrive(&mut other, sent[which.index(sent.len())]).await;
                        continue;
                    }
                };
                sent.push(now);
                match arrive(&mut client, now).await {
                    Some(next) => producer = next,
                    None => producer.sequence += 1,
                }
            }
            // Returns when the last stable offset has reached the high watermark.
            stable(&mut client).await;
        });
    }
}
