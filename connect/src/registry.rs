//! Which plugins there are: a name, its aliases, and the object that makes tasks or converts.
//!
//! Owns [`Registry`]. The binary registers what it ships, a user's own worker adds more; `worker.rs` looks names up. Nothing is ever loaded at run time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::config::{ConfigDef, Props};
use crate::converter::{self, Converter};
use crate::sink::SinkConnector;
use crate::source::SourceConnector;

/// A connector of either direction.
#[derive(Clone)]
pub enum Connector {
    /// Into topics.
    Source(Arc<dyn SourceConnector>),
    /// Out of topics.
    Sink(Arc<dyn SinkConnector>),
}

impl Connector {
    /// `source` or `sink`, as REST says it.
    pub fn direction(&self) -> &'static str {
        match self {
            Connector::Source(_) => "source",
            Connector::Sink(_) => "sink",
        }
    }

    /// Its own options.
    pub fn config(&self) -> ConfigDef {
        match self {
            Connector::Source(source) => source.config(),
            Connector::Sink(sink) => sink.config(),
        }
    }

    /// Its version.
    pub fn version(&self) -> &'static str {
        match self {
            Connector::Source(source) => source.version(),
            Connector::Sink(sink) => sink.version(),
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.direction())
    }
}

/// Makes a converter from the options under `key.converter.` or `value.converter.`.
pub type MakeConverter = fn(&Props, bool) -> Result<Arc<dyn Converter>, String>;

/// A plugin as `GET /connector-plugins` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// Its full name: what Kafka calls the class.
    pub class: String,
    /// `source`, `sink` or `converter`.
    pub kind: &'static str,
    /// Its version.
    pub version: String,
}

/// The plugins of a worker.
///
/// A plugin is found by its full name, by the last part of it, and by that without `Connector`: `org.apache.kafka.connect.file.FileStreamSourceConnector`,
/// `FileStreamSourceConnector` and `FileStreamSource` are one (Kafka: `PluginUtils.simpleName`, `prunedName`).
#[derive(Clone)]
pub struct Registry {
    connectors: BTreeMap<String, Connector>,
    converters: BTreeMap<String, MakeConverter>,
    aliases: BTreeMap<String, String>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}

impl Registry {
    /// The converters of this crate and no connector.
    pub fn new() -> Registry {
        let mut registry = Registry {
            connectors: BTreeMap::new(),
            converters: BTreeMap::new(),
            aliases: BTreeMap::new(),
        };
        for (name, make) in converter::ALL {
            registry.alias(name, name);
            let _ = registry.converters.insert((*name).to_owned(), *make);
        }
        registry
    }

    /// Adds a source under its full name and further names that older configurations use.
    #[must_use]
    pub fn source(
        mut self,
        class: &str,
        aliases: &[&str],
        source: impl SourceConnector + 'static,
    ) -> Registry {
        self.add(class, aliases, Connector::Source(Arc::new(source)));
        self
    }

    /// Adds a sink under its full name and further names that older configurations use.
    #[must_use]
    pub fn sink(
        mut self,
        class: &str,
        aliases: &[&str],
        sink: impl SinkConnector + 'static,
    ) -> Registry {
        self.add(class, aliases, Connector::Sink(Arc::new(sink)));
        self
    }

    fn add(&mut self, class: &str, aliases: &[&str], connector: Connector) {
        self.alias(class, class);
        for alias in aliases {
            self.alias(alias, class);
        }
        let _ = self.connectors.insert(class.to_owned(), connector);
    }

    fn alias(&mut self, name: &str, class: &str) {
        let simple = name.rsplit('.').next().unwrap_or(name);
        let pruned = ["Connector", "Converter"]
            .iter()
            .find_map(|end| simple.strip_suffix(end))
            .filter(|rest| !rest.is_empty());
        for alias in [Some(name), Some(simple), pruned].into_iter().flatten() {
            let _ = self
                .aliases
                .entry(alias.to_owned())
                .or_insert_with(|| class.to_owned());
        }
    }

    /// The connector of that name: full name and object.
    pub fn connector(&self, name: &str) -> Option<(&str, &Connector)> {
        let class = self.aliases.get(name.trim())?;
        self.connectors
            .get_key_value(class)
            .map(|(class, connector)| (class.as_str(), connector))
    }

    /// Makes the converter of that name.
    ///
    /// # Errors
    /// A sentence: no such converter, or an option it refuses.
    pub fn converter(
        &self,
        name: &str,
        options: &Props,
        is_key: bool,
    ) -> Result<Arc<dyn Converter>, String> {
        let make = self
            .aliases
            .get(name.trim())
            .and_then(|class| self.converters.get(class));
        let make = make.ok_or_else(|| {
            format!(
                "there is no converter {name}; known are {}",
                self.converters
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        })?;
        make(options, is_key)
    }

    /// All plugins, connectors first.
    pub fn plugins(&self) -> Vec<PluginInfo> {
        let connectors = self.connectors.iter();
        let connectors = connectors.map(|(class, c)| PluginInfo {
            class: class.clone(),
            kind: c.direction(),
            version: c.version().to_owned(),
        });
        let converters = self.converters.keys();
        let converters = converters.map(|class| PluginInfo {
            class: class.clone(),
            kind: "converter",
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        connectors.chain(converters).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.plugins()).finish()
    }
}
