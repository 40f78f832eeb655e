//! FindCoordinatorRequest, versions 0 to 6, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::FindCoordinatorResponse;

/// FindCoordinatorRequest: the request.
///
/// - Version 1 adds KeyType.
/// - Version 3 is the first flexible version.
/// - Version 4 adds support for batching via CoordinatorKeys (KIP-699)
/// - Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
/// - Version 6 adds support for share groups (KIP-932). For key type SHARE (2), the
///   coordinator key format is "groupId:topicId:partition".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FindCoordinatorRequest {
    /// The coordinator key.
    ///
    /// Up to version 3.
    pub key: String,
    /// The coordinator key type. (group, transaction, share).
    ///
    /// From version 1.
    pub key_type: i8,
    /// The coordinator keys.
    ///
    /// From version 4.
    pub coordinator_keys: Vec<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for FindCoordinatorRequest {
    const NAME: &'static str = "FindCoordinatorRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 6;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version <= 3 {
            it.key = r.string("key")?;
        }
        if version >= 1 {
            it.key_type = r.i8("key_type")?;
        }
        if version >= 4 {
            it.coordinator_keys = r.array("coordinator_keys", version)?;
        }
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version <= 3 {
            w.string("key", &self.key)?;
        } else if !self.key.is_empty() {
            return Err(w.unsupported("key", version));
        }
        if version >= 1 {
            w.i8(self.key_type);
        } else if self.key_type != 0 {
            return Err(w.unsupported("key_type", version));
        }
        if version >= 4 {
            w.array("coordinator_keys", &self.coordinator_keys, version)?;
        } else if !self.coordinator_keys.is_empty() {
            return Err(w.unsupported("coordinator_keys", version));
        }
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for FindCoordinatorRequest {
    const API: ApiKey = ApiKey::FindCoordinator;
    type Response = FindCoordinatorResponse;
}
