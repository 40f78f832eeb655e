//! ProduceRequest, versions 3 to 13, flexible from version 9.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::id::TopicId;
use crate::message::ProduceResponse;
use crate::segment::Records;

/// ProduceRequest: the request.
///
/// - Versions 0-2 were removed in Apache Kafka 4.0, version 3 is the new baseline. Due to a
///   bug in librdkafka, these versions have to be included in the api versions response (see
///   KAFKA-18659), but are rejected otherwise. See
///   `ApiKeys.PRODUCE_API_VERSIONS_RESPONSE_MIN_VERSION` for more details.
/// - Version 3 adds the transactional ID, which is used for authorization when attempting to
///   write transactional data. Version 3 also adds support for Kafka Message Format v2.
/// - Starting in version 7, records can be produced using ZStandard compression. See KIP-110.
/// - Starting in Version 8, response has RecordErrors and ErrorMessage. See KIP-467.
/// - Version 9 enables flexible versions.
/// - Version 11 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
/// - Version 13 replaces topic names with topic IDs (KIP-516). May return UNKNOWN_TOPIC_ID
///   error code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceRequest {
    /// The transactional ID, or null if the producer is not transactional.
    pub transactional_id: Option<String>,
    /// The number of acknowledgments the producer requires the leader to have received before
    /// considering a request complete. Allowed values: 0 for no acknowledgments, 1 for only the
    /// leader and -1 for the full ISR.
    pub acks: i16,
    /// The timeout to await a response in milliseconds.
    pub timeout_ms: i32,
    /// Each topic to produce to.
    pub topic_data: Vec<TopicProduceData>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ProduceRequest {
    const NAME: &'static str = "ProduceRequest";
    const MIN_VERSION: i16 = 3;
    const MAX_VERSION: i16 = 13;

    fn is_flexible(version: i16) -> bool {
        version >= 9
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.transactional_id = r.nullable_string("transactional_id")?;
        it.acks = r.i16("acks")?;
        it.timeout_ms = r.i32("timeout_ms")?;
        it.topic_data = r.array("topic_data", version)?;
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.nullable_string("transactional_id", self.transactional_id.as_deref())?;
        w.i16(self.acks);
        w.i32(self.timeout_ms);
        w.array("topic_data", &self.topic_data, version)?;
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`ProduceRequest`] as `topic_data`.
///
/// Each topic to produce to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicProduceData {
    /// The topic name.
    ///
    /// Up to version 12.
    pub name: String,
    /// The unique topic ID
    ///
    /// Version 13 only.
    pub topic_id: TopicId,
    /// Each partition to produce to.
    pub partition_data: Vec<PartitionProduceData>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for TopicProduceData {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        if version <= 12 {
            it.name = r.string("name")?;
        }
        if version == 13 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.partition_data = r.array("partition_data", version)?;
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        if version <= 12 {
            w.string("name", &self.name)?;
        }
        if version == 13 {
            w.uuid(self.topic_id);
        }
        w.array("partition_data", &self.partition_data, version)?;
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`TopicProduceData`] as `partition_data`.
///
/// Each partition to produce to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionProduceData {
    /// The partition index.
    pub index: i32,
    /// The record data to be produced.
    pub records: Option<Records>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for PartitionProduceData {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.index = r.i32("index")?;
        it.records = r.records("records")?;
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.index);
        w.records("records", &self.records)?;
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for ProduceRequest {
    const API: ApiKey = ApiKey::Produce;
    type Response = ProduceResponse;
}
