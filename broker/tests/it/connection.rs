//! Frames: versions, garbage, limits.

use std::io::ErrorKind;
use std::time::Duration;

use flumen_protocol::api::{self, ApiKey};
use flumen_protocol::codec::{Message, Reader};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::api_versions_response::ApiVersion;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeConfigsRequest, FetchRequest, MetadataRequest,
    ProduceRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Wire, World, batch, fetch_request, produce_request};

fn versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "it".to_owned(),
        client_software_version: "1.0".to_owned(),
        ..Default::default()
    }
}

async fn assert_alive(world: &World) {
    let response = world.client().await.call(3, &versions()).await;
    assert_eq!(response.error_code, 0);
}

#[tokio::test]
async fn api_versions_tells_what_is_served_and_the_transaction_version() {
    let world = World::start(&[]).await;
    let response = world.client().await.call(4, &versions()).await;
    let find = |key: ApiKey| {
        response
            .api_keys
            .iter()
            .find(|row| row.api_key == key.code())
    };
    let range = |row: &ApiVersion| (row.min_version, row.max_version);
    assert_eq!(find(ApiKey::Produce).map(range), Some((0, 13)));
    assert_eq!(find(ApiKey::Fetch).map(range), Some((4, 18)));
    assert!(find(ApiKey::SaslHandshake).is_none());
    let level = response
        .finalized_features
        .iter()
        .find(|f| f.name == "transaction.version");
    assert_eq!(level.map(|f| f.max_version_level), Some(2));
}

#[tokio::test]
async fn a_feature_without_a_minimum_is_hidden_from_version_3() {
    let world = World::start(&[]).await;
    let response = world.client().await.call(3, &versions()).await;
    assert!(
        response
            .supported_features
            .iter()
            .all(|feature| feature.min_version > 0)
    );
}

#[tokio::test]
async fn api_versions_of_the_future_gets_an_answer_in_version_0() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    // key 18, version 99, correlation id 7, client id "x", then what nobody knows
    let mut frame = vec![0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0, 1, 2, 3];
    let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.append(&mut frame);
    client.socket.write_all(&bytes).await.unwrap();
    let mut reader = Reader::new(client.next_frame().await.unwrap());
    assert_eq!(reader.i32("correlation id").unwrap(), 7);
    let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    let range = api::versions(ApiKey::ApiVersions);
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!(response.api_keys[0].max_version, *range.end());
    // and the connection goes on
    assert_eq!(client.call(4, &versions()).await.error_code, 0);
}

#[tokio::test]
async fn a_bad_software_name_is_an_invalid_request() {
    let world = World::start(&[]).await;
    let request = ApiVersionsRequest {
        client_software_name: "-".to_owned(),
        ..versions()
    };
    let response = world.client().await.call(3, &request).await;
    assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
}

