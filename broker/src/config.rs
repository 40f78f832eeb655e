//! Broker properties as data: Kafka's dotted name, type, default, bounds and one sentence each.
//!
//! [`BrokerConfig`] is made once at the start and handed down; nothing reads properties later. What may change while the broker runs
//! is read from [`live::LiveConfig`]. The same table answers DescribeConfigs for the broker. Topic properties live in
//! `flumen_log::config`; keys of Kafka's that nobody needs here in [`unused`].

mod listeners;
pub(crate) mod live;
pub mod unused;

use std::collections::BTreeMap;
use std::path::PathBuf;

use flumen_log::config::LogConfig;

pub use listeners::Endpoint;
use unused::Unused;

/// How a property is written and what DescribeConfigs calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// A decimal fraction.
    Double,
    /// Comma-separated.
    List,
}

/// One property the broker knows.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Kafka's dotted name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it is when not given, as text.
    pub default: &'static str,
    /// Smallest and largest legal number.
    pub bounds: Option<(i64, i64)>,
    /// What it does.
    pub doc: &'static str,
}

/// Why a set of properties is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name nobody honours.
    #[error("unknown property {0:?}")]
    Unknown(String),
    /// A value that is not of the property's type or outside its bounds.
    #[error("{name}={value:?}: {why}")]
    Invalid {
        /// The property.
        name: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

impl From<flumen_log::config::ConfigError> for ConfigError {
    fn from(error: flumen_log::config::ConfigError) -> ConfigError {
        ConfigError::Invalid {
            name: error.name,
            value: error.value,
            why: error.reason,
        }
    }
}

fn invalid(key: &Key, value: &str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        name: key.name.to_owned(),
        value: value.to_owned(),
        why: why.into(),
    }
}

/// Memory for keys that each cleaner has at least. Source: Kafka `KafkaConfig.validateValues`.
const CLEANER_BYTES_MIN: i64 = 1 << 20;

/// A type that a property can have.
trait Value: Sized {
    const KIND: Kind;
    fn parse(key: &Key, text: &str) -> Result<Self, ConfigError>;
}

impl Value for bool {
    const KIND: Kind = Kind::Boolean;
    fn parse(key: &Key, text: &str) -> Result<Self, ConfigError> {
        text.parse()
            .map_err(|_| invalid(key, text, "must be true or false"))
    }
}

impl Value for String {
    const KIND: Kind = Kind::String;
    fn parse(_: &Key, text: &str) -> Result<Self, ConfigError> {
        Ok(text.to_owned())
    }
}

fn number(key: &Key, text: &str) -> Result<i64, ConfigError> {
    let n: i64 = text
        .parse()
        .map_err(|_| invalid(key, text, "must be a whole number"))?;
    match key.bounds {
        Some((min, max)) if n < min || n > max => Err(invalid(
            key,
            text,
            format!("must be between {min} and {max}"),
        )),
        _ => Ok(n),
    }
}

impl Value for i64 {
    const KIND: Kind = Kind::Long;
    fn parse(key: &Key, text: &str) -> Result<Self, ConfigError> {
        number(key, text)
    }
}

/// Bytes per second; Kafka's largest number means as fast as can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(pub f64);

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 == f64::MAX {
            true => f.write_str("1.7976931348623157E308"),
            false => write!(f, "{}", self.0),
        }
    }
}

impl Value for Rate {
    const KIND: Kind = Kind::Double;
    fn parse(key: &Key, text: &str) -> Result<Self, ConfigError> {
        let rate = text
            .parse()
            .ok()
            .filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
        rate.map(Rate)
            .ok_or_else(|| invalid(key, text, "must be a number above 0"))
    }
}

impl Value for i32 {
    const KIND: Kind = Kind::Int;
    fn parse(key: &Key, text: &str) -> Result<Self, ConfigError> {
        i32::try_from(number(key, text)?).map_err(|_| invalid(key, text, "must fit 32 bits"))
    }
}

