//! Questions of administration, asked again while nothing answers.

use flumen_client::{Admin, NewTopic};
use flumen_protocol::api::ApiKey;

use crate::fake::{Fake, Fault, TOPIC};

#[tokio::test(start_paused = true)]
async fn what_only_reads_is_asked_again_when_the_connection_breaks() {
    let fake = Fake::new(2);
    let admin = Admin::new(&fake.client().await);
    fake.fault(ApiKey::Metadata, &[Fault::AnswerLost, Fault::RequestLost]);
    fake.fault(ApiKey::ApiVersions, &[Fault::RequestLost]);
    let topics = admin.list_topics().await.unwrap();
    assert_eq!((topics.len(), topics[0].partitions.len()), (1, 2));
    fake.fault(ApiKey::Metadata, &[Fault::AnswerLost]);
    let topic = admin.describe_topic(TOPIC).await.unwrap();
    assert_eq!(topic.partitions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn topics_are_there_although_the_answer_that_they_were_made_was_lost() {
    let fake = Fake::new(1);
    let admin = Admin::new(&fake.client().await);
    fake.fault(ApiKey::CreateTopics, &[Fault::AnswerLost]);
    let wanted = [NewTopic::new("a", 1), NewTopic::new("b", 1)];
    admin.ensure_topics(&wanted).await.unwrap();
    assert_eq!(fake.count(ApiKey::CreateTopics), 2);
    // Who makes topics one by one is told that nobody knows.
    fake.fault(ApiKey::CreateTopics, &[Fault::AnswerLost]);
    let unknown = admin.create_topic(&NewTopic::new("c", 1)).await;
    assert!(unknown.unwrap_err().is_retriable());
}
