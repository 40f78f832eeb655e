//! The configuration in force: what was set for the cluster and for this broker at run time, over what its file says.
//!
//! [`overlay`] is pure: static configuration and cluster image in, configuration out. [`LiveConfig`] holds its last result; it follows
//! the image (`replicas.rs`) and is read wherever a key may change while the broker runs. Everything that is fixed at the start is
//! read from the static [`BrokerConfig`]. Source: Kafka `DynamicBrokerConfig`; KIP-226.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_log::LogConfig;
use flumen_log::config::{ConfigKey, ConfigType, TOPIC_CONFIGS};
use parking_lot::RwLock;

use super::{BrokerConfig, ConfigError, KEYS, Key, Kind};
use crate::cluster::image::ClusterImage;
use crate::cluster::record::ResourceKind;

/// The broker's own keys that may change while it runs. Those that set defaults for topics may, too.
const DYNAMIC: &[&str] = &[
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "max.connections",
    "max.connections.per.ip",
    "producer.id.expiration.ms",
];

/// A key that may change while the broker runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DynamicKey {
    /// The broker's own.
    Broker(&'static Key),
    /// The broker's name for the default of a topic key.
    TopicDefault(&'static str, &'static ConfigKey),
}

impl DynamicKey {
    /// The key of this name. A coarser unit, as `log.retention.hours`, is not one: as in Kafka.
    pub(crate) fn find(name: &str) -> Option<DynamicKey> {
        if DYNAMIC.contains(&name) {
            return KEYS
                .iter()
                .find(|key| key.name == name)
                .map(DynamicKey::Broker);
        }
        TOPIC_CONFIGS.iter().find_map(|key| {
            let synonym = key
                .synonyms
                .iter()
                .find(|synonym| synonym.factor == 1 && synonym.name == name)?;
            Some(DynamicKey::TopicDefault(synonym.name, key))
        })
    }

    /// Whether it is a list, of which words can be added and taken away.
    pub(crate) fn is_list(&self) -> bool {
        match self {
            DynamicKey::Broker(key) => key.kind == Kind::List,
            DynamicKey::TopicDefault(_, key) => key.kind == ConfigType::List,
        }
    }

    /// The value in force.
    pub(crate) fn value(&self, config: &BrokerConfig) -> String {
        match self {
            DynamicKey::Broker(key) => config.get(key.name).unwrap_or_default(),
            DynamicKey::TopicDefault(name, key) => config
                .log_defaults
                .get(*name)
                .cloned()
                .unwrap_or_else(|| key.default.to_owned()),
        }
    }
}

/// `config` with `settings` over it.
///
/// # Errors
/// A key that does not change at run time, or a value that is not of its type, outside its bounds, or at odds with others.
pub(crate) fn overlay(
    config: &BrokerConfig,
    settings: &BTreeMap<String, String>,
) -> Result<BrokerConfig, ConfigError> {
    let mut config = config.clone();
    for (name, value) in settings {
        match DynamicKey::find(name) {
            Some(DynamicKey::Broker(key)) => config.set(key, value.trim())?,
            Some(DynamicKey::TopicDefault(name, key)) => {
                key.validate(value).map_err(|mut error| {
                    name.clone_into(&mut error.name);
                    ConfigError::from(error)
                })?;
                config.log_defaults.insert(name.to_owned(), value.clone());
            }
            None => return Err(ConfigError::Unknown(name.clone())),
        }
    }
    LogConfig::parse(&BTreeMap::new(), &config.log_defaults)?;
    Ok(config)
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct LiveConfig {
    fixed: Arc<BrokerConfig>,
    now: RwLock<Arc<BrokerConfig>>,
}

impl LiveConfig {
    pub(crate) fn new(fixed: Arc<BrokerConfig>) -> LiveConfig {
        LiveConfig {
            now: RwLock::new(Arc::clone(&fixed)),
            fixed,
        }
    }

    /// What is in force.
    pub(crate) fn now(&self) -> Arc<BrokerConfig> {
        Arc::clone(&self.now.read())
    }

    /// Takes over what `image` says of brokers.
    pub(crate) fn follow(&self, image: &ClusterImage) {
        let own = self.fixed.node_id.to_string();
        let mut config = BrokerConfig::clone(&self.fixed);
        // What is set for this broker stands over what is set for all.
        for name in ["", own.as_str()] {
            for (key, value) in image
                .config(ResourceKind::Broker, name)
                .into_iter()
                .flatten()
            {
                let setting = BTreeMap::from([(key.clone(), value.clone())]);
                // All of it was checked when it was set.
                match overlay(&config, &setting) {
                    Ok(next) => config = next,
                    Err(error) => {
                        tracing::error!(%error, "a setting of the broker cannot be read any more and is passed over");
                    }
                }
            }
        }
        *self.now.write() = Arc::new(config);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::record::{ConfigRecord, MetadataRecord};

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_set_for_one_broker_stands_over_what_is_set_for_all_and_that_over_its_file() {
        let file = [("log.retention.ms", "1000"), ("max.connections", "7")];
        let live = LiveConfig::new(Arc::new(BrokerConfig::from_properties(file).unwrap()));
        let mut image = ClusterImage::default();
        let mut set = |resource: &str, key: &str, value: Option<&str>| {
            image.apply(&MetadataRecord::Config(ConfigRecord {
                kind: ResourceKind::Broker,
                resource: resource.to_owned(),
                key: key.to_owned(),
                value: value.map(str::to_owned),
            }));
            live.follow(&image);
            let retention = live.now().log_defaults.get("log.retention.ms").cloned();
            (retention.unwrap(), live.now().max_connections)
        };
        assert_eq!(
            set("", "log.retention.ms", Some("2000")),
            ("2000".into(), 7)
        );
        assert_eq!(
            set("1", "log.retention.ms", Some("3000")),
            ("3000".into(), 7)
        );
        assert_eq!(set("2", "log.retention.ms", Some("9")), ("3000".into(), 7));
        assert_eq!(set("", "max.connections", Some("8")), ("3000".into(), 8));
        assert_eq!(set("1", "log.retention.ms", None), ("2000".into(), 8));
        assert_eq!(set("", "log.retention.ms", None), ("1000".into(), 8));
    }

    #[test]
    fn what_is_fixed_at_the_start_or_wrong_is_refused_by_name() {
        let config = BrokerConfig::default();
        let refused = |key, value| overlay(&config, &settings(&[(key, value)])).unwrap_err();
        let unknown = |key: &str| ConfigError::Unknown(key.to_owned());
        assert_eq!(refused("log.dirs", "/x"), unknown("log.dirs"));
        assert_eq!(
            refused("log.retention.hours", "1"),
            unknown("log.retention.hours")
        );
        let why = refused("max.connections", "-3").to_string();
        assert!(
            why.contains("max.connections") && why.contains("between"),
            "{why}"
        );
        let why = refused("log.segment.bytes", "one").to_string();
        assert!(why.contains("log.segment.bytes"), "{why}");
    }
}
