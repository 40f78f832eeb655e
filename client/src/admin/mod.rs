//! Administration: topics, configurations, the cluster. Groups and offsets are in `groups.rs`, what changes of a topic in use in
//! `changes.rs`, transactions in `transactions.rs`.
//!
//! Used by the CLI, by Streams and Connect for their internal topics, and by applications. It keeps no state beside the shared
//! [`Client`] and retries only what may be repeated without harm.

mod changes;
mod groups;
mod transactions;

use std::collections::BTreeMap;

use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{BrokerId, TopicId, TopicPartition};
use flumen_protocol::message::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::message::delete_topics_request::DeleteTopicState;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::metadata_request::MetadataRequestTopic;
use flumen_protocol::message::metadata_response::MetadataResponseTopic;
use flumen_protocol::message::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    MetadataRequest,
};

use crate::client::{Client, Node, SHARED};
use crate::error::{ClientError, refused};

pub use changes::{ConfigChange, LogDirEntry};
pub use groups::{GroupDescription, GroupListing, GroupMember, ListedOffset, OffsetSpec};

pub use transactions::{ProducerDescription, TransactionDescription, TransactionListing};

/// Administers a cluster. Cheap to clone.
///
/// ```no_run
/// # async fn run() -> Result<(), flumen_client::ClientError> {
/// use flumen_client::{Admin, Client, ClientConfig, NewTopic};
/// let client = Client::connect(ClientConfig::new("localhost:9092")).await?;
/// let admin = Admin::new(&client);
/// admin.create_topic(&NewTopic::new("orders", 6).config("retention.ms", "-1")).await?;
/// assert_eq!(admin.describe_topic("orders").await?.partitions.len(), 6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

/// A topic to be made (Kafka: `NewTopic`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// 1 to 249 characters of `[a-zA-Z0-9._-]`.
    pub name: String,
    /// -1: the broker's `num.partitions`.
    pub partitions: i32,
    /// -1: the broker's `default.replication.factor`.
    pub replication_factor: i16,
    /// Kafka's dotted names, for example `retention.ms`.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's replication factor and configuration.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions,
            replication_factor: -1,
            configs: BTreeMap::new(),
        }
    }

    /// Sets one configuration.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.configs.insert(name.into(), value.into());
        self
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; nil from brokers before Kafka 2.8.
    pub id: TopicId,
    /// Number of partitions; -1 from brokers before Kafka 2.4.
    pub partitions: i32,
}

/// A topic and its partitions (Kafka: `TopicDescription`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id; nil from brokers before Kafka 2.8.
    pub id: TopicId,
    /// True for the cluster's own topics.
    pub internal: bool,
    /// By index, ascending.
    pub partitions: Vec<PartitionDescription>,
}

/// Where a partition lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its index in the topic.
    pub partition: i32,
    /// The broker that leads it; -1 if none does now.
    pub leader: BrokerId,
    /// Grows with every change of the leader.
    pub leader_epoch: i32,
    /// Brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync.
    pub in_sync: Vec<BrokerId>,
}

/// The brokers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub id: String,
    /// The broker to send administration to.
    pub controller: BrokerId,
    /// By id, ascending.
    pub brokers: Vec<BrokerDescription>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDescription {
    /// Its id.
    pub id: BrokerId,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// One configuration of a topic or broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's dotted name.
    pub name: String,
    /// None if it is sensitive or has no value.
    pub value: Option<String>,
    /// Where the value comes from: 1 the topic, 4 the broker's file, 5 the default (Kafka: `ConfigSource`).
    pub source: i8,
    /// It cannot be changed while the broker runs.
    pub read_only: bool,
    /// What it does, where the broker says so.
    pub documentation: Option<String>,
}

/// Whose configuration is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigResource<'a> {
    /// A topic's.
    Topic(&'a str),
    /// A broker's.
    Broker(BrokerId),
    /// What was set for all brokers while they ran.
    AllBrokers,
}

impl ConfigResource<'_> {
    /// Kafka's code of the type, and the name.
    fn wire(self) -> (i8, String) {
        match self {
            ConfigResource::Topic(name) => (2, name.to_owned()),
            ConfigResource::Broker(id) => (4, id.to_string()),
            ConfigResource::AllBrokers => (4, String::new()),
        }
    }
}

impl std::fmt::Display for ConfigResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
            ConfigResource::AllBrokers => f.write_str("all brokers"),
        }
    }
}

