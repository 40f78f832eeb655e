//! What a connect worker reads: its internal topics, records to be converted, REST requests, files and positions.

use std::cell::RefCell;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use bytes::{Bytes, BytesMut};
use flumen::client::{Client, ClientConfig, Connecting, Duplex, Transport};
use flumen::connect::converter::{Converter, JsonConverter};
use flumen::connect::offsets::Positions;
use flumen::connect::registry::Registry;
use flumen::connect::state::{StateRecord, WorkerState};
use flumen::connect::worker::Worker;
use flumen::connect_file::fuzz as file;
use flumen::protocol::api::ApiKey;
use flumen::protocol::codec::Reader;
use flumen::protocol::frame::{decode_request_header, encode_response, take_frame};
use flumen::protocol::message::api_versions_response::ApiVersion;
use flumen::protocol::message::metadata_response::MetadataResponseBroker;
use flumen::protocol::message::{ApiVersionsResponse, MetadataResponse};
use flumen::protocol::segment::Segment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use super::Pieces;

/// Rows of the config topic, then of the offsets topic: a byte (bit 0: has a value), key, value.
pub(super) fn records(bytes: &[u8]) {
    let mut pieces = Pieces(bytes);
    let mut state = WorkerState::default();
    let mut positions = Positions::default();
    for _ in 0..32 {
        if pieces.is_empty() {
            break;
        }
        let has_value = pieces.byte() & 1 != 0;
        let key = pieces.piece();
        let value = has_value.then(|| pieces.piece());
        if let Some(record) = StateRecord::decode(key, value) {
            state.apply(record);
        }
        positions.apply("c", key, value);
    }
    for position in positions.into_vec() {
        let text = flumen::connect::offsets::encode_offset(&position.offset);
        file::position(text.as_bytes());
    }
}

/// The value of a record, as JSON with and without its schema: what is decoded is encoded and decoded again.
pub(super) fn values(bytes: &[u8]) {
    for schemas in [false, true] {
        let converter = JsonConverter::new(schemas);
        let Ok(data) = converter.decode("t", Some(&Bytes::copy_from_slice(bytes))) else {
            continue;
        };
        if let Ok(Some(encoded)) = converter.encode("t", &data) {
            let again = converter.decode("t", Some(&encoded));
            assert!(again.is_ok(), "{again:?} of {encoded:?}");
        }
    }
}

/// A number that says how a CSV file is read, and the file; all bytes are also a position and a journal.
pub(super) fn file_source(bytes: &[u8]) {
    file::position(bytes);
    file::journal(bytes);
    let mut pieces = Pieces(bytes);
    let (start, piece, max) = (pieces.number(), pieces.byte(), pieces.byte());
    file::csv(
        pieces.0,
        start.unsigned_abs(),
        usize::from(piece),
        usize::from(max) + 1,
    );
}

/// A method, a path, and a body of JSON. Every answer is JSON or empty.
pub(super) fn rest(bytes: &[u8]) {
    thread_local! {
        static REST: RefCell<Option<Rest>> = const { RefCell::new(None) };
    }
    let mut pieces = Pieces(bytes);
    let method = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    let method = method[usize::from(pieces.byte()) % 5].clone();
    let path = String::from_utf8_lossy(pieces.piece()).into_owned();
    let request = Request::builder()
        .method(method)
        .uri(format!("/{path}"))
        .header("content-type", "application/json")
        .body(Body::from(pieces.0.to_vec()));
    let Ok(request) = request else { return };
    REST.with_borrow_mut(|rest| rest.get_or_insert_with(Rest::new).ask(request));
}

/// A worker without a cluster, on a runtime whose time moves when all wait.
struct Rest {
    runtime: Runtime,
    routes: axum::Router,
    _worker: Worker,
}

impl Rest {
    fn new() -> Rest {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (worker, routes) = runtime.block_on(async {
            let config = ClientConfig {
                transport: Arc::new(Nowhere),
                ..ClientConfig::new("nowhere:9092")
            };
            let client = Client::connect(config).await.expect("the stub answers");
            let registry = flumen::connect_file::register(Registry::new());
            flumen::connect::fuzz::idle_worker(client, registry)
        });
        Rest {
            runtime,
            routes,
            _worker: worker,
        }
    }

    fn ask(&mut self, request: Request<Body>) {
        let routes = self.routes.clone();
        self.runtime.block_on(async {
            let response = routes.oneshot(request).await.expect("routes do not fail");
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 22)
                .await
                .expect("a body");
            let json =
                body.is_empty() || serde_json::from_slice::<serde_json::Value>(&body).is_ok();
            assert!(json, "{status}: {body:?}");
        });
    }
}

/// A cluster of one broker that has no topics and takes none: it answers ApiVersions and Metadata and hangs up on all else.
#[derive(Debug)]
struct Nowhere;

impl Transport for Nowhere {
    fn connect<'a>(&'a self, _: &'a str, _: u16) -> Connecting<'a> {
        Box::pin(async {
            let (near, mut far) = tokio::io::duplex(1 << 16);
            drop(tokio::spawn(async move {
                let mut buffer = BytesMut::new();
                while far.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                    while let Ok(Some(frame)) = take_frame(&mut buffer, 1 << 20) {
                        for segment in answer(frame) {
                            let Segment::Bytes(bytes) = segment else {
                                return;
                            };
                            if far.write_all(&bytes).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }));
            Ok(Box::new(near) as Box<dyn Duplex>)
        })
    }
}

fn answer(frame: Bytes) -> Vec<Segment> {
    let header = decode_request_header(&mut Reader::new(frame)).expect("our own client");
    let (id, version) = (header.correlation_id, header.api_version);
    if header.api_key == ApiKey::ApiVersions.code() {
        let offer = |api: ApiKey, max_version| ApiVersion {
            api_key: api.code(),
            min_version: 0,
            max_version,
            ..ApiVersion::default()
        };
        let body = ApiVersionsResponse {
            api_keys: vec![offer(ApiKey::ApiVersions, 4), offer(ApiKey::Metadata, 12)],
            ..ApiVersionsResponse::default()
        };
        return encode_response(id, ApiKey::ApiVersions, version, &body).expect("encodable");
    }
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: "nowhere".to_owned(),
        port: 9092,
        ..MetadataResponseBroker::default()
    };
    let body = MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some("nowhere".to_owned()),
        controller_id: 1,
        ..MetadataResponse::default()
    };
    match header.api_key == ApiKey::Metadata.code() {
        true => encode_response(id, ApiKey::Metadata, version, &body).expect("encodable"),
        false => Vec::new(),
    }
}
