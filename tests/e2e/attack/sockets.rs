//! P-12: a siege. Thousands of connections that say nothing, or a byte, or what is no Kafka at all, that are reset, that never read, that ask
//! faster than they are answered; beside them a client that works.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use flumen::protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen::protocol::message::{ApiVersionsRequest, DescribeConfigsRequest};
use socket2::SockRef;

use super::victim::beside;
use super::{Broker, MIB, connect};
use crate::random::seeded;
use crate::server::{PATIENCE, Server};
use crate::wire::frame;

const SILENT: usize = 2_000;
const BEGUN: usize = 300;
const DEAF: usize = 100;
const RESET: usize = 2_000;
const FLOOD: usize = 4;
const ASKED: usize = 2_000;

/// What a connection may hold without asking for memory: an unfinished frame and started ones.
const CONNECTION: u64 = 128 * 1024;
/// `queued.max.request.bytes` of this broker.
const REQUESTS: u64 = 64 * MIB;

/// This process and the broker it starts may open so many files.
fn raise_descriptor_limit() {
    let id = std::process::id().to_string();
    let _ = Command::new("prlimit")
        .args(["--pid", &id, "--nofile=16384:16384"])
        .status();
}

/// The first bytes of something that is no request of Kafka's.
const STRANGERS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
];

fn describe_configs() -> Vec<u8> {
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
    frame(4, &request).to_vec()
}

/// Asks for large answers and reads none, until the broker takes no more or has had enough.
fn deaf(server: &Server) -> TcpStream {
    let mut stream = connect(server);
    stream.set_nonblocking(true).expect("a socket");
    let asked = describe_configs().repeat(100);
    for _ in 0..2_000 {
        match stream.write(&asked) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => break,
        }
    }
    stream
}

/// Says something and vanishes without a good-bye.
fn reset(server: &Server, bytes: &[u8]) {
    let mut stream = connect(server);
    let _ = stream.write_all(bytes);
    SockRef::from(&stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("a socket");
}

/// Asks without waiting; every request is answered, in order.
fn flood(server: &Server) -> usize {
    let mut stream = connect(server);
    let mut writer = stream.try_clone().expect("a socket");
    let writing = std::thread::spawn(move || {
        for id in 0..ASKED {
            let mut request = frame(0, &ApiVersionsRequest::default()).to_vec();
            request[8..12].copy_from_slice(&(id as i32).to_be_bytes());
            if writer.write_all(&request).is_err() {
                return;
            }
        }
    });
    let mut answered = 0;
    for id in 0..ASKED {
        let mut head = [0; 8];
        stream.read_exact(&mut head).expect("an answer");
        let length = u32::from_be_bytes(head[..4].try_into().expect("four bytes"));
        assert_eq!(head[4..], (id as i32).to_be_bytes());
        let mut rest = vec![0; length as usize - 4];
        stream.read_exact(&mut rest).expect("a whole answer");
        answered += 1;
    }
    writing.join().expect("the writer ends");
    answered
}

#[test]
fn a_siege_is_held_off_beside_a_client_that_works() {
    raise_descriptor_limit();
    let mut random = seeded("siege");
    let mut broker = Broker::start(&[
        "max.connections.per.ip=5000",
        "queued.max.request.bytes=67108864",
    ]);
    let descriptors = broker.descriptors();
    let server = &broker.server;
    let held = beside(server, || {
        let silent: Vec<TcpStream> = (0..SILENT).map(|_| connect(server)).collect();
        let begun: Vec<TcpStream> = (0..BEGUN)
            .map(|i| {
                let mut stream = connect(server);
                // A large request that never gets on, or a small one byte by byte.
                let first: &[u8] = if i % 2 == 0 {
                    &[0x06, 0, 0, 0, 0]
                } else {
                    &[0, 0]
                };
                stream.write_all(first).expect("it is taken");
                stream
            })
            .collect();
        let deaf: Vec<TcpStream> = (0..DEAF).map(|_| deaf(server)).collect();
        std::thread::scope(|scope| {
            let floods: Vec<_> = (0..FLOOD).map(|_| scope.spawn(|| flood(server))).collect();
            for _ in 0..RESET {
                let stranger = STRANGERS[random.below(STRANGERS.len())];
                reset(server, &stranger[..random.below(stranger.len())]);
            }
            for stranger in STRANGERS.iter().cycle().take(200) {
                drop(super::last_words(server, stranger));
            }
            for flood in floods {
                assert_eq!(flood.join().expect("every request is answered"), ASKED);
            }
        });
        (silent, begun, deaf)
    });
    let connections = (SILENT + BEGUN + DEAF + FLOOD) as u64;
    // Requests from their share of memory, answers as much, and what a connection holds without asking.
    broker.held_at_most("siege", connections * CONNECTION + 2 * REQUESTS);
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    while broker.descriptors() > descriptors + 8 && Instant::now() < deadline {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let left = broker.descriptors();
    assert!(
        left <= descriptors + 8,
        "{left} descriptors, {descriptors} before"
    );
    // A log that says it once, not thousands of times.
    let lines = broker.server.log().lines().count();
    assert!(lines < 2_000, "{lines} lines in the log");
    assert_eq!(broker.server.stop(), Some(0), "and it stops in order");
}
