//! OffsetDeleteResponse, versions 0 to 0, never flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, Wire, Writer};

/// OffsetDeleteResponse: the response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetDeleteResponse {
    /// The top-level error code, or 0 if there was no error.
    pub error_code: i16,
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The responses for each topic.
    pub topics: Vec<OffsetDeleteResponseTopic>,
}

impl Message for OffsetDeleteResponse {
    const NAME: &'static str = "OffsetDeleteResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 0;

    fn is_flexible(_: i16) -> bool {
        false
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.topics = r.array("topics", version)?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i16(self.error_code);
        w.i32(self.throttle_time_ms);
        w.array("topics", &self.topics, version)?;
        Ok(())
    }
}

/// Held by [`OffsetDeleteResponse`] as `topics`.
///
/// The responses for each topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetDeleteResponseTopic {
    /// The topic name.
    pub name: String,
    /// The responses for each partition in the topic.
    pub partitions: Vec<OffsetDeleteResponsePartition>,
}

impl Wire for OffsetDeleteResponseTopic {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.partitions = r.array("partitions", version)?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.array("partitions", &self.partitions, version)?;
        Ok(())
    }
}

/// Held by [`OffsetDeleteResponseTopic`] as `partitions`.
///
/// The responses for each partition in the topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetDeleteResponsePartition {
    /// The partition index.
    pub partition_index: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
}

impl Wire for OffsetDeleteResponsePartition {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.error_code = r.i16("error_code")?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        Ok(())
    }
}
