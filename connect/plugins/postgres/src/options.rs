//! The options of the Postgres sink. Pure.
//!
//! Owns their names, defaults and sentences, and what contradicts. Names are those of Confluent's
//! and Debezium's JDBC sinks where one of them has the option.

use std::time::Duration;

use flumen_connect::config::{ConfigDef, ConfigKey, Finding, Importance, Kind, Rule, Settings};
use tokio_postgres::config::SslMode;

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

/// What becomes of a field that has no column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownFields {
    Error,
    Ignore,
}

/// The options, read once.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where to connect, as whom; the password is in it and nowhere else.
    pub(crate) connection: tokio_postgres::Config,
    pub(crate) insert_mode: InsertMode,
    pub(crate) pk_mode: PkMode,
    pub(crate) pk_fields: Vec<String>,
    pub(crate) delete_enabled: bool,
    pub(crate) auto_create: bool,
    pub(crate) unknown_fields: UnknownFields,
    /// Rows of one statement with arrays; COPY has no such bound.
    pub(crate) batch_size: usize,
    pub(crate) column_types: Vec<(String, String)>,
    pub(crate) table_name_format: String,
    pub(crate) offsets_table: String,
    pub(crate) lock_timeout_ms: i64,
    pub(crate) idle_timeout_ms: i64,
}

pub(crate) fn config_def() -> ConfigDef {
    ConfigDef::new(connection_keys())
        .and(ConfigDef::new(write_keys()))
        .and(ConfigDef::new(mapping_keys()))
}

fn connection_keys() -> Vec<ConfigKey> {
    let optional = |name, doc| ConfigKey::optional(name, Kind::String, doc);
    let keys = vec![
        optional("connection.url", "postgres://user@host:port/database, or host=… user=… as libpq reads it; jdbc: in front is allowed. Or set connection.host and its kind.")
            .rule(Rule::Check(|url| parse_url(url).map(drop)))
            .importance(Importance::High),
        optional("connection.host", "The host, or the directory of a Unix socket, instead of connection.url."),
        ConfigKey::optional("connection.port", Kind::Int, "The port; 5432 when it is not set.").rule(Rule::Between(1, 65_535)),
        optional("connection.database", "The database, if it is not in the URL."),
        optional("connection.user", "The user, if it is not in the URL. Debezium: connection.username."),
        optional("connection.username", "The same as connection.user."),
        ConfigKey::optional("connection.password", Kind::Password, "The password. In a URL only the form user:password@ is hidden when the configuration is shown."),
        ConfigKey::with_default("lock.timeout.ms", Kind::Long, 10_000, "How long a statement waits for a lock before all of its transaction is tried again.")
            .rule(Rule::AtLeast(1)).importance(Importance::Low),
        ConfigKey::with_default("idle.in.transaction.timeout.ms", Kind::Long, 10_000, "After so long Postgres ends a worker that stopped inside a transaction.")
            .rule(Rule::AtLeast(1)).importance(Importance::Low),
    ];
    keys.into_iter()
        .map(|key| key.group("Connection"))
        .collect()
}

fn write_keys() -> Vec<ConfigKey> {
    let keys = vec![
        ConfigKey::with_default("insert.mode", Kind::String, "insert", "insert: every record is a new row. upsert: a record replaces the row of its key.")
            .rule(Rule::OneOf(&["insert", "upsert"])).importance(Importance::High),
        ConfigKey::with_default("delete.enabled", Kind::Boolean, false, "A record without a value deletes the row of its key; needs pk.mode=record_key and insert.mode=upsert."),
        ConfigKey::with_default("batch.size", Kind::Int, 10_000, "Most rows of one upsert statement. A transaction holds what the worker hands over at once, and may run several.")
            .rule(Rule::Between(1, 1_000_000)),
        ConfigKey::with_default("offsets.table", Kind::String, "_connect_offsets", "Where owner and next offset of each partition stand, written in the same transaction as the rows.")
            .rule(Rule::NonEmpty).importance(Importance::Low),
    ];
    keys.into_iter().map(|key| key.group("Writes")).collect()
}

