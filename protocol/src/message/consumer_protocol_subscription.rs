//! ConsumerProtocolSubscription, versions 0 to 3, never flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Message, Reader, Wire, Writer};

/// ConsumerProtocolSubscription: the message.
///
/// What a consumer sends as JoinGroup protocol metadata, after a two-byte version.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerProtocolSubscription {
    /// The topics that the member wants to consume.
    pub topics: Vec<String>,
    /// User data that will be passed back to the consumer.
    pub user_data: Option<Bytes>,
    /// The partitions that the member owns.
    ///
    /// From version 1.
    pub owned_partitions: Vec<TopicPartition>,
    /// The generation id of the member.
    ///
    /// From version 2.
    pub generation_id: i32,
    /// The rack id of the member.
    ///
    /// Version 3 only.
    pub rack_id: Option<String>,
}

impl Default for ConsumerProtocolSubscription {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            user_data: None,
            owned_partitions: Vec::new(),
            generation_id: -1,
            rack_id: None,
        }
    }
}

impl Message for ConsumerProtocolSubscription {
    const NAME: &'static str = "ConsumerProtocolSubscription";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 3;

    fn is_flexible(_: i16) -> bool {
        false
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.topics = r.array("topics", version)?;
        it.user_data = r.nullable_bytes("user_data")?;
        if version >= 1 {
            it.owned_partitions = r.array("owned_partitions", version)?;
        }
        if version >= 2 {
            it.generation_id = r.i32("generation_id")?;
        }
        if version == 3 {
            it.rack_id = r.nullable_string("rack_id")?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.array("topics", &self.topics, version)?;
        w.nullable_bytes("user_data", &self.user_data)?;
        if version >= 1 {
            w.array("owned_partitions", &self.owned_partitions, version)?;
        }
        if version >= 2 {
            w.i32(self.generation_id);
        }
        if version == 3 {
            w.nullable_string("rack_id", self.rack_id.as_deref())?;
        }
        Ok(())
    }
}

/// Held by [`ConsumerProtocolSubscription`] as `owned_partitions`.
///
/// The partitions that the member owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicPartition {
    /// The topic name.
    ///
    /// From version 1.
    pub topic: String,
    /// The partition ids.
    ///
    /// From version 1.
    pub partitions: Vec<i32>,
}

impl Wire for TopicPartition {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.topic = r.string("topic")?;
        it.partitions = r.array("partitions", version)?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("topic", &self.topic)?;
        w.array("partitions", &self.partitions, version)?;
        Ok(())
    }
}
