//! OffsetCommitKey, versions 0 to 1, never flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, Writer};

/// OffsetCommitKey: the message.
///
/// Key of an offset record in `__consumer_offsets`. Its two-byte prefix is the record type: 0
/// and 1 have one layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitKey {
    /// The consumer group id.
    pub group: String,
    /// The topic name.
    pub topic: String,
    /// The topic partition index.
    pub partition: i32,
}

impl Message for OffsetCommitKey {
    const NAME: &'static str = "OffsetCommitKey";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 1;

    fn is_flexible(_: i16) -> bool {
        false
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.group = r.string("group")?;
        it.topic = r.string("topic")?;
        it.partition = r.i32("partition")?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("group", &self.group)?;
        w.string("topic", &self.topic)?;
        w.i32(self.partition);
        Ok(())
    }
}