async fn sends_and_is_closed(world: &World, bytes: &[u8]) {
    let mut client = world.client().await;
    match client.socket.write_all(bytes).await {
        Ok(()) => {}
        Err(error) => assert!(matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        )),
    }
    assert_eq!(client.next_frame().await, None);
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn garbage_closes_its_connection_and_nothing_else() {
    let world = World::start(&[]).await;
    let mut other = world.client_with_topic("t", 1).await;
    sends_and_is_closed(&world, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    sends_and_is_closed(&world, &[0xff; 64]).await;
    sends_and_is_closed(&world, &0x7fff_ffffu32.to_be_bytes()).await;
    // a frame that is no request; unknown api; produce v2; fetch v99; half a body; body with a tail
    sends_and_is_closed(&world, &framed(&[1])).await;
    sends_and_is_closed(&world, &framed(&[1, 44, 0, 0, 0, 0, 0, 1, 255, 255])).await;
    sends_and_is_closed(&world, &framed(&[0, 0, 0, 2, 0, 0, 0, 1, 255, 255, 0, 0])).await;
    sends_and_is_closed(&world, &framed(&[0, 1, 0, 99, 0, 0, 0, 1, 255, 255, 0])).await;
    sends_and_is_closed(&world, &framed(&[0, 3, 0, 0, 0, 0, 0, 1, 255, 255, 0, 0])).await;
    sends_and_is_closed(
        &world,
        &framed(&[0, 3, 0, 0, 0, 0, 0, 1, 255, 255, 0, 0, 0, 0, 9]),
    )
    .await;
    // a count far beyond what the frame holds
    sends_and_is_closed(
        &world,
        &framed(&[0, 3, 0, 0, 0, 0, 0, 1, 255, 255, 0x7f, 255, 255, 255]),
    )
    .await;
    assert_eq!(other.produce("t", 0, batch(&["a"])).await.error_code, 0);
    assert_alive(&world).await;
}

#[tokio::test]
async fn a_request_above_the_size_limit_closes_its_connection() {
    let world = World::start(&[("socket.request.max.bytes", "1000")]).await;
    sends_and_is_closed(&world, &1001u32.to_be_bytes()).await;
    assert_alive(&world).await;
}

#[tokio::test]
async fn a_request_may_arrive_byte_by_byte() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let mut bytes = framed(&[0, 18, 0, 0, 0, 0, 0, 9, 255, 255]);
    for byte in bytes.drain(..) {
        client.socket.write_all(&[byte]).await.unwrap();
    }
    let (id, response) = client.receive::<ApiVersionsRequest>(0).await;
    assert_eq!((id, response.error_code), (9, 0));
}

#[tokio::test]
async fn a_parked_fetch_holds_back_what_was_asked_after_it() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let fetch = client.send(11, &fetch_request("t", 0, 0, 60_000)).await;
    let metadata = client.send(9, &MetadataRequest::default()).await;
    world.client().await.produce("t", 0, batch(&["a"])).await;
    assert_eq!(client.receive::<FetchRequest>(11).await.0, fetch);
    assert_eq!(client.receive::<MetadataRequest>(9).await.0, metadata);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let world = World::start(&[("max.connections", "2")]).await;
    let mut first = world.client().await;
    first.call(3, &versions()).await;
    let mut second = world.client().await;
    second.call(3, &versions()).await;
    assert_eq!(world.client().await.next_frame().await, None);
    drop(first);
    // the place of a closed connection is free again, as soon as the broker has noticed
    for _ in 0..1000 {
        let mut again: Wire = world.client().await;
        again.send(3, &versions()).await;
        if again.next_frame().await.is_some() {
            return;
        }
    }
    panic!("the place of a closed connection stays taken");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let world = World::start(&[("connections.max.idle.ms", "100")]).await;
    let mut client = world.client().await;
    client.call(3, &versions()).await;
    assert_eq!(client.next_frame().await, None);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_an_idle_connection_stays() {
    let world = World::start(&[("connections.max.idle.ms", "-1")]).await;
    let mut client = world.client().await;
    client.call(3, &versions()).await;
    let day = Duration::from_secs(86_400);
    let read = client.socket.read_u8();
    let silence = tokio::time::timeout(day, read).await;
    assert!(silence.is_err(), "closed: {silence:?}");
    client.call(3, &versions()).await;
}

#[tokio::test]
async fn a_stopping_broker_answers_a_parked_fetch() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.send(11, &fetch_request("t", 0, 0, 60_000)).await;
    // the fetch is started once the broker has read it: a later request on another connection is no proof, its own next one is
    client.send(9, &MetadataRequest::default()).await;
    world.stop().await;
    if let Some(frame) = client.next_frame().await {
        assert!(!frame.is_empty());
    }
}

