//! What was set, parsed: made by `ConfigDef::settings` from a configuration without errors, read by connectors, converters and the worker.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Props;
use super::key::parse_bool;

/// What was set, parsed and complete. Reading a key that the [`ConfigDef`](super::ConfigDef) does not declare is a fault of the plugin and panics.
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, Option<String>>,
    props: Props,
}

impl Settings {
    /// `values` by declared name, defaults filled in; `props` is everything that was set.
    pub(super) fn new(values: BTreeMap<&'static str, Option<String>>, props: Props) -> Settings {
        Settings { values, props }
    }

    /// The text of `name`, or `None` when it is unset or empty.
    ///
    /// # Panics
    /// When `name` is not declared.
    pub fn opt(&self, name: &str) -> Option<&str> {
        let value = self
            .values
            .get(name)
            .unwrap_or_else(|| panic!("option {name} is not declared"));
        value
            .as_deref()
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }

    /// The text of `name`; empty when it is unset.
    pub fn str(&self, name: &str) -> &str {
        self.opt(name).unwrap_or("")
    }

    /// The text of `name` as it was written, blanks included; empty when it is unset.
    pub fn raw(&self, name: &str) -> &str {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("option {name} is not declared"))
            .as_deref()
            .unwrap_or("")
    }

    /// The integer of `name`.
    ///
    /// # Panics
    /// When `name` has neither a value nor a default, or is no number type.
    pub fn int(&self, name: &str) -> i64 {
        self.opt_int(name)
            .unwrap_or_else(|| panic!("option {name} has no number"))
    }

    /// The integer of `name`, if it is set.
    pub fn opt_int(&self, name: &str) -> Option<i64> {
        self.opt(name).map(|value| {
            value
                .parse()
                .unwrap_or_else(|_| panic!("option {name} was checked as a number"))
        })
    }

    /// The integer of `name` as a count; negative counts as 0.
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.int(name)).unwrap_or(0)
    }

    /// The milliseconds of `name`.
    pub fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.int(name)).unwrap_or(0))
    }

    /// Whether `name` is true; false when it is unset.
    pub fn bool(&self, name: &str) -> bool {
        self.opt(name).and_then(parse_bool).unwrap_or(false)
    }

    /// The word of `name` in lower case.
    pub fn word(&self, name: &str) -> String {
        self.str(name).to_ascii_lowercase()
    }

    /// The elements of the list `name`.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.str(name)
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Everything that was set, known or not.
    pub fn props(&self) -> &Props {
        &self.props
    }

    /// What was set under `prefix`, with the prefix cut off: `value.converter.schemas.enable` → `schemas.enable`.
    pub fn under(&self, prefix: &str) -> Props {
        self.props
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
            })
            .collect()
    }
}

impl fmt::Debug for Settings {
    /// Names only: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.props.keys()).finish()
    }
}
