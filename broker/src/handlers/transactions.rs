//! Placeholder until the coordinators land.

use std::sync::Arc;

use flumen_protocol::message::*;

use crate::dispatch::Context;
use crate::node::Node;

pub(crate) async fn init_producer_id(
    _: &Arc<Node>,
    _: &Context,
    _: InitProducerIdRequest,
) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
}

pub(crate) async fn add_partitions_to_txn(
    _: &Arc<Node>,
    _: &Context,
    _: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    AddPartitionsToTxnResponse::default()
}

pub(crate) async fn add_offsets_to_txn(
    _: &Arc<Node>,
    _: &Context,
    _: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse::default()
}

pub(crate) async fn end_txn(_: &Arc<Node>, _: &Context, _: EndTxnRequest) -> EndTxnResponse {
    EndTxnResponse::default()
}

pub(crate) async fn write_txn_markers(
    _: &Arc<Node>,
    _: &Context,
    _: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    WriteTxnMarkersResponse::default()
}

pub(crate) async fn txn_offset_commit(
    _: &Arc<Node>,
    _: &Context,
    _: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    TxnOffsetCommitResponse::default()
}
