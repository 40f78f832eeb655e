//! Placeholder until the coordinators land.

use std::sync::Arc;

use flumen_protocol::message::*;

use crate::dispatch::Context;
use crate::node::Node;

pub(crate) async fn offset_commit(
    _: &Arc<Node>,
    _: &Context,
    _: OffsetCommitRequest,
) -> OffsetCommitResponse {
    OffsetCommitResponse::default()
}

pub(crate) async fn offset_fetch(
    _: &Arc<Node>,
    _: &Context,
    _: OffsetFetchRequest,
) -> OffsetFetchResponse {
    OffsetFetchResponse::default()
}
