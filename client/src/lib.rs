//! Producer, Consumer and Admin: an async Kafka client, batch-first.

mod admin;
mod client;
mod config;
mod connection;
mod consumer;
mod error;
mod metadata;
mod producer;
mod runtime;
mod transport;

pub use admin::{
    Admin, BrokerDescription, ClusterDescription, ConfigEntry, ConfigResource, CreatedTopic,
    GroupDescription, GroupListing, GroupMember, ListedOffset, NewTopic, OffsetSpec,
    PartitionDescription, TopicDescription,
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
pub use flumen_protocol::compression::Compression;
pub use flumen_protocol::id::TopicPartition;
pub use flumen_protocol::record::{Headers, Record};
pub use producer::{
    Delivery, Producer, ProducerRecord, RecordBlock, RecordMetadata, murmur2, partition_for_key,
};
pub use transport::{Connecting, Duplex, TcpTransport, Transport};
