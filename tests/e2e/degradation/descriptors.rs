//! A broker without file descriptors: connections that it has go on, new ones wait, and when there are descriptors again they are served.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use flumen::protocol::builder::{BatchBuilder, BatchOptions};
use flumen::protocol::message::create_topics_request::CreatableTopic;
use flumen::protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen::protocol::message::{ApiVersionsRequest, CreateTopicsRequest, ProduceRequest};
use flumen::protocol::segment::Records;

use crate::have;
use crate::server::{PATIENCE, Server, run};
use crate::wire::Wire;

const REQUEST_TIMED_OUT: i16 = 7;

/// Descriptors that a process has open.
fn open(process: u32) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{process}/fd"));
    folder.expect("the process lives").count()
}

/// From now on the process may have so many.
fn limit(process: u32, descriptors: usize) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args([
        format!("--pid={process}"),
        format!("--nofile={descriptors}:1024"),
    ]);
    let limited = run(&mut prlimit, b"");
    assert!(limited.ok, "{}", limited.stderr);
}

fn create(wire: &mut Wire, topic: &str) -> i16 {
    let topic = CreatableTopic {
        name: topic.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..Default::default()
    };
    wire.ask(5, &request).topics[0].error_code
}

/// Sends a record of 1000 bytes; the error, or the offset.
fn produce(wire: &mut Wire) -> Result<i64, i16> {
    produce_to(wire, "t")
}

fn produce_to(wire: &mut Wire, topic: &str) -> Result<i64, i16> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, Some(&[b'.'; 1000]), &[]);
    let partition = PartitionProduceData {
        index: 0,
        records: Some(Records::Bytes(builder.build())),
        ..Default::default()
    };
    let topic = TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 500,
        topic_data: vec![topic],
        ..Default::default()
    };
    let answer = wire.ask(9, &request);
    let answer = &answer.responses[0].partition_responses[0];
    match answer.error_code {
        0 => Ok(answer.base_offset),
        code => Err(code),
    }
}

#[test]
fn without_descriptors_the_open_connections_go_on_and_the_others_wait() {
    if !have("prlimit") {
        return;
    }
    let server = Server::with(&["log.segment.bytes=1048576"]);
    let mut wire = Wire::connect(&server);
    assert_eq!(create(&mut wire, "t"), 0);
    assert_eq!(produce(&mut wire), Ok(0));
    limit(server.process(), open(server.process()) + 3);
    // The kernel takes them; the broker cannot.
    let waiting: Vec<TcpStream> = (0..30)
        .map(|_| TcpStream::connect(server.address()).expect("the kernel answers"))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let complaint = "cannot accept connections";
    while !server.log().contains(complaint) {
        assert!(Instant::now() < deadline, "{}", server.log());
        assert!(produce(&mut wire).is_ok());
    }
    for _ in 0..200 {
        assert!(produce(&mut wire).is_ok(), "{}", server.log());
    }
    // The cluster gets the topic, the broker cannot open its files.
    assert_eq!(create(&mut wire, "u"), 0);
    assert_eq!(produce_to(&mut wire, "u"), Err(3), "not here");
    drop(waiting);
    let mut fresh = Wire::connect(&server);
    fresh.ask(0, &ApiVersionsRequest::default());
    assert!(produce(&mut fresh).is_ok());
    limit(server.process(), 1024);
    while produce_to(&mut fresh, "u") != Ok(0) {
        assert!(Instant::now() < deadline, "{}", server.log());
    }
    let log = server.log();
    for said in [complaint, "topic cannot be opened"] {
        let times = log.lines().filter(|line| line.contains(said)).count();
        assert_eq!(times, 1, "{said}:\n{log}");
    }
}

#[test]
fn a_segment_that_cannot_be_begun_for_lack_of_descriptors_is_begun_later() {
    if !have("prlimit") {
        return;
    }
    // However few are left: the segment's file, its indexes, the folder to be synced, each may be the one that is not to be had.
    for spare in 0..6 {
        let server = Server::with(&["log.segment.bytes=16384"]);
        let mut wire = Wire::connect(&server);
        assert_eq!(create(&mut wire, "t"), 0);
        assert_eq!(produce(&mut wire), Ok(0));
        limit(server.process(), open(server.process()) + spare);
        // A flush that waits for a descriptor is a slow one: then the outcome is not known in time.
        let mut answers = BTreeMap::new();
        let mut last = 0;
        for _ in 0..40 {
            let answer = produce(&mut wire);
            if let Ok(offset) = answer {
                assert!(offset > last, "{offset} after {last}");
                last = offset;
            }
            *answers.entry(answer.err()).or_insert(0) += 1;
            if answers.get(&Some(REQUEST_TIMED_OUT)) == Some(&5) {
                break;
            }
        }
        println!("{spare} descriptors: {answers:?}");
        limit(server.process(), 1024);
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..40 {
            while let Err(code) = produce(&mut wire) {
                assert!(Instant::now() < deadline, "{code}:\n{}", server.log());
            }
        }
        let log = server.log();
        assert!(log.lines().count() < 20, "{log}");
    }
}
