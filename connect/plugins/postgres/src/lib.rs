//! Exactly-once Postgres sink for flumen-connect.
//!
//! [`register`] puts it into a worker's registry. `sink.rs` is the task and the order of its work; `claims.rs` the offsets table and the fence; `catalogue.rs`
//! the tables and `create.rs` how a missing one is made; `plan.rs` turns records into statements of `table.rs` and bytes of `encode.rs` and `numeric.rs`;
//! `writer.rs` runs them; `failure.rs` says what an error asks of us; `session.rs` is the only file that opens a connection.

mod catalogue;
mod claims;
mod create;
mod encode;
mod failure;
mod numeric;
mod options;
mod plan;
mod session;
mod sink;
mod table;
mod writer;

pub use sink::PostgresSink;

use flumen_connect::registry::Registry;

/// Adds the Postgres sink: `PostgresSink`, also under the full name `flumen.connect.postgres.PostgresSinkConnector`.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    registry.sink(
        "flumen.connect.postgres.PostgresSinkConnector",
        &[],
        PostgresSink,
    )
}
