//! Writes what lists all messages: the module file, the table of APIs, and its page in `docs/`.

use std::fmt::Write;

use crate::model::{Api, Kind, Message, Shape, snake_case};

const GENERATED: &str =
    "Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.";

/// APIs with their request, in the order of their keys.
fn apis(shapes: &[Shape]) -> Vec<(&Api, &Message)> {
    let all = shapes.iter();
    let mut found: Vec<(&Api, &Message)> = all
        .filter_map(|shape| Some((shape.api.as_ref()?, shape.messages.first()?)))
        .collect();
    found.sort_by_key(|(api, _)| api.key);
    found
}

/// `src/message/mod.rs`
pub(crate) fn modules(shapes: &[Shape]) -> String {
    let all = shapes.iter().flat_map(|shape| &shape.messages);
    let mut names: Vec<(String, &str)> = all
        .map(|m| (snake_case(&m.name), m.name.as_str()))
        .collect();
    names.sort();
    let mut out = format!(
        "//! Every message, one file each: `message::FetchRequest` is the request, `message::fetch_request::FetchTopic` a part of it.\n//!\n\
         //! Field names are Kafka's in snake case; defaults are Kafka's. How they look on the wire is in `codec`.\n//!\n//! {GENERATED}\n\n\
         #![allow(\n    clippy::too_many_lines,\n    clippy::field_reassign_with_default,\n    clippy::derivable_impls,\n    reason = \"generated: as long as the message\"\n)]\n\n"
    );
    for (module, _) in &names {
        writeln!(out, "pub mod {module};").expect("a string takes all");
    }
    out.push('\n');
    for (module, name) in &names {
        writeln!(out, "pub use {module}::{name};").expect("a string takes all");
    }
    out.push_str(
        "\n/// Expands `$callback! { Fetch, FetchRequest, FetchResponse; … }` with every API, in the order of their keys.\n\
         ///\n/// For code that treats all alike: tests, tools, logs.\n#[macro_export]\nmacro_rules! for_each_api {\n    ($callback:ident) => {\n        $callback! {\n",
    );
    for (Api { name, .. }, _) in apis(shapes) {
        writeln!(out, "            {name}, {name}Request, {name}Response;")
            .expect("a string takes all");
    }
    out.push_str("        }\n    };\n}\n");
    out.push_str(
        "\n/// Expands `$callback! { OffsetCommitKey; … }` with every message that travels inside another or in a record.\n\
         #[macro_export]\nmacro_rules! for_each_data {\n    ($callback:ident) => {\n        $callback! {\n",
    );
    let all = shapes.iter().flat_map(|shape| &shape.messages);
    for message in all.filter(|m| m.kind == Kind::Data) {
        writeln!(out, "            {};", message.name).expect("a string takes all");
    }
    out.push_str("        }\n    };\n}\n");
    out
}

/// `src/api/table.rs`
pub(crate) fn table(shapes: &[Shape]) -> String {
    let apis = apis(shapes);
    let mut out = format!(
        "//! The table of APIs. {GENERATED}\n\nuse super::Api;\n\n\
         /// An API of the protocol. The number is Kafka's key, the first two bytes of every request.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ApiKey {{\n"
    );
    for (api, request) in &apis {
        let range = request.versions;
        let versions = match range.min == range.max {
            true => format!("version {}", range.min),
            false => format!("versions {} to {}", range.min, range.max),
        };
        writeln!(
            out,
            "    /// Key {}, {versions}.\n    {} = {},",
            api.key, api.name, api.key
        )
        .expect("a string takes all");
    }
    writeln!(
        out,
        "}}\n\n/// Key, name, versions, versions that ApiVersions shows, first flexible version; in the order of keys.\n\
         #[rustfmt::skip]\npub(super) const TABLE: [Api; {}] = [",
        apis.len()
    )
    .expect("a string takes all");
    for (api, request) in &apis {
        let range = request.versions;
        let shown = api.advertised.unwrap_or(range);
        let flexible = request
            .flexible_from
            .map_or("None".to_owned(), |from| format!("Some({from})"));
        writeln!(
            out,
            "    Api {{ key: ApiKey::{name}, name: \"{name}\", versions: ({}, {}), advertised: ({}, {}), flexible_from: {flexible} }},",
            range.min, range.max, shown.min, shown.max, name = api.name
        )
        .expect("a string takes all");
    }
    out.push_str("];\n");
    out
}

/// `docs/protocol.md`
pub(crate) fn document(shapes: &[Shape]) -> String {
    let mut out = "# Protocol\n\n\
        The APIs of the Kafka protocol that flumen-protocol reads and writes, with the versions of Kafka 4.3. Flexible versions use compact lengths and tagged\n\
        fields (KIP-482). A broker tells which of them it serves in its answer to ApiVersions; older and newer versions are refused.\n\n\
        This page is generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`.\n\n\
        | key | API | versions | flexible from | note |\n|---|---|---|---|---|\n"
        .to_owned();
    for (api, request) in apis(shapes) {
        let range = request.versions;
        let versions = match range.min == range.max {
            true => range.min.to_string(),
            false => format!("{}-{}", range.min, range.max),
        };
        let flexible = match request.flexible_from {
            None => "-".to_owned(),
            Some(from) => from.to_string(),
        };
        let note = api.advertised.map_or(String::new(), |shown| {
            format!(
                "ApiVersions shows {}-{}: librdkafka needs to see the old ones (KAFKA-18659)",
                shown.min, shown.max
            )
        });
        writeln!(
            out,
            "| {} | {} | {versions} | {flexible} | {note} |",
            api.key, api.name
        )
        .expect("a string takes all");
    }
    out
}