/// Declares fields, their Kafka names, defaults, bounds and sentences in one place.
macro_rules! properties {
    ($( #[doc = $doc:literal] $field:ident: $type:ty = $default:literal, $name:literal $(, $min:literal ..= $max:expr)? ; )*) => {
        /// The broker's configuration. Field names are Kafka's with underscores; units are in the names as Kafka has them.
        #[derive(Debug, Clone, PartialEq)]
        pub struct BrokerConfig {
            $( #[doc = $doc] pub $field: $type, )*
            /// Defaults for topics as given with the broker's names (`log.retention.ms` …), to be read by the log crate.
            pub log_defaults: BTreeMap<String, String>,
            /// Everything that was given explicitly: DescribeConfigs reports its source as the static broker configuration.
            pub explicit: BTreeMap<String, String>,
            /// Keys of Kafka's that were given and have no effect here, and why.
            pub without_effect: BTreeMap<String, &'static str>,
        }

        /// Every property the broker knows, in the order of the declaration.
        pub const KEYS: &[Key] = &[ $( Key {
            name: $name, kind: <$type as Value>::KIND, default: $default,
            bounds: properties!(@bounds $($min, $max)?), doc: $doc.trim_ascii(),
        }, )* ];

        impl BrokerConfig {
            fn set(&mut self, key: &Key, text: &str) -> Result<(), ConfigError> {
                match key.name {
                    $( $name => self.$field = <$type as Value>::parse(key, text)?, )*
                    _ => unreachable!("KEYS and the struct come from the same declaration"),
                }
                Ok(())
            }

            /// The value of a property as DescribeConfigs prints it.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $( $name => Some(self.$field.to_string()), )*
                    _ => None,
                }
            }
        }

        impl Default for BrokerConfig {
            fn default() -> Self {
                BrokerConfig {
                    $( $field: {
                        let key = Key { name: $name, kind: <$type as Value>::KIND, default: $default, bounds: None, doc: "" };
                        <$type as Value>::parse(&key, $default).expect("defaults are written by hand and checked by a test")
                    }, )*
                    log_defaults: BTreeMap::new(),
                    explicit: BTreeMap::new(),
                    without_effect: BTreeMap::new(),
                }
            }
        }
    };
    (@bounds $min:literal, $max:expr) => { Some(($min, $max as i64)) };
    (@bounds) => { None };
}

