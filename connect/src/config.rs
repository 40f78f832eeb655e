//! Options of connectors, converters and the worker, as data: every option has a type, a default, a rule and a sentence.
//!
//! Owns [`ConfigDef`] (what may be set), [`Finding`] (what is wrong with what was set) and [`Settings`] (what was set, parsed).
//! The REST call `validate`, the refusal of a bad connector and the documentation all come from the same table. It never reads a file or dials.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A configuration as it comes over REST: Kafka's dotted names, values as text.
pub type Props = BTreeMap<String, String>;

/// What stands in the place of a secret wherever a configuration is shown. Kafka: `Password.HIDDEN`.
pub const HIDDEN: &str = "[hidden]";

/// Type of an option, by Kafka's names (`ConfigDef.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    String,
    /// 32-bit integer.
    Int,
    /// 64-bit integer; durations are milliseconds and bear `.ms` in their name.
    Long,
    /// Floating point.
    Double,
    /// `true` or `false`.
    Boolean,
    /// Texts separated by commas.
    List,
    /// Name of a plugin.
    Class,
    /// Text that is never shown again.
    Password,
}

impl Kind {
    /// The name in REST bodies.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::Boolean => "BOOLEAN",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

/// How much an option matters to most users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Decide it.
    High,
    /// Know it.
    Medium,
    /// Leave it.
    Low,
}

impl Importance {
    /// The name in REST bodies.
    pub fn name(self) -> &'static str {
        match self {
            Importance::High => "HIGH",
            Importance::Medium => "MEDIUM",
            Importance::Low => "LOW",
        }
    }
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Anything of the type.
    Any,
    /// Not the empty text, and no empty element in a list.
    NonEmpty,
    /// A number of at least this.
    AtLeast(i64),
    /// A number in this closed range.
    Between(i64, i64),
    /// One of these words, whatever the case of their letters.
    OneOf(&'static [&'static str]),
    /// Whatever this says is no error.
    Check(fn(&str) -> Result<(), String>),
}

/// One option.
#[derive(Debug, Clone)]
pub struct ConfigKey {
    /// Kafka's dotted name, or ours in its manner.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it is when it is not set; `None` with `required` false: unset.
    pub default: Option<String>,
    /// Whether it must be set.
    pub required: bool,
    /// What its value must satisfy.
    pub rule: Rule,
    /// How much it matters.
    pub importance: Importance,
    /// A sentence for people.
    pub documentation: &'static str,
    /// The heading it stands under.
    pub group: &'static str,
}

impl ConfigKey {
    /// An option that must be set.
    pub fn required(name: &'static str, kind: Kind, documentation: &'static str) -> ConfigKey {
        ConfigKey {
            required: true,
            importance: Importance::High,
            ..ConfigKey::optional(name, kind, documentation)
        }
    }

    /// An option that may stay unset.
    pub fn optional(name: &'static str, kind: Kind, documentation: &'static str) -> ConfigKey {
        ConfigKey {
            name,
            kind,
            default: None,
            required: false,
            rule: Rule::Any,
            importance: Importance::Medium,
            documentation,
            group: "Common",
        }
    }

    /// An option with a default.
    pub fn with_default(
        name: &'static str,
        kind: Kind,
        default: impl fmt::Display,
        documentation: &'static str,
    ) -> ConfigKey {
        ConfigKey {
            default: Some(default.to_string()),
            ..ConfigKey::optional(name, kind, documentation)
        }
    }

    /// The same with a rule.
    #[must_use]
    pub fn rule(self, rule: Rule) -> ConfigKey {
        ConfigKey { rule, ..self }
    }

    /// The same under a heading.
    #[must_use]
    pub fn group(self, group: &'static str) -> ConfigKey {
        ConfigKey { group, ..self }
    }

    /// The same with another importance.
    #[must_use]
    pub fn importance(self, importance: Importance) -> ConfigKey {
        ConfigKey { importance, ..self }
    }

