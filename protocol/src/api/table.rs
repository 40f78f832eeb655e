//! The table of APIs. Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use super::Api;

/// An API of the protocol. The number is Kafka's key, the first two bytes of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum ApiKey {
    /// Key 0, versions 3 to 13.
    Produce = 0,
    /// Key 1, versions 4 to 18.
    Fetch = 1,
    /// Key 2, versions 1 to 11.
    ListOffsets = 2,
    /// Key 3, versions 0 to 13.
    Metadata = 3,
    /// Key 8, versions 2 to 10.
    OffsetCommit = 8,
    /// Key 9, versions 1 to 10.
    OffsetFetch = 9,
    /// Key 10, versions 0 to 6.
    FindCoordinator = 10,
    /// Key 11, versions 0 to 9.
    JoinGroup = 11,
    /// Key 12, versions 0 to 4.
    Heartbeat = 12,
    /// Key 13, versions 0 to 5.
    LeaveGroup = 13,
    /// Key 14, versions 0 to 5.
    SyncGroup = 14,
    /// Key 15, versions 0 to 6.
    DescribeGroups = 15,
    /// Key 16, versions 0 to 5.
    ListGroups = 16,
    /// Key 17, versions 0 to 1.
    SaslHandshake = 17,
    /// Key 18, versions 0 to 4.
    ApiVersions = 18,
    /// Key 19, versions 2 to 7.
    CreateTopics = 19,
    /// Key 20, versions 1 to 6.
    DeleteTopics = 20,
    /// Key 21, versions 0 to 2.
    DeleteRecords = 21,
    /// Key 22, versions 0 to 5.
    InitProducerId = 22,
    /// Key 23, versions 2 to 4.
    OffsetForLeaderEpoch = 23,
    /// Key 24, versions 0 to 5.
    AddPartitionsToTxn = 24,
    /// Key 25, versions 0 to 4.
    AddOffsetsToTxn = 25,
    /// Key 26, versions 0 to 5.
    EndTxn = 26,
    /// Key 27, versions 1 to 2.
    WriteTxnMarkers = 27,
    /// Key 28, versions 0 to 5.
    TxnOffsetCommit = 28,
    /// Key 32, versions 1 to 4.
    DescribeConfigs = 32,
    /// Key 33, versions 0 to 2.
    AlterConfigs = 33,
    /// Key 35, versions 1 to 5.
    DescribeLogDirs = 35,
    /// Key 36, versions 0 to 2.
    SaslAuthenticate = 36,
    /// Key 37, versions 0 to 3.
    CreatePartitions = 37,
    /// Key 42, versions 0 to 2.
    DeleteGroups = 42,
    /// Key 43, versions 0 to 2.
    ElectLeaders = 43,
    /// Key 44, versions 0 to 1.
    IncrementalAlterConfigs = 44,
    /// Key 47, version 0.
    OffsetDelete = 47,
    /// Key 48, versions 0 to 1.
    DescribeClientQuotas = 48,
    /// Key 55, versions 0 to 2.
    DescribeQuorum = 55,
    /// Key 57, versions 0 to 2.
    UpdateFeatures = 57,
    /// Key 60, versions 0 to 2.
    DescribeCluster = 60,
    /// Key 61, version 0.
    DescribeProducers = 61,
    /// Key 65, version 0.
    DescribeTransactions = 65,
    /// Key 66, versions 0 to 2.
    ListTransactions = 66,
    /// Key 74, versions 0 to 1.
    ListConfigResources = 74,
    /// Key 75, version 0.
    DescribeTopicPartitions = 75,
}

