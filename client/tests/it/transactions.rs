//! Transactions under TV2 and before it, and what closes them.

use flumen_client::{Client, ClientError, Producer, ProducerConfig, ProducerRecord};
use flumen_protocol::api::ApiKey;
use flumen_protocol::error_code::ErrorCode;

use crate::fake::{Fake, Fault, TOPIC};

async fn begun(client: &Client) -> Producer {
    let producer = Producer::new(client, ProducerConfig::transactional("tx"))
        .await
        .unwrap();
    producer.init_transactions().await.unwrap();
    producer.begin_transaction().unwrap();
    producer
}

fn record(value: &str) -> ProducerRecord {
    ProducerRecord::new(TOPIC, value.to_owned()).partition(0)
}

#[tokio::test(start_paused = true)]
async fn every_transaction_of_the_second_version_has_its_own_epoch() {
    let fake = Fake::new(1);
    let producer = begun(&fake.client().await).await;
    assert_eq!(producer.producer_id(), Some((40, 0)));
    producer.send(record("a")).await.unwrap().await.unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(producer.producer_id(), Some((40, 1)));
    producer.begin_transaction().unwrap();
    producer.send(record("b")).await.unwrap().await.unwrap();
    producer.commit_transaction().await.unwrap();
    let headers: Vec<(i16, i32, bool)> = fake.with(|cluster| {
        let headers = cluster.logs[0].batches.iter().map(|batch| *batch.header());
        headers
            .map(|at| (at.producer_epoch, at.base_sequence, at.is_transactional()))
            .collect()
    });
    assert_eq!(headers, [(0, 0, true), (1, 0, true)]);
    assert_eq!(fake.count(ApiKey::AddPartitionsToTxn), 0);
}

#[tokio::test(start_paused = true)]
async fn an_older_coordinator_is_told_of_each_partition_first() {
    let fake = Fake::new(1);
    fake.with(|cluster| cluster.transaction_version = 1);
    let producer = begun(&fake.client().await).await;
    producer.send(record("a")).await.unwrap().await.unwrap();
    producer.send(record("b")).await.unwrap().await.unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(fake.count(ApiKey::AddPartitionsToTxn), 1);
    let asked = fake.with(|cluster| cluster.asked.clone());
    assert!(asked.contains(&(ApiKey::Produce, 11)) && asked.contains(&(ApiKey::EndTxn, 4)));
    producer.begin_transaction().unwrap();
    producer.send(record("c")).await.unwrap().await.unwrap();
    producer.abort_transaction().await.unwrap();
    assert_eq!(
        producer.producer_id(),
        Some((40, 1)),
        "an abort begins a new epoch"
    );
    let last = fake.with(|cluster| *cluster.logs[0].batches.last().unwrap().header());
    assert_eq!((last.producer_epoch, last.base_sequence), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_lost_as_soon_as_it_gave_the_id_is_looked_for_again() {
    let fake = Fake::new(1);
    let client = fake.client().await;
    let config = ProducerConfig::transactional("tx");
    let producer = Producer::new(&client, config).await.unwrap();
    producer.init_transactions().await.unwrap();
    fake.fault(ApiKey::InitProducerId, &[Fault::LostAfterwards]);
    fake.fault(ApiKey::ApiVersions, &[Fault::RequestLost]);
    producer.init_transactions().await.unwrap();
    assert_eq!(producer.producer_id(), Some((40, 1)));
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_on_for_an_earlier_producer_is_fenced_by_a_successor_in_between() {
    let fake = Fake::new(1);
    let client = fake.client().await;
    let earlier = begun(&client).await.producer_id().unwrap();
    let config = ProducerConfig::transactional("tx");
    let producer = Producer::new(&client, config.clone()).await.unwrap();
    producer.init_transactions_after(earlier).await.unwrap();
    let before = producer.producer_id().unwrap();
    assert_eq!(before, (40, 1));
    begun(&client).await;
    let producer = Producer::new(&client, config).await.unwrap();
    let refused = producer.init_transactions_after(before).await.unwrap_err();
    assert!(refused.is_fenced(), "{refused}");
    assert!(producer.begin_transaction().unwrap_err().is_fenced());
}

#[tokio::test(start_paused = true)]
async fn an_empty_transaction_asks_nobody() {
    let fake = Fake::new(1);
    let producer = begun(&fake.client().await).await;
    producer.commit_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    producer.abort_transaction().await.unwrap();
    assert_eq!(fake.count(ApiKey::EndTxn), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_batch_leaves_only_the_abort() {
    let fake = Fake::new(1);
    let producer = begun(&fake.client().await).await;
    fake.fault(
        ApiKey::Produce,
        &[Fault::Refuse(ErrorCode::MessageTooLarge)],
    );
    producer.send(record("a")).await.unwrap();
    let refused = producer.commit_transaction().await;
    assert!(
        matches!(refused, Err(ClientError::TransactionAbortable(_))),
        "{refused:?}"
    );
    let refused = producer.send(record("b")).await;
    assert!(matches!(refused, Err(ClientError::TransactionAbortable(_))));
    assert_eq!(fake.count(ApiKey::EndTxn), 0);
    producer.abort_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    producer.send(record("c")).await.unwrap().await.unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(fake.values(0), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sent_when_a_transaction_is_aborted_never_is() {
    let fake = Fake::new(1);
    let producer = begun(&fake.client().await).await;
    let unsent = producer.send(record("a")).await.unwrap();
    producer.abort_transaction().await.unwrap();
    assert!(matches!(
        unsent.await,
        Err(ClientError::TransactionAbortable(_))
    ));
    assert_eq!(fake.values(0), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_fenced_producer_is_fenced_for_good() {
    let fake = Fake::new(1);
    let producer = begun(&fake.client().await).await;
    producer.send(record("a")).await.unwrap();
    fake.fault(ApiKey::EndTxn, &[Fault::Refuse(ErrorCode::ProducerFenced)]);
    assert!(producer.commit_transaction().await.unwrap_err().is_fenced());
    assert!(producer.abort_transaction().await.unwrap_err().is_fenced());
    assert!(producer.begin_transaction().unwrap_err().is_fenced());
}

#[tokio::test(start_paused = true)]
async fn a_busy_or_lost_coordinator_is_asked_again() {
    let fake = Fake::new(1);
    fake.fault(
        ApiKey::InitProducerId,
        &[Fault::Refuse(ErrorCode::ConcurrentTransactions)],
    );
    let producer = begun(&fake.client().await).await;
    producer.send(record("a")).await.unwrap();
    let busy = [
        Fault::Refuse(ErrorCode::ConcurrentTransactions),
        Fault::Refuse(ErrorCode::NotCoordinator),
        Fault::RequestLost,
        Fault::Refuse(ErrorCode::CoordinatorLoadInProgress),
    ];
    fake.fault(ApiKey::EndTxn, &busy);
    producer.commit_transaction().await.unwrap();
    assert_eq!(fake.count(ApiKey::EndTxn), 5);
}
