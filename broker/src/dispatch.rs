//! One match: API key → handler. Checks the version, decodes, calls, encodes.
//!
//! Called by `server/connection.rs` for each frame, in order. The list of arms is the list of what this broker serves, and
//! ApiVersions advertises exactly [`SERVED`]. What cannot be decoded, or is not served, closes its connection with one log line:
//! Kafka does the same, an error body of an unknown version could not be read anyway. ApiVersions alone always gets an answer.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::api::ApiKey;
use flumen_protocol::codec::{DecodeError, Fault, Message, Reader};
use flumen_protocol::frame::{decode_request_header, encode_response};
use flumen_protocol::segment::Segment;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::handlers;
use crate::node::Node;

/// The two ends of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Theirs.
    pub(crate) addr: SocketAddr,
    /// Ours, as they reached us.
    pub(crate) local: SocketAddr,
}

/// Everything about a request but its body.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// `client.id` as the client gives it; empty if it gives none.
    pub(crate) client_id: String,
    pub(crate) peer: Arc<Peer>,
}

/// What goes back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A response, with its length prefix.
    Segments(Vec<Segment>),
    /// Nothing: a produce with acks=0 has no response.
    Nothing,
    /// The end of the connection, and why.
    Close(String),
}

/// A request that has been started.
pub(crate) enum Started {
    /// Its answer is there.
    Done(Answer),
    /// Its answer comes later; what must happen in order has happened.
    Later(BoxFuture<'static, Answer>),
}

/// What this broker serves. The match in [`route`] has an arm for each; a test holds the two together.
pub(crate) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DescribeCluster,
    ApiKey::DescribeTopicPartitions,
    ApiKey::DeleteGroups,
    ApiKey::DeleteRecords,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ListConfigResources,
];

/// Whether an answer of this API may be much larger than its request: it tells what the broker holds, not what the client sent. The
/// records of a fetch stay in their files.
pub(crate) fn answers_broadly(api_key: i16) -> bool {
    !matches!(
        ApiKey::from_code(api_key),
        Some(
            ApiKey::Produce
                | ApiKey::Fetch
                | ApiKey::ListOffsets
                | ApiKey::OffsetCommit
                | ApiKey::TxnOffsetCommit
                | ApiKey::FindCoordinator
                | ApiKey::Heartbeat
                | ApiKey::LeaveGroup
                | ApiKey::InitProducerId
                | ApiKey::AddPartitionsToTxn
                | ApiKey::AddOffsetsToTxn
                | ApiKey::EndTxn
                | ApiKey::WriteTxnMarkers
                | ApiKey::OffsetForLeaderEpoch
        )
    )
}

/// Starts the request in `frame`.
pub(crate) async fn dispatch(node: &Arc<Node>, peer: &Arc<Peer>, frame: Bytes) -> Started {
    let entries_max = usize::try_from(node.config.request_max_entries).unwrap_or(usize::MAX);
    let mut reader = Reader::new(frame).with_elements_max(entries_max);
    let header = match decode_request_header(&mut reader) {
        Ok(header) => header,
        Err(error) => return close(error.to_string()),
    };
    let Some(api) = ApiKey::from_code(header.api_key).filter(|api| SERVED.contains(api)) else {
        return close(format!("api key {} is not served", header.api_key));
    };
    let context = Context {
        api,
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.unwrap_or_default(),
        peer: Arc::clone(peer),
    };
    if !node.config.fits_id(&context.client_id) {
        return close(format!(
            "a client id of {} bytes, but at most {} are allowed (flumen.id.max.bytes)",
            context.client_id.len(),
            node.config.id_max_bytes
        ));
    }
    if !api.has_version(context.version) {
        if api == ApiKey::ApiVersions {
            return Started::Done(handlers::api_versions::unsupported_version(&context));
        }
        return close(format!("{api} version {} is not served", context.version));
    }
    let began = node.drivers.clock.now();
    let started = route(node, context, reader).await.unwrap_or_else(close);
    let node = Arc::clone(node);
    let count = move || {
        let took = node.drivers.clock.now() - began;
        node.metrics.on_request(api, took);
    };
    match started {
        Started::Done(answer) => {
            count();
            Started::Done(answer)
        }
        Started::Later(answer) => Started::Later(Box::pin(answer.inspect(move |_| count()))),
    }
}

fn close(why: String) -> Started {
    Started::Done(Answer::Close(why))
}

/// Decodes the body; what is left over after it is as wrong as what is missing.
pub(crate) fn decode<M: Message>(context: &Context, reader: &mut Reader) -> Result<M, String> {
    let describe =
        |error: &dyn std::fmt::Display| format!("{} v{}: {error}", context.api, context.version);
    let body = M::decode(reader, context.version).map_err(|error| match error {
        DecodeError::Malformed {
            fault: Fault::TooManyElements(_),
            ..
        } => describe(&format_args!("{error} (flumen.request.max.entries)")),
        _ => describe(&error),
    })?;
    if reader.remaining() > 0 {
        return Err(describe(&format_args!(
            "{} bytes after the end of the request",
            reader.remaining()
        )));
    }
    Ok(body)
}

/// Encodes a response. That a handler filled a field its version does not have is our bug: the client sees a closed connection.
pub(crate) fn encode<M: Message>(context: &Context, body: &M) -> Answer {
    match encode_response(context.correlation_id, context.api, context.version, body) {
        Ok(segments) => Answer::Segments(segments),
        Err(error) => {
            tracing::error!(api = %context.api, version = context.version, %error, "response cannot be encoded");
            Answer::Close(error.to_string())
        }
    }
}

