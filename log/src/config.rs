//! The options of a topic: Kafka's names, types, defaults, bounds and one sentence each, as data.
//!
//! [`TOPIC_CONFIGS`] is the table; the broker answers DescribeConfigs and checks CreateTopics with it, and `docs/config.md` is made from
//! it. [`LogConfig::parse`] turns it into typed values with units in their names, once, when a log is opened or its options
//! change. Nothing here reads a file.
//!
//! A value comes from the topic, else from the server's option of a similar name (its synonym), else from the default.
//! Source: Kafka `TopicConfig`, `LogConfig`, `ServerTopicConfigSynonyms`.

mod table;

use std::collections::BTreeMap;

use flumen_protocol::batch::TimestampType;
use flumen_protocol::compression::Compression;

pub use table::TOPIC_CONFIGS;

/// How a value is written; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 64 bits.
    Long = 5,
    /// A decimal fraction.
    Double = 6,
    /// Words with commas between them.
    List = 7,
}

/// What a value must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bounds {
    /// Any value of its type.
    Any,
    /// A number of at least this.
    AtLeast(i64),
    /// A fraction from 0 to 1.
    Fraction,
    /// One of these words, or a list of them.
    OneOf(&'static [&'static str]),
}

/// A server option that sets the default of a topic option: its value times `factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// Name of the server option, as `log.retention.hours`.
    pub name: &'static str,
    /// What its unit is in the topic option's.
    pub factor: i64,
}

/// One topic option.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigKey {
    /// Kafka's name.
    pub name: &'static str,
    /// How it is written.
    pub kind: ConfigType,
    /// In Kafka's notation.
    pub default: &'static str,
    /// What it must keep to.
    pub bounds: Bounds,
    /// Server options that set its default, the first that is set wins.
    pub synonyms: &'static [Synonym],
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// From this server option.
    Server(&'static str),
    /// Nobody set it.
    Default,
}

/// Why options were refused; `INVALID_CONFIG`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value `{value}` for {name}: {reason}")]
pub struct ConfigError {
    /// The option.
    pub name: String,
    /// What it was to be.
    pub value: String,
    /// What would be right.
    pub reason: String,
}

impl ConfigKey {
    /// The option of this name.
    pub fn find(name: &str) -> Option<&'static ConfigKey> {
        TOPIC_CONFIGS.iter().find(|key| key.name == name)
    }

    /// The value in force and where it comes from.
    ///
    /// # Errors
    /// A server option whose unit must be converted is not a number.
    pub fn resolve(
        &self,
        topic: &BTreeMap<String, String>,
        server: &BTreeMap<String, String>,
    ) -> Result<(String, ConfigSource), ConfigError> {
        if let Some(value) = topic.get(self.name) {
            return Ok((value.clone(), ConfigSource::Topic));
        }
        for synonym in self.synonyms {
            let Some(value) = server.get(synonym.name) else {
                continue;
            };
            let value = match synonym.factor {
                1 => value.clone(),
                factor => {
                    let number: i64 = value
                        .trim()
                        .parse()
                        .map_err(|_| error(synonym.name, value, "not a number"))?;
                    // -1 is "no limit" in every unit.
                    if number < 0 {
                        number.to_string()
                    } else {
                        number.saturating_mul(factor).to_string()
                    }
                }
            };
            return Ok((value, ConfigSource::Server(synonym.name)));
        }
        Ok((self.default.to_owned(), ConfigSource::Default))
    }

    /// Whether `value` is of the right type and within the bounds.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn validate(&self, value: &str) -> Result<(), ConfigError> {
        let wrong = |reason: String| {
            Err(ConfigError {
                name: self.name.to_owned(),
                value: value.to_owned(),
                reason,
            })
        };
        let number: Option<i64> = match self.kind {
            ConfigType::Int => value.trim().parse::<i32>().ok().map(i64::from),
            ConfigType::Long => value.trim().parse().ok(),
            ConfigType::Boolean if !matches!(value.trim(), "true" | "false") => {
                return wrong("must be true or false".into());
            }
            ConfigType::Double => match value.trim().parse::<f64>() {
                Ok(fraction)
                    if self.bounds == Bounds::Fraction && !(0.0..=1.0).contains(&fraction) =>
                {
                    return wrong("must be from 0 to 1".into());
                }
                Ok(_) => None,
                Err(_) => return wrong("must be a number".into()),
            },
            _ => None,
        };
        match (self.kind, number, self.bounds) {
            (ConfigType::Int, None, _) => wrong("must be a whole number of 32 bits".into()),
            (ConfigType::Long, None, _) => wrong("must be a whole number of 64 bits".into()),
            (_, Some(number), Bounds::AtLeast(least)) if number < least => {
                wrong(format!("must be at least {least}"))
            }
            (_, _, Bounds::OneOf(words)) => {
                match self.words(value).find(|word| !words.contains(word)) {
                    Some(_) => wrong(format!(
                        "must be {} {}",
                        if self.kind == ConfigType::List {
                            "a list of"
                        } else {
                            "one of"
                        },
                        words.join(", ")
                    )),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn words<'a>(&self, value: &'a str) -> impl Iterator<Item = &'a str> {
        let list = self.kind == ConfigType::List;
        value
            .split(move |c| list && c == ',')
            .map(str::trim)
            .filter(move |word| !list || !word.is_empty())
    }
}

