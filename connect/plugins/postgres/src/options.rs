//! The options of the Postgres sink.

use flumen_connect::config::{ConfigDef, ConfigKey, Importance, Kind, Rule, Settings};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InsertMode {
    Insert,
    Upsert,
}

/// Where the primary key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PkMode {
    None,
    RecordKey,
    RecordValue,
}

/// The options, read once.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) url: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) insert_mode: InsertMode,
    pub(crate) pk_mode: PkMode,
    pub(crate) pk_fields: Vec<String>,
    pub(crate) delete_enabled: bool,
    pub(crate) auto_create: bool,
    pub(crate) column_types: Vec<(String, String)>,
    pub(crate) table_name_format: String,
    pub(crate) offsets_table: String,
    pub(crate) lock_timeout_ms: i64,
    pub(crate) idle_timeout_ms: i64,
}

pub(crate) fn config_def() -> ConfigDef {
    let connection = |key: ConfigKey| key.group("Connection");
    let writes = |key: ConfigKey| key.group("Writes");
    let data = |key: ConfigKey| key.group("Data mapping");
    ConfigDef::new([
        connection(ConfigKey::required("connection.url", Kind::String, "postgres://user:password@host:port/database, or host=… user=… as libpq reads it. jdbc: in front is allowed.").rule(Rule::Check(|url| parse_url(url).map(drop)))),
        connection(ConfigKey::optional("connection.user", Kind::String, "The user, if it is not in the URL.")),
        connection(ConfigKey::optional("connection.password", Kind::Password, "The password, if it is not in the URL.")),
        connection(ConfigKey::with_default("lock.timeout.ms", Kind::Long, 10_000, "How long a statement waits for a lock before it is tried again.").rule(Rule::AtLeast(1)).importance(Importance::Low)),
        connection(ConfigKey::with_default("idle.in.transaction.timeout.ms", Kind::Long, 10_000, "After so long Postgres gives up on a worker that stopped inside a transaction.").rule(Rule::AtLeast(1)).importance(Importance::Low)),
        writes(ConfigKey::with_default("insert.mode", Kind::String, "insert", "insert: every record is a new row. upsert: a record replaces the row of its key.").rule(Rule::OneOf(&["insert", "upsert"])).importance(Importance::High)),
        writes(ConfigKey::with_default("delete.enabled", Kind::Boolean, false, "A record without a value deletes the row of its key; needs pk.mode=record_key and insert.mode=upsert.")),
        writes(ConfigKey::with_default("offsets.table", Kind::String, "_connect_offsets", "Where the next offset of each partition stands, written in the same transaction as the rows.").rule(Rule::NonEmpty).importance(Importance::Low)),
        data(ConfigKey::with_default("table.name.format", Kind::String, "${topic}", "The table of a topic; a dot separates the schema.").rule(Rule::NonEmpty)),
        data(ConfigKey::with_default("pk.mode", Kind::String, "none", "Where the primary key comes from: none, record_key, record_value.").rule(Rule::OneOf(&["none", "record_key", "record_value"])).importance(Importance::High)),
        data(ConfigKey::optional("pk.fields", Kind::List, "The columns of the primary key. Of a key without fields: the one column it becomes.")),
        data(ConfigKey::with_default("auto.create", Kind::Boolean, false, "Makes a missing table, from the schema of the records or from their values.")),
        data(ConfigKey::optional("column.types", Kind::String, "Types for auto.create, as hour:timestamptz,amount:numeric(10,2); they go before schema and values.").rule(Rule::Check(|text| column_types(text).map(drop)))),
    ])
}

/// Splits at commas outside of brackets.
fn column_types(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut depth = 0_i32;
    let split = text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    let parts = split
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, kind) = part
                .split_once(':')
                .ok_or_else(|| format!("{part} is not <column>:<type>"))?;
            let legal = |c: char| c.is_ascii_alphanumeric() || "_ (),[]".contains(c);
            if kind.trim().is_empty() || !kind.chars().all(legal) {
                return Err(format!("{kind} is no name of a type"));
            }
            Ok((name.trim().to_owned(), kind.trim().to_owned()))
        });
    parts.collect()
}

