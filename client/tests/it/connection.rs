//! Versions, time-outs, frames out of step.

use std::time::Duration;

use flumen_client::{Client, ClientConfig, ClientError, Node};
use flumen_protocol::api::ApiKey;
use flumen_protocol::message::{DescribeClusterRequest, MetadataRequest};

use crate::fake::{Fake, Fault, TOPIC};

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_know_our_newest_api_versions_is_asked_in_version_0() {
    let fake = Fake::new(1);
    fake.with(|cluster| cluster.caps.insert(ApiKey::ApiVersions, Some(2)));
    let client = fake.client().await;
    assert_eq!(client.partitions_of(TOPIC).await, Ok(1));
    let asked = fake.with(|cluster| cluster.asked.clone());
    assert_eq!(
        asked[..2],
        [(ApiKey::ApiVersions, 4), (ApiKey::ApiVersions, 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn the_newest_version_that_both_know_is_spoken() {
    let fake = Fake::new(1);
    fake.with(|cluster| cluster.caps.insert(ApiKey::Metadata, Some(9)));
    fake.client().await;
    assert!(fake.with(|cluster| cluster.asked.contains(&(ApiKey::Metadata, 9))));
}

#[tokio::test(start_paused = true)]
async fn an_api_the_broker_lacks_is_an_error_that_names_it() {
    let fake = Fake::new(1);
    fake.with(|cluster| cluster.caps.insert(ApiKey::DescribeCluster, None));
    let client = fake.client().await;
    let error = client
        .send(Node::Broker(1), DescribeClusterRequest::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Unsupported(_)));
    assert_eq!(
        error.to_string(),
        "not supported: version: this client speaks versions 0-2, the broker none \
         [DescribeCluster at broker 1 (fake:1)]"
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_in_time_the_connection_is_given_up_and_the_next_call_opens_another() {
    let fake = Fake::new(1);
    let client = fake.client().await;
    let opened = || fake.with(|cluster| cluster.connections.values().sum::<usize>());
    client
        .send(Node::Broker(1), MetadataRequest::default())
        .await
        .unwrap();
    let before = opened();
    fake.fault(ApiKey::Metadata, &[Fault::Silence]);
    let asked = tokio::time::Instant::now();
    let error = client
        .send(Node::Broker(1), MetadataRequest::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error}");
    assert_eq!(asked.elapsed(), Duration::from_secs(30));
    client
        .send(Node::Broker(1), MetadataRequest::default())
        .await
        .unwrap();
    assert_eq!(opened(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn answers_out_of_turn_or_too_long_end_the_connection() {
    let fake = Fake::new(1);
    let client = fake.client().await;
    let faults = [
        Fault::WrongCorrelation,
        Fault::Length(i32::MAX),
        Fault::Length(-2),
        Fault::AnswerLost,
    ];
    for fault in faults {
        fake.fault(ApiKey::Metadata, &[fault]);
        let error = client
            .send(Node::Any, MetadataRequest::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, ClientError::Unavailable(_)),
            "{fault:?}: {error}"
        );
        client
            .send(Node::Any, MetadataRequest::default())
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_a_connection_and_each_gets_its_own_answer() {
    let fake = Fake::new(3);
    let client = fake.client().await;
    let before = fake.with(|cluster| cluster.connections.clone());
    let ask = |_| client.send(Node::Any, MetadataRequest::default());
    let answers = futures_util::future::join_all((0..100).map(ask)).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap().topics.len() == 1)
    );
    let after = fake.with(|cluster| cluster.connections.clone());
    assert!(after[&1] + after.get(&2).unwrap_or(&0) <= before[&1] + 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_address_and_a_dead_one_are_told_apart() {
    let wrong = Client::connect(ClientConfig::new("nowhere")).await;
    assert!(matches!(wrong, Err(ClientError::Invalid(_))));
    let fake = Fake::new(1);
    fake.with(|cluster| cluster.stalled = true);
    let dead = Client::connect(fake.config()).await;
    assert!(matches!(dead, Err(ClientError::Unavailable(_))), "{dead:?}");
}