fn mapping_keys() -> Vec<ConfigKey> {
    let keys = vec![
        ConfigKey::with_default(
            "table.name.format",
            Kind::String,
            "${topic}",
            "The table of a topic; a dot separates the schema.",
        )
        .rule(Rule::NonEmpty),
        ConfigKey::with_default(
            "pk.mode",
            Kind::String,
            "none",
            "Where the primary key comes from: none, record_key, record_value.",
        )
        .rule(Rule::OneOf(&["none", "record_key", "record_value"]))
        .importance(Importance::High),
        ConfigKey::optional(
            "pk.fields",
            Kind::List,
            "The columns of the primary key. Of a key without fields: the one column it becomes.",
        ),
        ConfigKey::with_default(
            "auto.create",
            Kind::Boolean,
            false,
            "Makes a missing table: types by column.types, else by the records' schema, else by the values of the first batch.",
        ),
        ConfigKey::optional(
            "column.types",
            Kind::String,
            "Types for auto.create, as hour:timestamptz,amount:numeric(10,2).",
        )
        .rule(Rule::Check(|text| column_types(text).map(drop))),
        ConfigKey::with_default(
            "unknown.fields",
            Kind::String,
            "error",
            "A field that has no column: error refuses the record, ignore leaves the field out.",
        )
        .rule(Rule::OneOf(&["error", "ignore"])),
    ];
    keys.into_iter()
        .map(|key| key.group("Data mapping"))
        .collect()
}

/// Splits at commas outside of brackets.
fn column_types(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut depth = 0_i32;
    let split = text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    let type_of = |part: &str| {
        let (name, kind) = part
            .split_once(':')
            .ok_or_else(|| format!("{part} is not <column>:<type>"))?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "_ (),[]".contains(c);
        if kind.trim().is_empty() || !kind.chars().all(legal) {
            return Err(format!("{kind} is no name of a type"));
        }
        Ok((name.trim().to_owned(), kind.trim().to_owned()))
    };
    let parts = split.map(str::trim).filter(|part| !part.is_empty());
    parts.map(type_of).collect()
}

/// Reads a connection URL; `jdbc:postgresql://host/db` too.
fn parse_url(url: &str) -> Result<tokio_postgres::Config, String> {
    let url = url.trim().strip_prefix("jdbc:").unwrap_or(url.trim());
    if url.contains("password=") {
        return Err("a password here would be shown; set connection.password".to_owned());
    }
    url.parse().map_err(|e: tokio_postgres::Error| {
        std::error::Error::source(&e).map_or_else(|| e.to_string(), |cause| format!("{e}: {cause}"))
    })
}

/// Where to connect. The time-outs find a server that vanished without a word.
fn connection(settings: &Settings) -> tokio_postgres::Config {
    let url = settings.opt("connection.url");
    let mut config = url.and_then(|url| parse_url(url).ok()).unwrap_or_default();
    if let Some(host) = settings.opt("connection.host") {
        let _ = config.host(host);
    }
    if let Some(port) = settings.opt_int("connection.port") {
        let _ = config.port(u16::try_from(port).unwrap_or(5432));
    }
    if let Some(database) = settings.opt("connection.database") {
        let _ = config.dbname(database);
    }
    let user = settings.opt("connection.user");
    if let Some(user) = user.or(settings.opt("connection.username")) {
        let _ = config.user(user);
    }
    if settings.opt("connection.password").is_some() {
        let _ = config.password(settings.raw("connection.password"));
    }
    if config.get_connect_timeout().is_none() {
        let _ = config.connect_timeout(Duration::from_secs(10));
    }
    if config.get_tcp_user_timeout().is_none() {
        let _ = config.tcp_user_timeout(Duration::from_secs(10));
    }
    config
}

impl Options {
    pub(crate) fn new(settings: &Settings) -> Options {
        Options {
            connection: connection(settings),
            insert_mode: match settings.word("insert.mode").as_str() {
                "upsert" => InsertMode::Upsert,
                _ => InsertMode::Insert,
            },
            pk_mode: match settings.word("pk.mode").as_str() {
                "record_key" => PkMode::RecordKey,
                "record_value" => PkMode::RecordValue,
                _ => PkMode::None,
            },
            pk_fields: settings.list("pk.fields"),
            delete_enabled: settings.bool("delete.enabled"),
            auto_create: settings.bool("auto.create"),
            unknown_fields: match settings.word("unknown.fields").as_str() {
                "ignore" => UnknownFields::Ignore,
                _ => UnknownFields::Error,
            },
            batch_size: settings.count("batch.size"),
            column_types: column_types(settings.str("column.types")).unwrap_or_default(),
            table_name_format: settings.str("table.name.format").to_owned(),
            offsets_table: settings.str("offsets.table").to_owned(),
            lock_timeout_ms: settings.int("lock.timeout.ms"),
            idle_timeout_ms: settings.int("idle.in.transaction.timeout.ms"),
        }
    }

