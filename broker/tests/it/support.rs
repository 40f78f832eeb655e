//! A broker in a temporary folder, and a client that speaks bytes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_broker::config::BrokerConfig;
use flumen_broker::{Broker, Drivers};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::frame::{RequestHeader, decode_response, encode_request, take_frame};
use flumen_protocol::message::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::message::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::message::fetch_response::PartitionData;
use flumen_protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::message::produce_response::PartitionProduceResponse;
use flumen_protocol::message::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ProduceRequest,
};
use flumen_protocol::segment::Records;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No step of a test takes longer; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async { while !is_so().await {} };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("it becomes so in time");
}

/// A running broker and its folder.
pub(crate) struct World {
    pub(crate) broker: Option<Broker>,
    pub(crate) dir: TempDir,
    properties: Vec<(String, String)>,
    pub(crate) drivers: Drivers,
}

impl World {
    pub(crate) async fn start(properties: &[(&str, &str)]) -> World {
        let properties = properties
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        World::start_on(properties, Drivers::os()).await
    }

    /// On another machine than this one.
    pub(crate) async fn start_on(properties: Vec<(String, String)>, drivers: Drivers) -> World {
        let dir = TempDir::new().unwrap();
        let mut world = World {
            broker: None,
            dir,
            properties,
            drivers,
        };
        world.run().await;
        world
    }

    pub(crate) async fn run(&mut self) {
        let dir = self.dir.path().to_str().unwrap().to_owned();
        let mut properties = vec![
            ("log.dirs".to_owned(), dir),
            ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
            (
                "group.initial.rebalance.delay.ms".to_owned(),
                "0".to_owned(),
            ),
        ];
        properties.extend(self.properties.iter().cloned());
        let config = BrokerConfig::from_properties(properties).unwrap();
        self.broker = Some(Broker::start(config, self.drivers.clone()).await.unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    pub(crate) async fn stop(&mut self) {
        self.broker.take().unwrap().shutdown().await;
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.broker.as_ref().unwrap().addr()
    }

    pub(crate) async fn client(&self) -> Wire {
        Wire::connect(self.addr()).await
    }

    /// A client, and a topic with so many partitions.
    pub(crate) async fn client_with_topic(&self, topic: &str, partitions: i32) -> Wire {
        let mut client = self.client().await;
        client.create_topic(topic, partitions, &[]).await.unwrap();
        client
    }
}

/// One connection.
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    inbox: BytesMut,
    correlation_id: i32,
}

impl Wire {
    #[allow(clippy::disallowed_methods, reason = "this is the test's network")]
    pub(crate) async fn connect(addr: SocketAddr) -> Wire {
        let socket = TcpStream::connect(addr).await.unwrap();
        Wire {
            socket,
            inbox: BytesMut::new(),
            correlation_id: 0,
        }
    }

    /// Sends a request; returns its correlation id.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: R::API.code(),
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("it".to_owned()),
        };
        let bytes = encode_request(&header, request).unwrap();
        self.socket.write_all(&bytes).await.unwrap();
        self.correlation_id
    }

    /// The next response, whatever it is; `None` if the connection was closed.
    pub(crate) async fn next_frame(&mut self) -> Option<Bytes> {
        let read = async {
            loop {
                if let Some(frame) = take_frame(&mut self.inbox, usize::MAX).unwrap() {
                    return Some(frame);
                }
                if self.socket.read_buf(&mut self.inbox).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("an answer or the end of the connection in time")
    }

    /// Whether anything has come that was not looked at yet.
    pub(crate) fn has_answer(&mut self) -> bool {
        let _nothing_yet = self.socket.try_read_buf(&mut self.inbox);
        !self.inbox.is_empty()
    }

    /// The next response, which must be to a request of this type.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self
            .next_frame()
            .await
            .unwrap_or_else(|| panic!("{} v{version} closed the connection", R::NAME));
        decode_response::<R>(frame, version).unwrap()
    }

    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (answered, response) = self.receive::<R>(version).await;
        assert_eq!(answered, sent);
        response
    }

    pub(crate) async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), ErrorCode> {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            ..Default::default()
        });
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response = self.call(5, &request).await;
        ErrorCode::from_code(response.topics[0].error_code).ok()
    }

    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let mut response = self
            .call(9, &produce_request(topic, partition, -1, records))
            .await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> PartitionData {
        let mut response = self
            .call(11, &fetch_request(topic, partition, offset, 0))
            .await;
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Values of all records from `offset` on.
    pub(crate) async fn values(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<String> {
        let data = self.fetch(topic, partition, offset).await;
        assert_eq!(data.error_code, 0);
        values(data)
    }
}

/// One batch of records with these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_of(BatchOptions::default(), values)
}

pub(crate) fn batch_of(options: BatchOptions, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder.push(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
    }
    builder.build()
}

pub(crate) fn values(data: PartitionData) -> Vec<String> {
    let bytes = data.records.unwrap_or_default().into_bytes().unwrap();
    let batches = flumen_protocol::batch::batches(bytes);
    batches
        .flat_map(|batch| {
            batch
                .unwrap()
                .records(flumen_protocol::compression::DecompressionLimit::DEFAULT)
                .unwrap()
        })
        .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
        .collect()
}

pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    acks: i16,
    records: Bytes,
) -> ProduceRequest {
    let data = PartitionProduceData {
        index: partition,
        records: Some(Records::Bytes(records)),
        ..Default::default()
    };
    let topic = TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![data],
        ..Default::default()
    };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..Default::default()
    }
}

pub(crate) fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    max_wait_ms: i32,
) -> FetchRequest {
    let partition = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic: topic.to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 10 << 20,
        topics: vec![topic],
        ..Default::default()
    }
}

impl Wire {
    pub(crate) async fn delete_topic(&mut self, name: &str) -> Result<(), ErrorCode> {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.to_owned()],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response = self.call(4, &request).await;
        ErrorCode::from_code(response.responses[0].error_code).ok()
    }
}
