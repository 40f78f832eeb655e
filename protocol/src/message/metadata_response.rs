//! MetadataResponse, versions 0 to 13, flexible from version 9.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;

/// MetadataResponse: the response.
///
/// - Version 1 adds fields for the rack of each broker, the controller id, and whether or not
///   the topic is internal.
/// - Version 2 adds the cluster ID field.
/// - Version 3 adds the throttle time.
/// - Version 5 adds a per-partition offline_replicas field. This field specifies the list of
///   replicas that are offline.
/// - Starting in version 6, on quota violation, brokers send out responses before throttling.
/// - Version 7 adds the leader epoch to the partition metadata.
/// - Starting in version 8, brokers can send authorized operations for topic and cluster.
/// - Version 9 is the first flexible version.
/// - Version 10 adds topicId.
/// - Version 11 deprecates ClusterAuthorizedOperations. This is now exposed by the
///   DescribeCluster API (KIP-700).
/// - Version 12 supports topicId.
/// - Version 13 supports top-level error code in the response.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 3.
    pub throttle_time_ms: i32,
    /// A list of brokers present in the cluster.
    pub brokers: Vec<MetadataResponseBroker>,
    /// The cluster ID that responding broker belongs to.
    ///
    /// From version 2.
    pub cluster_id: Option<String>,
    /// The ID of the controller broker.
    ///
    /// From version 1.
    pub controller_id: i32,
    /// Each topic in the response.
    pub topics: Vec<MetadataResponseTopic>,
    /// 32-bit bitfield to represent authorized operations for this cluster.
    ///
    /// Versions 8 to 10.
    pub cluster_authorized_operations: i32,
    /// The top-level error code, or 0 if there was no error.
    ///
    /// Version 13 only.
    pub error_code: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for MetadataResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            brokers: Vec::new(),
            cluster_id: None,
            controller_id: -1,
            topics: Vec::new(),
            cluster_authorized_operations: -2147483648,
            error_code: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for MetadataResponse {
    const NAME: &'static str = "MetadataResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 13;

    fn is_flexible(version: i16) -> bool {
        version >= 9
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 3 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        it.brokers = r.array("brokers", version)?;
        if version >= 2 {
            it.cluster_id = r.nullable_string("cluster_id")?;
        }
        if version >= 1 {
            it.controller_id = r.i32("controller_id")?;
        }
        it.topics = r.array("topics", version)?;
        if (8..=10).contains(&version) {
            it.cluster_authorized_operations = r.i32("cluster_authorized_operations")?;
        }
        if version == 13 {
            it.error_code = r.i16("error_code")?;
        }
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 3 {
            w.i32(self.throttle_time_ms);
        }
        w.array("brokers", &self.brokers, version)?;
        if version >= 2 {
            w.nullable_string("cluster_id", self.cluster_id.as_deref())?;
        }
        if version >= 1 {
            w.i32(self.controller_id);
        }
        w.array("topics", &self.topics, version)?;
        if (8..=10).contains(&version) {
            w.i32(self.cluster_authorized_operations);
        } else if self.cluster_authorized_operations != -2147483648 {
            return Err(w.unsupported("cluster_authorized_operations", version));
        }
        if version == 13 {
            w.i16(self.error_code);
        }
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`MetadataResponse`] as `brokers`.
///
/// A list of brokers present in the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataResponseBroker {
    /// The broker ID.
    pub node_id: i32,
    /// The broker hostname.
    pub host: String,
    /// The broker port.
    pub port: i32,
    /// The rack of the broker, or null if it has not been assigned to a rack.
    ///
    /// From version 1.
    pub rack: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for MetadataResponseBroker {
    const MIN_SIZE: usize = 10;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.node_id = r.i32("node_id")?;
        it.host = r.string("host")?;
        it.port = r.i32("port")?;
        if version >= 1 {
            it.rack = r.nullable_string("rack")?;
        }
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.node_id);
        w.string("host", &self.host)?;
        w.i32(self.port);
        if version >= 1 {
            w.nullable_string("rack", self.rack.as_deref())?;
        }
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`MetadataResponse`] as `topics`.
///
/// Each topic in the response.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataResponseTopic {
    /// The topic error, or 0 if there was no error.
    pub error_code: i16,
    /// The topic name. Null for non-existing topics queried by ID. This is never null when
    /// ErrorCode is zero. One of Name and TopicId is always populated.
    pub name: Option<String>,
    /// The topic id. Zero for non-existing topics queried by name. This is never zero when
    /// ErrorCode is zero. One of Name and TopicId is always populated.
    ///
    /// From version 10.
    pub topic_id: TopicId,
    /// True if the topic is internal.
    ///
    /// From version 1.
    pub is_internal: bool,
    /// Each partition in the topic.
    pub partitions: Vec<MetadataResponsePartition>,
    /// 32-bit bitfield to represent authorized operations for this topic.
    ///
    /// From version 8.
    pub topic_authorized_operations: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for MetadataResponseTopic {
    fn default() -> Self {
        Self {
            error_code: 0,
            name: Some(String::new()),
            topic_id: TopicId::NIL,
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: -2147483648,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for MetadataResponseTopic {
    const MIN_SIZE: usize = 8;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.name = if version >= 12 {
            r.nullable_string("name")?
        } else {
            Some(r.string("name")?)
        };
        if version >= 10 {
            it.topic_id = r.uuid("topic_id")?;
        }
        if version >= 1 {
            it.is_internal = r.bool("is_internal")?;
        }
        it.partitions = r.array("partitions", version)?;
        if version >= 8 {
            it.topic_authorized_operations = r.i32("topic_authorized_operations")?;
        }
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        if version >= 12 {
            w.nullable_string("name", self.name.as_deref())?;
        } else {
            w.string("name", w.present("name", &self.name)?)?;
        }
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if version >= 1 {
            w.bool(self.is_internal);
        }
        w.array("partitions", &self.partitions, version)?;
        if version >= 8 {
            w.i32(self.topic_authorized_operations);
        } else if self.topic_authorized_operations != -2147483648 {
            return Err(w.unsupported("topic_authorized_operations", version));
        }
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`MetadataResponseTopic`] as `partitions`.
///
/// Each partition in the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataResponsePartition {
    /// The partition error, or 0 if there was no error.
    pub error_code: i16,
    /// The partition index.
    pub partition_index: i32,
    /// The ID of the leader broker.
    pub leader_id: i32,
    /// The leader epoch of this partition.
    ///
    /// From version 7.
    pub leader_epoch: i32,
    /// The set of all nodes that host this partition.
    pub replica_nodes: Vec<i32>,
    /// The set of nodes that are in sync with the leader for this partition.
    pub isr_nodes: Vec<i32>,
    /// The set of offline replicas of this partition.
    ///
    /// From version 5.
    pub offline_replicas: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for MetadataResponsePartition {
    fn default() -> Self {
        Self {
            error_code: 0,
            partition_index: 0,
            leader_id: 0,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            offline_replicas: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for MetadataResponsePartition {
    const MIN_SIZE: usize = 18;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.partition_index = r.i32("partition_index")?;
        it.leader_id = r.i32("leader_id")?;
        if version >= 7 {
            it.leader_epoch = r.i32("leader_epoch")?;
        }
        it.replica_nodes = r.array("replica_nodes", version)?;
        it.isr_nodes = r.array("isr_nodes", version)?;
        if version >= 5 {
            it.offline_replicas = r.array("offline_replicas", version)?;
        }
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        w.i32(self.partition_index);
        w.i32(self.leader_id);
        if version >= 7 {
            w.i32(self.leader_epoch);
        }
        w.array("replica_nodes", &self.replica_nodes, version)?;
        w.array("isr_nodes", &self.isr_nodes, version)?;
        if version >= 5 {
            w.array("offline_replicas", &self.offline_replicas, version)?;
        }
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