    /// What contradicts.
    pub(crate) fn contradictions(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut error = |key: &str, message: &str| found.push(Finding::error(key, message));
        if self.connection.get_hosts().is_empty() && self.connection.get_hostaddrs().is_empty() {
            error(
                "connection.url",
                "Missing required configuration \"connection.url\" (or connection.host): where is the database?",
            );
        }
        if self.connection.get_ssl_mode() == SslMode::Require {
            error(
                "connection.url",
                "Invalid value require for sslmode in connection.url: this release speaks to Postgres without TLS only",
            );
        }
        if self.insert_mode == InsertMode::Upsert && self.pk_mode == PkMode::None {
            error(
                "pk.mode",
                "Invalid value none for configuration pk.mode: insert.mode=upsert needs a primary key; set record_key or record_value, and pk.fields",
            );
        }
        if self.pk_mode != PkMode::None && self.pk_fields.is_empty() {
            error(
                "pk.fields",
                "Missing required configuration \"pk.fields\": the columns of the primary key",
            );
        }
        if self.pk_mode == PkMode::None && !self.pk_fields.is_empty() {
            error(
                "pk.fields",
                "Invalid value for configuration pk.fields: pk.mode=none has no primary key; set pk.mode=record_key or record_value",
            );
        }
        if self.delete_enabled
            && (self.pk_mode != PkMode::RecordKey || self.insert_mode != InsertMode::Upsert)
        {
            error(
                "delete.enabled",
                "Invalid value true for configuration delete.enabled: it needs pk.mode=record_key and insert.mode=upsert",
            );
        }
        found
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flumen_connect::config::Props;

    /// Options of these settings over a connection that is not used.
    pub(crate) fn options(pairs: &[(&str, &str)]) -> Options {
        let mut props: Props = [("connection.url".to_owned(), "postgres://x".to_owned())].into();
        let pairs = pairs.iter();
        props.extend(pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Options::new(&config_def().settings(&props).unwrap())
    }

    #[test]
    fn types_with_brackets_and_jdbc_urls_are_read() {
        let types = column_types("a:numeric(10,2), b : timestamptz").unwrap();
        let pair = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
        assert_eq!(
            types,
            [pair("a", "numeric(10,2)"), pair("b", "timestamptz")]
        );
        assert!(column_types("a").is_err());
        assert!(column_types("a:int); drop table x; --").is_err());
        assert!(parse_url("jdbc:postgresql://localhost:5433/x").is_ok());
        assert!(parse_url("mysql://x").is_err());
        assert!(parse_url("host=x password=secret").is_err());
    }

    #[test]
    fn single_keys_and_a_url_name_the_same_connection() {
        let parts = options(&[
            ("connection.url", ""),
            ("connection.host", "db"),
            ("connection.port", "5433"),
            ("connection.database", "sales"),
            ("connection.username", "ann"),
            ("connection.password", "hush"),
        ]);
        let url = options(&[("connection.url", "postgres://ann:hush@db:5433/sales")]);
        assert_eq!(parts.connection, url.connection);
        assert!(!format!("{parts:?}").contains("hush"));
    }

    #[test]
    fn options_that_contradict_are_found() {
        let contradictions = |pairs: &[(&str, &str)]| {
            let found = options(pairs).contradictions();
            found
                .into_iter()
                .map(|finding| finding.key)
                .collect::<Vec<_>>()
        };
        assert_eq!(contradictions(&[]), [""; 0]);
        assert_eq!(
            contradictions(&[("connection.url", "")]),
            ["connection.url"]
        );
        assert_eq!(
            contradictions(&[("connection.url", "postgres://x?sslmode=require")]),
            ["connection.url"]
        );
        assert_eq!(contradictions(&[("insert.mode", "upsert")]), ["pk.mode"]);
        assert_eq!(contradictions(&[("pk.mode", "record_key")]), ["pk.fields"]);
        assert_eq!(contradictions(&[("pk.fields", "id")]), ["pk.fields"]);
        assert_eq!(
            contradictions(&[("delete.enabled", "true")]),
            ["delete.enabled"]
        );
        let good = [
            ("insert.mode", "upsert"),
            ("pk.mode", "record_value"),
            ("pk.fields", "id"),
        ];
        assert_eq!(contradictions(&good), [""; 0]);
    }
}
