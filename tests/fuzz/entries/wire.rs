//! What comes over a socket: requests, responses, primitives, record batches, compressed bytes.

use bytes::{Bytes, BytesMut};
use flumen::protocol::api::ApiKey;
use flumen::protocol::batch::{RecordBatch, batches, seal};
use flumen::protocol::codec::{Message, Reader, Request, Writer};
use flumen::protocol::compression::{Compression, DecompressionLimit, compress};
use flumen::protocol::frame::{decode_request_header, decode_response};
use flumen::protocol::message::{MetadataRequest, SaslAuthenticateRequest};
use flumen::protocol::{for_each_api, message};

/// As the broker's default.
const ELEMENTS_MAX: usize = 10_000;

/// What was read is written, read again, and written again the same.
fn again<M: Message>(body: &M, version: i16) {
    let write = |body: &M| {
        let mut writer = Writer::new();
        body.encode(&mut writer, version).ok()?;
        Some(writer.into_bytes().expect("no files here"))
    };
    // Tagged fields out of order are read, but not written.
    let Some(first) = write(body) else { return };
    let read = M::decode(&mut Reader::new(first.clone()), version);
    if let Ok(read) = read {
        assert_eq!(write(&read), Some(first), "{} {version}", M::NAME);
    }
}

fn body<R: Request>(reader: &mut Reader, version: i16) {
    if let Ok(body) = R::decode(reader, version) {
        again(&body, version);
    }
}

/// A frame of a request, without its length: the header says which.
pub(super) fn request(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes)).with_elements_max(ELEMENTS_MAX);
    let Ok(header) = decode_request_header(&mut reader) else {
        return;
    };
    macro_rules! bodies {
        ($($api:ident, $request:ident, $response:ident;)*) => {
            match ApiKey::from_code(header.api_key) {
                $(Some(ApiKey::$api) => body::<message::$request>(&mut reader, header.api_version),)*
                _ => {}
            }
        };
    }
    for_each_api!(bodies);
}

/// Two bytes of api key, two of version, and a frame of a response without its length.
pub(super) fn response(bytes: &[u8]) {
    let Some((head, frame)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    let frame = Bytes::copy_from_slice(frame);
    macro_rules! bodies {
        ($($api:ident, $request:ident, $response:ident;)*) => {
            match ApiKey::from_code(key) {
                $(Some(ApiKey::$api) if ApiKey::$api.has_version(version) => {
                    if let Ok((_, body)) = decode_response::<message::$request>(frame, version) {
                        again(&body, version);
                    }
                })*
                _ => {}
            }
        };
    }
    for_each_api!(bodies);
}

/// A script: each byte reads one primitive off what follows, in the classic or the compact encoding.
pub(super) fn primitives(bytes: &[u8]) {
    for version in [0, 12] {
        let (script, rest) = bytes.split_at(bytes.len().min(16));
        let mut reader = Reader::new(Bytes::copy_from_slice(rest)).with_elements_max(ELEMENTS_MAX);
        reader
            .begin::<MetadataRequest>(version)
            .expect("a version of Metadata");
        for step in script {
            let read = match step % 12 {
                0 => reader.string("f").map(drop),
                1 => reader.nullable_string("f").map(drop),
                2 => reader.bytes("f").map(drop),
                3 => reader.nullable_bytes("f").map(drop),
                4 => reader.array::<i32>("f", version).map(drop),
                5 => reader.nullable_array::<String>("f", version).map(drop),
                6 => reader.unsigned_varint("f").map(drop),
                7 => reader.unknown_tags().map(drop),
                8 => reader.uuid("f").map(drop),
                9 => reader.f64("f").map(drop),
                10 => reader.nullable_struct::<i64>("f", version).map(drop),
                _ => SaslAuthenticateRequest::decode(&mut reader, 2).map(drop),
            };
            if read.is_err() {
                break;
            }
        }
    }
}

/// Bytes of batches as a fetch brings them; as they are, and with a length and a checksum that fit.
pub(super) fn batch(bytes: &[u8]) {
    for batch in batches(Bytes::copy_from_slice(bytes)) {
        let Ok(batch) = batch else { break };
        records(&batch);
    }
    if bytes.len() >= 61 {
        let mut sealed = BytesMut::from(bytes);
        let length = i32::try_from(bytes.len() - 12).unwrap_or(i32::MAX);
        sealed[8..12].copy_from_slice(&length.to_be_bytes());
        sealed[16] = 2;
        seal(&mut sealed);
        if let Ok(batch) = RecordBatch::parse(sealed.freeze()) {
            batch.verify_crc().expect("it was sealed");
            records(&batch);
        }
    }
}

fn records(batch: &RecordBatch) {
    let header = batch.header();
    let _ = (
        header.last_offset(),
        header.next_offset(),
        header.last_sequence(),
    );
    let _ = batch.verify_crc();
    let _ = batch.control_record();
    let Ok(records) = batch.records(DecompressionLimit(1 << 20)) else {
        return;
    };
    let mut count = 0;
    for record in records {
        let Ok(record) = record else { break };
        assert_eq!(record.headers.iter().count(), record.headers.len());
        count += 1;
    }
    assert!(count <= header.record_count.max(0));
}

/// A codec, a limit, and bytes that are said to be compressed.
pub(super) fn decompress(bytes: &[u8]) {
    let Some((&[codec, limit], input)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let codec = Compression::ALL[usize::from(codec) % 5];
    let limit = (usize::from(limit) + 1) * 4096;
    let input = Bytes::copy_from_slice(input);
    let output =
        flumen::protocol::compression::decompress(codec, &input, DecompressionLimit(limit));
    let Ok(output) = output else { return };
    if codec == Compression::None {
        return;
    }
    assert!(output.len() <= limit, "{codec:?}: {} bytes", output.len());
    let mut small = Vec::new();
    compress(codec, &output, &mut small);
    let back = flumen::protocol::compression::decompress(
        codec,
        &small.into(),
        DecompressionLimit(output.len()),
    );
    assert_eq!(back.expect("our own bytes"), output, "{codec:?}");
}
