//! Whether a connector's configuration stands, key by key, as `PUT /connector-plugins/{p}/config/validate` tells it.
//!
//! Owns the joining of a plugin's options with those that every connector has, and checks that need both. Changes nothing.

use std::sync::Arc;

use super::{Inner, Worker};
use crate::common;
use crate::config::{ConfigDef, ConfigKey, Finding, Kind, Props, Settings};
use crate::converter::Converter;
use crate::error::WorkerError;
use crate::registry::Connector;
use crate::source::Guarantee;

/// A key, its value and what is to be said about it.
#[derive(Debug, Clone)]
pub struct ValidatedKey {
    /// The option; one made up for a key that does not exist.
    pub key: ConfigKey,
    /// The name, also of keys that do not exist.
    pub name: String,
    /// What was set, else the default; secrets hidden.
    pub value: Option<String>,
    /// Why it cannot stand.
    pub errors: Vec<String>,
    /// What it could be: for an unknown key the one that was probably meant.
    pub recommended: Vec<String>,
}

/// How keys and values are converted.
pub(super) type Converters = (Arc<dyn Converter>, Arc<dyn Converter>);

/// The whole answer.
#[derive(Debug, Clone)]
pub struct Validated {
    /// Full name of the plugin.
    pub class: String,
    /// How many errors there are.
    pub error_count: usize,
    /// Headings, in order.
    pub groups: Vec<String>,
    /// The keys, in order.
    pub keys: Vec<ValidatedKey>,
    /// Everything that was found, warnings too.
    pub findings: Vec<Finding>,
}

fn full_def(plugin: &Connector) -> ConfigDef {
    let common = match plugin {
        Connector::Source(_) => common::source(),
        Connector::Sink(_) => common::sink(),
    };
    common.and(plugin.config()).open_prefix("task.class")
}

impl Worker {
    /// All options of a plugin.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn plugin_config(&self, name: &str) -> Result<ConfigDef, WorkerError> {
        let found = self.0.registry.connector(name);
        let (_, plugin) =
            found.ok_or_else(|| WorkerError::NotFound(format!("Unknown plugin {name}.")))?;
        Ok(full_def(plugin))
    }

    /// Validates a configuration; the plugin may dial.
    ///
    /// # Errors
    /// [`WorkerError::BadRequest`]: there is no such plugin. What is wrong with the keys is in the answer.
    pub async fn validate(&self, config: &Props) -> Result<Validated, WorkerError> {
        let (class, plugin) = self.0.plugin(config)?;
        let def = full_def(&plugin);
        let mut findings = def.validate(config);
        findings.extend(self.0.cross_checks(&plugin, config));
        if !findings.iter().any(Finding::is_error)
            && let Ok(settings) = def.settings(config)
        {
            findings.extend(match &plugin {
                Connector::Source(source) => source.validate(&settings).await,
                Connector::Sink(sink) => sink.validate(&settings).await,
            });
            findings.extend(guarantee_finding(&plugin, &settings));
        }
        let shown = def.redacted(config);
        let mut keys: Vec<ValidatedKey> = def
            .keys()
            .iter()
            .map(|key| validated(key.clone(), key.name, &shown, &findings))
            .collect();
        let known = |name: &str| def.key(name).is_some();
        for finding in findings.iter().filter(|finding| !known(&finding.key)) {
            let key = ConfigKey::optional("", Kind::String, "There is no such option.");
            keys.push(validated(
                key,
                &finding.key,
                &shown,
                std::slice::from_ref(finding),
            ));
        }
        let mut groups: Vec<String> = Vec::new();
        for key in def.keys() {
            if !groups.iter().any(|group| group == key.group) {
                groups.push(key.group.to_owned());
            }
        }
        let error_count = findings.iter().filter(|finding| finding.is_error()).count();
        Ok(Validated {
            class,
            error_count,
            groups,
            keys,
            findings,
        })
    }
}

fn validated(key: ConfigKey, name: &str, shown: &Props, findings: &[Finding]) -> ValidatedKey {
    let of_key = || findings.iter().filter(|finding| finding.key == name);
    ValidatedKey {
        name: name.to_owned(),
        value: shown.get(name).cloned().or_else(|| key.default.clone()),
        errors: of_key()
            .filter(|finding| finding.is_error())
            .map(|finding| finding.message.clone())
            .collect(),
        recommended: of_key()
            .flat_map(|finding| finding.recommended.clone())
            .collect(),
        key,
    }
}

fn guarantee_finding(plugin: &Connector, settings: &Settings) -> Option<Finding> {
    let Connector::Source(source) = plugin else {
        return None;
    };
    match source.guarantees(settings) {
        Guarantee::AtLeastOnce(why) if settings.word("exactly.once.support") == "required" => {
            Some(Finding::error(
                "exactly.once.support",
                format!(
                    "The connector does not support exactly-once semantics with the provided configuration: {why}"
                ),
            ))
        }
        _ => None,
    }
}