/// Whether a server option of this name sets the default of a topic option.
pub fn is_server_key(name: &str) -> bool {
    TOPIC_CONFIGS
        .iter()
        .flat_map(|key| key.synonyms)
        .any(|synonym| synonym.name == name)
}

fn error(name: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Whether an acknowledged record is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushMode {
    /// Yes: fdatasync before the acknowledgement.
    #[default]
    Sync,
    /// It is in the operating system's memory and reaches the disk later, as in a default Kafka: what a power failure or a
    /// kernel crash may take is everything since the last flush.
    Async,
}

/// What becomes of old data. Both may hold; neither keeps everything for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by age and size.
    pub delete: bool,
    /// Older values of a key give way to the newest.
    pub compact: bool,
}

/// The options of one topic, parsed. Sizes are in bytes, times in milliseconds; `None` is "no limit".
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`; `None`: as the producer sent it.
    pub compression: Option<Compression>,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `flush.mode`
    pub flush_mode: FlushMode,
    /// `flush.messages`
    pub flush_messages: u64,
    /// `flush.ms`
    pub flush_ms: u64,
    /// `index.interval.bytes`
    pub index_interval_bytes: u64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`
    pub max_message_bytes: usize,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`
    pub min_insync_replicas: u32,
    /// `retention.bytes`
    pub retention_bytes: Option<u64>,
    /// `retention.ms`
    pub retention_ms: Option<u64>,
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.index.bytes`
    pub index_bytes: usize,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: u64,
    /// `segment.ms`
    pub segment_ms: u64,
    /// `unclean.leader.election.enable`
    pub unclean_leader_election: bool,
}