properties! {
    /// Id of this broker in its cluster.
    node_id: i32 = "1", "node.id", 0..=i32::MAX;
    /// Folder of the logs.
    log_dirs: String = "flumen-data", "log.dirs";
    /// Address the broker listens on; port 0 picks a free one.
    listeners: String = "PLAINTEXT://127.0.0.1:9092", "listeners";
    /// Address clients are told to connect to; empty means the one it listens on.
    advertised_listeners: String = "", "advertised.listeners";
    /// Listeners that are passed over: one node's controller needs no socket.
    controller_listener_names: String = "", "controller.listener.names";
    /// What is spoken on a listener, as NAME:PLAINTEXT; a name that is not there is its own protocol.
    listener_security_protocol_map: String = "", "listener.security.protocol.map";
    /// Rack of this broker, told to clients.
    broker_rack: String = "", "broker.rack";
    /// Largest request; a larger one closes its connection.
    socket_request_max_bytes: i32 = "104857600", "socket.request.max.bytes", 1..=i32::MAX;
    /// Most connections at once.
    max_connections: i32 = "10000", "max.connections", 0..=i32::MAX;
    /// Most connections at once from one address.
    max_connections_per_ip: i32 = "1000", "max.connections.per.ip", 0..=i32::MAX;
    /// A connection that says nothing for so long is closed; -1 keeps it open.
    connections_max_idle_ms: i64 = "600000", "connections.max.idle.ms", -1..=i64::MAX;
    /// Request bytes held in memory at once; beyond that no large request is read. Answers that nobody reads may take as much. -1 means 512 MiB.
    queued_max_request_bytes: i64 = "-1", "queued.max.request.bytes", -1..=i64::MAX;
    /// Most entries (topics, partitions, groups, members, keys) that all lists of one request hold together; more close its connection.
    request_max_entries: i32 = "10000", "flumen.request.max.entries", 1..=i32::MAX;
    /// Most partitions in one answer to DescribeTopicPartitions, and most objects that any other describe request may name.
    max_request_partition_size_limit: i32 = "2000", "max.request.partition.size.limit", 1..=i32::MAX;
    /// Longest client id and group id in bytes.
    id_max_bytes: i32 = "256", "flumen.id.max.bytes", 1..=32_000;
    /// Whether a metadata request or a consumer may create a topic.
    auto_create_topics_enable: bool = "true", "auto.create.topics.enable";
    /// Whether topics can be deleted.
    delete_topic_enable: bool = "true", "delete.topic.enable";
    /// Partitions of a topic that does not say how many.
    num_partitions: i32 = "1", "num.partitions", 1..=i32::MAX;
    /// Replicas of a topic that does not say how many.
    default_replication_factor: i32 = "1", "default.replication.factor", 1..=i32::MAX;
    /// Most bytes of one fetch response.
    fetch_max_bytes: i32 = "57671680", "fetch.max.bytes", 1024..=i32::MAX;
    /// Time between two looks for segments to delete, in milliseconds.
    log_retention_check_interval_ms: i64 = "300000", "log.retention.check.interval.ms", 1..=i64::MAX;
    /// Time from the start to the first look for segments to delete, in milliseconds.
    log_initial_task_delay_ms: i64 = "30000", "log.initial.task.delay.ms", 0..=i64::MAX;
    /// Whether topics are compacted; without it those with cleanup.policy=compact, the broker's own included, grow for ever.
    log_cleaner_enable: bool = "true", "log.cleaner.enable";
    /// Logs that are compacted side by side.
    log_cleaner_threads: i32 = "1", "log.cleaner.threads", 1..=64;
    /// Time between two looks for logs to compact when the last one found none, in milliseconds.
    log_cleaner_backoff_ms: i64 = "15000", "log.cleaner.backoff.ms", 0..=i64::MAX;
    /// Memory for the keys of the logs that are being compacted, in bytes, 24 a key, at least 1 MiB for each of log.cleaner.threads; of a log with more keys a part is compacted at a time. A change counts from each log's next cleaning.
    log_cleaner_dedupe_buffer_size: i64 = "134217728", "log.cleaner.dedupe.buffer.size", 1_048_576..=i64::MAX;
    /// Most bytes that all compaction together reads and writes in a second; the default is no limit.
    log_cleaner_io_max_bytes_per_second: Rate = "1.7976931348623157E308", "log.cleaner.io.max.bytes.per.second";
    /// Threads that flush logs side by side.
    num_flush_threads: i32 = "16", "flumen.flush.threads", 1..=256;
    /// How long the first member of an empty group waits for others.
    group_initial_rebalance_delay_ms: i32 = "3000", "group.initial.rebalance.delay.ms", 0..=i32::MAX;
    /// Shortest session timeout a member may ask for.
    group_min_session_timeout_ms: i32 = "6000", "group.min.session.timeout.ms", 1..=i32::MAX;
    /// Longest session timeout a member may ask for.
    group_max_session_timeout_ms: i32 = "1800000", "group.max.session.timeout.ms", 1..=i32::MAX;
    /// Most members of a group.
    group_max_size: i32 = "2147483647", "group.max.size", 1..=i32::MAX;
    /// Where `/metrics` and `/health` are served, as 127.0.0.1:9644; empty for nowhere. It asks nobody for a password.
    http_listener: String = "", "flumen.http.listener";
    /// Partitions of `__consumer_offsets`.
    offsets_topic_num_partitions: i32 = "50", "offsets.topic.num.partitions", 1..=i32::MAX;
    /// Replicas of `__consumer_offsets`.
    offsets_topic_replication_factor: i32 = "1", "offsets.topic.replication.factor", 1..=i16::MAX;
    /// Segment size of `__consumer_offsets`.
    offsets_topic_segment_bytes: i32 = "104857600", "offsets.topic.segment.bytes", 1..=i32::MAX;
    /// How long offsets of an empty group are kept.
    offsets_retention_minutes: i32 = "10080", "offsets.retention.minutes", 1..=i32::MAX;
    /// Time between two looks for expired offsets, in milliseconds.
    offsets_retention_check_interval_ms: i64 = "600000", "offsets.retention.check.interval.ms", 1..=i64::MAX;
    /// Largest metadata text of a committed offset.
    offset_metadata_max_bytes: i32 = "4096", "offset.metadata.max.bytes", 0..=i32::MAX;
    /// Partitions of `__transaction_state`.
    transaction_state_log_num_partitions: i32 = "50", "transaction.state.log.num.partitions", 1..=i32::MAX;
    /// Replicas of `__transaction_state`.
    transaction_state_log_replication_factor: i32 = "1", "transaction.state.log.replication.factor", 1..=i16::MAX;
    /// Segment size of `__transaction_state`.
    transaction_state_log_segment_bytes: i32 = "104857600", "transaction.state.log.segment.bytes", 1..=i32::MAX;
    /// Longest transaction a producer may ask for.
    transaction_max_timeout_ms: i32 = "900000", "transaction.max.timeout.ms", 1..=i32::MAX;
    /// How long an unused transactional id is remembered.
    transactional_id_expiration_ms: i32 = "604800000", "transactional.id.expiration.ms", 1..=i32::MAX;
    /// Time between two looks for expired transactional ids, in milliseconds.
    transaction_remove_expired_interval_ms: i32 = "3600000", "transaction.remove.expired.transaction.cleanup.interval.ms", 1..=i32::MAX;
    /// How long the state of an idle idempotent producer is kept.
    producer_id_expiration_ms: i32 = "86400000", "producer.id.expiration.ms", 1..=i32::MAX;
}

