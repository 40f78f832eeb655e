//! Options of connectors, converters and the worker, as data: every option has a type, a default, a rule and a sentence.
//!
//! Owns [`ConfigDef`] (what may be set; its rows are [`ConfigKey`]s), [`Finding`] (what is wrong with what was set) and [`Settings`] (what
//! was set, parsed).
//! The REST call `validate`, the refusal of a bad connector and the documentation all come from the same table. It never reads a file or dials.

mod key;
mod settings;

use std::collections::BTreeMap;

use key::redact;
pub use key::{ConfigKey, Importance, Kind, Rule};
pub use settings::Settings;

/// A configuration as it comes over REST: Kafka's dotted names, values as text.
pub type Props = BTreeMap<String, String>;

/// What stands in the place of a secret wherever a configuration is shown. Kafka: `Password.HIDDEN`.
pub const HIDDEN: &str = "[hidden]";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is taken, and the user is told.
    Warning,
}

/// Something to say about one key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key.
    pub key: String,
    /// Whether it stands in the way.
    pub severity: Severity,
    /// The whole sentence, naming the key.
    pub message: String,
    /// Values that would do, if they are known: for a key that does not exist, the key that was probably meant.
    pub recommended: Vec<String>,
}

impl Finding {
    /// A finding that refuses the configuration.
    pub fn error(key: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding {
            key: key.into(),
            severity: Severity::Error,
            message: message.into(),
            recommended: Vec::new(),
        }
    }

    /// A finding that lets it pass.
    pub fn warning(key: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Warning,
            ..Finding::error(key, message)
        }
    }

    /// Whether it refuses the configuration.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The options that may be set.
///
/// ```
/// use flumen_connect::config::{ConfigDef, ConfigKey, Kind, Rule};
/// let def = ConfigDef::new([
///     ConfigKey::required("file", Kind::String, "The file to read.").rule(Rule::NonEmpty),
///     ConfigKey::with_default("batch.size", Kind::Int, 2000, "Most records of one batch.").rule(Rule::AtLeast(1)),
/// ]);
/// let props = [("file".to_owned(), "/var/log/syslog".to_owned()), ("batchsize".to_owned(), "5".to_owned())].into();
/// let findings = def.validate(&props);
/// assert_eq!(findings[0].message, "Unknown configuration batchsize; did you mean batch.size?");
/// let settings = def.settings(&props).unwrap();
/// assert_eq!((settings.str("file"), settings.int("batch.size")), ("/var/log/syslog", 2000));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ConfigDef {
    keys: Vec<ConfigKey>,
    prefixes: Vec<&'static str>,
}

impl ConfigDef {
    /// These options, shown in this order.
    pub fn new(keys: impl IntoIterator<Item = ConfigKey>) -> ConfigDef {
        ConfigDef {
            keys: keys.into_iter().collect(),
            prefixes: Vec::new(),
        }
    }

    /// Lets every key that begins with `prefix` pass: options of converters, transforms, overrides of clients.
    #[must_use]
    pub fn open_prefix(mut self, prefix: &'static str) -> ConfigDef {
        self.prefixes.push(prefix);
        self
    }

    /// These options before those of `other`; a key of both is as `self` has it.
    #[must_use]
    pub fn and(mut self, other: ConfigDef) -> ConfigDef {
        for key in other.keys {
            if self.key(key.name).is_none() {
                self.keys.push(key);
            }
        }
        self.prefixes.extend(other.prefixes);
        self
    }

    /// The options, in order.
    pub fn keys(&self) -> &[ConfigKey] {
        &self.keys
    }

    /// The option of that name.
    pub fn key(&self, name: &str) -> Option<&ConfigKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Everything to be said about `props`, in the order of the keys; unknown keys last, as warnings with the key that was probably meant.
    pub fn validate(&self, props: &Props) -> Vec<Finding> {
        let mut findings = Vec::new();
        for key in &self.keys {
            match props.get(key.name) {
                Some(value) => findings.extend(
                    key.check(value)
                        .map(|message| Finding::error(key.name, message)),
                ),
                None if key.required => findings.push(Finding::error(
                    key.name,
                    format!(
                        "Missing required configuration \"{}\" which has no default value.",
                        key.name
                    ),
                )),
                None => {}
            }
        }
        findings.extend(
            props
                .keys()
                .filter(|name| !self.knows(name))
                .map(|name| self.unknown(name)),
        );
        findings
    }

    fn knows(&self, name: &str) -> bool {
        self.key(name).is_some() || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    fn unknown(&self, name: &str) -> Finding {
        let near = self
            .keys
            .iter()
            .map(|key| (distance(name, key.name), key.name))
            .min();
        match near {
            Some((distance, meant)) if distance <= (meant.len() / 3).max(2) => Finding {
                recommended: vec![meant.to_owned()],
                ..Finding::warning(
                    name,
                    format!("Unknown configuration {name}; did you mean {meant}?"),
                )
            },
            _ => Finding::warning(
                name,
                format!("Unknown configuration {name}; it has no effect."),
            ),
        }
    }

    /// The parsed options.
    ///
    /// # Errors
    /// All findings, when one of them is an error.
    pub fn settings(&self, props: &Props) -> Result<Settings, Vec<Finding>> {
        let findings = self.validate(props);
        if findings.iter().any(Finding::is_error) {
            return Err(findings);
        }
        let values = self.keys.iter().map(|key| {
            (
                key.name,
                props.get(key.name).cloned().or_else(|| key.default.clone()),
            )
        });
        Ok(Settings::new(values.collect(), props.clone()))
    }

    /// `props` as it may be shown: secrets hidden, passwords cut out of URLs.
    pub fn redacted(&self, props: &Props) -> Props {
        let kind = |name: &str| self.key(name).map_or(Kind::String, |key| key.kind);
        props
            .iter()
            .map(|(name, value)| (name.clone(), redact(kind(name), value)))
            .collect()
    }

    /// `new` with each hidden value replaced by what it hides in `old`: so a configuration that was read over REST can be sent back.
    pub fn unredacted(&self, mut new: Props, old: &Props) -> Props {
        let shown = self.redacted(old);
        for (name, value) in &mut new {
            if let (Some(secret), Some(hidden)) = (old.get(name), shown.get(name))
                && value == hidden
            {
                value.clone_from(secret);
            }
        }
        new
    }
}

/// Edits (insert, delete, replace, swap of neighbours) between two keys.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