    /// What is wrong with `value`, in Kafka's words (`ConfigException`).
    fn check(&self, value: &str) -> Option<String> {
        let invalid = |why: String| {
            Some(format!(
                "Invalid value {} for configuration {}: {why}",
                self.shown(value),
                self.name
            ))
        };
        let number = match self.kind {
            Kind::Int if value.trim().parse::<i32>().is_err() => {
                return invalid("Not a number of type INT".to_owned());
            }
            Kind::Long if value.trim().parse::<i64>().is_err() => {
                return invalid("Not a number of type LONG".to_owned());
            }
            Kind::Double if value.trim().parse::<f64>().is_err() => {
                return invalid("Not a number of type DOUBLE".to_owned());
            }
            Kind::Boolean if parse_bool(value).is_none() => {
                return invalid("Expected value to be either true or false".to_owned());
            }
            _ => value.trim().parse::<i64>().unwrap_or(0),
        };
        match self.rule {
            Rule::Any => None,
            Rule::NonEmpty if value.trim().is_empty() => {
                invalid("String must be non-empty".to_owned())
            }
            Rule::NonEmpty
                if self.kind == Kind::List
                    && value.split(',').any(|part| part.trim().is_empty()) =>
            {
                invalid("empty element in the list".to_owned())
            }
            Rule::NonEmpty => None,
            Rule::AtLeast(least) if number < least => {
                invalid(format!("Value must be at least {least}"))
            }
            Rule::Between(least, most) if number < least => invalid(format!(
                "Value must be at least {least} (and at most {most})"
            )),
            Rule::Between(_, most) if number > most => {
                invalid(format!("Value must be no more than {most}"))
            }
            Rule::AtLeast(_) | Rule::Between(..) => None,
            Rule::OneOf(words)
                if words
                    .iter()
                    .any(|word| word.eq_ignore_ascii_case(value.trim())) =>
            {
                None
            }
            Rule::OneOf(words) => invalid(format!("String must be one of: {}", words.join(", "))),
            Rule::Check(check) => check(value).err().and_then(invalid),
        }
    }

    fn shown(&self, value: &str) -> String {
        redact(self.kind, value)
    }
}

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
        Ok(Settings {
            values: values.collect(),
            props: props.clone(),
        })
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

/// What was set, parsed and complete. Reading a key that the [`ConfigDef`] does not declare is a fault of the plugin and panics.
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, Option<String>>,
    props: Props,
}

