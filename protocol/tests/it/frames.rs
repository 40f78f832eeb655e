//! Frames and headers, and responses whose records lie in files.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flumen_protocol::api::ApiKey;
use flumen_protocol::codec::{DecodeError, EncodeError, Message, Reader, Request};
use flumen_protocol::frame::{self, FrameError, RequestHeader};
use flumen_protocol::message::fetch_response::{FetchableTopicResponse, PartitionData};
use flumen_protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::message::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, MetadataRequest,
    ProduceRequest,
};
use flumen_protocol::segment::{FileRange, FileSource, Records, Segment};
use kafka_protocol::protocol::{Decodable, Encodable};

fn header(api: ApiKey, api_version: i16) -> RequestHeader {
    RequestHeader {
        api_key: api.code(),
        api_version,
        correlation_id: 7,
        client_id: Some("tester".to_owned()),
    }
}

#[test]
fn the_oldest_request_of_all_is_the_bytes_that_every_client_sends() {
    let request = ApiVersionsRequest::default();
    let bytes = frame::encode_request(&header(ApiKey::ApiVersions, 0), &request).unwrap();
    assert_eq!(bytes, &b"\0\0\0\x10\0\x12\0\0\0\0\0\x07\0\x06tester"[..]);
}

#[test]
fn a_frame_is_taken_when_it_is_complete() {
    let mut buf = BytesMut::new();
    for byte in *b"\0\0\0\x03abc\0\0\0\0" {
        assert_eq!(frame::take_frame(&mut buf, 10).unwrap(), None);
        buf.extend_from_slice(&[byte]);
        if buf.ends_with(b"abc") {
            assert_eq!(
                frame::take_frame(&mut buf, 10).unwrap(),
                Some(Bytes::from("abc"))
            );
        }
    }
    assert_eq!(frame::take_frame(&mut buf, 10).unwrap(), Some(Bytes::new()));
    assert!(buf.is_empty());
}

#[test]
fn an_impossible_length_is_refused_before_its_bytes_arrive() {
    let negative = &mut BytesMut::from(&[0xff, 0xff, 0xff, 0xfe][..]);
    assert_eq!(
        frame::take_frame(negative, 10),
        Err(FrameError::Negative(-2))
    );
    let large = &mut BytesMut::from(&[0, 0, 0, 11][..]);
    assert_eq!(
        frame::take_frame(large, 10),
        Err(FrameError::TooLarge { len: 11, max: 10 })
    );
}

