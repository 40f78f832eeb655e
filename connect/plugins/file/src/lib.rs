//! File source and exactly-once file sink for flumen-connect.
mod csv;
mod disk;
mod lines;
mod position;
mod reader;
mod source;

pub use source::FileSource;