/// Reads a connection URL; `jdbc:postgresql://host/db` too.
pub(crate) fn parse_url(url: &str) -> Result<tokio_postgres::Config, String> {
    let url = url.trim().strip_prefix("jdbc:").unwrap_or(url.trim());
    url.parse().map_err(|e: tokio_postgres::Error| {
        std::error::Error::source(&e).map_or_else(|| e.to_string(), |cause| format!("{e}: {cause}"))
    })
}

impl Options {
    pub(crate) fn new(settings: &Settings) -> Options {
        Options {
            url: settings.str("connection.url").to_owned(),
            user: settings.opt("connection.user").map(str::to_owned),
            password: settings.opt("connection.password").map(str::to_owned),
            insert_mode: if settings.word("insert.mode") == "upsert" {
                InsertMode::Upsert
            } else {
                InsertMode::Insert
            },
            pk_mode: match settings.word("pk.mode").as_str() {
                "record_key" => PkMode::RecordKey,
                "record_value" => PkMode::RecordValue,
                _ => PkMode::None,
            },
            pk_fields: settings.list("pk.fields"),
            delete_enabled: settings.bool("delete.enabled"),
            auto_create: settings.bool("auto.create"),
            column_types: column_types(settings.str("column.types")).unwrap_or_default(),
            table_name_format: settings.str("table.name.format").to_owned(),
            offsets_table: settings.str("offsets.table").to_owned(),
            lock_timeout_ms: settings.int("lock.timeout.ms"),
            idle_timeout_ms: settings.int("idle.in.transaction.timeout.ms"),
        }
    }

    /// What contradicts: the key and a sentence.
    pub(crate) fn contradictions(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        if self.insert_mode == InsertMode::Upsert && self.pk_mode == PkMode::None {
            found.push(("pk.mode", "Invalid value none for configuration pk.mode: insert.mode=upsert needs a primary key; set record_key or record_value, and pk.fields"));
        }
        if self.pk_mode != PkMode::None && self.pk_fields.is_empty() {
            found.push((
                "pk.fields",
                "Missing required configuration \"pk.fields\": the columns of the primary key",
            ));
        }
        if self.delete_enabled
            && (self.pk_mode != PkMode::RecordKey || self.insert_mode != InsertMode::Upsert)
        {
            found.push(("delete.enabled", "Invalid value true for configuration delete.enabled: it needs pk.mode=record_key and insert.mode=upsert"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_with_brackets_and_jdbc_urls_are_read() {
        let types = column_types("a:numeric(10,2), b : timestamptz").unwrap();
        assert_eq!(
            types,
            [
                ("a".to_owned(), "numeric(10,2)".to_owned()),
                ("b".to_owned(), "timestamptz".to_owned())
            ]
        );
        assert!(column_types("a").is_err());
        assert!(column_types("a:int); drop table x; --").is_err());
        assert!(parse_url("jdbc:postgresql://localhost:5433/x").is_ok());
        assert!(parse_url("mysql://x").is_err());
    }

    #[test]
    fn options_that_contradict_are_found() {
        let contradictions = |pairs: &[(&str, &str)]| {
            let mut props: flumen_connect::config::Props =
                [("connection.url".to_owned(), "postgres://x".to_owned())].into();
            props.extend(
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            );
            let options = Options::new(&config_def().settings(&props).unwrap());
            options
                .contradictions()
                .iter()
                .map(|(key, _)| *key)
                .collect::<Vec<_>>()
        };
        assert_eq!(contradictions(&[]), [""; 0]);
        assert_eq!(contradictions(&[("insert.mode", "upsert")]), ["pk.mode"]);
        assert_eq!(contradictions(&[("pk.mode", "record_key")]), ["pk.fields"]);
        assert_eq!(
            contradictions(&[("delete.enabled", "true")]),
            ["delete.enabled"]
        );
        assert_eq!(
            contradictions(&[
                ("insert.mode", "upsert"),
                ("pk.mode", "record_value"),
                ("pk.fields", "id")
            ]),
            [""; 0]
        );
    }
}
