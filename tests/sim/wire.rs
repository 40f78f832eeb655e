//! A client that speaks bytes over the simulated network.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::batches;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::codec::Request;
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::frame::{RequestHeader, decode_response, encode_request, take_frame};
use flumen_protocol::message::create_topics_request::CreatableTopic;
use flumen_protocol::message::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::message::{CreateTopicsRequest, FetchRequest, ProduceRequest};
use flumen_protocol::segment::Records;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;

/// One connection.
pub(crate) struct Wire {
    socket: TcpStream,
    inbox: BytesMut,
    correlation_id: i32,
}

impl Wire {
    /// Tries until the host listens.
    pub(crate) async fn connect(host: &str, port: u16) -> Wire {
        loop {
            if let Ok(socket) = TcpStream::connect((host, port)).await {
                return Wire {
                    socket,
                    inbox: BytesMut::new(),
                    correlation_id: 0,
                };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: R::API.code(),
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("sim".to_owned()),
        };
        self.socket
            .write_all(&encode_request(&header, request).unwrap())
            .await
            .unwrap();
        let frame = self.frame().await;
        decode_response::<R>(frame, version).unwrap().1
    }

    async fn frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = take_frame(&mut self.inbox, usize::MAX).unwrap() {
                return frame;
            }
            assert_ne!(
                self.socket.read_buf(&mut self.inbox).await.unwrap(),
                0,
                "the broker closed the connection"
            );
        }
    }

    pub(crate) async fn create_topic(&mut self, name: &str) {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 1000,
            ..Default::default()
        };
        assert_eq!(self.call(5, &request).await.topics[0].error_code, 0);
    }

    /// Produces one record; the offset it was given.
    pub(crate) async fn produce(&mut self, topic: &str, value: &str) -> i64 {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(0, None, Some(value.as_bytes()), &[]);
        let records = Some(Records::Bytes(builder.build()));
        let data = PartitionProduceData {
            index: 0,
            records,
            ..Default::default()
        };
        let topic = TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![data],
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data: vec![topic],
            ..Default::default()
        };
        let response = self.call(9, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
        partition.base_offset
    }

    /// Values from `offset` on, waiting for the first.
    pub(crate) async fn fetch(&mut self, topic: &str, offset: i64, wait: Duration) -> Vec<String> {
        let partition = FetchPartition {
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        let max_wait_ms = i32::try_from(wait.as_millis()).unwrap();
        let request = FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![topic],
            ..Default::default()
        };
        let mut response = self.call(11, &request).await;
        let data = response.responses.remove(0).partitions.remove(0);
        assert_eq!(data.error_code, 0);
        let bytes = data.records.unwrap().into_bytes().unwrap();
        batches(bytes)
            .flat_map(|batch| batch.unwrap().records(DecompressionLimit::DEFAULT).unwrap())
            .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
            .collect()
    }
}
