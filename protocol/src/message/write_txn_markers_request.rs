//! WriteTxnMarkersRequest, versions 1 to 2, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::message::WriteTxnMarkersResponse;

/// WriteTxnMarkersRequest: the request.
///
/// - Version 1 enables flexible versions.
/// - Version 2 adds TransactionVersion field to the WritableTxnMarker (KIP-1228).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteTxnMarkersRequest {
    /// The transaction markers to be written.
    pub markers: Vec<WritableTxnMarker>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for WriteTxnMarkersRequest {
    const NAME: &'static str = "WriteTxnMarkersRequest";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.markers = r.array("markers", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.array("markers", &self.markers, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`WriteTxnMarkersRequest`] as `markers`.
///
/// The transaction markers to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WritableTxnMarker {
    /// The current producer ID.
    pub producer_id: i64,
    /// The current epoch associated with the producer ID.
    pub producer_epoch: i16,
    /// The result of the transaction to write to the partitions (false = ABORT, true = COMMIT).
    pub transaction_result: bool,
    /// Each topic that we want to write transaction marker(s) for.
    pub topics: Vec<WritableTxnMarkerTopic>,
    /// Epoch associated with the transaction state partition hosted by this transaction
    /// coordinator.
    pub coordinator_epoch: i32,
    /// Transaction version of the marker. Ex: 0/1 = legacy (TV0/TV1), 2 = TV2 etc.
    ///
    /// Version 2 only.
    pub transaction_version: i8,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for WritableTxnMarker {
    const MIN_SIZE: usize = 17;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.producer_id = r.i64("producer_id")?;
        it.producer_epoch = r.i16("producer_epoch")?;
        it.transaction_result = r.bool("transaction_result")?;
        it.topics = r.array("topics", version)?;
        it.coordinator_epoch = r.i32("coordinator_epoch")?;
        if version == 2 {
            it.transaction_version = r.i8("transaction_version")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        w.bool(self.transaction_result);
        w.array("topics", &self.topics, version)?;
        w.i32(self.coordinator_epoch);
        if version == 2 {
            w.i8(self.transaction_version);
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`WritableTxnMarker`] as `topics`.
///
/// Each topic that we want to write transaction marker(s) for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WritableTxnMarkerTopic {
    /// The topic name.
    pub name: String,
    /// The indexes of the partitions to write transaction markers for.
    pub partition_indexes: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for WritableTxnMarkerTopic {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.partition_indexes = r.array("partition_indexes", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.array("partition_indexes", &self.partition_indexes, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

impl Request for WriteTxnMarkersRequest {
    const API: ApiKey = ApiKey::WriteTxnMarkers;
    type Response = WriteTxnMarkersResponse;
}