impl Admin {
    /// An admin on this client's cluster.
    #[must_use]
    pub fn new(client: &Client) -> Admin {
        Admin {
            client: client.clone(),
        }
    }

    /// Makes topics; one result each, in order.
    ///
    /// With `validate_only` nothing is made, and the results say what would be.
    ///
    /// # Errors
    /// The call's own: nothing answered. A topic's: [`ClientError::Invalid`] with Kafka's code, for example 36
    /// `TOPIC_ALREADY_EXISTS` or 40 `INVALID_CONFIG`, and the broker's sentence.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<Result<CreatedTopic, ClientError>>, ClientError> {
        let creatable = |topic: &NewTopic| CreatableTopic {
            name: topic.name.clone(),
            num_partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            configs: topic.configs.iter().map(creatable_config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
            ..CreateTopicsRequest::default()
        };
        let answer = self.client.send(Node::Controller, request).await?;
        let result = |topic: &NewTopic| {
            let found = answer.topics.iter().find(|found| found.name == topic.name);
            let found = found.ok_or_else(|| unanswered("CreateTopics", &topic.name))?;
            let message = found.error_message.as_deref();
            check(
                found.error_code,
                format!("topic {}", topic.name),
                "CreateTopics",
                message,
            )?;
            Ok(CreatedTopic {
                name: topic.name.clone(),
                id: found.topic_id,
                partitions: found.num_partitions,
            })
        };
        Ok(topics.iter().map(result).collect())
    }

