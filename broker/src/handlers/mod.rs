//! One file per family of APIs: decode has happened, ask, fill the response. One function per API, named as Kafka names it.
//!
//! Handlers hold no state and decide nothing: they walk topics and partitions, call the partition, the cluster or a coordinator,
//! and turn what comes back into Kafka's error codes.

pub(crate) mod alter_configs;
pub(crate) mod api_versions;
pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod features;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod list_offsets;
pub(crate) mod listings;
pub(crate) mod log_dirs;
pub(crate) mod metadata;
pub(crate) mod offset_delete;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod offsets;
pub(crate) mod partitions;
pub(crate) mod produce;
pub(crate) mod records;
pub(crate) mod topics;
pub(crate) mod transactions;
