//! Exactly-once Postgres sink for flumen-connect.
//!
//! [`register`] puts it into a worker's registry. `sink.rs` is the task and the order of a transaction, `claims.rs` the offsets table and the fence, `writer.rs`
//! the rows, `table.rs` names and statements, `encode.rs` the bytes, `session.rs` the only file that opens a connection.

mod claims;
mod encode;
mod options;
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
