//! Bad input against the real binary: each gives a clear answer or a closed connection, nothing acknowledged is lost, and the process lives.

use std::io::Write;
use std::process::Command;

use flumen::protocol::builder::{BatchBuilder, BatchOptions};
use flumen::protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen::protocol::message::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, ProduceRequest,
    create_topics_request::CreatableTopic,
};
use flumen::protocol::segment::Records;

use crate::have;
use crate::server::{Server, run};
use crate::wire::{Wire, frame};

fn flumen(server: &Server, arguments: &[&str], input: &[u8]) -> crate::server::Finished {
    run(
        Command::new(env!("CARGO_BIN_EXE_flumen"))
            .args(["--bootstrap", &server.address()])
            .args(arguments),
        input,
    )
}

fn create(wire: &mut Wire, topic: &str) {
    let topic = CreatableTopic {
        name: topic.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let answer = wire.ask(
        5,
        &CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..Default::default()
        },
    );
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, Some(value), &[]);
    builder.build().to_vec()
}

fn produce(records: Vec<u8>) -> ProduceRequest {
    let partition = PartitionProduceData {
        index: 0,
        records: Some(Records::Bytes(records.into())),
        ..Default::default()
    };
    let topic = TopicProduceData {
        name: "t".to_owned(),
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..Default::default()
    }
}

fn code(wire: &mut Wire, records: Vec<u8>) -> i16 {
    wire.ask(9, &produce(records)).responses[0].partition_responses[0].error_code
}

#[test]
fn a_corrupt_batch_is_refused_and_its_neighbours_stay() {
    let server = Server::start();
    let mut wire = Wire::connect(&server);
    create(&mut wire, "t");
    assert_eq!(code(&mut wire, batch(b"good")), 0);
    let mut flipped = batch(b"bad");
    *flipped.last_mut().expect("bytes") ^= 1;
    assert_eq!(code(&mut wire, flipped), 2, "CORRUPT_MESSAGE");
    let mut old = batch(b"old");
    old[16] = 1;
    let answer = code(&mut wire, old);
    assert!(
        [43, 87, 2].contains(&answer),
        "a message set of version 1 is refused with Kafka's error, not {answer}"
    );
    let mut cut = batch(b"cut");
    cut.truncate(40);
    assert_ne!(code(&mut wire, cut), 0);
    assert_eq!(code(&mut wire, batch(b"again")), 0, "the partition goes on");
}

#[test]
fn an_oversized_record_is_refused_by_name() {
    if !have("kcat") {
        return;
    }
    let server = Server::with(&["message.max.bytes=10000"]);
    let mut wire = Wire::connect(&server);
    create(&mut wire, "t");
    assert_eq!(
        code(&mut wire, batch(&[b'x'; 20_000])),
        10,
        "MESSAGE_TOO_LARGE"
    );
    assert_eq!(code(&mut wire, batch(b"small")), 0);
    let refused = run(
        Command::new("kcat").args(["-b", &server.address(), "-P", "-t", "t"]),
        &[b'x'; 20_000],
    );
    assert!(refused.stderr.contains("too large"), "{}", refused.stderr);
}

#[test]
fn an_unknown_topic_is_named_with_the_way_out() {
    let server = Server::with(&["auto.create.topics.enable=false"]);
    let described = flumen(&server, &["topic", "describe", "nowhere"], b"");
    assert!(!described.ok);
    assert!(
        described.stderr.contains("nowhere")
            && described.stderr.contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{}",
        described.stderr
    );
    let produced = flumen(&server, &["produce", "nowhere"], b"line\n");
    assert!(
        !produced.ok && produced.stderr.contains("nowhere"),
        "{}",
        produced.stderr
    );
}

#[test]
fn a_version_the_broker_does_not_speak_closes_the_connection_but_for_api_versions() {
    let mut server = Server::start();
    let mut wire = Wire::connect(&server);
    let mut request = frame(12, &FetchRequest::default()).to_vec();
    request[6..8].copy_from_slice(&99_i16.to_be_bytes());
    wire.send(&request);
    assert!(wire.is_closed());

    let mut wire = Wire::connect(&server);
    let mut request = frame(3, &ApiVersionsRequest::default()).to_vec();
    request[6..8].copy_from_slice(&99_i16.to_be_bytes());
    wire.send(&request);
    let answer = wire
        .receive()
        .expect("ApiVersions is always answered, in version 0");
    assert_eq!(
        i16::from_be_bytes([answer[4], answer[5]]),
        35,
        "UNSUPPORTED_VERSION"
    );
    assert!(server.is_alive());
}

#[test]
fn garbage_on_the_port_costs_a_connection_and_no_more() {
    let mut server = Server::start();
    let mut good = Wire::connect(&server);
    create(&mut good, "t");
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 1],
        &[0, 0, 0, 4, 0, 3, 0, 1],
        &[0, 0, 0, 0],
        &[0, 0, 0, 10, 0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
    ];
    for bytes in garbage {
        let mut wire = Wire::connect(&server);
        wire.send(bytes);
        assert!(wire.is_closed(), "{bytes:?}");
        assert_eq!(code(&mut good, batch(b"still here")), 0);
    }
    assert!(server.is_alive());
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let mounted = run(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(&data),
        b"",
    );
    if !mounted.ok {
        eprintln!(
            "skipped: a small tmpfs cannot be mounted here ({})",
            mounted.stderr.trim()
        );
        return;
    }
    let _unmount = Unmount(data.clone());
    let mut server = Server::on(
        folder,
        data.clone(),
        &[
            "log.segment.bytes=1048576",
            "log.index.size.max.bytes=65536",
        ],
    );
    let mut wire = Wire::connect(&server);
    create(&mut wire, "t");
    let mut acknowledged = 0_usize;
    let refused = loop {
        match code(&mut wire, batch(&numbered(acknowledged))) {
            0 => acknowledged += 1,
            error => break error,
        }
        assert!(acknowledged < 100, "16 MiB cannot hold this");
    };
    assert_eq!(refused, 56, "KAFKA_STORAGE_ERROR");
    assert!(
        server.is_alive() && server.log().contains("t-0"),
        "the log names the partition: {}",
        server.log()
    );
    check(&server, acknowledged);

    // Room again: after a restart at the latest, everything goes on where it was.
    let grown = run(
        Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(&data),
        b"",
    );
    assert!(grown.ok, "{}", grown.stderr);
    server.kill();
    server.restart();
    let mut wire = Wire::connect(&server);
    assert_eq!(code(&mut wire, batch(&numbered(acknowledged))), 0);
    check(&server, acknowledged + 1);
}

/// A record of 500 kB that begins with its number.
fn numbered(number: usize) -> Vec<u8> {
    let mut value = vec![b'.'; 500_000];
    write!(&mut value[..], "{number} ").expect("fits");
    value
}

/// Reads the topic back: records `0..count` once each, in order.
fn check(server: &Server, count: usize) {
    if !have("kcat") {
        return;
    }
    let read = run(
        Command::new("kcat").args(["-b", &server.address(), "-C", "-t", "t", "-e", "-q"]),
        b"",
    );
    let numbers: Vec<usize> = read
        .stdout
        .lines()
        .map(|line| {
            line.split(' ')
                .next()
                .expect("a word")
                .parse()
                .expect("a number")
        })
        .collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{}", read.stderr);
}

/// Takes the small disk away again.
#[derive(Debug)]
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
