//! What a command says when it fails: what, where, why and the next step; and the exit code that scripts rely on.
//!
//! Used by every subcommand; `main.rs` prints it. It never retries.

use std::fmt;

use flumen::client::ClientError;

/// Exit codes, stable for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The operation failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The object is not there.
    NotFound = 3,
    /// The object is there already, or in a state that forbids it.
    Conflict = 4,
    /// Nobody answered, or not in time.
    Unreachable = 6,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct CliError {
    what: String,
    next: Option<String>,
    exit: Exit,
}

impl CliError {
    /// A failure with a sentence that names the object.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> CliError {
        CliError {
            what: what.into(),
            next: None,
            exit,
        }
    }

    /// What the user may do now.
    pub(crate) fn next(mut self, step: impl Into<String>) -> CliError {
        self.next = Some(step.into());
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> u8 {
        self.exit as u8
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n next: {next}"),
            None => Ok(()),
        }
    }
}

/// Kafka's codes that mean "not there" and "there already", by number.
const NOT_FOUND: &[i16] = &[3, 69, 100];
const CONFLICT: &[i16] = &[36, 68];

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        let code = error.code();
        let (exit, next) = match (&error, code) {
            (ClientError::Unavailable(_) | ClientError::Timeout(_), _) => {
                let next = "is a broker running there? `flumen dev` starts one; --bootstrap HOST:PORT names another";
                (Exit::Unreachable, Some(next))
            }
            (_, Some(code)) if NOT_FOUND.contains(&code) => (
                Exit::NotFound,
                Some("`flumen topic list` and `flumen group list` show what is there"),
            ),
            (_, Some(code)) if CONFLICT.contains(&code) => (
                Exit::Conflict,
                Some("`flumen topic describe NAME` shows what is there"),
            ),
            _ => (Exit::Failed, None),
        };
        CliError {
            what: error.to_string(),
            next: next.map(str::to_owned),
            exit,
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> CliError {
        CliError::new(Exit::Failed, error.to_string())
    }
}
