//! docs/config.md is made from the tables that the broker answers DescribeConfigs from: it cannot say anything else than the broker does.

use std::fmt::Write;

use flumen::broker::config::unused::{Rule, UNUSED};
use flumen::broker::config::{BrokerConfig, KEYS, Kind};
use flumen::log::config::{Bounds, ConfigType, TOPIC_CONFIGS};

use crate::root;

fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\nMade from the broker's own tables by `UPDATE=1 cargo test -p flumen --test tidy`. A key that stands in neither table is refused by name.\n\n\
         ## Broker\n\nIn a `server.properties` (`flumen server run --properties`), or as `--set key=value`. `log.dir` and `broker.id` are taken as `log.dirs` and `node.id`. \
         Those marked *live* change while the broker runs (`flumen broker alter`, `kafka-configs`), and so do the synonyms of topic keys below, for one broker or for all.\n\n\
         | key | type | default | bounds | what it does |\n|---|---|---|---|---|\n",
    );
    for key in KEYS {
        let kind = match key.kind {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::List => "list",
        };
        let bounds = key
            .bounds
            .map_or(String::new(), |(least, most)| between(least, most));
        let _ = writeln!(
            page,
            "| `{}`{} | {kind} | {} | {bounds} | {} |",
            key.name,
            if BrokerConfig::is_dynamic(key.name) {
                " *live*"
            } else {
                ""
            },
            code(key.default),
            key.doc
        );
    }
    page.push_str("\n## Topic\n\nGiven when a topic is created (`flumen topic create --config key=value`); the broker's synonym sets the default of all topics.\n\n\
         | key | type | default | bounds | broker's synonyms | what it does |\n|---|---|---|---|---|---|\n");
    for key in TOPIC_CONFIGS {
        let synonyms: Vec<String> = key
            .synonyms
            .iter()
            .map(|synonym| code(synonym.name))
            .collect();
        let (kind, bounds) = (type_name(key.kind), bounds(key.bounds));
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {} | {bounds} | {} | {} |",
            key.name,
            code(key.default),
            synonyms.join(", "),
            key.doc
        );
    }
    page.push_str(&unused());
    page
}

/// Kafka's keys that are not honoured, by what becomes of them.
fn unused() -> String {
    let mut part = String::from(
        "\n## Kafka's other broker keys\n\nA `server.properties` that serves Apache Kafka 4.3 is taken as it is, as far as that is honest. \
         These have no effect; the start names those that are set.\n\n| because | keys |\n|---|---|\n",
    );
    let names = |unused: &flumen::broker::config::unused::Unused| {
        unused.names().map(code).collect::<Vec<_>>().join(" ")
    };
    for unused in UNUSED.iter().filter(|unused| unused.rule == Rule::NoEffect) {
        let _ = writeln!(part, "| {} | {} |", unused.why, names(unused));
    }
    part.push_str("\nThese are refused unless they say what is done anyway.\n\n| keys | only | because |\n|---|---|---|\n");
    for unused in UNUSED {
        let only = match unused.rule {
            Rule::NoEffect => continue,
            Rule::OneEntry => "one entry".to_owned(),
            Rule::Only([""]) => "empty".to_owned(),
            Rule::Only(values) => values
                .iter()
                .map(|v| code(v))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let _ = writeln!(part, "| {} | {only} | {} |", names(unused), unused.why);
    }
    part
}

fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

fn between(least: i64, most: i64) -> String {
    match most {
        i64::MAX => format!("{least} and more"),
        most if most == i64::from(i32::MAX) => format!("{least} and more"),
        most => format!("{least} to {most}"),
    }
}

fn bounds(bounds: Bounds) -> String {
    match bounds {
        Bounds::Any => String::new(),
        Bounds::AtLeast(least) => format!("{least} and more"),
        Bounds::Fraction => "0 to 1".to_owned(),
        Bounds::OneOf(words) => words.join(", "),
    }
}

fn type_name(kind: ConfigType) -> &'static str {
    match kind {
        ConfigType::Boolean => "boolean",
        ConfigType::String => "string",
        ConfigType::Int => "int",
        ConfigType::Long => "long",
        ConfigType::Double => "double",
        ConfigType::List => "list",
    }
}

#[test]
fn the_configuration_page_is_what_the_broker_knows() {
    let path = root().join("docs/config.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page()).expect("docs/config.md is writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/config.md is not what the tables say: UPDATE=1 rewrites it"
    );
}
