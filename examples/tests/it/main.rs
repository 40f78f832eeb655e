//! Every example runs and asserts its own result; the demo survives kill -9.
#![allow(
    clippy::disallowed_methods,
    reason = "this test drives processes and files"
)]

mod demo;

use std::process::Command;

fn run(program: &str) {
    let output = Command::new(program)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn hello_produces_and_consumes() {
    run(env!("CARGO_BIN_EXE_hello"));
}

#[test]
fn word_count_counts_words() {
    run(env!("CARGO_BIN_EXE_word_count"));
}

#[test]
fn transfer_money_makes_and_loses_none() {
    run(env!("CARGO_BIN_EXE_transfer_money"));
}

#[test]
fn custom_connector_delivers_each_number_once() {
    run(env!("CARGO_BIN_EXE_custom_connector"));
}

#[test]
fn embedded_log_survives_without_a_broker() {
    run(env!("CARGO_BIN_EXE_embedded_log"));
}