    /// Makes one topic.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        let mut results = self
            .create_topics(std::slice::from_ref(topic), false)
            .await?;
        results.pop().expect("one result a topic")
    }

    /// Makes the topics that are not there yet, and leaves the others as they are. Asked again while nothing answers, unlike
    /// [`Admin::create_topics`], whose caller wants to know what was made.
    ///
    /// # Errors
    /// The first topic's that can neither be made nor is there.
    pub async fn ensure_topics(&self, topics: &[NewTopic]) -> Result<(), ClientError> {
        let results = self.answered(|| self.create_topics(topics, false)).await?;
        for result in results {
            match result {
                Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists.code()) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes topics with all their records; one result each, in order.
    ///
    /// # Errors
    /// The call's own: nothing answered. A topic's: [`ClientError::NotFound`].
    pub async fn delete_topics(
        &self,
        topics: &[&str],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let connection = self.client.connection(Node::Controller, SHARED).await?;
        let version = connection.version(DeleteTopicsRequest::API, i16::MAX)?;
        let state = |name: &&str| DeleteTopicState {
            name: Some((*name).to_owned()),
            ..DeleteTopicState::default()
        };
        let mut request = DeleteTopicsRequest {
            timeout_ms: self.timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        match version {
            6.. => request.topics = topics.iter().map(state).collect(),
            _ => request.topic_names = topics.iter().map(|name| (*name).to_owned()).collect(),
        }
        let answer = connection.request(version, &request).await?;
        let result = |name: &&str| {
            let found = answer
                .responses
                .iter()
                .find(|found| found.name.as_deref() == Some(*name));
            let found = found.ok_or_else(|| unanswered("DeleteTopics", name))?;
            let message = found.error_message.as_deref();
            check(
                found.error_code,
                format!("topic {name}"),
                "DeleteTopics",
                message,
            )
        };
        Ok(topics.iter().map(result).collect())
    }

    /// All topics, by name, the cluster's own included.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`], [`ClientError::Timeout`]: nothing answered.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, ClientError> {
        let answer = self.answered(|| self.client.fetch_metadata(None)).await?;
        let mut topics: Vec<TopicDescription> = answer
            .topics
            .into_iter()
            .filter(|topic| topic.error_code == 0)
            .map(describe)
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic; asking does not create it.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: there is no such topic.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        self.answered(|| self.describe_topic_once(name)).await
    }

    async fn describe_topic_once(&self, name: &str) -> Result<TopicDescription, ClientError> {
        let connection = self.client.connection(Node::Any, SHARED).await?;
        let version = connection.version(MetadataRequest::API, i16::MAX)?;
        let topic = MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: version < 4,
            ..MetadataRequest::default()
        };
        let answer = connection.request(version, &request).await?;
        let topic = answer.topics.into_iter().next();
        let topic = topic.ok_or_else(|| unanswered("Metadata", name))?;
        let subject = format!("topic {name}");
        check(topic.error_code, subject, "Metadata", None)
            .map_err(|error| error.map(|failure| failure.at_broker(connection.label())))?;
        Ok(describe(topic))
    }

    /// The brokers.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`], [`ClientError::Timeout`]: nothing answered.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let ask = || {
            self.client
                .send(Node::Any, DescribeClusterRequest::default())
        };
        let answer = self.answered(ask).await?;
        let message = answer.error_message.as_deref();
        check(
            answer.error_code,
            "cluster".to_owned(),
            "DescribeCluster",
            message,
        )?;
        let mut brokers: Vec<BrokerDescription> = answer
            .brokers
            .into_iter()
            .map(|broker| BrokerDescription {
                id: broker.broker_id,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
            })
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        let (id, controller) = (answer.cluster_id, answer.controller_id);
        Ok(ClusterDescription {
            id,
            controller,
            brokers,
        })
    }

    /// The configuration of a topic or a broker, by name.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: there is no such topic or broker.
    pub async fn describe_configs(
        &self,
        resource: ConfigResource<'_>,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let (kind, name) = resource.wire();
        let to = match resource {
            ConfigResource::Broker(id) => Node::Broker(id),
            ConfigResource::Topic(_) | ConfigResource::AllBrokers => Node::Any,
        };
        let asked = DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.clone(),
            ..DescribeConfigsResource::default()
        };
        let ask = async || {
            let connection = self.client.connection(to, SHARED).await?;
            let version = connection.version(DescribeConfigsRequest::API, i16::MAX)?;
            let request = DescribeConfigsRequest {
                resources: vec![asked.clone()],
                include_documentation: version >= 3,
                ..DescribeConfigsRequest::default()
            };
            connection.request(version, &request).await
        };
        let answer = self.answered(ask);
        let answer = answer.await?;
        let result = answer.results.into_iter().next();
        let result = result.ok_or_else(|| unanswered("DescribeConfigs", &name))?;
        let message = result.error_message.as_deref();
        check(
            result.error_code,
            format!("configuration of {resource}"),
            "DescribeConfigs",
            message,
        )?;
        let mut entries: Vec<ConfigEntry> = result
            .configs
            .into_iter()
            .map(|config| ConfigEntry {
                name: config.name,
                value: config.value,
                source: config.config_source,
                read_only: config.read_only,
                documentation: config.documentation,
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The broker that leads a partition.
    async fn leader_of(&self, at: &TopicPartition) -> Result<BrokerId, ClientError> {
        self.client.partitions_of(&at.topic).await?;
        let leader = self.client.leader(&at.topic, at.partition);
        leader.map(|leader| leader.broker).ok_or_else(|| {
            let failure = crate::error::Failure::new(
                format!("partition {}-{}", at.topic, at.partition),
                "no leader is known",
            );
            ClientError::Unavailable(failure)
        })
    }

    /// Asks until somebody answers, for as long as a call may take.
    async fn answered<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut retry = self.client.retry();
        loop {
            match ask().await {
                Err(error) if error.is_retriable() && retry.again().await => {}
                answer => return answer,
            }
        }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

fn creatable_config((name, value): (&String, &String)) -> CreatableTopicConfig {
    CreatableTopicConfig {
        name: name.clone(),
        value: Some(value.clone()),
        ..CreatableTopicConfig::default()
    }
}

fn describe(topic: MetadataResponseTopic) -> TopicDescription {
    let mut partitions: Vec<PartitionDescription> = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionDescription {
            partition: partition.partition_index,
            leader: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            in_sync: partition.isr_nodes,
        })
        .collect();
    partitions.sort_by_key(|partition| partition.partition);
    TopicDescription {
        name: topic.name.unwrap_or_default(),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    }
}

/// Turns a code into an error that names the API; the broker's own sentence, where it sent one, is kept beside Kafka's.
fn check(
    code: i16,
    subject: String,
    api: &'static str,
    message: Option<&str>,
) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => {
            let subject = match message.filter(|message| !message.is_empty()) {
                Some(message) => format!("{subject} ({message})"),
                None => subject,
            };
            Err(refused(code, subject).map(|failure| failure.in_api(api)))
        }
    }
}

fn unanswered(api: &'static str, name: &str) -> ClientError {
    ClientError::invalid(name, "the broker's answer leaves it out")
        .map(|failure| failure.in_api(api))
}
