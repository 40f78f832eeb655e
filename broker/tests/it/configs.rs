//! The configuration of brokers: a file of Kafka's, and what changes at run time.

use std::collections::BTreeSet;

use flumen_broker::config::unused::{UNUSED, Unused};
use flumen_broker::config::{BrokerConfig, KEYS, parse_properties};
use flumen_log::config::is_server_key;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use flumen_protocol::message::{
    ApiVersionsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};

use crate::support::{Wire, World, batch, eventually};

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
/// Kafka's codes of where a value comes from.
const OF_BROKER: i8 = 2;
const OF_ALL_BROKERS: i8 = 3;
const DEFAULT: i8 = 5;

/// What a combined node of Apache Kafka 4.3 is shipped with.
const SHIPPED: &str = "
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

#[test]
fn the_file_that_kafka_is_shipped_with_is_taken_as_it_is() {
    let config = BrokerConfig::from_properties(parse_properties(SHIPPED).unwrap()).unwrap();
    assert_eq!(config.listener().unwrap().port, 9092);
    assert_eq!(config.advertised().unwrap().unwrap().host, "localhost");
    let silent: Vec<&str> = config.without_effect.keys().map(String::as_str).collect();
    assert!(silent.contains(&"num.io.threads"), "{silent:?}");
    assert!(!silent.contains(&"log.retention.hours"), "{silent:?}");
}

#[test]
fn every_key_of_kafka_is_honoured_or_said_to_have_no_effect_and_none_is_both() {
    let names = include_str!("../../../tests/fixtures/kafka-4.3-broker-keys.txt");
    let aliases = ["log.dir", "broker.id"];
    for name in names.lines() {
        let honoured = KEYS.iter().any(|key| key.name == name)
            || is_server_key(name)
            || aliases.contains(&name);
        assert_ne!(honoured, Unused::find(name).is_some(), "{name}");
    }
    let known: BTreeSet<&str> = names.lines().collect();
    let mut seen = BTreeSet::new();
    for name in UNUSED.iter().flat_map(Unused::names) {
        assert!(known.contains(name), "{name} is no key of Kafka's");
        assert!(seen.insert(name), "{name} stands twice");
    }
}

#[test]
fn a_key_whose_silence_would_be_a_lie_is_refused_with_the_reason() {
    for (name, value, why) in [
        ("authorizer.class.name", "org.Acl", "must be empty"),
        ("process.roles", "controller", "must be broker"),
        ("controller.quorum.voters", "1@a:1,2@b:2", "one node"),
        ("max.connection.creation.rate", "10", "2147483647"),
        ("remote.log.storage.system.enable", "true", "must be false"),
    ] {
        let refused = BrokerConfig::from_properties([(name, value)]).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains(name) && told.contains(why), "{told}");
    }
}

