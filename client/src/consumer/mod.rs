//! x
mod assignor;
mod membership;
mod subscription;
pub use assignor::*;
/// A position to commit, with what it should be known by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffsetAndMetadata {
    /// Offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 where unknown.
    pub leader_epoch: i32,
    /// Kept beside it, at most 4096 bytes.
    pub metadata: String,
}
/// As which member of which group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerGroupMetadata {
    /// The group.
    pub group_id: String,
    /// -1 for a group without members.
    pub generation_id: i32,
    /// Empty for a group without members.
    pub member_id: String,
    /// Of static members.
    pub group_instance_id: Option<String>,
}
