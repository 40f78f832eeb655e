//! Requests that are sent again because nobody knows what became of them.

use flumen_protocol::error_code::ErrorCode;

use super::{Producer, stable};
use crate::support::World;

/// T-8: a repeated commit succeeds again, also after a restart; the opposite does not.
#[tokio::test]
async fn an_end_that_is_repeated_succeeds_again() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "a").await;
    let first = producer.end_as(&mut client, 5, true).await;
    let again = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        (again.error_code, again.producer_epoch),
        (0, first.producer_epoch)
    );
    world.restart().await;
    let mut client = world.client().await;
    let again = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        (again.error_code, again.producer_epoch),
        (0, first.producer_epoch),
        "also after a restart"
    );
    let other = producer.end_as(&mut client, 5, false).await;
    assert_eq!(
        ErrorCode::from_code(other.error_code),
        ErrorCode::InvalidTxnState
    );
}

/// T-8: the connection is lost before the answer: the outcome is unknown, and asking again tells it.
#[tokio::test]
async fn an_end_whose_answer_was_lost_can_be_asked_for_again() {
    for committed in [true, false] {
        let world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, 2).await;
        producer.send(&mut client, "a").await;
        client.send(5, &producer.end_request(committed)).await;
        drop(client);
        let mut client = world.client().await;
        // The first may still be under way, or not have been read: either way this one is answered.
        let mut code = producer.end(&mut client, committed).await;
        while code == ErrorCode::ConcurrentTransactions {
            code = producer.end(&mut client, committed).await;
        }
        assert_eq!(code, ErrorCode::None);
        assert_eq!(
            stable(&mut client).await.len(),
            usize::from(committed),
            "committed: {committed}"
        );
        assert_eq!(producer.send(&mut client, "next").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(stable(&mut client).await.len(), 1 + usize::from(committed));
    }
}

/// T-5: a repeated record is told the offset it has, also when its transaction was ended, retention took it or the broker was
/// restarted; what is too old to be remembered is refused, never told an offset that is none.
#[tokio::test]
async fn a_repeated_record_is_told_the_offset_it_has() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    let mut sent = Vec::new();
    for offset in 0..7 {
        sent.push((producer, offset));
        assert_eq!(producer.send(&mut client, "x").await, ErrorCode::None);
    }
    for restart in [false, true] {
        if restart {
            world.restart().await;
            client = world.client().await;
        }
        for (producer, offset) in &sent {
            let again = producer.produce_to(&mut client, 12, 0, "x").await;
            let told = (ErrorCode::from_code(again.error_code), again.base_offset);
            let expected = match offset {
                0 | 1 => (ErrorCode::OutOfOrderSequenceNumber, -1),
                remembered => (ErrorCode::None, *remembered),
            };
            assert_eq!(told, expected, "offset {offset}, restart: {restart}");
        }
    }
    producer.end(&mut client, true).await;
    assert_eq!(stable(&mut client).await.len(), 7);
}

/// T-9: after an abort the sequence begins again; the new record is not taken for the aborted one of the same number.
#[tokio::test]
async fn a_sequence_that_is_used_again_after_an_abort_is_a_new_record() {
    for version in [1, 2] {
        let world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, version).await;
        assert_eq!(producer.send(&mut client, "aborted").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
        stable(&mut client).await;
        if version == 1 {
            // It resets its sequence under a new epoch (KIP-360).
            producer = producer.init_again(&mut client, 60_000).await.unwrap();
        }
        assert_eq!(producer.sequence, 0);
        assert_eq!(producer.send(&mut client, "kept").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(stable(&mut client).await, ["kept"], "version {version}");
    }
}