pub(crate) async fn set(
    client: &mut Wire,
    (kind, name): (i8, &str),
    (key, value): (&str, Option<&str>),
) -> (ErrorCode, String) {
    let config = AlterableConfig {
        name: key.to_owned(),
        config_operation: i8::from(value.is_none()),
        value: value.map(str::to_owned),
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: vec![config],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut response = client.call(1, &request).await;
    let result = response.responses.remove(0);
    let message = result.error_message.unwrap_or_default();
    (ErrorCode::from_code(result.error_code), message)
}

async fn told(client: &mut Wire, (kind, name): (i8, &str), key: &str) -> Option<(String, i8)> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: Some(vec![key.to_owned()]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut response = client.call(4, &request).await;
    let config = response.results.remove(0).configs.pop()?;
    Some((config.value.unwrap_or_default(), config.config_source))
}

#[tokio::test]
async fn a_default_of_topics_changes_while_they_are_used_and_outlives_a_restart() {
    const KEY: &str = "message.max.bytes";
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let own = [("max.message.bytes", "2000")];
    client.create_topic("own", 1, &own).await.unwrap();
    let large = "x".repeat(500);

    let done = set(&mut client, (BROKER, ""), (KEY, Some("300"))).await;
    assert_eq!(done.0, ErrorCode::None, "{}", done.1);
    let produced = client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(produced.error_code, ErrorCode::MessageTooLarge.code());
    let produced = client.produce("own", 0, batch(&[&large])).await;
    assert_eq!(produced.error_code, 0);
    let topic = told(&mut client, (TOPIC, "t"), "max.message.bytes").await;
    assert_eq!(topic, Some(("300".to_owned(), OF_ALL_BROKERS)));

    let done = set(&mut client, (BROKER, "1"), (KEY, Some("900"))).await;
    assert_eq!(done.0, ErrorCode::None, "{}", done.1);
    world.restart().await;
    let mut client = world.client().await;
    let produced = client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(produced.error_code, 0);
    let broker = told(&mut client, (BROKER, "1"), KEY).await;
    assert_eq!(broker, Some(("900".to_owned(), OF_BROKER)));
    let all = told(&mut client, (BROKER, ""), KEY).await;
    assert_eq!(all, Some(("300".to_owned(), OF_ALL_BROKERS)));

    for name in ["1", ""] {
        let done = set(&mut client, (BROKER, name), (KEY, None)).await;
        assert_eq!(done.0, ErrorCode::None, "{}", done.1);
    }
    let broker = told(&mut client, (BROKER, "1"), KEY).await;
    assert_eq!(broker, Some(("1048588".to_owned(), DEFAULT)));
}

#[tokio::test]
async fn what_is_fixed_at_the_start_or_wrong_is_refused_by_name() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    for (key, value, code) in [
        ("log.dirs", Some("/elsewhere"), ErrorCode::InvalidRequest),
        ("num.io.threads", Some("3"), ErrorCode::InvalidRequest),
        ("no.such.key", Some("3"), ErrorCode::InvalidRequest),
        ("no.such.key", None, ErrorCode::InvalidRequest),
        ("max.connections", Some("many"), ErrorCode::InvalidConfig),
        ("log.segment.bytes", Some("1"), ErrorCode::InvalidConfig),
        (
            "log.cleaner.dedupe.buffer.size",
            Some("1000000"),
            ErrorCode::InvalidConfig,
        ),
    ] {
        let (error, message) = set(&mut client, (BROKER, "1"), (key, value)).await;
        assert_eq!(error, code, "{key}: {message}");
        assert!(message.contains(key), "{message}");
    }
    let threads = ("log.cleaner.threads", Some("4"));
    let done = set(&mut client, (BROKER, "1"), threads).await;
    assert_eq!(done.0, ErrorCode::None, "{}", done.1);
    let memory = ("log.cleaner.dedupe.buffer.size", Some("4000000"));
    let (error, message) = set(&mut client, (BROKER, "1"), memory).await;
    assert_eq!(error, ErrorCode::InvalidConfig, "{message}");
    assert!(message.contains("log.cleaner.threads=4"), "{message}");
    let (error, message) = set(&mut client, (BROKER, "7"), ("max.connections", Some("3"))).await;
    assert_eq!(error, ErrorCode::InvalidRequest, "{message}");
}

#[tokio::test]
async fn connections_are_limited_from_the_moment_the_limit_is_set() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let limit = ("max.connections.per.ip", Some("1"));
    assert_eq!(
        set(&mut client, (BROKER, ""), limit).await.0,
        ErrorCode::None
    );
    let mut refused = world.client().await;
    refused.send(0, &ApiVersionsRequest::default()).await;
    assert!(refused.next_frame().await.is_none());
    let limit = ("max.connections.per.ip", None);
    assert_eq!(
        set(&mut client, (BROKER, ""), limit).await.0,
        ErrorCode::None
    );
    eventually(async || {
        let mut again = world.client().await;
        again.send(0, &ApiVersionsRequest::default()).await;
        again.next_frame().await.is_some()
    })
    .await;
}
