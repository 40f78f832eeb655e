//! The options that every connector has, whatever its plugin: name, class, converters, errors, transactions.
//!
//! Owns the two [`ConfigDef`]s that are joined with a plugin's own. Names and defaults are Kafka Connect's (`ConnectorConfig`, `SourceConnectorConfig`,
//! `SinkConnectorConfig`) except where the sentence says otherwise.

use crate::config::{ConfigDef, ConfigKey, Importance, Kind, Rule};

const PREFIXES: [&str; 9] = [
    "key.converter.",
    "value.converter.",
    "header.converter",
    "producer.override.",
    "consumer.override.",
    "admin.override.",
    "topic.creation.",
    "transforms",
    "predicates",
];

fn common() -> Vec<ConfigKey> {
    let low = |key: ConfigKey| key.importance(Importance::Low);
    let errors = |key: ConfigKey| key.group("Error Handling");
    vec![
        ConfigKey::required("name", Kind::String, "The connector's name.").rule(Rule::Check(name)),
        ConfigKey::required("connector.class", Kind::Class, "Its plugin: full name, last part of it, or that without Connector.").rule(Rule::NonEmpty),
        low(ConfigKey::optional("connector.plugin.version", Kind::String, "Accepted; each plugin has one version here.")),
        ConfigKey::with_default("tasks.max", Kind::Int, 1, "The most tasks.").rule(Rule::Between(1, 1000)).importance(Importance::High),
        low(ConfigKey::with_default("tasks.max.enforce", Kind::Boolean, true, "Accepted; a plugin never has more than tasks.max.")),
        low(ConfigKey::optional("key.converter", Kind::Class, "How keys become bytes, or bytes keys. Unset: the worker's.")),
        low(ConfigKey::optional("value.converter", Kind::Class, "How values become bytes, or bytes values. Unset: the worker's.")),
        errors(ConfigKey::with_default("errors.tolerance", Kind::String, "none", "none: a record that cannot be handled stops the task. all: it goes to the dead letter topic, or is left out where none is named.").rule(Rule::OneOf(&["none", "all"]))),
        errors(ConfigKey::with_default("errors.log.enable", Kind::Boolean, false, "Writes a line to the log for every record that could not be handled.")),
        errors(ConfigKey::with_default("errors.log.include.messages", Kind::Boolean, false, "Shows the beginning of the record's value in that line.")),
        errors(ConfigKey::with_default("errors.retry.timeout", Kind::Long, -1, "How long a passing trouble (a database that is away) is borne before the task fails, ms; -1: for ever. Kafka's default of 0 does not apply to what a sink itself reports as passing.").rule(Rule::AtLeast(-1))),
        errors(ConfigKey::with_default("errors.retry.delay.max.ms", Kind::Long, 60_000, "The longest pause between two attempts.").rule(Rule::AtLeast(1))),
        errors(ConfigKey::optional("errors.deadletterqueue.topic.name", Kind::String, "The topic for records that could not be handled. Sources may have one too, here.")),
        errors(ConfigKey::with_default("errors.deadletterqueue.topic.replication.factor", Kind::Int, -1, "Replicas of that topic when it is made; -1: the cluster's default (Kafka: 3).").rule(Rule::AtLeast(-1))),
        errors(ConfigKey::with_default("errors.deadletterqueue.context.headers.enable", Kind::Boolean, false, "Adds headers that say where a dead letter comes from and why.")),
        low(ConfigKey::with_default("config.action.reload", Kind::String, "restart", "Accepted; has no effect.").rule(Rule::OneOf(&["restart", "none"]))),
        low(errors(ConfigKey::with_default("restart.backoff.ms", Kind::Long, 1000, "After so long a failed task is started again; doubles with every failure. Ours: Kafka leaves it failed.").rule(Rule::AtLeast(1)))),
        low(errors(ConfigKey::with_default("restart.backoff.max.ms", Kind::Long, 60_000, "The longest such pause.").rule(Rule::AtLeast(1)))),
        low(errors(ConfigKey::with_default("restart.attempts", Kind::Int, -1, "How often in a row a failed task is started again; -1: always, 0: never, as Kafka.").rule(Rule::AtLeast(-1)))),
    ]
}

fn name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err("a name is not empty and has no control characters".to_owned());
    }
    Ok(())
}

fn open(mut def: ConfigDef) -> ConfigDef {
    for prefix in PREFIXES {
        def = def.open_prefix(prefix);
    }
    def
}

/// The options of every source, before the plugin's own.
pub(crate) fn source() -> ConfigDef {
    let exactly = |key: ConfigKey| {
        key.group("Exactly Once Support")
            .importance(Importance::Low)
    };
    let mut keys = common();
    keys.extend([
        exactly(ConfigKey::with_default("exactly.once.support", Kind::String, "requested", "Accepted: exactly-once is always on; required refuses a configuration whose plugin cannot promise it.").rule(Rule::OneOf(&["requested", "required"]))),
        exactly(ConfigKey::with_default("transaction.boundary", Kind::String, "interval", "When a transaction ends: poll (after each batch), interval (by time or bytes; Kafka's default is poll), connector (where the plugin says).").rule(Rule::OneOf(&["poll", "interval", "connector"]))),
        exactly(ConfigKey::with_default("transaction.boundary.interval.ms", Kind::Long, 100, "How long a transaction is kept open (Kafka: offset.flush.interval.ms).").rule(Rule::Between(1, 600_000))),
        exactly(ConfigKey::with_default("transaction.boundary.bytes", Kind::Long, 16 << 20, "How many bytes it may hold before it ends anyway.").rule(Rule::AtLeast(1))),
        exactly(ConfigKey::optional("offsets.storage.topic", Kind::String, "Accepted; positions are in the worker's offsets topic.")),
    ]);
    open(ConfigDef::new(keys))
}

/// The options of every sink, before the plugin's own.
pub(crate) fn sink() -> ConfigDef {
    let batch = |key: ConfigKey| key.group("Batches").importance(Importance::Low);
    let mut keys = common();
    keys.extend([
        ConfigKey::optional("topics", Kind::List, "The topics to read.").rule(Rule::NonEmpty).importance(Importance::High),
        ConfigKey::optional("topics.regex", Kind::String, "The topics to read, by a regular expression over the whole name.").rule(Rule::Check(regex)).importance(Importance::High),
        batch(ConfigKey::with_default("sink.batch.records", Kind::Int, 20_000, "Records after which a batch is written.").rule(Rule::Between(1, 1_000_000))),
        batch(ConfigKey::with_default("sink.batch.bytes", Kind::Long, 8 << 20, "Bytes after which a batch is written.").rule(Rule::AtLeast(1))),
        batch(ConfigKey::with_default("sink.linger.ms", Kind::Long, 50, "The longest a record waits for a batch to fill.").rule(Rule::AtLeast(0))),
        batch(ConfigKey::with_default("offset.flush.interval.ms", Kind::Long, 1000, "How often the group's offsets are committed, for lag display (Kafka: a worker option, 60 s).").rule(Rule::AtLeast(1))),
        ConfigKey::with_default("on.data.loss", Kind::String, "fail", "When records were deleted (retention) before the sink read them: fail, or warn and go on behind them.").rule(Rule::OneOf(&["fail", "warn"])).group("Error Handling"),
    ]);
    open(ConfigDef::new(keys))
}

fn regex(text: &str) -> Result<(), String> {
    regex::Regex::new(text).map(drop).map_err(|e| e.to_string())
}
