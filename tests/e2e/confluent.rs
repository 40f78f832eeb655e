//! The newest librdkafka, through PyPI's confluent-kafka, against the real binary. The scripts beside this file assert; this file starts them.

use std::process::Command;

use crate::server::{Server, run};
use crate::{have, python};

fn script(server: &Server, name: &str) {
    let Some(python) = python() else { return };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/python/");
    let finished = run(
        Command::new(python)
            .arg(format!("{path}{name}.py"))
            .arg(server.address()),
        b"",
    );
    assert!(
        finished.ok && finished.stdout.ends_with("ok\n"),
        "{name}: {}{}",
        finished.stdout,
        finished.stderr
    );
}

#[test]
fn idempotence_transactions_and_fencing_hold() {
    let server = Server::start();
    script(&server, "transactions");
    if python().is_some() && have("kcat") {
        let read = |isolation: &str| {
            let level = format!("isolation.level={isolation}");
            let arguments = [
                "-b",
                &server.address(),
                "-C",
                "-t",
                "txn-out",
                "-e",
                "-q",
                "-X",
                &level,
            ];
            run(Command::new("kcat").args(arguments), b"")
                .stdout
                .lines()
                .count()
        };
        assert_eq!(
            read("read_committed"),
            10,
            "kcat skips the aborted transaction"
        );
        assert!(read("read_uncommitted") >= 15, "and sees it when asked to");
    }
}

#[test]
fn cooperative_and_static_members_share_a_topic() {
    let server = Server::start();
    script(&server, "groups");
}
