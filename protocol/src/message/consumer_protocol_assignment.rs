//! ConsumerProtocolAssignment, versions 0 to 3, never flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Message, Reader, Wire, Writer};

/// ConsumerProtocolAssignment: the message.
///
/// What a consumer receives as SyncGroup assignment, after a two-byte version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerProtocolAssignment {
    /// The list of topics and partitions assigned to this consumer.
    pub assigned_partitions: Vec<TopicPartition>,
    /// User data.
    pub user_data: Option<Bytes>,
}

impl Message for ConsumerProtocolAssignment {
    const NAME: &'static str = "ConsumerProtocolAssignment";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 3;

    fn is_flexible(_: i16) -> bool {
        false
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.assigned_partitions = r.array("assigned_partitions", version)?;
        it.user_data = r.nullable_bytes("user_data")?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.array("assigned_partitions", &self.assigned_partitions, version)?;
        w.nullable_bytes("user_data", &self.user_data)?;
        Ok(())
    }
}

/// Held by [`ConsumerProtocolAssignment`] as `assigned_partitions`.
///
/// The list of topics and partitions assigned to this consumer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicPartition {
    /// The topic name.
    pub topic: String,
    /// The list of partitions assigned to this consumer.
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