/// An arm of the match: decode, then a future that calls the handler and encodes what it says.
macro_rules! later {
    ($node:ident, $context:ident, $reader:ident, $handler:path) => {{
        let request = decode(&$context, &mut $reader)?;
        let node = Arc::clone($node);
        Ok(Started::Later(Box::pin(async move {
            let response = $handler(&node, &$context, request).await;
            encode(&$context, &response)
        })))
    }};
}

/// An arm whose handler has its answer at once.
macro_rules! now {
    ($node:ident, $context:ident, $reader:ident, $handler:path) => {{
        let request = decode(&$context, &mut $reader)?;
        let response = $handler($node, &$context, &request);
        Ok(Started::Done(encode(&$context, &response)))
    }};
}

async fn route(node: &Arc<Node>, context: Context, mut reader: Reader) -> Result<Started, String> {
    use handlers::{api_versions, cluster, configs, fetch, list_offsets, metadata, topics};
    use handlers::{offset_for_leader_epoch, produce};
    match context.api {
        ApiKey::Produce => {
            let request = decode(&context, &mut reader)?;
            // The records are slices of the frame: let go of it, so that they are its only holders.
            drop(reader);
            Ok(produce::produce(node, context, request).await)
        }
        ApiKey::Fetch => later!(node, context, reader, fetch::fetch),
        ApiKey::ListOffsets => now!(node, context, reader, list_offsets::list_offsets),
        ApiKey::OffsetForLeaderEpoch => {
            now!(
                node,
                context,
                reader,
                offset_for_leader_epoch::offset_for_leader_epoch
            )
        }
        ApiKey::Metadata => later!(node, context, reader, metadata::metadata),
        ApiKey::ApiVersions => now!(node, context, reader, api_versions::api_versions),
        ApiKey::CreateTopics => later!(node, context, reader, topics::create_topics),
        ApiKey::DeleteTopics => later!(node, context, reader, topics::delete_topics),
        ApiKey::DescribeConfigs => now!(node, context, reader, configs::describe_configs),
        ApiKey::DescribeCluster => now!(node, context, reader, cluster::describe_cluster),
        ApiKey::DescribeTopicPartitions => {
            now!(node, context, reader, cluster::describe_topic_partitions)
        }
        _ => administer(node, context, reader),
    }
}

/// What tools ask and change.
fn administer(node: &Arc<Node>, context: Context, mut reader: Reader) -> Result<Started, String> {
    use handlers::{alter_configs, configs, features, log_dirs, partitions, records};
    match context.api {
        ApiKey::DeleteRecords => later!(node, context, reader, records::delete_records),
        ApiKey::DescribeProducers => now!(node, context, reader, records::describe_producers),
        ApiKey::AlterConfigs => later!(node, context, reader, alter_configs::alter_configs),
        ApiKey::IncrementalAlterConfigs => {
            later!(
                node,
                context,
                reader,
                alter_configs::incremental_alter_configs
            )
        }
        ApiKey::ListConfigResources => {
            now!(node, context, reader, configs::list_config_resources)
        }
        ApiKey::CreatePartitions => later!(node, context, reader, partitions::create_partitions),
        ApiKey::ElectLeaders => now!(node, context, reader, partitions::elect_leaders),
        ApiKey::DescribeLogDirs => now!(node, context, reader, log_dirs::describe_log_dirs),
        ApiKey::DescribeQuorum => now!(node, context, reader, features::describe_quorum),
        ApiKey::DescribeClientQuotas => {
            now!(node, context, reader, features::describe_client_quotas)
        }
        ApiKey::UpdateFeatures => later!(node, context, reader, features::update_features),
        _ => coordinate(node, context, reader),
    }
}

/// What the coordinators of groups and transactions answer.
fn coordinate(node: &Arc<Node>, context: Context, mut reader: Reader) -> Result<Started, String> {
    use handlers::{groups, listings, offset_delete, offsets, transactions};
    match context.api {
        ApiKey::FindCoordinator => later!(node, context, reader, groups::find_coordinator),
        ApiKey::JoinGroup => later!(node, context, reader, groups::join_group),
        ApiKey::SyncGroup => later!(node, context, reader, groups::sync_group),
        ApiKey::Heartbeat => later!(node, context, reader, groups::heartbeat),
        ApiKey::LeaveGroup => later!(node, context, reader, groups::leave_group),
        ApiKey::DescribeGroups => later!(node, context, reader, groups::describe_groups),
        ApiKey::ListGroups => later!(node, context, reader, groups::list_groups),
        ApiKey::DeleteGroups => later!(node, context, reader, groups::delete_groups),
        ApiKey::OffsetCommit => later!(node, context, reader, offsets::offset_commit),
        ApiKey::OffsetFetch => later!(node, context, reader, offsets::offset_fetch),
        ApiKey::InitProducerId => later!(node, context, reader, transactions::init_producer_id),
        ApiKey::AddPartitionsToTxn => {
            later!(node, context, reader, transactions::add_partitions_to_txn)
        }
        ApiKey::AddOffsetsToTxn => later!(node, context, reader, transactions::add_offsets_to_txn),
        ApiKey::EndTxn => later!(node, context, reader, transactions::end_txn),
        ApiKey::WriteTxnMarkers => later!(node, context, reader, transactions::write_txn_markers),
        ApiKey::TxnOffsetCommit => later!(node, context, reader, transactions::txn_offset_commit),
        ApiKey::DescribeTransactions => {
            later!(node, context, reader, transactions::describe_transactions)
        }
        ApiKey::ListTransactions => later!(node, context, reader, listings::list_transactions),
        ApiKey::OffsetDelete => later!(node, context, reader, offset_delete::offset_delete),
        other => Err(format!("{other} is not served")),
    }
}
