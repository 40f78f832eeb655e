//! The end of the epochs: a producer id serves 32,767 transactions, then another takes its place.

use flumen_protocol::error_code::ErrorCode;

use super::durable::{state, write_state};
use super::{ID, Producer, stable};
use crate::support::{Wire, World};

/// The highest epoch a client is ever given.
const LAST: i16 = i16::MAX - 1;
/// Numbers of the log.
const COMPLETE_COMMIT: i8 = 4;

/// A producer at this epoch, between two transactions.
async fn producer_at(epoch: i16, timeout_ms: i32) -> (World, Wire, Producer) {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let first = Producer::init(&mut client, 2).await;
    world.stop().await;
    let before = Producer {
        epoch: epoch - 1,
        ..first
    };
    let mut value = state(before, COMPLETE_COMMIT);
    value.transaction_timeout_ms = timeout_ms;
    write_state(world.dir.path(), &value);
    world.run().await;
    let client = world.client().await;
    (world, client, Producer { epoch, ..first })
}

/// T-14: the transaction of the last epoch is committed under the old producer id, and the reply names the new one.
#[tokio::test]
async fn a_producer_whose_epochs_are_used_up_goes_on_under_another_id() {
    let (_world, mut client, mut producer) = producer_at(LAST - 1, 60_000).await;
    let old = producer.id;
    let mut identities = Vec::new();
    for value in ["a", "b", "c"] {
        assert_eq!(producer.send(&mut client, value).await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        identities.push((producer.id == old, producer.epoch));
    }
    assert_eq!(identities, [(true, LAST), (false, 0), (false, 1)]);
    assert_eq!(stable(&mut client).await, ["a", "b", "c"]);
    let late = Producer {
        id: old,
        epoch: LAST,
        ..producer
    };
    assert_ne!(
        late.produce_to(&mut client, 12, 0, "late").await.error_code,
        0,
        "the old id is of no use to anybody"
    );
}

/// T-14: InitProducerId finds a transaction open in the last epoch: it is fenced with the one above, once, and the new instance gets
/// a new id.
#[tokio::test]
async fn an_open_transaction_in_the_last_epoch_is_fenced_once_and_its_successor_has_another_id() {
    let (_world, mut client, mut old) = producer_at(LAST, 60_000).await;
    assert_eq!(old.send(&mut client, "lost").await, ErrorCode::None);
    let mut new = Producer::init(&mut client, 2).await;
    assert_ne!(new.id, old.id);
    assert_eq!(new.epoch, 0);
    assert_eq!(
        old.send(&mut client, "zombie").await,
        ErrorCode::InvalidProducerIdMapping
    );
    assert_eq!(new.send(&mut client, "kept").await, ErrorCode::None);
    assert_eq!(new.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["kept"]);
}

/// T-14: the coordinator times out a transaction of the last epoch: nothing hangs, and the producer gets a new id.
#[tokio::test]
async fn a_transaction_of_the_last_epoch_that_takes_too_long_is_aborted_all_the_same() {
    let (_world, mut client, mut producer) = producer_at(LAST, 200).await;
    assert_eq!(producer.send(&mut client, "slow").await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, Vec::<String>::new());
    let old = producer.id;
    producer = producer.init_again(&mut client, 60_000).await.unwrap();
    assert_eq!((producer.id == old, producer.epoch), (false, 0));
    assert_eq!(producer.send(&mut client, "kept").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["kept"]);
}

/// T-16: the identity before is in the log, so that after a restart a repeated request still finds the answer it missed.
#[tokio::test]
async fn the_identity_before_survives_a_restart() {
    let (mut world, mut client, mut producer) = producer_at(LAST, 60_000).await;
    assert_eq!(producer.send(&mut client, "a").await, ErrorCode::None);
    let first = producer.end_as(&mut client, 5, true).await;
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    stable(&mut client).await;
    for _ in 0..2 {
        let again = producer.end_as(&mut client, 5, true).await;
        assert_eq!(
            (again.error_code, again.producer_id, again.producer_epoch),
            (0, first.producer_id, 0)
        );
        world.restart().await;
        client = world.client().await;
    }
    // So does InitProducerId of an instance that did not hear its new epoch.
    let bumped = Producer {
        id: first.producer_id,
        epoch: 0,
        ..producer
    };
    let next = bumped.init_again(&mut client, 60_000).await.unwrap();
    world.restart().await;
    let mut client = world.client().await;
    let again = bumped.init_again(&mut client, 60_000).await.unwrap();
    assert_eq!((again.id, again.epoch), (next.id, next.epoch));
    assert_eq!(next.epoch, 1, "{ID} was bumped once");
}
