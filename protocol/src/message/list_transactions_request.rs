//! ListTransactionsRequest, versions 0 to 2, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::ListTransactionsResponse;

/// ListTransactionsRequest: the request.
///
/// - Version 1: adds DurationFilter to list transactions older than specified duration
/// - Version 2: adds TransactionalIdPattern to list transactions with the same
///   pattern(KIP-1152)
#[derive(Clone, Debug, PartialEq)]
pub struct ListTransactionsRequest {
    /// The transaction states to filter by: if empty, all transactions are returned; if non-
    /// empty, then only transactions matching one of the filtered states will be returned.
    pub state_filters: Vec<String>,
    /// The producerIds to filter by: if empty, all transactions will be returned; if non-empty,
    /// only transactions which match one of the filtered producerIds will be returned.
    pub producer_id_filters: Vec<i64>,
    /// Duration (in millis) to filter by: if < 0, all transactions will be returned; otherwise,
    /// only transactions running longer than this duration will be returned.
    ///
    /// From version 1.
    pub duration_filter: i64,
    /// The transactional ID regular expression pattern to filter by: if it is empty or null, all
    /// transactions are returned; Otherwise then only the transactions matching the given regular
    /// expression will be returned.
    ///
    /// Version 2 only.
    pub transactional_id_pattern: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ListTransactionsRequest {
    fn default() -> Self {
        Self {
            state_filters: Vec::new(),
            producer_id_filters: Vec::new(),
            duration_filter: -1,
            transactional_id_pattern: None,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for ListTransactionsRequest {
    const NAME: &'static str = "ListTransactionsRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.state_filters = r.array("state_filters", version)?;
        it.producer_id_filters = r.array("producer_id_filters", version)?;
        if version >= 1 {
            it.duration_filter = r.i64("duration_filter")?;
        }
        if version == 2 {
            it.transactional_id_pattern = r.nullable_string("transactional_id_pattern")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.array("state_filters", &self.state_filters, version)?;
        w.array("producer_id_filters", &self.producer_id_filters, version)?;
        if version >= 1 {
            w.i64(self.duration_filter);
        } else if self.duration_filter != -1 {
            return Err(w.unsupported("duration_filter", version));
        }
        if version == 2 {
            w.nullable_string(
                "transactional_id_pattern",
                self.transactional_id_pattern.as_deref(),
            )?;
        } else if self.transactional_id_pattern.is_some() {
            return Err(w.unsupported("transactional_id_pattern", version));
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

impl Request for ListTransactionsRequest {
    const API: ApiKey = ApiKey::ListTransactions;
    type Response = ListTransactionsResponse;
}
