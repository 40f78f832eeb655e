//! OffsetCommitValue, versions 0 to 4, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Writer};
use crate::id::TopicId;

/// OffsetCommitValue: the message.
///
/// Value of an offset record in `__consumer_offsets`, after a two-byte version.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetCommitValue {
    /// The offset that the consumer wants to store (for this partition).
    pub offset: i64,
    /// The leader epoch of the last consumed record.
    ///
    /// From version 3.
    pub leader_epoch: i32,
    /// Any metadata the client wants to keep.
    pub metadata: String,
    /// The time at which the commit was added to the log.
    pub commit_timestamp: i64,
    /// The time at which the offset will expire.
    ///
    /// Version 1 only.
    pub expire_timestamp: i64,
    /// The topic id of the committed offset.
    ///
    /// Version 4 only.
    pub topic_id: TopicId,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for OffsetCommitValue {
    fn default() -> Self {
        Self {
            offset: 0,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: 0,
            expire_timestamp: -1,
            topic_id: TopicId::NIL,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for OffsetCommitValue {
    const NAME: &'static str = "OffsetCommitValue";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 4;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.offset = r.i64("offset")?;
        if version >= 3 {
            it.leader_epoch = r.i32("leader_epoch")?;
        }
        it.metadata = r.string("metadata")?;
        it.commit_timestamp = r.i64("commit_timestamp")?;
        if version == 1 {
            it.expire_timestamp = r.i64("expire_timestamp")?;
        }
        if version >= 4 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 => it.topic_id = r.uuid("topic_id")?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i64(self.offset);
        if version >= 3 {
            w.i32(self.leader_epoch);
        }
        w.string("metadata", &self.metadata)?;
        w.i64(self.commit_timestamp);
        if version == 1 {
            w.i64(self.expire_timestamp);
        }
        if version >= 4 {
            let has_topic_id = self.topic_id != TopicId::NIL;
            let mut set = 0;
            set += u32::from(has_topic_id);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_topic_id {
                let tag = w.begin_tag(0);
                w.uuid(self.topic_id);
                w.end_tag(tag);
            }
            w.unknown_tags(&self.unknown_tagged_fields, 1)?;
        }
        Ok(())
    }
}
