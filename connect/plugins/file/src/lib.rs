//! File source and exactly-once file sink for flumen-connect.
//!
//! [`register`] puts both into a worker's registry, under Kafka's class names and short ones. The sources of the crate: `source.rs` with `reader.rs`,
//! `lines.rs`, `csv.rs`, `position.rs`; `sink.rs` with `store.rs` and `journal.rs`; `disk.rs` is the only file that opens anything.

mod csv;
mod disk;
mod journal;
mod lines;
mod position;
mod reader;
mod sink;
mod source;
mod store;

pub use sink::FileSink;
pub use source::FileSource;

use flumen_connect::registry::Registry;

/// Adds the file connectors: `FileStreamSource` (also `FileSource`) and `FileStreamSink` (`FileSink`).
#[must_use]
pub fn register(registry: Registry) -> Registry {
    registry
        .source(
            "org.apache.kafka.connect.file.FileStreamSourceConnector",
            &["FileSource"],
            FileSource,
        )
        .sink(
            "org.apache.kafka.connect.file.FileStreamSinkConnector",
            &["FileSink"],
            FileSink,
        )
}