/// Key, name, versions, versions that ApiVersions shows, first flexible version; in the order of keys.
#[rustfmt::skip]
pub(super) const TABLE: [Api; 43] = [
    Api { key: ApiKey::Produce, name: "Produce", versions: (3, 13), advertised: (0, 13), flexible_from: Some(9) },
    Api { key: ApiKey::Fetch, name: "Fetch", versions: (4, 18), advertised: (4, 18), flexible_from: Some(12) },
    Api { key: ApiKey::ListOffsets, name: "ListOffsets", versions: (1, 11), advertised: (1, 11), flexible_from: Some(6) },
    Api { key: ApiKey::Metadata, name: "Metadata", versions: (0, 13), advertised: (0, 13), flexible_from: Some(9) },
    Api { key: ApiKey::OffsetCommit, name: "OffsetCommit", versions: (2, 10), advertised: (2, 10), flexible_from: Some(8) },
    Api { key: ApiKey::OffsetFetch, name: "OffsetFetch", versions: (1, 10), advertised: (1, 10), flexible_from: Some(6) },
    Api { key: ApiKey::FindCoordinator, name: "FindCoordinator", versions: (0, 6), advertised: (0, 6), flexible_from: Some(3) },
    Api { key: ApiKey::JoinGroup, name: "JoinGroup", versions: (0, 9), advertised: (0, 9), flexible_from: Some(6) },
    Api { key: ApiKey::Heartbeat, name: "Heartbeat", versions: (0, 4), advertised: (0, 4), flexible_from: Some(4) },
    Api { key: ApiKey::LeaveGroup, name: "LeaveGroup", versions: (0, 5), advertised: (0, 5), flexible_from: Some(4) },
    Api { key: ApiKey::SyncGroup, name: "SyncGroup", versions: (0, 5), advertised: (0, 5), flexible_from: Some(4) },
    Api { key: ApiKey::DescribeGroups, name: "DescribeGroups", versions: (0, 6), advertised: (0, 6), flexible_from: Some(5) },
    Api { key: ApiKey::ListGroups, name: "ListGroups", versions: (0, 5), advertised: (0, 5), flexible_from: Some(3) },
    Api { key: ApiKey::SaslHandshake, name: "SaslHandshake", versions: (0, 1), advertised: (0, 1), flexible_from: None },
    Api { key: ApiKey::ApiVersions, name: "ApiVersions", versions: (0, 4), advertised: (0, 4), flexible_from: Some(3) },
    Api { key: ApiKey::CreateTopics, name: "CreateTopics", versions: (2, 7), advertised: (2, 7), flexible_from: Some(5) },
    Api { key: ApiKey::DeleteTopics, name: "DeleteTopics", versions: (1, 6), advertised: (1, 6), flexible_from: Some(4) },
    Api { key: ApiKey::DeleteRecords, name: "DeleteRecords", versions: (0, 2), advertised: (0, 2), flexible_from: Some(2) },
    Api { key: ApiKey::InitProducerId, name: "InitProducerId", versions: (0, 5), advertised: (0, 5), flexible_from: Some(2) },
    Api { key: ApiKey::OffsetForLeaderEpoch, name: "OffsetForLeaderEpoch", versions: (2, 4), advertised: (2, 4), flexible_from: Some(4) },
    Api { key: ApiKey::AddPartitionsToTxn, name: "AddPartitionsToTxn", versions: (0, 5), advertised: (0, 5), flexible_from: Some(3) },
    Api { key: ApiKey::AddOffsetsToTxn, name: "AddOffsetsToTxn", versions: (0, 4), advertised: (0, 4), flexible_from: Some(3) },
    Api { key: ApiKey::EndTxn, name: "EndTxn", versions: (0, 5), advertised: (0, 5), flexible_from: Some(3) },
    Api { key: ApiKey::WriteTxnMarkers, name: "WriteTxnMarkers", versions: (1, 2), advertised: (1, 2), flexible_from: Some(1) },
    Api { key: ApiKey::TxnOffsetCommit, name: "TxnOffsetCommit", versions: (0, 5), advertised: (0, 5), flexible_from: Some(3) },
    Api { key: ApiKey::DescribeConfigs, name: "DescribeConfigs", versions: (1, 4), advertised: (1, 4), flexible_from: Some(4) },
    Api { key: ApiKey::AlterConfigs, name: "AlterConfigs", versions: (0, 2), advertised: (0, 2), flexible_from: Some(2) },
    Api { key: ApiKey::DescribeLogDirs, name: "DescribeLogDirs", versions: (1, 5), advertised: (1, 5), flexible_from: Some(2) },
    Api { key: ApiKey::SaslAuthenticate, name: "SaslAuthenticate", versions: (0, 2), advertised: (0, 2), flexible_from: Some(2) },
    Api { key: ApiKey::CreatePartitions, name: "CreatePartitions", versions: (0, 3), advertised: (0, 3), flexible_from: Some(2) },
    Api { key: ApiKey::DeleteGroups, name: "DeleteGroups", versions: (0, 2), advertised: (0, 2), flexible_from: Some(2) },
    Api { key: ApiKey::ElectLeaders, name: "ElectLeaders", versions: (0, 2), advertised: (0, 2), flexible_from: Some(2) },
    Api { key: ApiKey::IncrementalAlterConfigs, name: "IncrementalAlterConfigs", versions: (0, 1), advertised: (0, 1), flexible_from: Some(1) },
    Api { key: ApiKey::OffsetDelete, name: "OffsetDelete", versions: (0, 0), advertised: (0, 0), flexible_from: None },
    Api { key: ApiKey::DescribeClientQuotas, name: "DescribeClientQuotas", versions: (0, 1), advertised: (0, 1), flexible_from: Some(1) },
    Api { key: ApiKey::DescribeQuorum, name: "DescribeQuorum", versions: (0, 2), advertised: (0, 2), flexible_from: Some(0) },
    Api { key: ApiKey::UpdateFeatures, name: "UpdateFeatures", versions: (0, 2), advertised: (0, 2), flexible_from: Some(0) },
    Api { key: ApiKey::DescribeCluster, name: "DescribeCluster", versions: (0, 2), advertised: (0, 2), flexible_from: Some(0) },
    Api { key: ApiKey::DescribeProducers, name: "DescribeProducers", versions: (0, 0), advertised: (0, 0), flexible_from: Some(0) },
    Api { key: ApiKey::DescribeTransactions, name: "DescribeTransactions", versions: (0, 0), advertised: (0, 0), flexible_from: Some(0) },
    Api { key: ApiKey::ListTransactions, name: "ListTransactions", versions: (0, 2), advertised: (0, 2), flexible_from: Some(0) },
    Api { key: ApiKey::ListConfigResources, name: "ListConfigResources", versions: (0, 1), advertised: (0, 1), flexible_from: Some(0) },
    Api { key: ApiKey::DescribeTopicPartitions, name: "DescribeTopicPartitions", versions: (0, 0), advertised: (0, 0), flexible_from: Some(0) },
];
