//! Every message, one file each: `message::FetchRequest` is the request, `message::fetch_request::FetchTopic` a part of it.
//!
//! Field names are Kafka's in snake case; defaults are Kafka's. How they look on the wire is in `codec`.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

#![allow(
    clippy::too_many_lines,
    clippy::field_reassign_with_default,
    clippy::derivable_impls,
    reason = "generated: as long as the message"
)]

pub mod add_offsets_to_txn_request;
pub mod add_offsets_to_txn_response;
pub mod add_partitions_to_txn_request;
pub mod add_partitions_to_txn_response;
pub mod alter_configs_request;
pub mod alter_configs_response;
pub mod api_versions_request;
pub mod api_versions_response;
pub mod consumer_protocol_assignment;
pub mod consumer_protocol_subscription;
pub mod create_partitions_request;
pub mod create_partitions_response;
pub mod create_topics_request;
pub mod create_topics_response;
pub mod delete_groups_request;
pub mod delete_groups_response;
pub mod delete_records_request;
pub mod delete_records_response;
pub mod delete_topics_request;
pub mod delete_topics_response;
pub mod describe_client_quotas_request;
pub mod describe_client_quotas_response;
pub mod describe_cluster_request;
pub mod describe_cluster_response;
pub mod describe_configs_request;
pub mod describe_configs_response;
pub mod describe_groups_request;
pub mod describe_groups_response;
pub mod describe_log_dirs_request;
pub mod describe_log_dirs_response;
pub mod describe_producers_request;
pub mod describe_producers_response;
pub mod describe_quorum_request;
pub mod describe_quorum_response;
pub mod describe_topic_partitions_request;
pub mod describe_topic_partitions_response;
pub mod describe_transactions_request;
pub mod describe_transactions_response;
pub mod elect_leaders_request;
pub mod elect_leaders_response;
pub mod end_txn_request;
pub mod end_txn_response;
pub mod fetch_request;
pub mod fetch_response;
pub mod find_coordinator_request;
pub mod find_coordinator_response;
pub mod group_metadata_key;
pub mod group_metadata_value;
pub mod heartbeat_request;
pub mod heartbeat_response;
pub mod incremental_alter_configs_request;
pub mod incremental_alter_configs_response;
pub mod init_producer_id_request;
pub mod init_producer_id_response;
pub mod join_group_request;
pub mod join_group_response;
pub mod leave_group_request;
pub mod leave_group_response;
pub mod list_config_resources_request;
pub mod list_config_resources_response;
pub mod list_groups_request;
pub mod list_groups_response;
pub mod list_offsets_request;
pub mod list_offsets_response;
pub mod list_transactions_request;
pub mod list_transactions_response;
pub mod metadata_request;
pub mod metadata_response;
pub mod offset_commit_key;
pub mod offset_commit_request;
pub mod offset_commit_response;
pub mod offset_commit_value;
pub mod offset_delete_request;
pub mod offset_delete_response;
pub mod offset_fetch_request;
pub mod offset_fetch_response;
pub mod offset_for_leader_epoch_request;
pub mod offset_for_leader_epoch_response;
pub mod produce_request;
pub mod produce_response;
pub mod sasl_authenticate_request;
pub mod sasl_authenticate_response;
pub mod sasl_handshake_request;
pub mod sasl_handshake_response;
pub mod sync_group_request;
pub mod sync_group_response;
pub mod transaction_log_key;
pub mod transaction_log_value;
pub mod txn_offset_commit_request;
pub mod txn_offset_commit_response;
pub mod update_features_request;
pub mod update_features_response;
pub mod write_txn_markers_request;
pub mod write_txn_markers_response;