#[tokio::test]
async fn large_requests_take_turns_when_request_memory_is_short() {
    let world = World::start(&[("queued.max.request.bytes", "100000")]).await;
    let mut first = world.client_with_topic("t", 1).await;
    let mut second = world.client().await;
    let large = batch(&["x".repeat(90_000).as_str()]);
    for _ in 0..5 {
        first
            .send(9, &produce_request("t", 0, -1, large.clone()))
            .await;
        second
            .send(9, &produce_request("t", 0, -1, large.clone()))
            .await;
    }
    for client in [&mut first, &mut second] {
        for _ in 0..5 {
            let (_, response) = client.receive::<ProduceRequest>(9).await;
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
    }
}

/// Sends requests with large answers and reads none, until the broker takes no more. Time is virtual: it moves when all wait.
async fn stall(client: &mut Wire) {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 4,
            resource_name: "1".to_owned(),
            ..Default::default()
        }],
        include_synonyms: true,
        include_documentation: true,
        ..Default::default()
    };
    let moment = Duration::from_secs(1);
    for _ in 0..1_000_000 {
        let sent = tokio::time::timeout(moment, client.send(4, &request)).await;
        if sent.is_err() {
            return;
        }
    }
    panic!("the broker reads for ever from a peer that does not read");
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "virtual time")]
async fn a_peer_that_does_not_read_cannot_hold_up_a_clean_stop() {
    let mut world = World::start(&[]).await;
    let mut client = world.client().await;
    stall(&mut client).await;
    let begin = tokio::time::Instant::now();
    world.stop().await;
    let took = begin.elapsed();
    assert!(took <= Duration::from_secs(11), "{took:?} of virtual time");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_dropped() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    stall(&mut client).await;
    let mut sink = vec![0; 1 << 16];
    // Nothing is read until the broker has lost its patience: then what the kernel holds, and the end.
    tokio::time::timeout(Duration::from_secs(40), std::future::pending::<()>())
        .await
        .unwrap_err();
    while client.socket.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    assert_alive(&world).await;
}

#[tokio::test]
async fn answers_of_pipelined_requests_come_in_order_however_large() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 50).await;
    let metadata = MetadataRequest::default();
    let mut sent = Vec::new();
    for round in 0..400 {
        sent.push((client.send(9, &metadata).await, true));
        if round % 3 == 0 {
            let request = produce_request("t", round % 50, -1, batch(&["a"]));
            sent.push((client.send(9, &request).await, false));
        }
    }
    for (id, is_metadata) in sent {
        let answered = match is_metadata {
            true => client.receive::<MetadataRequest>(9).await.0,
            false => client.receive::<ProduceRequest>(9).await.0,
        };
        assert_eq!(answered, id);
    }
}

#[tokio::test]
async fn who_only_says_that_a_large_request_comes_holds_no_memory() {
    let world = World::start(&[("queued.max.request.bytes", "1000000")]).await;
    let mut good = world.client_with_topic("t", 1).await;
    let mut bad = Vec::new();
    for _ in 0..5 {
        let mut client = world.client().await;
        let begun = 1_000_000u32.to_be_bytes();
        client.socket.write_all(&begun).await.unwrap();
        // The last byte of what is free, so that the broker has read the length for certain.
        client.socket.write_all(&[0; 60_000]).await.unwrap();
        bad.push(client);
    }
    let large = batch(&["x".repeat(500_000).as_str()]);
    for _ in 0..3 {
        assert_eq!(good.produce("t", 0, large.clone()).await.error_code, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn large_requests_that_wait_for_each_others_memory_give_up_one_by_one() {
    let world = World::start(&[("queued.max.request.bytes", "400000")]).await;
    world.client_with_topic("t", 1).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = world.client().await;
        let request = produce_request("t", 0, -1, batch(&["x".repeat(390_000).as_str()]));
        // Half of it: each holds some memory, none can get all.
        let header = flumen_protocol::frame::RequestHeader {
            api_version: 9,
            ..Default::default()
        };
        let bytes = flumen_protocol::frame::encode_request(&header, &request).unwrap();
        let half = bytes.len() / 2;
        client.socket.write_all(&bytes[..half]).await.unwrap();
        waiting.push((client, bytes.slice(half..)));
    }
    let mut answered = 0;
    for (client, rest) in &mut waiting {
        if client.socket.write_all(rest).await.is_ok() && client.next_frame().await.is_some() {
            answered += 1;
        }
    }
    assert!(answered > 0, "all of them gave up");
    assert_alive(&world).await;
}
