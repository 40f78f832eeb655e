//! Producer, Consumer and Admin: an async Kafka client, batch-first.
//!
//! Speaks the protocol of Kafka 4.3 (and older brokers', by negotiation) with Flumen's own broker, Apache Kafka, or anything
//! compatible. Idempotent and `read_committed` by default.
//!
//! Produce:
//!
//! ```no_run
//! use flumen_client::{Client, ClientConfig, Producer, ProducerConfig, ProducerRecord};
//!
//! # async fn run() -> Result<(), flumen_client::ClientError> {
//! let client = Client::connect(ClientConfig::new("localhost:9092")).await?;
//! let producer = Producer::new(&client, ProducerConfig::default()).await?;
//! let delivery = producer.send(ProducerRecord::new("greetings", "hello").key("en")).await?;
//! println!("written at offset {}", delivery.await?.offset);
//! producer.close().await
//! # }
//! ```
//!
//! Consume:
//!
//! ```no_run
//! use std::time::Duration;
//! use flumen_client::{Client, ClientConfig, Consumer, ConsumerConfig};
//!
//! # async fn run() -> Result<(), flumen_client::ClientError> {
//! let client = Client::connect(ClientConfig::new("localhost:9092")).await?;
//! let consumer = Consumer::new(&client, ConsumerConfig::group("greeters")).await?;
//! consumer.subscribe(&["greetings"]).await?;
//! loop {
//!     for record in consumer.poll(Duration::from_secs(1)).await? {
//!         println!("{}-{}: {:?}", record.partition, record.offset, record.value);
//!     }
//!     consumer.commit_positions().await?;
//! }
//! # }
//! ```
//!
//! Read, transform and write exactly once: the positions are committed in the transaction of the results.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use flumen_client::{Client, ClientError, Consumer, OffsetAndMetadata, Poll, Producer, ProducerRecord};
//! # async fn run(consumer: &Consumer, producer: &Producer) -> Result<(), ClientError> {
//! producer.init_transactions().await?;
//! loop {
//!     let pieces = match consumer.poll_batches(Duration::from_secs(1)).await? {
//!         Poll::Records(pieces) => pieces,
//!         Poll::Revoking(_) => { consumer.rebalance_done(); continue } // nothing is open here
//!         _ => continue,
//!     };
//!     producer.begin_transaction()?;
//!     let mut offsets = Vec::new();
//!     for piece in &pieces {
//!         for record in piece.records(Default::default()) {
//!             let value = record?.value.unwrap_or_default();
//!             producer.send(ProducerRecord::new("results", value.to_ascii_uppercase())).await?;
//!         }
//!         offsets.push((piece.partition.clone(), OffsetAndMetadata::new(piece.next_offset)));
//!     }
//!     producer.send_offsets_to_transaction(&offsets, &consumer.group_metadata()).await?;
//!     producer.commit_transaction().await?;
//! }
//! # }
//! ```
//!
//! Inside, what decides is pure (`metadata`, `producer::{accumulator, sender, transaction, partitioner}`, `consumer::{membership, offsets, assignor,
//! fetched}`); what waits and talks is thin (`connection`, `client`, `producer::task`, `consumer::{fetcher, coordinator}`). Sockets are
//! opened in `transport` only, clocks read and tasks started in `runtime` only.

mod admin;
mod client;
mod config;
mod connection;
mod consumer;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod metadata;
mod producer;
mod runtime;
mod transport;

pub use admin::{
    Admin, BrokerDescription, ClusterDescription, ConfigChange, ConfigEntry, ConfigResource,
    CreatedTopic, GroupDescription, GroupListing, GroupMember, ListedOffset, LogDirEntry, NewTopic,
    OffsetSpec, PartitionDescription, ProducerDescription, TopicDescription,
    TransactionDescription, TransactionListing,
};
pub use client::{Client, Node};
pub use config::{Acks, ClientConfig, ConsumerConfig, Isolation, OffsetReset, ProducerConfig};
pub use consumer::{
    Assignor, Consumer, ConsumerGroupMetadata, ConsumerRecord, CooperativeStickyAssignor,
    FetchedRecords, MemberAssignment, MemberSubscription, OffsetAndMetadata, OffsetAndTimestamp,
    Poll, RangeAssignor, RebalanceProtocol, StickyAssignor, hold_back_moving_partitions,
};
pub use error::{ClientError, Failure};
pub use flumen_protocol::batch::RecordBatch;
pub use flumen_protocol::compression::{Compression, DecompressionLimit};
pub use flumen_protocol::id::TopicPartition;
pub use flumen_protocol::record::{Headers, Record};
pub use producer::{
    Delivery, Producer, ProducerRecord, RecordBlock, RecordMetadata, murmur2, partition_for_key,
};
pub use transport::{Connecting, Duplex, TcpTransport, Transport};