pub use add_offsets_to_txn_request::AddOffsetsToTxnRequest;
pub use add_offsets_to_txn_response::AddOffsetsToTxnResponse;
pub use add_partitions_to_txn_request::AddPartitionsToTxnRequest;
pub use add_partitions_to_txn_response::AddPartitionsToTxnResponse;
pub use alter_configs_request::AlterConfigsRequest;
pub use alter_configs_response::AlterConfigsResponse;
pub use api_versions_request::ApiVersionsRequest;
pub use api_versions_response::ApiVersionsResponse;
pub use consumer_protocol_assignment::ConsumerProtocolAssignment;
pub use consumer_protocol_subscription::ConsumerProtocolSubscription;
pub use create_partitions_request::CreatePartitionsRequest;
pub use create_partitions_response::CreatePartitionsResponse;
pub use create_topics_request::CreateTopicsRequest;
pub use create_topics_response::CreateTopicsResponse;
pub use delete_groups_request::DeleteGroupsRequest;
pub use delete_groups_response::DeleteGroupsResponse;
pub use delete_records_request::DeleteRecordsRequest;
pub use delete_records_response::DeleteRecordsResponse;
pub use delete_topics_request::DeleteTopicsRequest;
pub use delete_topics_response::DeleteTopicsResponse;
pub use describe_client_quotas_request::DescribeClientQuotasRequest;
pub use describe_client_quotas_response::DescribeClientQuotasResponse;
pub use describe_cluster_request::DescribeClusterRequest;
pub use describe_cluster_response::DescribeClusterResponse;
pub use describe_configs_request::DescribeConfigsRequest;
pub use describe_configs_response::DescribeConfigsResponse;
pub use describe_groups_request::DescribeGroupsRequest;
pub use describe_groups_response::DescribeGroupsResponse;
pub use describe_log_dirs_request::DescribeLogDirsRequest;
pub use describe_log_dirs_response::DescribeLogDirsResponse;
pub use describe_producers_request::DescribeProducersRequest;
pub use describe_producers_response::DescribeProducersResponse;
pub use describe_quorum_request::DescribeQuorumRequest;
pub use describe_quorum_response::DescribeQuorumResponse;
pub use describe_topic_partitions_request::DescribeTopicPartitionsRequest;
pub use describe_topic_partitions_response::DescribeTopicPartitionsResponse;
pub use describe_transactions_request::DescribeTransactionsRequest;
pub use describe_transactions_response::DescribeTransactionsResponse;
pub use elect_leaders_request::ElectLeadersRequest;
pub use elect_leaders_response::ElectLeadersResponse;
pub use end_txn_request::EndTxnRequest;
pub use end_txn_response::EndTxnResponse;
pub use fetch_request::FetchRequest;
pub use fetch_response::FetchResponse;
pub use find_coordinator_request::FindCoordinatorRequest;
pub use find_coordinator_response::FindCoordinatorResponse;
pub use group_metadata_key::GroupMetadataKey;
pub use group_metadata_value::GroupMetadataValue;
pub use heartbeat_request::HeartbeatRequest;
pub use heartbeat_response::HeartbeatResponse;
pub use incremental_alter_configs_request::IncrementalAlterConfigsRequest;
pub use incremental_alter_configs_response::IncrementalAlterConfigsResponse;
pub use init_producer_id_request::InitProducerIdRequest;
pub use init_producer_id_response::InitProducerIdResponse;
pub use join_group_request::JoinGroupRequest;
pub use join_group_response::JoinGroupResponse;
pub use leave_group_request::LeaveGroupRequest;
pub use leave_group_response::LeaveGroupResponse;
pub use list_config_resources_request::ListConfigResourcesRequest;
pub use list_config_resources_response::ListConfigResourcesResponse;
pub use list_groups_request::ListGroupsRequest;
pub use list_groups_response::ListGroupsResponse;
pub use list_offsets_request::ListOffsetsRequest;
pub use list_offsets_response::ListOffsetsResponse;
pub use list_transactions_request::ListTransactionsRequest;
pub use list_transactions_response::ListTransactionsResponse;
pub use metadata_request::MetadataRequest;
pub use metadata_response::MetadataResponse;
pub use offset_commit_key::OffsetCommitKey;
pub use offset_commit_request::OffsetCommitRequest;
pub use offset_commit_response::OffsetCommitResponse;
pub use offset_commit_value::OffsetCommitValue;
pub use offset_delete_request::OffsetDeleteRequest;
pub use offset_delete_response::OffsetDeleteResponse;
pub use offset_fetch_request::OffsetFetchRequest;
pub use offset_fetch_response::OffsetFetchResponse;
pub use offset_for_leader_epoch_request::OffsetForLeaderEpochRequest;
pub use offset_for_leader_epoch_response::OffsetForLeaderEpochResponse;
pub use produce_request::ProduceRequest;
pub use produce_response::ProduceResponse;
pub use sasl_authenticate_request::SaslAuthenticateRequest;
pub use sasl_authenticate_response::SaslAuthenticateResponse;
pub use sasl_handshake_request::SaslHandshakeRequest;
pub use sasl_handshake_response::SaslHandshakeResponse;
pub use sync_group_request::SyncGroupRequest;
pub use sync_group_response::SyncGroupResponse;
pub use transaction_log_key::TransactionLogKey;
pub use transaction_log_value::TransactionLogValue;
pub use txn_offset_commit_request::TxnOffsetCommitRequest;
pub use txn_offset_commit_response::TxnOffsetCommitResponse;
pub use update_features_request::UpdateFeaturesRequest;
pub use update_features_response::UpdateFeaturesResponse;
pub use write_txn_markers_request::WriteTxnMarkersRequest;
pub use write_txn_markers_response::WriteTxnMarkersResponse;