impl BrokerConfig {
    /// Parses properties as in a `server.properties`.
    ///
    /// Keys that begin with `log.` and are not the broker's own are kept as defaults for topics. Keys of Kafka's that are not needed
    /// here are taken, and named in [`BrokerConfig::without_effect`].
    ///
    /// # Errors
    /// [`ConfigError`] names the key and what is wrong.
    pub fn from_properties<K: AsRef<str>, V: AsRef<str>>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<BrokerConfig, ConfigError> {
        let mut config = BrokerConfig::default();
        for (name, value) in properties {
            let (name, value) = (name.as_ref().trim(), value.as_ref().trim());
            let name = match name {
                "log.dir" => "log.dirs",
                "broker.id" => "node.id",
                other => other,
            };
            if let Some(key) = KEYS.iter().find(|key| key.name == name) {
                config.set(key, value)?;
            } else if is_log_default(name) {
                config
                    .log_defaults
                    .insert(name.to_owned(), value.to_owned());
            } else if let Some(unused) = Unused::find(name) {
                unused.judge(value).map_err(|why| ConfigError::Invalid {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    why,
                })?;
                config.without_effect.insert(name.to_owned(), unused.why);
                continue;
            } else {
                return Err(ConfigError::Unknown(name.to_owned()));
            }
            config.explicit.insert(name.to_owned(), value.to_owned());
        }
        config.listener()?;
        config.advertised()?;
        config.check_cleaner_memory()?;
        LogConfig::parse(&BTreeMap::new(), &config.log_defaults)?;
        Ok(config)
    }

