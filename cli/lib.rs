//! Flumen: a stream-processing framework built on its own log.
//!
//! This crate is the binary `flumen` and a facade over the library crates, for programs that want one dependency:
//!
//! | module | what | talks to |
//! |---|---|---|
//! | [`broker`] | the Kafka-compatible broker, as a library: `Broker::start` | disk, sockets |
//! | [`client`] | producer, consumer, admin | any Kafka-compatible cluster |
//! | [`streams`] | the typed DSL, its engine and stores | any Kafka-compatible cluster |
//! | [`connect`] | the connect runtime; [`connect_file`], [`connect_postgres`] are its plugins | any Kafka-compatible cluster |
//! | [`log`] | one partition's durable log, usable alone | disk |
//! | [`protocol`] | the bytes | nothing |
//!
//! It owns no logic of its own beside [`embedded`], which starts a broker inside a test or a program.

pub use flumen_broker as broker;
pub use flumen_client as client;
pub use flumen_connect as connect;
pub use flumen_connect_file as connect_file;
pub use flumen_connect_postgres as connect_postgres;
pub use flumen_log as log;
pub use flumen_protocol as protocol;
pub use flumen_streams as streams;

pub mod embedded;