#[test]
fn a_request_comes_back_with_its_header_in_every_version() {
    for version in MetadataRequest::MIN_VERSION..=MetadataRequest::MAX_VERSION {
        let header = header(ApiKey::Metadata, version);
        let request = MetadataRequest {
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        let mut buf = BytesMut::from(&frame::encode_request(&header, &request).unwrap()[..]);
        let frame = frame::take_frame(&mut buf, 1_000).unwrap().unwrap();
        assert!(buf.is_empty());
        let mut r = Reader::new(frame);
        assert_eq!(frame::decode_request_header(&mut r).unwrap(), header);
        assert_eq!(MetadataRequest::decode(&mut r, version).unwrap(), request);
        assert_eq!(r.remaining(), 0);
    }
}

#[test]
fn headers_are_those_of_kafka_protocol() {
    for (api, version) in [
        (ApiKey::Fetch, 11),
        (ApiKey::Fetch, 12),
        (ApiKey::ApiVersions, 4),
    ] {
        let mut theirs = kafka_protocol::messages::RequestHeader::default();
        theirs.request_api_key = api.code();
        theirs.request_api_version = version;
        theirs.correlation_id = 7;
        theirs.client_id = Some(kafka_protocol::protocol::StrBytes::from_static_str(
            "tester",
        ));
        let mut bytes = BytesMut::new();
        let header_version = api.request_header_version(version);
        theirs.encode(&mut bytes, header_version).unwrap();
        let mut r = Reader::new(bytes.freeze());
        assert_eq!(
            frame::decode_request_header(&mut r).unwrap(),
            header(api, version)
        );
        assert_eq!(r.remaining(), 0);
    }
}

#[test]
fn an_api_that_nobody_knows_is_named() {
    let mut r = Reader::new(Bytes::from_static(&[
        0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff,
    ]));
    assert_eq!(
        frame::decode_request_header(&mut r),
        Err(DecodeError::UnknownApi { key: 999 })
    );
}

#[test]
fn a_cut_header_is_an_error() {
    let bytes =
        frame::encode_request(&header(ApiKey::Fetch, 12), &FetchRequest::default()).unwrap();
    for len in 4..21 {
        let mut r = Reader::new(bytes.slice(4..len));
        assert!(frame::decode_request_header(&mut r).is_err(), "{len}");
    }
}

#[test]
fn an_answer_to_api_versions_is_read_whatever_the_version_of_the_question() {
    for version in 0..=4 {
        let response = ApiVersionsResponse::default();
        let segments = frame::encode_response(7, ApiKey::ApiVersions, version, &response).unwrap();
        let frame = joined(segments).slice(4..);
        // the body begins right behind the correlation id: error_code
        assert_eq!(frame.slice(4..6), &[0, 0][..]);
        let (correlation_id, back) =
            frame::decode_response::<ApiVersionsRequest>(frame, version).unwrap();
        assert_eq!((correlation_id, back), (7, response));
    }
}

#[test]
fn an_answer_in_version_0_to_a_newer_question_is_understood() {
    // UNSUPPORTED_VERSION, and ApiVersions itself from 0 to 3
    let refusal = Bytes::from_static(b"\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x03");
    let (_, response) = frame::decode_response::<ApiVersionsRequest>(refusal, 4).unwrap();
    assert_eq!(response.error_code, 35);
    let range = &response.api_keys[0];
    assert_eq!((range.api_key, range.max_version), (18, 3));
}

#[test]
fn flexible_response_headers_have_tagged_fields() {
    let response = FetchResponse::default();
    for version in FetchRequest::MIN_VERSION..=FetchRequest::MAX_VERSION {
        let segments = frame::encode_response(7, FetchRequest::API, version, &response).unwrap();
        let frame = joined(segments).slice(4..);
        assert_eq!(frame::peek_correlation_id(&frame), Ok(7));
        let mut body = frame.clone();
        let header_version = ApiKey::Fetch.response_header_version(version);
        kafka_protocol::messages::ResponseHeader::decode(&mut body, header_version).unwrap();
        kafka_protocol::messages::FetchResponse::decode(&mut body, version).unwrap();
        let (_, back) = frame::decode_response::<FetchRequest>(frame, version).unwrap();
        assert_eq!(back, response);
    }
}

/// A "file" in memory.
#[derive(Debug)]
struct Source(Bytes);

impl FileSource for Source {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let from = &self.0[position as usize..];
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn joined(segments: Vec<Segment>) -> Bytes {
    let mut all = BytesMut::new();
    for segment in segments {
        match segment {
            Segment::Bytes(bytes) => all.extend_from_slice(&bytes),
            Segment::File(range) => all.extend_from_slice(&range.read().unwrap()),
        }
    }
    all.freeze()
}

fn fetched(partitions: Vec<Records>) -> FetchResponse {
    let partitions = partitions.into_iter().map(|records| PartitionData {
        records: Some(records),
        ..PartitionData::default()
    });
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: partitions.collect(),
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    }
}

#[test]
fn records_in_files_stay_there_and_come_in_the_right_place() {
    let content: Bytes = (0..20_000u32).map(|i| i as u8).collect();
    let source = Arc::new(Source(content.clone()));
    let range = |position: usize, len| {
        Records::File(FileRange {
            source: source.clone(),
            position: position as u64,
            len,
        })
    };
    let in_files = fetched(vec![
        range(100, 5_000),
        Records::Bytes(content.slice(..9)),
        range(0, 0),
        Records::Bytes(content.slice(10..3_000)),
        range(7_000, 1),
    ]);
    let in_memory = fetched(vec![
        Records::Bytes(content.slice(100..5_100)),
        Records::Bytes(content.slice(..9)),
        Records::Bytes(Bytes::new()),
        Records::Bytes(content.slice(10..3_000)),
        Records::Bytes(content.slice(7_000..7_001)),
    ]);
    for version in 4..=18 {
        let segments = frame::encode_response(1, ApiKey::Fetch, version, &in_files).unwrap();
        let files = segments.iter().filter(|s| matches!(s, Segment::File(_)));
        assert_eq!(files.count(), 2);
        // head, file, fields and nine bytes, bytes, fields, file, end (nothing follows in classic
        // versions)
        assert!(segments.len() <= 7, "{segments:?}");
        let frame = joined(segments);
        let prefix = i32::from_be_bytes(*frame.first_chunk().unwrap());
        assert_eq!(prefix as usize, frame.len() - 4);
        let (_, back) = frame::decode_response::<FetchRequest>(frame.slice(4..), version).unwrap();
        assert_eq!(back, in_memory);
    }
}

fn produced(records: Records) -> ProduceRequest {
    ProduceRequest {
        topic_data: vec![TopicProduceData {
            name: "t".to_owned(),
            partition_data: vec![PartitionProduceData {
                records: Some(records),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

#[test]
fn a_request_carries_records_without_copying_them_or_in_one_piece() {
    let batch = Bytes::from(vec![5; 4_000]);
    let request = produced(Records::Bytes(batch.clone()));
    let header = header(ApiKey::Produce, 9);
    let segments = frame::encode_request_segments(&header, &request).unwrap();
    let Segment::Bytes(second) = &segments[1] else {
        panic!("{segments:?}");
    };
    assert_eq!(second.as_ptr(), batch.as_ptr());
    let whole = frame::encode_request(&header, &request).unwrap();
    assert_eq!(joined(segments), whole);

    let mut r = Reader::new(whole.slice(4..));
    frame::decode_request_header(&mut r).unwrap();
    let back = ProduceRequest::decode(&mut r, 9).unwrap();
    let Some(Records::Bytes(records)) = &back.topic_data[0].partition_data[0].records else {
        panic!("{back:?}");
    };
    let frame = whole.as_ptr_range();
    assert!(frame.contains(&records.as_ptr()), "records share the frame");
    assert_eq!(*records, batch);
}

#[test]
fn a_request_in_one_piece_cannot_hold_a_file() {
    let source = Arc::new(Source(Bytes::from_static(b"x")));
    let range = FileRange {
        source,
        position: 0,
        len: 1,
    };
    let result = frame::encode_request(&header(ApiKey::Produce, 9), &produced(range.into()));
    let message = "ProduceRequest";
    assert_eq!(result, Err(EncodeError::FileRecords { message }));
}