    /// Each cleaner needs memory worth the name: with less, a log is rewritten once for every few keys.
    pub(crate) fn check_cleaner_memory(&self) -> Result<(), ConfigError> {
        let memory = self.log_cleaner_dedupe_buffer_size;
        if memory / i64::from(self.log_cleaner_threads) >= CLEANER_BYTES_MIN {
            return Ok(());
        }
        Err(ConfigError::Invalid {
            name: "log.cleaner.dedupe.buffer.size".to_owned(),
            value: memory.to_string(),
            why: format!(
                "{CLEANER_BYTES_MIN} bytes at least for each of log.cleaner.threads={}",
                self.log_cleaner_threads
            ),
        })
    }

    /// Whether a key may change while the broker runs (`flumen broker alter`, IncrementalAlterConfigs).
    #[must_use]
    pub fn is_dynamic(name: &str) -> bool {
        live::DynamicKey::find(name).is_some()
    }

    /// Whether a client id or group id is short enough.
    pub(crate) fn fits_id(&self, id: &str) -> bool {
        usize::try_from(self.id_max_bytes).is_ok_and(|max| id.len() <= max)
    }

    /// Whether a request may ask for the description of so many objects; what to tell its client if not.
    pub(crate) fn check_described(&self, what: &str, count: usize) -> Result<(), String> {
        let max = self.max_request_partition_size_limit;
        if usize::try_from(max).is_ok_and(|max| count <= max) {
            return Ok(());
        }
        Err(format!(
            "{count} {what} in one request, but at most {max} are described (max.request.partition.size.limit)"
        ))
    }

    /// The folder of the logs.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from(&self.log_dirs)
    }
}

/// `key=value` lines, `#` and `!` comments, `\` at the end of a line goes on in the next (Java: `Properties.load`).
///
/// # Errors
/// The number of the line that is none, counted from 1.
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut properties = Vec::new();
    let mut joined = String::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if joined.is_empty() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            joined.push_str(begun);
            continue;
        }
        joined.push_str(line);
        let split = joined.find(['=', ':']).ok_or(at + 1)?;
        properties.push((
            joined[..split].trim().to_owned(),
            joined[split + 1..].trim().to_owned(),
        ));
        joined.clear();
    }
    // A last line that promised another one is a line all the same.
    if !joined.is_empty() {
        let split = joined.find(['=', ':']).ok_or(text.lines().count())?;
        properties.push((
            joined[..split].trim().to_owned(),
            joined[split + 1..].trim().to_owned(),
        ));
    }
    Ok(properties)
}

/// Whether this is the broker's name for a default of topics, as `log.retention.hours`.
fn is_log_default(name: &str) -> bool {
    let mut synonyms = flumen_log::config::TOPIC_CONFIGS
        .iter()
        .flat_map(|key| key.synonyms);
    synonyms.any(|synonym| synonym.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_legal_and_prints_as_declared() {
        let mut config = BrokerConfig::default();
        for key in KEYS {
            config.set(key, key.default).unwrap();
            assert_eq!(
                config.get(key.name).as_deref(),
                Some(key.default),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = BrokerConfig::from_properties([("num.partitons", "3")]).unwrap_err();
        assert_eq!(error, ConfigError::Unknown("num.partitons".to_owned()));
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# comment\n! another\n\n a = 1\nb:two\nc=one \\\n  two\nlast=x\\";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            parse_properties(text),
            Ok(vec![
                pair("a", "1"),
                pair("b", "two"),
                pair("c", "one two"),
                pair("last", "x")
            ])
        );
        assert_eq!(parse_properties("a=1\nnothing"), Err(2));
        assert_eq!(parse_properties("nothing\\"), Err(1));
    }

    #[test]
    fn a_number_outside_its_bounds_is_refused() {
        let error = BrokerConfig::from_properties([("num.partitions", "0")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "num.partitions=\"0\": must be between 1 and 2147483647"
        );
    }
}
