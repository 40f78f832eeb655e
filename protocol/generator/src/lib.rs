//! Turns message shapes into the Rust of flumen-protocol.
//!
//! A shape says what a message of Kafka's protocol holds, version by version. It is data; the
//! generator is the only reader. [`generate`] gives every generated file by its path;
//! `cargo run -p flumen-protocol-generator` writes them, and a test in flumen-protocol compares them
//! with what is committed.
//!
//! # The notation
//!
//! ```text
//! api Fetch 1                                      name and key of an API; its request and response follow
//!
//! # - Version 7 adds incremental fetch requests.   lines with # document what follows them
//! request 4-18 flexible 12+                        versions, and from which one on they are flexible (KIP-482)
//!   # The fetch session ID.
//!   session_id: i32 7+ ignorable                   name: type [versions] [tag n] [= default] [ignorable]
//!   topics: [FetchTopic]                           an array of structs; their fields are indented below
//!     topic: string 4-12 ignorable
//!     partitions: [i32]
//!   rack_id: string? 11+ = null                    ? may be null, ?7+ may be null from version 7 on
//!   struct Shared                                  a struct that several fields name
//!     name: string
//! ```
//!
//! - Versions: `3`, `3-5`, `3+` (to the newest); absent: as the struct around.
//! - Types: `bool i8 i16 u16 i32 u32 i64 f64 string bytes uuid records`, a struct's name, `[type]`.
//! - Defaults: zero, empty, false; for what may be null: empty, and null where `= null` says so
//!   (`records`: null).
//! - `ignorable`: a value may be left out of a version that has no such field; otherwise that is an
//!   error.
//! - `data Name versions` instead of `request` and `response`: a message that travels inside
//!   another or in a record.

mod api_table;
mod files;
mod message;
mod model;
mod parse;
mod text;

use std::collections::BTreeMap;

pub use files::read_shapes;
pub use model::{Field, Kind, Message, Shape, Struct, Type, Versions};
pub use parse::{ParseError, parse};

/// Generated files: path within the repository, and content.
pub type Files = BTreeMap<String, String>;

/// Every generated file for these shapes.
pub fn generate(shapes: &[Shape]) -> Files {
    let mut files = Files::new();
    for message in shapes.iter().flat_map(|shape| &shape.messages) {
        let path = format!(
            "protocol/src/message/{}.rs",
            model::snake_case(&message.name)
        );
        files.insert(path, message::emit(message, shapes));
    }
    files.insert(
        "protocol/src/message/mod.rs".to_owned(),
        api_table::modules(shapes),
    );
    files.insert(
        "protocol/src/api/table.rs".to_owned(),
        api_table::table(shapes),
    );
    files.insert("docs/protocol.md".to_owned(), api_table::document(shapes));
    files
}
