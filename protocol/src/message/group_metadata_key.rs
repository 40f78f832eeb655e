//! GroupMetadataKey, versions 2 to 2, never flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, Writer};

/// GroupMetadataKey: the message.
///
/// Key of a classic group in `__consumer_offsets`. Its two-byte prefix is the record type,
/// always 2.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupMetadataKey {
    /// The group id.
    pub group: String,
}

impl Message for GroupMetadataKey {
    const NAME: &'static str = "GroupMetadataKey";
    const MIN_VERSION: i16 = 2;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(_: i16) -> bool {
        false
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.group = r.string("group")?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("group", &self.group)?;
        Ok(())
    }
}