impl Settings {
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

fn parse_bool(value: &str) -> Option<bool> {
    match value.trim() {
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// `value` as it may be shown: a password hidden, `scheme://user:secret@host` without its secret.
fn redact(kind: Kind, value: &str) -> String {
    if kind == Kind::Password {
        return HIDDEN.to_owned();
    }
    let secret = value.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let (user_info, _) = authority.rsplit_once('@')?;
        let (user, secret) = user_info.split_once(':')?;
        let start = scheme.len() + 3 + user.len() + 1;
        Some(start..start + secret.len())
    });
    match secret {
        Some(range) => format!("{}{HIDDEN}{}", &value[..range.start], &value[range.end..]),
        None => value.to_owned(),
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
mod tests {
    use super::*;

    fn def() -> ConfigDef {
        ConfigDef::new([
            ConfigKey::required("connection.url", Kind::String, "Where the database is.")
                .rule(Rule::NonEmpty),
            ConfigKey::optional("connection.password", Kind::Password, "The password."),
            ConfigKey::with_default(
                "insert.mode",
                Kind::String,
                "insert",
                "How rows are written.",
            )
            .rule(Rule::OneOf(&["insert", "upsert"])),
            ConfigKey::with_default("batch.size", Kind::Int, 2000, "Rows of one transaction.")
                .rule(Rule::Between(1, 100_000)),
            ConfigKey::with_default("auto.create", Kind::Boolean, false, "Make missing tables."),
            ConfigKey::with_default("retry.backoff.ms", Kind::Long, 300, "First pause.")
                .rule(Rule::AtLeast(0)),
            ConfigKey::optional("pk.fields", Kind::List, "Key columns.").rule(Rule::NonEmpty),
        ])
        .open_prefix("value.converter.")
    }

    fn props(pairs: &[(&str, &str)]) -> Props {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_kind_and_rule_is_checked_and_named() {
        let check = |name: &str, value: &str, message: &str| {
            let findings = def().validate(&props(&[("connection.url", "x"), (name, value)]));
            let found: Vec<&str> = findings
                .iter()
                .map(|finding| finding.message.as_str())
                .collect();
            assert_eq!(
                found,
                if message.is_empty() {
                    vec![]
                } else {
                    vec![message]
                },
                "{name}={value}"
            );
        };
        check("batch.size", "12", "");
        check(
            "batch.size",
            "12.5",
            "Invalid value 12.5 for configuration batch.size: Not a number of type INT",
        );
        check(
            "batch.size",
            "0",
            "Invalid value 0 for configuration batch.size: Value must be at least 1 (and at most 100000)",
        );
        check(
            "batch.size",
            "100001",
            "Invalid value 100001 for configuration batch.size: Value must be no more than 100000",
        );
        check(
            "retry.backoff.ms",
            "-1",
            "Invalid value -1 for configuration retry.backoff.ms: Value must be at least 0",
        );
        check("auto.create", "TRUE", "");
        check(
            "auto.create",
            "yes",
            "Invalid value yes for configuration auto.create: Expected value to be either true or false",
        );
        check("insert.mode", "UPSERT", "");
        check(
            "insert.mode",
            "append",
            "Invalid value append for configuration insert.mode: String must be one of: insert, upsert",
        );
        check(
            "pk.fields",
            "a,,b",
            "Invalid value a,,b for configuration pk.fields: empty element in the list",
        );
        check("value.converter.schemas.enable", "anything", "");
        check(
            "insert.mod",
            "insert",
            "Unknown configuration insert.mod; did you mean insert.mode?",
        );
        check(
            "inser.tmode",
            "insert",
            "Unknown configuration inser.tmode; did you mean insert.mode?",
        );
        check(
            "colour",
            "blue",
            "Unknown configuration colour; it has no effect.",
        );
    }

    #[test]
    fn a_missing_key_is_an_error_and_an_unknown_one_is_not() {
        let findings = def().settings(&Props::new()).unwrap_err();
        assert_eq!(
            findings[0].message,
            "Missing required configuration \"connection.url\" which has no default value."
        );
        let settings = def()
            .settings(&props(&[
                ("connection.url", " pg "),
                ("colour", "blue"),
                ("pk.fields", "a, b"),
            ]))
            .unwrap();
        assert_eq!(settings.str("connection.url"), "pg");
        assert_eq!(settings.raw("connection.url"), " pg ");
        assert_eq!(settings.list("pk.fields"), ["a", "b"]);
        assert_eq!(
            settings.duration("retry.backoff.ms"),
            Duration::from_millis(300)
        );
        assert!(!settings.bool("auto.create"));
    }

    #[test]
    fn secrets_are_hidden_and_come_back_when_the_shown_configuration_is_sent_again() {
        let old = props(&[
            ("connection.url", "postgres://ann:pa:ss@db:5432/x?a=b"),
            ("connection.password", "hush"),
            ("batch.size", "7"),
        ]);
        let mut shown = def().redacted(&old);
        assert_eq!(
            shown["connection.url"],
            "postgres://ann:[hidden]@db:5432/x?a=b"
        );
        assert_eq!(shown["connection.password"], HIDDEN);
        let _ = shown.insert("batch.size".to_owned(), "8".to_owned());
        let back = def().unredacted(shown, &old);
        assert_eq!(
            (back["connection.url"].as_str(), back["batch.size"].as_str()),
            ("postgres://ann:pa:ss@db:5432/x?a=b", "8")
        );
        assert_eq!(back["connection.password"], "hush");
        assert!(!format!("{:?}", def().settings(&old).unwrap()).contains("hush"));
    }
}