impl LogConfig {
    /// Typed values of all options: `topic` overrides `server`, which overrides the defaults.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use flumen_log::config::LogConfig;
    ///
    /// let topic = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    /// let server = BTreeMap::from([("log.segment.bytes".to_owned(), "1048576".to_owned())]);
    /// let config = LogConfig::parse(&topic, &server).unwrap();
    /// assert_eq!((config.retention_ms, config.segment_bytes), (None, 1 << 20));
    ///
    /// let wrong = BTreeMap::from([("retention.ms".to_owned(), "a week".to_owned())]);
    /// let refused = LogConfig::parse(&wrong, &server).unwrap_err();
    /// assert_eq!(refused.to_string(), "invalid value `a week` for retention.ms: must be a whole number of 64 bits");
    /// ```
    ///
    /// # Errors
    /// The first topic option that is unknown, and the first value that is refused, with the reason.
    pub fn parse(
        topic: &BTreeMap<String, String>,
        server: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        if let Some((name, value)) = topic
            .iter()
            .find(|(name, _)| ConfigKey::find(name).is_none())
        {
            return Err(error(name, value, "there is no such topic option"));
        }
        let values = Values { topic, server };
        let cleanup = values.get("cleanup.policy")?;
        let cleanup: Vec<_> = cleanup.split(',').map(str::trim).collect();
        let min_compaction_lag_ms = values.number("min.compaction.lag.ms")?;
        let max_compaction_lag_ms = values.number("max.compaction.lag.ms")?;
        if min_compaction_lag_ms > max_compaction_lag_ms {
            let reason =
                format!("must not be above max.compaction.lag.ms = {max_compaction_lag_ms}");
            let value = min_compaction_lag_ms.to_string();
            return Err(error("min.compaction.lag.ms", &value, &reason));
        }
        Ok(Self {
            cleanup_policy: CleanupPolicy {
                delete: cleanup.contains(&"delete"),
                compact: cleanup.contains(&"compact"),
            },
            compression: match values.get("compression.type")?.as_str() {
                "producer" => None,
                "uncompressed" => Some(Compression::None),
                name => Some(Compression::from_name(name).expect("one of the valid words")),
            },
            delete_retention_ms: values.number("delete.retention.ms")?,
            min_cleanable_dirty_ratio: values.fraction("min.cleanable.dirty.ratio")?,
            min_compaction_lag_ms,
            max_compaction_lag_ms,
            flush_mode: match values.get("flush.mode")?.as_str() {
                "async" => FlushMode::Async,
                _ => FlushMode::Sync,
            },
            flush_messages: values.unsigned("flush.messages")?,
            flush_ms: values.unsigned("flush.ms")?,
            index_interval_bytes: values.unsigned("index.interval.bytes")?,
            max_message_bytes: values.unsigned("max.message.bytes")? as usize,
            timestamp_after_max_ms: values.number("message.timestamp.after.max.ms")?,
            timestamp_before_max_ms: values.number("message.timestamp.before.max.ms")?,
            timestamp_type: match values.get("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_insync_replicas: values.unsigned("min.insync.replicas")? as u32,
            retention_bytes: u64::try_from(values.number("retention.bytes")?).ok(),
            retention_ms: u64::try_from(values.number("retention.ms")?).ok(),
            segment_bytes: values.unsigned("segment.bytes")?,
            index_bytes: values.unsigned("segment.index.bytes")? as usize,
            segment_jitter_ms: values.unsigned("segment.jitter.ms")?,
            segment_ms: values.unsigned("segment.ms")?,
            unclean_leader_election: values.get("unclean.leader.election.enable")? == "true",
        })
    }
}

impl LogConfig {
    /// Age at which a new segment is begun: no cleaning touches the active one, so it must not stay the active one for longer than
    /// a record may stay uncompacted. Source: Kafka `LogConfig.maxSegmentMs`.
    pub(crate) fn segment_ms_max(&self) -> u64 {
        match self.cleanup_policy.compact {
            true => self
                .segment_ms
                .min(self.max_compaction_lag_ms.unsigned_abs()),
            false => self.segment_ms,
        }
    }
}

impl Default for LogConfig {
    /// All defaults.
    fn default() -> Self {
        Self::parse(&BTreeMap::new(), &BTreeMap::new()).expect("the defaults are valid")
    }
}

struct Values<'a> {
    topic: &'a BTreeMap<String, String>,
    server: &'a BTreeMap<String, String>,
}