/// Expands `$callback! { Fetch, FetchRequest, FetchResponse; … }` with every API, in the order of their keys.
///
/// For code that treats all alike: tests, tools, logs.
#[macro_export]
macro_rules! for_each_api {
    ($callback:ident) => {
        $callback! {
            Produce, ProduceRequest, ProduceResponse;
            Fetch, FetchRequest, FetchResponse;
            ListOffsets, ListOffsetsRequest, ListOffsetsResponse;
            Metadata, MetadataRequest, MetadataResponse;
            OffsetCommit, OffsetCommitRequest, OffsetCommitResponse;
            OffsetFetch, OffsetFetchRequest, OffsetFetchResponse;
            FindCoordinator, FindCoordinatorRequest, FindCoordinatorResponse;
            JoinGroup, JoinGroupRequest, JoinGroupResponse;
            Heartbeat, HeartbeatRequest, HeartbeatResponse;
            LeaveGroup, LeaveGroupRequest, LeaveGroupResponse;
            SyncGroup, SyncGroupRequest, SyncGroupResponse;
            DescribeGroups, DescribeGroupsRequest, DescribeGroupsResponse;
            ListGroups, ListGroupsRequest, ListGroupsResponse;
            SaslHandshake, SaslHandshakeRequest, SaslHandshakeResponse;
            ApiVersions, ApiVersionsRequest, ApiVersionsResponse;
            CreateTopics, CreateTopicsRequest, CreateTopicsResponse;
            DeleteTopics, DeleteTopicsRequest, DeleteTopicsResponse;
            DeleteRecords, DeleteRecordsRequest, DeleteRecordsResponse;
            InitProducerId, InitProducerIdRequest, InitProducerIdResponse;
            OffsetForLeaderEpoch, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
            AddPartitionsToTxn, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
            AddOffsetsToTxn, AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
            EndTxn, EndTxnRequest, EndTxnResponse;
            WriteTxnMarkers, WriteTxnMarkersRequest, WriteTxnMarkersResponse;
            TxnOffsetCommit, TxnOffsetCommitRequest, TxnOffsetCommitResponse;
            DescribeConfigs, DescribeConfigsRequest, DescribeConfigsResponse;
            AlterConfigs, AlterConfigsRequest, AlterConfigsResponse;
            DescribeLogDirs, DescribeLogDirsRequest, DescribeLogDirsResponse;
            SaslAuthenticate, SaslAuthenticateRequest, SaslAuthenticateResponse;
            CreatePartitions, CreatePartitionsRequest, CreatePartitionsResponse;
            DeleteGroups, DeleteGroupsRequest, DeleteGroupsResponse;
            ElectLeaders, ElectLeadersRequest, ElectLeadersResponse;
            IncrementalAlterConfigs, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
            OffsetDelete, OffsetDeleteRequest, OffsetDeleteResponse;
            DescribeClientQuotas, DescribeClientQuotasRequest, DescribeClientQuotasResponse;
            DescribeQuorum, DescribeQuorumRequest, DescribeQuorumResponse;
            UpdateFeatures, UpdateFeaturesRequest, UpdateFeaturesResponse;
            DescribeCluster, DescribeClusterRequest, DescribeClusterResponse;
            DescribeProducers, DescribeProducersRequest, DescribeProducersResponse;
            DescribeTransactions, DescribeTransactionsRequest, DescribeTransactionsResponse;
            ListTransactions, ListTransactionsRequest, ListTransactionsResponse;
            ListConfigResources, ListConfigResourcesRequest, ListConfigResourcesResponse;
            DescribeTopicPartitions, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
        }
    };
}

/// Expands `$callback! { OffsetCommitKey; … }` with every message that travels inside another or in a record.
#[macro_export]
macro_rules! for_each_data {
    ($callback:ident) => {
        $callback! {
            ConsumerProtocolSubscription;
            ConsumerProtocolAssignment;
            OffsetCommitKey;
            OffsetCommitValue;
            GroupMetadataKey;
            GroupMetadataValue;
            TransactionLogKey;
            TransactionLogValue;
        }
    };
}
