# The commands a person types. `make demo` and `make test` do their own set-up; both may be run at any time, in any order.
#
#   make demo [DATA=flights.csv[.gz]] [RESUME=1] [DIR=folder]   broker + connectors + topology in one process, on real data
#   make test                                                   everything CI runs
#   make sim SEEDS=1000 [FROM=0]                                so many seeds of the simulation, with progress and what they exercised
#   make setup                                                  only the set-up: Debian packages, RocksDB (once per machine)
#   make fix                                                    format, regenerate what is generated
#   make conformance [SUITES="topics streams"]                  Kafka's tools, clients, Streams and Connect on the release binary (Java 17, Maven); docs/compatibility.md
#   make fuzz [SECONDS=3600] [TARGETS="request batch"]          every reader of bytes under libFuzzer, guided by coverage, each for so long
#   make dist                                                   the stripped release binary, target/dist/flumen
#   make bench [BENCH="--rounds 5 --only consume"]              beside Apache Kafka, same clients, same run (needs Java, Maven, kcat)
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test sim lint fix conformance fuzz dist bench

help:
	@sed -n '3,11s/^# \{0,1\}//p' Makefile

setup:
	@tools/setup test

demo:
	@tools/setup demo
	@cargo build --release --locked -p flumen-examples --bin flights
	@target/release/flights --dir "$(or $(DIR),target/demo)" $(if $(DATA),--data "$(DATA)") $(if $(RESUME),--resume)

test:
	tools/setup test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --all-targets --locked
	cargo test --workspace --doc --locked

sim:
	@tools/setup test
	SEEDS=$(or $(SEEDS),1000) FROM=$(or $(FROM),0) cargo test --locked -p flumen --test sim -- --exact no_seed_breaks_a_promise --nocapture

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fix:
	cargo run -q -p flumen-protocol-generator
	cargo fmt --all
	UPDATE=1 cargo test -q -p flumen --test tidy

conformance:
	@tests/conformance/run --check
	@tools/setup build
	cargo build --release --locked -p flumen
	tests/conformance/run --binary $${CARGO_TARGET_DIR:-target}/release/flumen $(SUITES)

fuzz:
	@tools/setup build
	tools/fuzz $(or $(SECONDS),3600) $(TARGETS)

dist:
	@tools/setup build
	cargo build --profile dist --locked -p flumen

bench:
	@tools/setup build
	@tools/bench/fetch
	cargo build --profile dist --locked -p flumen
	cargo build --release --locked -p flumen-broker --example limits
	@out=$${CARGO_TARGET_DIR:-target}; python3 -B tools/bench --flumen $$out/dist/flumen --limits $$out/release/examples/limits $(BENCH)
