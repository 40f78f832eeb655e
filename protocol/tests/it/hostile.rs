//! Bytes that mean harm: wrong counts, cut frames, too many fields, noise. Each gives a typed
//! error, costs little memory and never panics.

use bytes::{BufMut, Bytes, BytesMut};
use flumen_protocol::codec::{DecodeError, Fault, Message, Reader, Writer, put_unsigned_varint};
use flumen_protocol::message::{MetadataRequest, SaslAuthenticateRequest};

use crate::allocations::counted;
use crate::messages::{self, Entry};
use crate::sample::{Dice, Mark, Richness, Width, sample};

const MEMORY_MAX: usize = 1 << 20;

/// Decodes; more than 1 MiB of allocations fails the test.
fn decode(entry: &Entry, bytes: &Bytes, version: i16) -> Result<usize, DecodeError> {
    let (result, allocated) = counted(|| (entry.decode)(bytes.clone(), version));
    let name = &entry.shape.name;
    assert!(
        allocated < MEMORY_MAX,
        "{name} {version}: {allocated} bytes allocated for {bytes:02x?}"
    );
    result
}

/// What a count or length is replaced with.
fn lies(width: Width) -> Vec<Vec<u8>> {
    match width {
        Width::Two => [i16::MAX, -2, i16::MIN]
            .map(|n| n.to_be_bytes().to_vec())
            .to_vec(),
        Width::Four => [i32::MAX, -2, i32::MIN]
            .map(|n| n.to_be_bytes().to_vec())
            .to_vec(),
        Width::Varint => {
            let mut max = BytesMut::new();
            put_unsigned_varint(&mut max, i32::MAX as u32);
            let all_ones = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
            let too_long = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
            vec![max.to_vec(), all_ones, too_long]
        }
    }
}

fn with_lie(bytes: &[u8], mark: &Mark, lie: &[u8]) -> Bytes {
    let mut changed = bytes[..mark.at].to_vec();
    changed.extend_from_slice(lie);
    changed.extend_from_slice(&bytes[mark.at + mark.len..]);
    changed.into()
}

#[test]
fn every_count_and_length_that_lies_is_an_error() {
    let mut checked = 0;
    for entry in messages::all() {
        for version in entry.shape.versions.iter() {
            let honest = sample(&entry.shape, version, Richness::Full, 7);
            for mark in &honest.marks {
                for lie in lies(mark.width) {
                    let bytes = with_lie(&honest.bytes, mark, &lie);
                    let result = decode(&entry, &bytes, version);
                    let name = &entry.shape.name;
                    assert!(
                        result.is_err(),
                        "{name} {version} at {}: {lie:02x?}",
                        mark.at
                    );
                    checked += 1;
                }
            }
        }
    }
    println!("{checked} frames");
}

#[test]
fn every_truncation_is_an_error() {
    let mut checked = 0;
    for entry in messages::all() {
        for version in entry.shape.versions.iter() {
            let whole = Bytes::from(sample(&entry.shape, version, Richness::Full, 8).bytes);
            for len in 0..whole.len() {
                let result = decode(&entry, &whole.slice(..len), version);
                let name = &entry.shape.name;
                assert!(result.is_err(), "{name} {version} cut at {len}");
                checked += 1;
            }
        }
    }
    println!("{checked} frames");
}

#[test]
fn noise_is_an_error_or_a_message_but_never_a_panic() {
    let mut dice = Dice(20_261_121);
    for entry in messages::all() {
        for version in entry.shape.versions.iter() {
            for round in 0..60 {
                let mut bytes = sample(&entry.shape, version, Richness::Random, round).bytes;
                if round % 3 == 0 {
                    let len = dice.below(200);
                    bytes = (0..len).map(|_| dice.next() as u8).collect();
                }
                for _ in 0..(1 + dice.below(4)).min(bytes.len()) {
                    let at = dice.below(bytes.len());
                    bytes[at] = dice.next() as u8;
                }
                let _ = decode(&entry, &bytes.into(), version);
            }
        }
    }
}

