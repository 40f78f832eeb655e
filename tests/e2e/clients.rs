//! Clients we did not write against the real binary: librdkafka (as confluent-kafka and as the crate rdkafka), kafka-python, aiokafka, two
//! of Node's, one of Go's. The scripts in the folders beside this file assert; this file starts them.

use std::process::Command;

use crate::server::{Server, run};
use crate::{cache, have, python};

/// Runs what asserts by itself and says `ok` at its end.
fn succeeds(command: &mut Command) {
    let finished = run(command, b"");
    assert!(
        finished.ok && finished.stdout.ends_with("ok\n"),
        "{command:?}: {}{}",
        finished.stdout,
        finished.stderr
    );
}

fn script(server: &Server, name: &str) {
    let Some(python) = python() else { return };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/python/");
    let path = format!("{path}{name}.py");
    succeeds(Command::new(python).args([&path, &server.address()]));
}

/// A script of `tests/e2e/node`, with the modules that the set-up installed.
fn node_script(server: &Server, name: &str) {
    let modules = cache().map(|cache| cache.join("node"));
    let Some(modules) = modules.filter(|modules| modules.join("node_modules").exists()) else {
        eprintln!("skipped: no Node clients (tools/setup test installs them where npm is)");
        return;
    };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/node/");
    let path = format!("{path}{name}.mjs");
    let mut node = Command::new("node");
    node.env("NODE_MODULES_BASE", modules);
    succeeds(node.args([&path, &server.address()]));
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

#[test]
fn confluent_kafka_and_its_administration_work() {
    script(&Server::start(), "confluent");
}

#[test]
fn kafka_python_and_its_administration_work() {
    script(&Server::start(), "kafka_python");
}

#[test]
fn kafka_pythons_command_line_works() {
    script(&Server::start(), "kafka_python_cli");
}

#[test]
fn aiokafka_works() {
    script(&Server::start(), "aio_kafka");
}

#[test]
fn members_of_different_clients_share_a_group() {
    script(&Server::start(), "mixed_group");
}

#[test]
fn platformatic_works() {
    node_script(&Server::start(), "platformatic");
}

#[test]
fn kafkajs_works() {
    node_script(&Server::start(), "kafkajs");
}

#[test]
fn franz_go_works() {
    let built = cache().map(|cache| cache.join("go/franz"));
    let Some(program) = built.filter(|program| program.exists()) else {
        eprintln!("skipped: no Go client (tools/setup test builds it where Go is)");
        return;
    };
    succeeds(Command::new(program).arg(Server::start().address()));
}

#[test]
fn the_crate_rdkafka_works() {
    let built = cache().map(|cache| cache.join("rust/rdkafka"));
    let Some(program) = built.filter(|program| program.exists()) else {
        eprintln!("skipped: no client rdkafka (tools/setup test builds it)");
        return;
    };
    succeeds(Command::new(program).arg(Server::start().address()));
}
