//! What is refused, in which words, and what is shown of secrets.

use std::time::Duration;

use super::*;

fn def() -> ConfigDef {
    ConfigDef::new([
        ConfigKey::required("connection.url", Kind::String, "Where the database is.")
            .rule(Rule::NonEmpty),
        ConfigKey::optional("connection.password", Kind::Password, "The password."),
        ConfigKey::with_default(
            "insert.mode",
            Kind::String,
            "insert",
            "How rows are written.",
        )
        .rule(Rule::OneOf(&["insert", "upsert"])),
        ConfigKey::with_default("batch.size", Kind::Int, 2000, "Rows of one transaction.")
            .rule(Rule::Between(1, 100_000)),
        ConfigKey::with_default("auto.create", Kind::Boolean, false, "Make missing tables."),
        ConfigKey::with_default("retry.backoff.ms", Kind::Long, 300, "First pause.")
            .rule(Rule::AtLeast(0)),
        ConfigKey::optional("pk.fields", Kind::List, "Key columns.").rule(Rule::NonEmpty),
    ])
    .open_prefix("value.converter.")
}

fn props(pairs: &[(&str, &str)]) -> Props {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn every_kind_and_rule_is_checked_and_named() {
    let check = |name: &str, value: &str, message: &str| {
        let findings = def().validate(&props(&[("connection.url", "x"), (name, value)]));
        let found: Vec<&str> = findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        assert_eq!(
            found,
            if message.is_empty() {
                vec![]
            } else {
                vec![message]
            },
            "{name}={value}"
        );
    };
    check("batch.size", "12", "");
    check(
        "batch.size",
        "12.5",
        "Invalid value 12.5 for configuration batch.size: Not a number of type INT",
    );
    check(
        "batch.size",
        "0",
        "Invalid value 0 for configuration batch.size: Value must be at least 1 (and at most 100000)",
    );
    check(
        "batch.size",
        "100001",
        "Invalid value 100001 for configuration batch.size: Value must be no more than 100000",
    );
    check(
        "retry.backoff.ms",
        "-1",
        "Invalid value -1 for configuration retry.backoff.ms: Value must be at least 0",
    );
    check("auto.create", "TRUE", "");
    check(
        "auto.create",
        "yes",
        "Invalid value yes for configuration auto.create: Expected value to be either true or false",
    );
    check("insert.mode", "UPSERT", "");
    check(
        "insert.mode",
        "append",
        "Invalid value append for configuration insert.mode: String must be one of: insert, upsert",
    );
    check(
        "pk.fields",
        "a,,b",
        "Invalid value a,,b for configuration pk.fields: empty element in the list",
    );
    check("value.converter.schemas.enable", "anything", "");
    check(
        "insert.mod",
        "insert",
        "Unknown configuration insert.mod; did you mean insert.mode?",
    );
    check(
        "inser.tmode",
        "insert",
        "Unknown configuration inser.tmode; did you mean insert.mode?",
    );
    check(
        "colour",
        "blue",
        "Unknown configuration colour; it has no effect.",
    );
}

#[test]
fn a_missing_key_is_an_error_and_an_unknown_one_is_not() {
    let findings = def().settings(&Props::new()).unwrap_err();
    assert_eq!(
        findings[0].message,
        "Missing required configuration \"connection.url\" which has no default value."
    );
    let settings = def()
        .settings(&props(&[
            ("connection.url", " pg "),
            ("colour", "blue"),
            ("pk.fields", "a, b"),
        ]))
        .unwrap();
    assert_eq!(settings.str("connection.url"), "pg");
    assert_eq!(settings.raw("connection.url"), " pg ");
    assert_eq!(settings.list("pk.fields"), ["a", "b"]);
    assert_eq!(
        settings.duration("retry.backoff.ms"),
        Duration::from_millis(300)
    );
    assert!(!settings.bool("auto.create"));
}

#[test]
fn secrets_are_hidden_and_come_back_when_the_shown_configuration_is_sent_again() {
    let old = props(&[
        ("connection.url", "postgres://ann:pa:ss@db:5432/x?a=b"),
        ("connection.password", "hush"),
        ("batch.size", "7"),
    ]);
    let mut shown = def().redacted(&old);
    assert_eq!(
        shown["connection.url"],
        "postgres://ann:[hidden]@db:5432/x?a=b"
    );
    assert_eq!(shown["connection.password"], HIDDEN);
    let _ = shown.insert("batch.size".to_owned(), "8".to_owned());
    let back = def().unredacted(shown, &old);
    assert_eq!(
        (back["connection.url"].as_str(), back["batch.size"].as_str()),
        ("postgres://ann:pa:ss@db:5432/x?a=b", "8")
    );
    assert_eq!(back["connection.password"], "hush");
    assert!(!format!("{:?}", def().settings(&old).unwrap()).contains("hush"));
}
