//! One option: its type, default, rule and sentence, and what is wrong with a value of it.
//!
//! Made by whoever declares options, asked by `ConfigDef`; it knows no other option.

use std::fmt;

use super::HIDDEN;

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
    pub(super) fn check(&self, value: &str) -> Option<String> {
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

/// `true` or `false`, whatever the case of the letters.
pub(super) fn parse_bool(value: &str) -> Option<bool> {
    match value.trim() {
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// `value` as it may be shown: a password hidden, `scheme://user:secret@host` without its secret.
pub(super) fn redact(kind: Kind, value: &str) -> String {
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