impl Values<'_> {
    /// The trimmed value in force, checked.
    fn get(&self, name: &str) -> Result<String, ConfigError> {
        let key = ConfigKey::find(name).expect("an option of the table");
        let (value, _) = key.resolve(self.topic, self.server)?;
        key.validate(&value)?;
        Ok(value.trim().to_owned())
    }

    fn number(&self, name: &str) -> Result<i64, ConfigError> {
        Ok(self.get(name)?.parse().expect("validated as a number"))
    }

    fn fraction(&self, name: &str) -> Result<f64, ConfigError> {
        Ok(self.get(name)?.parse().expect("validated as a number"))
    }

    fn unsigned(&self, name: &str) -> Result<u64, ConfigError> {
        Ok(u64::try_from(self.number(name)?).expect("its bounds exclude negative numbers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid() {
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|key| key.name));
        for key in TOPIC_CONFIGS {
            key.validate(key.default).unwrap();
            assert!(!key.doc.is_empty() && key.doc.ends_with('.'));
        }
        let config = LogConfig::default();
        assert_eq!(
            (
                config.segment_bytes,
                config.max_message_bytes,
                config.index_bytes
            ),
            (1 << 30, 1_048_588, 10 << 20)
        );
        assert_eq!(
            (config.retention_ms, config.retention_bytes),
            (Some(604_800_000), None)
        );
        assert_eq!(config.flush_mode, FlushMode::Sync);
    }

    #[test]
    fn the_topic_wins_over_the_server_and_the_finest_unit_over_the_others() {
        let server = map(&[
            ("log.retention.hours", "2"),
            ("log.retention.minutes", "-1"),
            ("log.cleanup.policy", "compact"),
        ]);
        let key = ConfigKey::find("retention.ms").unwrap();
        assert_eq!(
            key.resolve(&map(&[]), &server).unwrap(),
            ("-1".into(), ConfigSource::Server("log.retention.minutes"))
        );
        assert_eq!(
            key.resolve(&map(&[("retention.ms", "5")]), &server)
                .unwrap(),
            ("5".into(), ConfigSource::Topic)
        );
        let hours = map(&[("log.retention.hours", "2")]);
        assert_eq!(
            key.resolve(&map(&[]), &hours).unwrap(),
            (
                "7200000".into(),
                ConfigSource::Server("log.retention.hours")
            )
        );
        assert!(
            LogConfig::parse(&map(&[]), &server)
                .unwrap()
                .cleanup_policy
                .compact
        );
        assert!(LogConfig::parse(&map(&[]), &map(&[("log.retention.hours", "two")])).is_err());
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let cases = [
            ("segment.bytes", "10", "must be at least 14"),
            (
                "segment.bytes",
                "3000000000",
                "must be a whole number of 32 bits",
            ),
            (
                "cleanup.policy",
                "delete, shred",
                "must be a list of compact, delete",
            ),
            ("flush.mode", "never", "must be one of sync, async"),
            ("min.cleanable.dirty.ratio", "1.5", "must be from 0 to 1"),
            (
                "unclean.leader.election.enable",
                "yes",
                "must be true or false",
            ),
            ("no.such.option", "1", "there is no such topic option"),
        ];
        for (name, value, reason) in cases {
            let refused = LogConfig::parse(&map(&[(name, value)]), &map(&[]))
                .map(|_| ())
                .or_else(|error| match ConfigKey::find(name) {
                    Some(key) => key.validate(value).and(Err(error)),
                    None => Err(error),
                });
            match refused {
                Err(error) => {
                    assert_eq!((error.name.as_str(), error.reason.as_str()), (name, reason))
                }
                // Options that the log itself does not use are checked by the table.
                Ok(()) => assert_eq!(
                    ConfigKey::find(name)
                        .unwrap()
                        .validate(value)
                        .unwrap_err()
                        .reason,
                    reason
                ),
            }
        }
        assert_eq!(
            LogConfig::parse(&map(&[("cleanup.policy", "")]), &map(&[]))
                .unwrap()
                .cleanup_policy,
            CleanupPolicy {
                delete: false,
                compact: false
            }
        );
    }
}
