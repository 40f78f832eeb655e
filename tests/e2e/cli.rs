//! The binary's own commands as a person or a script meets them: what they print, what they refuse, and with which exit code.

use std::process::Command;

use crate::server::Server;

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;

/// Exit code, stdout, stderr.
fn flumen(server: &Server, arguments: &str, input: &str) -> (i32, String, String) {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_flumen"))
        .args(["-b", &server.address()])
        .args(arguments.split_whitespace())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let finished = child.wait_with_output().expect("it ends");
    (
        finished.status.code().unwrap_or(-1),
        String::from_utf8(finished.stdout).expect("text"),
        String::from_utf8(finished.stderr).expect("text"),
    )
}

/// What a command prints that must succeed.
fn printed(server: &Server, arguments: &str) -> String {
    let (code, stdout, stderr) = flumen(server, arguments, "");
    assert_eq!(code, 0, "{arguments}: {stderr}");
    stdout
}

/// The cells of a printed table, without its header.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().skip(1);
    rows.map(|row| row.split_whitespace().collect()).collect()
}

#[test]
fn a_topic_is_changed_while_it_is_used() {
    let server = Server::start();
    printed(&server, "topic create t --partitions 1");
    flumen(&server, "produce t", "a\nb\nc\n");
    let refused = flumen(&server, "topic alter t --set no.such=1 --partitions 3", "");
    assert_ne!(refused.0, 0);
    assert!(refused.2.contains("no.such"), "{}", refused.2);
    let listed = printed(&server, "topic list");
    assert_eq!(cells(&listed)[0][..2], ["t", "1"], "nothing of it was done");
    printed(
        &server,
        "topic alter t --set retention.ms=60000 --partitions 3",
    );
    let configs = printed(&server, "topic configs t");
    let retention = cells(&configs)
        .into_iter()
        .find(|row| row[0] == "retention.ms");
    assert_eq!(retention.expect("listed")[1..3], ["60000", "topic"]);
    printed(&server, "topic alter t --unset retention.ms");
    assert!(printed(&server, "topic configs t").contains("604800000"));
    assert_eq!(flumen(&server, "topic alter t", "").0, USAGE);
    assert_eq!(
        flumen(&server, "topic alter none --set retention.ms=1", "").0,
        NOT_FOUND
    );
}

#[test]
fn records_are_deleted_only_when_told() {
    let server = Server::start();
    printed(&server, "topic create t --partitions 1");
    flumen(&server, "produce t", "a\nb\nc\n");
    let careful = flumen(&server, "topic delete-records t --before 2", "");
    assert_eq!(careful.0, USAGE);
    assert!(careful.2.contains("nothing was deleted"), "{}", careful.2);
    let done = printed(&server, "topic delete-records t --before 2 --yes");
    assert_eq!(cells(&done), [["0", "2"]]);
    let beyond = flumen(&server, "topic delete-records t --before 9 --yes", "");
    assert_eq!(beyond.0, 1);
    assert!(beyond.2.contains("OFFSET_OUT_OF_RANGE"), "{}", beyond.2);
    let sizes = printed(&server, "log dirs --topic t");
    assert_eq!(cells(&sizes)[0][..2], ["t", "0"]);
}

#[test]
fn a_group_goes_on_where_it_is_told() {
    let server = Server::start();
    printed(&server, "topic create t --partitions 1");
    flumen(&server, "produce t", "a\nb\nc\n");
    let reset = |how: &str| printed(&server, &format!("group reset g --topic t {how}"));
    assert_eq!(cells(&reset("--to-offset 2")), [["t", "0", "-", "2"]]);
    assert_eq!(
        cells(&reset("--to-latest --execute")),
        [["t", "0", "-", "3"]]
    );
    assert_eq!(
        cells(&reset("--shift-by -2 --execute")),
        [["t", "0", "3", "1"]]
    );
    assert_eq!(
        cells(&reset("--by-duration 1h --execute")),
        [["t", "0", "1", "0"]]
    );
    assert_eq!(
        cells(&reset("--to-time 2100-01-01T00:00:00Z --execute")),
        [["t", "0", "0", "3"]],
        "no record is as young: behind the last"
    );
    assert_eq!(
        cells(&reset("--to-offset 77 --execute")),
        [["t", "0", "3", "3"]],
        "the nearest there is"
    );
    assert_eq!(flumen(&server, "group reset g --topic t", "").0, USAGE);
    assert_eq!(flumen(&server, "group delete-offsets g t", "").0, USAGE);
    printed(&server, "group delete-offsets g t --yes");
    printed(&server, "group reset g --topic t --to-latest --execute");
    printed(&server, "group delete g --yes");
    assert_eq!(
        flumen(&server, "group delete g --yes", "").0,
        NOT_FOUND,
        "a second time"
    );
}

#[test]
fn nothing_hangs_where_nothing_was_begun() {
    let server = Server::start();
    printed(&server, "topic create t --partitions 1");
    assert_eq!(printed(&server, "transaction list"), "");
    assert_eq!(printed(&server, "transaction hanging t"), "");
    let none = flumen(&server, "transaction describe nobody", "");
    assert_ne!(none.0, 0);
    assert!(none.2.contains("nobody"), "{}", none.2);
    let none = flumen(&server, "transaction abort t 0 --start-offset 5 --yes", "");
    assert_eq!(none.0, NOT_FOUND);
    let wrong = flumen(&server, "transaction list --state Nonsense", "");
    assert!(wrong.2.contains("Nonsense"), "{}", wrong.2);
}
