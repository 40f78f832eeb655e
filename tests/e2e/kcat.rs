//! kcat (Debian's, librdkafka 2.0.2) against the real binary.

use std::process::Command;

use crate::have;
use crate::server::{Finished, Server, run};

fn kcat(server: &Server, arguments: &[&str], input: &[u8]) -> Finished {
    let finished = run(
        Command::new("kcat")
            .args(["-b", &server.address(), "-X", "socket.timeout.ms=10000"])
            .args(arguments),
        input,
    );
    assert!(
        finished.ok,
        "kcat {arguments:?}: {}{}\n{}",
        finished.stdout,
        finished.stderr,
        server.log()
    );
    finished
}

fn flumen(server: &Server, arguments: &[&str]) -> Finished {
    run(
        Command::new(env!("CARGO_BIN_EXE_flumen"))
            .args(["--bootstrap", &server.address()])
            .args(arguments),
        b"",
    )
}

#[test]
fn keys_and_headers_come_back_in_every_codec() {
    if !have("kcat") {
        return;
    }
    let server = Server::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        let lines: String = (0..500)
            .map(|n| format!("key-{n}:value {n} of {codec}, with some text to compress\n"))
            .collect();
        kcat(
            &server,
            &[
                "-P",
                "-t",
                &topic,
                "-z",
                codec,
                "-K:",
                "-H",
                "origin=kcat",
                "-H",
                "empty=",
            ],
            lines.as_bytes(),
        );
        let read = kcat(
            &server,
            &["-C", "-t", &topic, "-e", "-q", "-f", "%o|%k:%s|%h\n"],
            b"",
        )
        .stdout;
        let expected: String = lines
            .lines()
            .enumerate()
            .map(|(n, line)| format!("{n}|{line}|origin=kcat,empty=\n"))
            .collect();
        assert_eq!(read, expected, "codec {codec}");
    }
}

#[test]
fn a_consumer_starts_at_an_offset_or_at_a_time() {
    if !have("kcat") {
        return;
    }
    let server = Server::start();
    kcat(&server, &["-P", "-t", "times"], b"a\nb\nc\nd\n");
    assert_eq!(
        kcat(
            &server,
            &["-C", "-t", "times", "-p", "0", "-o", "2", "-e", "-q"],
            b""
        )
        .stdout,
        "c\nd\n"
    );
    assert_eq!(
        kcat(
            &server,
            &["-C", "-t", "times", "-p", "0", "-o", "-1", "-e", "-q"],
            b""
        )
        .stdout,
        "d\n"
    );
    let stamp = kcat(
        &server,
        &[
            "-C", "-t", "times", "-p", "0", "-o", "3", "-e", "-q", "-f", "%T",
        ],
        b"",
    )
    .stdout;
    let later: i64 = stamp.trim().parse::<i64>().expect("a timestamp in ms") + 1;
    kcat(&server, &["-P", "-t", "later"], b"x\n");
    let from = format!("s@{stamp}");
    let read = kcat(
        &server,
        &["-C", "-t", "times", "-p", "0", "-o", &from, "-e", "-q"],
        b"",
    )
    .stdout;
    assert!(
        read.ends_with("d\n"),
        "all records of that millisecond: {read:?}"
    );
    let past_the_end = format!("s@{later}");
    assert_eq!(
        kcat(
            &server,
            &[
                "-C",
                "-t",
                "times",
                "-p",
                "0",
                "-o",
                &past_the_end,
                "-e",
                "-q"
            ],
            b""
        )
        .stdout,
        ""
    );
}

#[test]
fn metadata_lists_the_broker_and_its_topics() {
    if !have("kcat") {
        return;
    }
    let server = Server::start();
    let created = flumen(&server, &["topic", "create", "orders", "--partitions", "3"]);
    assert!(created.ok, "{}", created.stderr);
    let listed = kcat(&server, &["-L"], b"").stdout;
    assert!(listed.contains(&server.address()), "{listed}");
    assert!(
        listed.contains("topic \"orders\" with 3 partitions"),
        "{listed}"
    );
}

#[test]
fn two_members_share_a_group_and_its_offsets_survive() {
    if !have("kcat") {
        return;
    }
    let server = Server::start();
    assert!(flumen(&server, &["topic", "create", "shared", "--partitions", "4"]).ok);
    let lines: String = (0..400).map(|n| format!("{n}:value {n}\n")).collect();
    kcat(&server, &["-P", "-t", "shared", "-K:"], lines.as_bytes());
    // Two members at a time take what they can; the last reads to the end what they did not commit.
    let member = |until: &[&str]| {
        let mut arguments = vec![
            "-G",
            "readers",
            "-q",
            "-X",
            "auto.offset.reset=earliest",
            "-f",
            "%k\n",
        ];
        arguments.extend(until);
        arguments.push("shared");
        run(
            Command::new("kcat")
                .args(["-b", &server.address()])
                .args(arguments),
            b"",
        )
    };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| member(&["-c", "100"]));
        let second = scope.spawn(|| member(&["-c", "100"]));
        (
            first.join().expect("the first member"),
            second.join().expect("the second member"),
        )
    });
    let third = member(&["-e"]);
    let mut keys: Vec<u32> = [&first, &second, &third]
        .iter()
        .flat_map(|f| f.stdout.lines())
        .map(|k| k.parse().expect("a key"))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(
        keys.len(),
        400,
        "every record was read by a member: {} {} {}",
        first.stderr,
        second.stderr,
        third.stderr
    );
}