#[test]
fn versions_that_do_not_exist_are_named() {
    for entry in messages::all() {
        let versions = entry.shape.versions;
        for version in [versions.min - 1, versions.max + 1, i16::MIN, i16::MAX] {
            let error = (entry.decode)(Bytes::from_static(&[0; 64]), version).unwrap_err();
            let DecodeError::UnsupportedVersion {
                version: found,
                min,
                max,
                ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((found, min, max), (version, versions.min, versions.max));
        }
    }
}

fn fault<M: Message>(bytes: impl Into<Bytes>, version: i16) -> Fault {
    match M::decode(&mut Reader::new(bytes.into()), version) {
        Err(DecodeError::Malformed { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// `SaslAuthenticateRequest` 2 with that many unknown tagged fields.
fn with_tags(count: u32) -> Bytes {
    let mut w = Writer::new();
    w.unsigned_varint(1);
    w.unsigned_varint(count);
    for tag in 0..count {
        w.unsigned_varint(tag);
        w.unsigned_varint(0);
    }
    w.into_bytes().unwrap()
}

#[test]
fn unknown_tagged_fields_are_bounded() {
    let mut r = Reader::new(with_tags(64));
    let request = SaslAuthenticateRequest::decode(&mut r, 2).unwrap();
    assert_eq!(request.unknown_tagged_fields.len(), 64);
    assert_eq!(
        fault::<SaslAuthenticateRequest>(with_tags(65), 2),
        Fault::TooManyTags
    );
}

#[test]
fn a_known_tagged_field_must_be_as_long_as_it_says() {
    // ApiVersionsResponse 3: error 0, no keys, throttle 0, one tagged field: 3
    // (zk_migration_ready), two bytes
    let bytes: &[u8] = &[0, 0, 1, 0, 0, 0, 0, 1, 3, 2, 1, 1];
    assert_eq!(
        fault::<flumen_protocol::message::ApiVersionsResponse>(bytes, 3),
        Fault::TagSize {
            tag: 3,
            size: 2,
            read: 1
        }
    );
}

/// Metadata 9 with that many topics of an empty name: two bytes each on the wire, some eighty in
/// memory.
fn with_empty_topics(count: u32) -> Bytes {
    let mut buf = BytesMut::new();
    put_unsigned_varint(&mut buf, count + 1);
    for _ in 0..count {
        buf.put_slice(&[1, 0]);
    }
    buf.put_slice(&[0, 0, 0, 0]);
    buf.freeze()
}

#[test]
fn a_frame_cannot_ask_for_many_times_its_size() {
    let (result, allocated) =
        counted(|| MetadataRequest::decode(&mut Reader::new(with_empty_topics(1_000)), 9));
    assert_eq!(result.unwrap().topics.unwrap().len(), 1_000);
    assert!(allocated < MEMORY_MAX);

    let large = with_empty_topics(1_000_000);
    let (result, allocated) = counted(|| fault::<MetadataRequest>(large.clone(), 9));
    assert_eq!(result, Fault::OverBudget(4 * large.len() + (1 << 20)));
    assert!(allocated < MEMORY_MAX, "{allocated}");
}

#[test]
fn the_elements_of_all_arrays_count_together() {
    let decode = |max| {
        let mut r = Reader::new(with_empty_topics(10)).with_elements_max(max);
        MetadataRequest::decode(&mut r, 9)
    };
    assert_eq!(decode(10).unwrap().topics.unwrap().len(), 10);
    let error = decode(9).unwrap_err().to_string();
    assert_eq!(
        error,
        "MetadataRequest.topics at byte 1: more than 9 elements in one message"
    );
}

#[test]
fn a_compact_string_is_no_longer_than_a_classic_one() {
    let name = |len: u32| {
        let mut buf = BytesMut::new();
        put_unsigned_varint(&mut buf, 2);
        put_unsigned_varint(&mut buf, len + 1);
        buf.put_bytes(b't', len as usize);
        buf.put_slice(&[0, 0, 0, 0, 0]);
        MetadataRequest::decode(&mut Reader::new(buf.freeze()), 9)
    };
    assert!(name(32_767).is_ok());
    let error = name(32_768).unwrap_err().to_string();
    assert_eq!(
        error,
        "MetadataRequest.name at byte 4: a string of 32768 bytes, but at most 32767 are allowed"
    );
}

#[test]
fn null_text_and_presence_bytes_are_checked() {
    use flumen_protocol::message::{DescribeTopicPartitionsRequest, HeartbeatRequest};
    assert_eq!(
        fault::<HeartbeatRequest>(&[0xff, 0xff][..], 0),
        Fault::UnexpectedNull
    );
    assert_eq!(
        fault::<HeartbeatRequest>(&[0, 1, 0xff][..], 0),
        Fault::NotUtf8
    );
    // no topics, limit 1, cursor with the presence byte 2
    assert_eq!(
        fault::<DescribeTopicPartitionsRequest>(&[1, 0, 0, 0, 1, 2][..], 0),
        Fault::BadPresence(2)
    );
}

#[test]
fn a_header_that_lies_is_an_error() {
    // Metadata 12: key, version, correlation id, length of the client id, tagged fields
    let header = |client_id: [u8; 2], tags: &'static [u8]| {
        let head: &[u8] = &[0, 3, 0, 12, 0, 0, 0, 1];
        let mut r = Reader::new(Bytes::from([head, &client_id, tags].concat()));
        let (result, allocated) = counted(|| flumen_protocol::frame::decode_request_header(&mut r));
        assert!(allocated < MEMORY_MAX);
        result
    };
    assert!(header([0xff, 0xff], &[0]).is_ok());
    assert!(header([0x7f, 0xff], &[0]).is_err());
    assert!(header([0xff, 0xfe], &[0]).is_err());
    assert!(header([0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    assert!(header([0xff, 0xff], &[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
}
