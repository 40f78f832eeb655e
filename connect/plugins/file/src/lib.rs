//! File source and exactly-once file sink for flumen-connect.
//!
//! [`register`] puts both into a worker's registry, under Kafka's class names and short ones. The sources of the crate: `source.rs` with `reader.rs`,
//! `lines.rs`, `csv.rs`, `position.rs`; `sink.rs` with `store.rs` and `journal.rs`; `disk.rs` is the only file that opens anything.

mod csv;
mod disk;
#[doc(hidden)]
pub mod fuzz;
mod journal;
mod lines;
mod position;
mod reader;
mod sink;
mod source;
mod store;

pub use disk::Threads;
pub use sink::FileSink;
pub use source::FileSource;

use flumen_connect::registry::Registry;

/// Adds the file connectors: `FileStreamSource` (also `FileSource`) and `FileStreamSink` (`FileSink`).
#[must_use]
pub fn register(registry: Registry) -> Registry {
    register_with(registry, Threads::Beside)
}

/// [`register`] with connectors that wait for the disk where they are told to.
#[must_use]
pub fn register_with(registry: Registry, threads: Threads) -> Registry {
    registry
        .source(
            "org.apache.kafka.connect.file.FileStreamSourceConnector",
            &["FileSource"],
            FileSource { threads },
        )
        .sink(
            "org.apache.kafka.connect.file.FileStreamSinkConnector",
            &["FileSink"],
            FileSink { threads },
        )
}
