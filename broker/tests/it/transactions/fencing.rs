//! Who may no longer write: replaced, too slow, or forgotten.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::{DescribeTransactionsRequest, InitProducerIdRequest};

use super::{ID, Producer, stable};
use crate::held::HeldTasks;
use crate::support::{Wire, World, eventually};

#[tokio::test]
async fn a_new_instance_fences_the_old_one_and_aborts_what_it_left_open() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut old = Producer::init(&mut client, 2).await;
    assert_eq!(old.send(&mut client, "lost").await, ErrorCode::None);
    let mut new = Producer::init(&mut client, 2).await;
    assert_eq!(
        (new.id, new.epoch),
        (old.id, old.epoch + 2),
        "one epoch for the abort, one for the new instance"
    );
    assert_eq!(
        old.send(&mut client, "zombie").await,
        ErrorCode::InvalidProducerEpoch
    );
    for (version, code) in [
        (1, ErrorCode::InvalidProducerEpoch),
        (2, ErrorCode::ProducerFenced),
        (5, ErrorCode::ProducerFenced),
    ] {
        let ended = old.end_as(&mut client, version, true).await;
        assert_eq!(ErrorCode::from_code(ended.error_code), code, "v{version}");
    }
    assert_eq!(new.send(&mut client, "kept").await, ErrorCode::None);
    assert_eq!(new.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["kept"]);
}

/// T-3, T-15: it is aborted when its time is over, and the producer hears of it in a way from which it can go on.
#[tokio::test]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let request = InitProducerIdRequest {
        transactional_id: Some(ID.to_owned()),
        transaction_timeout_ms: 100,
        ..Default::default()
    };
    let response = client.call(4, &request).await;
    let mut producer = Producer {
        version: 2,
        id: response.producer_id,
        epoch: response.producer_epoch,
        sequence: 0,
    };
    assert_eq!(producer.send(&mut client, "slow").await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, Vec::<String>::new());
    let late = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        ErrorCode::from_code(late.error_code),
        ErrorCode::ProducerFenced,
        "lost, but it can go on"
    );
    assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
    assert_eq!(producer.send(&mut client, "again").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["again"]);
}

/// T-15: a commit that arrives while the coordinator is aborting the transaction for its time being over: the producer is fenced
/// from it, not told that its state is invalid, and goes on with the next epoch.
#[tokio::test]
async fn a_commit_that_meets_the_timeout_is_told_that_it_is_fenced() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init_with(&mut client, 2, 100).await;
    assert_eq!(producer.send(&mut client, "slow").await, ErrorCode::None);
    held.hold("transaction markers");
    eventually(async || described(&mut client).await == Ok("PrepareAbort".to_owned())).await;
    assert_eq!(
        producer.end_code(&mut client, 5, true).await,
        ErrorCode::ProducerFenced
    );
    held.release();
    eventually(async || described(&mut client).await == Ok("CompleteAbort".to_owned())).await;
    assert_eq!(
        producer.end_code(&mut client, 5, true).await,
        ErrorCode::ProducerFenced
    );
    let mut producer = producer.init_again(&mut client, 60_000).await.unwrap();
    assert_eq!(producer.send(&mut client, "kept").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["kept"]);
}

async fn described(client: &mut Wire) -> Result<String, ErrorCode> {
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![ID.to_owned()],
        ..Default::default()
    };
    let mut response = client.call(0, &request).await;
    let described = response.transaction_states.remove(0);
    ErrorCode::from_code(described.error_code).ok()?;
    Ok(described.transaction_state)
}

/// A transactional id that nobody used for long enough is forgotten; who comes back with it is told so, and an instance that asks
/// anew gets a producer id that was never used. One whose transaction is open is never forgotten.
#[tokio::test]
async fn an_unused_transactional_id_expires_and_one_in_a_transaction_does_not() {
    let world = World::start(&[
        ("transactional.id.expiration.ms", "200"),
        (
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "50",
        ),
    ])
    .await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut old = Producer::init_with(&mut client, 2, 2_000).await;
    assert_eq!(old.send(&mut client, "a").await, ErrorCode::None);
    let ended = loop {
        match described(&mut client).await {
            Ok(state) if state == "Ongoing" => {}
            ended => break ended,
        }
    };
    assert!(
        ended.is_ok_and(|state| state.ends_with("Abort")),
        "it ends by its timeout, ten times later than it would have expired"
    );
    eventually(async || described(&mut client).await == Err(ErrorCode::TransactionalIdNotFound))
        .await;
    assert_eq!(
        old.send(&mut client, "late").await,
        ErrorCode::InvalidProducerIdMapping
    );
    assert_eq!(
        old.end_code(&mut client, 5, true).await,
        ErrorCode::InvalidProducerIdMapping
    );
    let mut new = Producer::init(&mut client, 2).await;
    assert_ne!(new.id, old.id);
    assert_eq!(new.send(&mut client, "kept").await, ErrorCode::None);
    assert_eq!(new.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["kept"]);
}
