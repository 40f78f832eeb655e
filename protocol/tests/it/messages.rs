//! Every message as a table of functions, beside its shape: what the other modules walk over.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use flumen_protocol::codec::{DecodeError, Message, Reader, Writer};
use flumen_protocol::{for_each_api, for_each_data, message};
use flumen_protocol_generator::{Message as Shape, Versions};
use kafka_protocol::messages as kafka;
use kafka_protocol::protocol::{Decodable, Encodable, Message as KafkaMessage};

/// One message: its shape, and the ways in and out of it.
pub(crate) struct Entry {
    pub(crate) shape: Shape,
    /// Decodes; returns how many bytes are left.
    pub(crate) decode: fn(Bytes, i16) -> Result<usize, DecodeError>,
    /// Decodes, checks that encoding and decoding gives the same value again, and returns the
    /// encoded bytes.
    pub(crate) recode: fn(Bytes, i16) -> Bytes,
    /// What kafka-protocol makes of the bytes, for the versions that it knows.
    pub(crate) kafka: Option<Kafka>,
}

/// The same message in kafka-protocol.
#[derive(Clone, Copy)]
pub(crate) struct Kafka {
    pub(crate) versions: Versions,
    pub(crate) recode: fn(Bytes, i16) -> Result<Bytes, String>,
}

/// All shapes of the crate.
pub(crate) fn shapes() -> Vec<flumen_protocol_generator::Shape> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shapes");
    flumen_protocol_generator::read_shapes(&folder).expect("the shapes are in the notation")
}

fn decode<M: Message>(bytes: Bytes, version: i16) -> Result<usize, DecodeError> {
    let mut r = Reader::new(bytes);
    M::decode(&mut r, version)?;
    Ok(r.remaining())
}

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut w = Writer::new();
    message
        .encode(&mut w, version)
        .expect("what was decoded can be encoded");
    let len = w.len();
    let bytes = w.into_bytes().expect("no files here");
    assert_eq!(bytes.len(), len);
    bytes
}

fn recode<M: Message>(bytes: Bytes, version: i16) -> Bytes {
    let mut r = Reader::new(bytes);
    let message =
        M::decode(&mut r, version).unwrap_or_else(|e| panic!("{} {version}: {e}", M::NAME));
    assert_eq!(r.remaining(), 0, "{} {version}", M::NAME);
    let again = encode(&message, version);
    let back = M::decode(&mut Reader::new(again.clone()), version).expect("our own bytes");
    assert_eq!(back, message);
    again
}

fn kafka_recode<M: Encodable + Decodable>(bytes: Bytes, version: i16) -> Result<Bytes, String> {
    let mut bytes = bytes;
    let message = M::decode(&mut bytes, version).map_err(|e| format!("decode: {e:#}"))?;
    if !bytes.is_empty() {
        return Err(format!("decode: {} bytes left", bytes.len()));
    }
    let mut out = BytesMut::new();
    message
        .encode(&mut out, version)
        .map_err(|e| format!("encode: {e:#}"))?;
    Ok(out.freeze())
}

fn in_kafka<M: Encodable + Decodable + KafkaMessage>() -> Option<Kafka> {
    let (min, max) = (M::VERSIONS.min, M::VERSIONS.max);
    let versions = Versions { min, max };
    Some(Kafka {
        versions,
        recode: kafka_recode::<M>,
    })
}

fn entry<M: Message>(shapes: &[Shape], kafka: Option<Kafka>) -> Entry {
    let shape = shapes.iter().find(|shape| shape.name == M::NAME);
    let shape = shape.expect("every message has a shape").clone();
    assert_eq!(shape.versions.min, M::MIN_VERSION);
    assert_eq!(shape.versions.max, M::MAX_VERSION);
    Entry {
        shape,
        decode: decode::<M>,
        recode: recode::<M>,
        kafka,
    }
}

/// Every message of the crate.
pub(crate) fn all() -> Vec<Entry> {
    let shapes: Vec<Shape> = shapes().into_iter().flat_map(|s| s.messages).collect();
    let mut entries = Vec::new();
    macro_rules! of_apis {
        ($($api:ident, $request:ident, $response:ident;)*) => {$(
            entries.push(entry::<message::$request>(&shapes, in_kafka::<kafka::$request>()));
            entries.push(entry::<message::$response>(&shapes, in_kafka::<kafka::$response>()));
        )*};
    }
    for_each_api!(of_apis);
    macro_rules! of_data {
        ($($data:ident;)*) => {$(
            entries.push(entry::<message::$data>(&shapes, None));
        )*};
    }
    for_each_data!(of_data);
    for entry in &mut entries {
        match entry.shape.name.as_str() {
            "ConsumerProtocolSubscription" => {
                entry.kafka = in_kafka::<kafka::ConsumerProtocolSubscription>();
            }
            "ConsumerProtocolAssignment" => {
                entry.kafka = in_kafka::<kafka::ConsumerProtocolAssignment>();
            }
            _ => {}
        }
    }
    assert_eq!(entries.len(), shapes.len(), "a shape has no message");
    entries
}