impl Inner {
    /// The plugin that a configuration names.
    pub(super) fn plugin(&self, config: &Props) -> Result<(String, Connector), WorkerError> {
        let class = config
            .get("connector.class")
            .map(|class| class.trim())
            .filter(|class| !class.is_empty());
        let class = class.ok_or_else(|| {
            WorkerError::BadRequest("Connector config {} contains no connector type".to_owned())
        })?;
        let found = self
            .registry
            .connector(class)
            .map(|(class, plugin)| (class.to_owned(), plugin.clone()));
        found.ok_or_else(|| {
            let known: Vec<String> = self.registry.plugins().into_iter().filter(|plugin| plugin.kind != "converter").map(|plugin| plugin.class).collect();
            WorkerError::BadRequest(format!(
                "Failed to find any class that implements Connector and which name matches {class}, available connectors are: {}",
                known.join(", ")
            ))
        })
    }

    /// Plugin and parsed settings of a configuration that was accepted.
    pub(super) fn settings(
        &self,
        config: &Props,
    ) -> Result<(String, Connector, Settings), WorkerError> {
        let (class, plugin) = self.plugin(config)?;
        let settings = self.plugin_settings(&plugin, config)?;
        Ok((class, plugin, settings))
    }

    pub(super) fn plugin_settings(
        &self,
        plugin: &Connector,
        config: &Props,
    ) -> Result<Settings, WorkerError> {
        full_def(plugin)
            .settings(config)
            .map_err(WorkerError::InvalidConfig)
    }

    /// What is shown of a configuration: secrets hidden.
    pub(super) fn redacted(&self, config: &Props) -> Props {
        self.plugin(config).map_or_else(
            |_| config.clone(),
            |(_, plugin)| full_def(&plugin).redacted(config),
        )
    }

    /// A configuration that was shown and came back: with its secrets.
    pub(super) fn unredacted(&self, new: Props, old: &Props) -> Props {
        match self.plugin(&new) {
            Ok((_, plugin)) => full_def(&plugin).unredacted(new, old),
            Err(_) => new,
        }
    }

    /// The converters of a connector: its own, else the worker's.
    pub(super) fn converters(&self, config: &Props) -> Result<Converters, String> {
        Ok((
            self.converter(config, "key.converter")?,
            self.converter(config, "value.converter")?,
        ))
    }

    fn converter(&self, config: &Props, key: &str) -> Result<Arc<dyn Converter>, String> {
        let from = if config.contains_key(key) {
            config
        } else {
            &self.config.converters
        };
        let class = from.get(key).ok_or_else(|| {
            format!("Missing required configuration \"{key}\" which has no default value.")
        })?;
        let prefix = format!("{key}.");
        let options = from
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix(&prefix)?.to_owned(), value.clone()))
            })
            .collect();
        let made = self
            .registry
            .converter(class, &options, key == "key.converter");
        made.map_err(|e| format!("Invalid value {class} for configuration {key}: {e}"))
    }

    /// What no single key shows.
    fn cross_checks(&self, plugin: &Connector, config: &Props) -> Vec<Finding> {
        let mut findings = Vec::new();
        for key in ["key.converter", "value.converter"] {
            findings.extend(
                self.converter(config, key)
                    .err()
                    .map(|message| Finding::error(key, message)),
            );
        }
        for key in ["transforms", "predicates"] {
            if config
                .get(key)
                .is_some_and(|value| !value.trim().is_empty())
            {
                findings.push(Finding::error(
                    key,
                    format!(
                        "Invalid value {} for configuration {key}: this release has no {key}",
                        config[key]
                    ),
                ));
            }
        }
        if let Connector::Sink(_) = plugin {
            let set = |key: &str| {
                config
                    .get(key)
                    .is_some_and(|value| !value.trim().is_empty())
            };
            match (set("topics"), set("topics.regex")) {
                (true, true) => findings.push(Finding::error("topics", "\"topics\" and \"topics.regex\" are mutually exclusive options, but both are set.")),
                (false, false) => findings.push(Finding::error("topics", "Must configure one of topics or topics.regex")),
                _ => {}
            }
            let dead_letters = config
                .get("errors.deadletterqueue.topic.name")
                .map(|topic| topic.trim());
            if dead_letters.is_some_and(|topic| {
                config
                    .get("topics")
                    .is_some_and(|topics| topics.split(',').any(|known| known.trim() == topic))
            }) {
                findings.push(Finding::error(
                    "errors.deadletterqueue.topic.name",
                    "The dead letter topic may not be one that the sink reads.",
                ));
            }
        }
        findings
    }
}
