//! P-1 and P-3: requests of every api and version with a count or length that lies, with noise, with nothing in them and with everything twice.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::BufMut;
use flumen::protocol::api::ApiKey;
use flumen::protocol::message::ApiVersionsRequest;
use flumen_protocol_generator::{Message, read_shapes};

use super::{Broker, MIB, last_words};
use crate::random::{Random, seeded};
use crate::sample::{Mark, Richness, Sample, Width, sample};
use crate::server::Server;
use crate::wire::Wire;

/// Most that frames of a few kilobytes, one after the other, may take: their budget when decoded (four times the frame and 1 MiB) and their answers.
const SMALL_FRAMES: u64 = 8 * MIB;

/// The APIs that the broker says it serves, with their versions and shapes.
fn served(server: &Server) -> Vec<(ApiKey, Message, Vec<i16>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/shapes");
    let shapes = read_shapes(&folder).expect("the shapes are in the notation");
    let messages = shapes.into_iter().flat_map(|shape| shape.messages);
    let mut messages: BTreeMap<String, Message> = messages
        .map(|message| (message.name.clone(), message))
        .collect();
    let versions = ApiVersionsRequest {
        client_software_name: "attack".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    let answer = Wire::connect(server).ask(4, &versions);
    let mut served = Vec::new();
    for offer in answer.api_keys {
        let api = ApiKey::from_code(offer.api_key).expect("an api of ours");
        let name = format!("{}Request", api.name());
        let message = messages.remove(&name).expect("every request has a shape");
        let versions = message.versions.iter();
        let offered = offer.min_version..=offer.max_version;
        let versions = versions.filter(|version| offered.contains(version));
        served.push((api, message, versions.collect()));
    }
    assert!(served.len() >= 28, "{} apis", served.len());
    served
}

/// A frame around a body; its length says what is there.
fn framed(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.put_i16(api.code());
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_slice(b"\0\x06attack");
    if api.request_header_version(version) >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let length = u32::try_from(frame.len() - 4).expect("a small frame");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// What a count or length is replaced with: far too much, negative, and one more than there is room for.
fn lies(body: &Sample, mark: &Mark) -> Vec<Vec<u8>> {
    let over = u32::try_from(body.bytes.len() - mark.at - mark.len + 1).expect("small");
    match mark.width {
        Width::Two => [i16::MAX, -2, i16::MIN, over as i16]
            .map(|n| n.to_be_bytes().to_vec())
            .to_vec(),
        Width::Four => [i32::MAX, -2, i32::MIN, over as i32]
            .map(|n| n.to_be_bytes().to_vec())
            .to_vec(),
        Width::Varint => vec![
            varint(i32::MAX as u32),
            varint(u32::MAX),
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            varint(over + 1),
        ],
    }
}

#[test]
fn every_count_and_length_that_lies_ends_its_connection() {
    let mut broker = Broker::start(&[]);
    let mut sent = 0;
    for (api, message, versions) in served(&broker.server) {
        for version in versions {
            let honest = sample(&message, version, Richness::Full, 7);
            for mark in &honest.marks {
                for lie in lies(&honest, mark) {
                    let mut body = honest.bytes[..mark.at].to_vec();
                    body.extend_from_slice(&lie);
                    body.extend_from_slice(&honest.bytes[mark.at + mark.len..]);
                    let answer = last_words(&broker.server, &framed(api, version, &body));
                    let name = api.name();
                    assert!(
                        answer.is_empty(),
                        "{name} {version} with {lie:02x?} at {} was answered",
                        mark.at
                    );
                    sent += 1;
                }
            }
        }
    }
    println!("{sent} lies");
    assert!(sent > 5_000, "only {sent} lies");
    broker.held_at_most("lies", SMALL_FRAMES);
}

#[test]
fn noise_in_every_request_kills_nobody() {
    let mut random = seeded("noise");
    let mut broker = Broker::start(&["auto.create.topics.enable=false"]);
    for (api, message, versions) in served(&broker.server) {
        for version in versions {
            for _ in 0..8 {
                let seed = random.below(usize::MAX) as u64;
                let mut body = sample(&message, version, Richness::Random, seed).bytes;
                for _ in 0..random.below(3).min(body.len()) {
                    let at = random.below(body.len());
                    body[at] = random.below(256) as u8;
                }
                let mut frame = framed(api, version, &body);
                cut(&mut frame, &mut random);
                drop(last_words(&broker.server, &frame));
            }
        }
    }
    broker.held_at_most("noise", SMALL_FRAMES);
}

/// One frame in ten ends before its length says so.
fn cut(frame: &mut Vec<u8>, random: &mut Random) {
    if random.below(10) == 0 {
        let length = random.below(frame.len());
        frame.truncate(length);
    }
}

#[test]
fn requests_of_nothing_and_of_everything_twice_are_answered_or_refused() {
    let mut broker = Broker::start(&[]);
    let mut answered = 0;
    for (api, message, versions) in served(&broker.server) {
        for version in versions {
            for richness in [Richness::Empty, Richness::Twins] {
                for seed in 0..4 {
                    let body = sample(&message, version, richness, seed).bytes;
                    let answer = last_words(&broker.server, &framed(api, version, &body));
                    answered += usize::from(!answer.is_empty());
                }
            }
        }
        assert!(broker.server.is_alive(), "{} killed it", api.name());
    }
    println!("{answered} answered");
    // Peers that hang up are not always told what became of their request.
    assert!(answered > 100, "only {answered} were answered");
    broker.held_at_most("nothing and twins", SMALL_FRAMES);
}
