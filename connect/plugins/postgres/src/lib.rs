//! Exactly-once Postgres sink for flumen-connect.
//!
//! Records of topics become rows of tables: each once, whatever is killed, stopped or cut off on
//! either side. A record's value must have named fields (a struct, or a JSON object); each goes to
//! the column of its name, and the column's type decides how (table in `encode.rs`).
//!
//! ```
//! use flumen_connect::registry::Registry;
//! let registry = flumen_connect_postgres::register(Registry::new());
//! let (_, sink) = registry.connector("PostgresSink").unwrap();
//! let props = [
//!     ("connection.url", "postgres://writer@db.example:5432/sales"),
//!     ("connection.password", "hidden when it is shown"),
//!     ("table.name.format", "carrier_delays"),
//!     ("insert.mode", "upsert"),               // insert: every record is a new row
//!     ("pk.mode", "record_value"),             // or record_key: then delete.enabled=true makes tombstones deletes
//!     ("pk.fields", "carrier,hour"),
//!     ("auto.create", "true"),                 // the table, if it is missing
//!     ("column.types", "hour:timestamptz"),    // where text alone does not tell
//! ];
//! let props = props.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
//! assert!(sink.config().validate(&props).is_empty());
//! ```
//!
//! **How it is exact.** Rows and next offsets are written in one transaction. The offsets stand in
//! `_connect_offsets` of the same database, a row per connector, topic and partition, with an epoch
//! that every new owner raises; a batch first moves `next_offset` from its start to its end *where
//! the epoch is still its own*, and writes nothing otherwise. Kafka's group offsets only show the
//! lag. A primary key is not needed for it.
//!
//! **What the role needs**: INSERT (upsert: UPDATE and SELECT too; deletes: DELETE) on the tables,
//! all of these on `_connect_offsets`; CREATE on the schema only where one of them is to be made.
//! To end a stopped predecessor's connection it needs no more than being the same role.
//!
//! **Errors.** What may pass (connection, locks, deadlocks, full disk) is tried again with the same
//! batch. Rows that Postgres refuses are found by halves and given back, each with its reason, for
//! `errors.tolerance` to decide. A missing table, column or right stops the task and is named.
//!
//! **Not there yet**: TLS, several connections of one task, columns added by themselves
//! (`auto.evolve`), `pk.mode=kafka`.
//!
//! The files: `sink.rs` is the task and the order of its work; `claims.rs` the offsets table and
//! the fence; `catalogue.rs` the tables and `create.rs` how a missing one is made; `plan.rs` turns
//! records into statements of `table.rs` and bytes of `encode.rs` and `numeric.rs`; `writer.rs`
//! runs them; `failure.rs` says what an error asks of us; `session.rs` is the only file that opens
//! a connection.

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

/// Adds the Postgres sink: `PostgresSink`, also under the full name
/// `flumen.connect.postgres.PostgresSinkConnector`.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    registry.sink(
        "flumen.connect.postgres.PostgresSinkConnector",
        &[],
        PostgresSink,
    )
}
