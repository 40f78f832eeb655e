//! DescribeQuorumResponse, versions 0 to 2, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;

/// DescribeQuorumResponse: the response.
///
/// - Version 1 adds LastFetchTimeStamp and LastCaughtUpTimestamp in ReplicaState (KIP-836).
/// - Version 2 adds ErrorMessage, Nodes, ErrorMessage in PartitionData, ReplicaDirectoryId in
///   ReplicaState (KIP-853).
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeQuorumResponse {
    /// The top level error code.
    pub error_code: i16,
    /// The error message, or null if there was no error.
    ///
    /// Version 2 only.
    pub error_message: Option<String>,
    /// The response from the describe quorum API.
    pub topics: Vec<TopicData>,
    /// The nodes in the quorum.
    ///
    /// Version 2 only.
    pub nodes: Vec<Node>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DescribeQuorumResponse {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: Some(String::new()),
            topics: Vec::new(),
            nodes: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for DescribeQuorumResponse {
    const NAME: &'static str = "DescribeQuorumResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        if version == 2 {
            it.error_message = r.nullable_string("error_message")?;
        }
        it.topics = r.array("topics", version)?;
        if version == 2 {
            it.nodes = r.array("nodes", version)?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i16(self.error_code);
        if version == 2 {
            w.nullable_string("error_message", self.error_message.as_deref())?;
        }
        w.array("topics", &self.topics, version)?;
        if version == 2 {
            w.array("nodes", &self.nodes, version)?;
        } else if !self.nodes.is_empty() {
            return Err(w.unsupported("nodes", version));
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`DescribeQuorumResponse`] as `topics`.
///
/// The response from the describe quorum API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicData {
    /// The topic name.
    pub topic_name: String,
    /// The partition data.
    pub partitions: Vec<PartitionData>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for TopicData {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.topic_name = r.string("topic_name")?;
        it.partitions = r.array("partitions", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("topic_name", &self.topic_name)?;
        w.array("partitions", &self.partitions, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`TopicData`] as `partitions`.
///
/// The partition data.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionData {
    /// The partition index.
    pub partition_index: i32,
    /// The partition error code.
    pub error_code: i16,
    /// The error message, or null if there was no error.
    ///
    /// Version 2 only.
    pub error_message: Option<String>,
    /// The ID of the current leader or -1 if the leader is unknown.
    pub leader_id: i32,
    /// The latest known leader epoch.
    pub leader_epoch: i32,
    /// The high water mark.
    pub high_watermark: i64,
    /// The current voters of the partition.
    pub current_voters: Vec<ReplicaState>,
    /// The observers of the partition.
    pub observers: Vec<ReplicaState>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for PartitionData {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            error_message: Some(String::new()),
            leader_id: 0,
            leader_epoch: 0,
            high_watermark: 0,
            current_voters: Vec::new(),
            observers: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for PartitionData {
    const MIN_SIZE: usize = 25;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.error_code = r.i16("error_code")?;
        if version == 2 {
            it.error_message = r.nullable_string("error_message")?;
        }
        it.leader_id = r.i32("leader_id")?;
        it.leader_epoch = r.i32("leader_epoch")?;
        it.high_watermark = r.i64("high_watermark")?;
        it.current_voters = r.array("current_voters", version)?;
        it.observers = r.array("observers", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        if version == 2 {
            w.nullable_string("error_message", self.error_message.as_deref())?;
        }
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.i64(self.high_watermark);
        w.array("current_voters", &self.current_voters, version)?;
        w.array("observers", &self.observers, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`DescribeQuorumResponse`] as `nodes`.
///
/// The nodes in the quorum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The ID of the associated node.
    ///
    /// Version 2 only.
    pub node_id: i32,
    /// The listeners of this controller.
    ///
    /// Version 2 only.
    pub listeners: Vec<Listener>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for Node {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.node_id = r.i32("node_id")?;
        it.listeners = r.array("listeners", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.node_id);
        w.array("listeners", &self.listeners, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`Node`] as `listeners`.
///
/// The listeners of this controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listener {
    /// The name of the endpoint.
    ///
    /// Version 2 only.
    pub name: String,
    /// The hostname.
    ///
    /// Version 2 only.
    pub host: String,
    /// The port.
    ///
    /// Version 2 only.
    pub port: u16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for Listener {
    const MIN_SIZE: usize = 5;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.host = r.string("host")?;
        it.port = r.u16("port")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.string("host", &self.host)?;
        w.u16(self.port);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`PartitionData`] as `current_voters`.
///
/// The current voters of the partition.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaState {
    /// The ID of the replica.
    pub replica_id: i32,
    /// The replica directory ID of the replica.
    ///
    /// Version 2 only.
    pub replica_directory_id: TopicId,
    /// The last known log end offset of the follower or -1 if it is unknown.
    pub log_end_offset: i64,
    /// The last known leader wall clock time time when a follower fetched from the leader. This
    /// is reported as -1 both for the current leader or if it is unknown for a voter.
    ///
    /// From version 1.
    pub last_fetch_timestamp: i64,
    /// The leader wall clock append time of the offset for which the follower made the most
    /// recent fetch request. This is reported as the current time for the leader and -1 if
    /// unknown for a voter.
    ///
    /// From version 1.
    pub last_caught_up_timestamp: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ReplicaState {
    fn default() -> Self {
        Self {
            replica_id: 0,
            replica_directory_id: TopicId::NIL,
            log_end_offset: 0,
            last_fetch_timestamp: -1,
            last_caught_up_timestamp: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for ReplicaState {
    const MIN_SIZE: usize = 13;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.replica_id = r.i32("replica_id")?;
        if version == 2 {
            it.replica_directory_id = r.uuid("replica_directory_id")?;
        }
        it.log_end_offset = r.i64("log_end_offset")?;
        if version >= 1 {
            it.last_fetch_timestamp = r.i64("last_fetch_timestamp")?;
        }
        if version >= 1 {
            it.last_caught_up_timestamp = r.i64("last_caught_up_timestamp")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.replica_id);
        if version == 2 {
            w.uuid(self.replica_directory_id);
        } else if self.replica_directory_id != TopicId::NIL {
            return Err(w.unsupported("replica_directory_id", version));
        }
        w.i64(self.log_end_offset);
        if version >= 1 {
            w.i64(self.last_fetch_timestamp);
        }
        if version >= 1 {
            w.i64(self.last_caught_up_timestamp);
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
