//! What an error of Postgres asks of us. Pure.
//!
//! Owns the classes of SQLSTATE and the sentences for people. Every file that runs a statement asks
//! here; what is retried, searched for or given up follows from it.

use std::fmt::Write as _;
use std::time::Duration;

use flumen_connect::error::TaskError;

/// The least pause before the same is tried again; the worker makes it longer each time, and says
/// so once.
const PAUSE: Duration = Duration::from_millis(100);

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The same may succeed later on a new connection: broken, shut down, failed over to a reader.
    Gone,
    /// The same may succeed later: locks, deadlocks, resources.
    Passing,
    /// The rows are wrong: a value, a constraint, a trigger that refuses. Which, is found by
    /// halves.
    Data,
    /// The table is not what we think: a column or table gone, another type. Look again, once.
    Schema,
    /// Anything else: a missing right, a fault of ours.
    Fatal,
}

/// By SQLSTATE; none is a broken connection. Source: Postgres, appendix A "error codes".
pub(crate) fn class(code: Option<&str>) -> Class {
    let Some(code) = code else {
        return Class::Gone;
    };
    match (code, &code[..2.min(code.len())]) {
        // Read-only: the primary became a standby. 25P03: we were idle in a transaction. 26000: a
        // pooler gave us another server.
        (_, "08") | ("57P01" | "57P02" | "57P03" | "57P05" | "25006" | "25P03" | "26000", _) => {
            Class::Gone
        }
        (_, "40" | "53" | "57" | "58") | ("55P03" | "55006" | "25P02", _) => Class::Passing,
        // 21000: two rows of one statement are the same to ON CONFLICT. 54000: a value too big for
        // an index. 44000: WITH CHECK OPTION. P0001: RAISE.
        (_, "21" | "22" | "23" | "44") | ("54000" | "P0001", _) => Class::Data,
        ("42501", _) => Class::Fatal,
        (_, "42" | "3F") | ("0A000", _) => Class::Schema,
        _ => Class::Fatal,
    }
}

/// The class of an error as the client reports it.
pub(crate) fn class_of(error: &tokio_postgres::Error) -> Class {
    class(error.code().map(tokio_postgres::error::SqlState::code))
}

/// The server's own words, with table, column and constraint where it names them.
pub(crate) fn message(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    };
    let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    let parts = [
        ("detail", db.detail()),
        ("hint", db.hint()),
        ("table", db.table()),
        ("column", db.column()),
        ("constraint", db.constraint()),
        ("at", db.where_()),
    ];
    for (what, part) in parts {
        if let Some(line) = part.and_then(|part| part.lines().next()) {
            let _ = write!(text, "; {what}: {line}");
        }
    }
    text
}

/// The task's error for one of Postgres that is not about rows.
pub(crate) fn task_error(doing: &str, error: &tokio_postgres::Error) -> TaskError {
    let text = format!("{doing}: {}", message(error));
    match class_of(error) {
        Class::Gone | Class::Passing => TaskError::retry(PAUSE, text),
        // 42P10: no unique index for ON CONFLICT.
        _ if error.code().is_some_and(|code| code.code() == "42P10") => TaskError::fatal(format!(
            "{text}; insert.mode=upsert needs a primary key or unique index on exactly the columns of pk.fields"
        )),
        Class::Data | Class::Schema | Class::Fatal => TaskError::fatal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fall_into_the_class_that_says_what_to_do() {
        for (codes, expected) in [
            ("08006 57P01 57P03 25006 25P03", Class::Gone),
            ("40001 40P01 53100 53300 55P03 57014", Class::Passing),
            (
                "22001 22003 22P02 23502 23505 23514 21000 P0001 54000",
                Class::Data,
            ),
            ("42P01 42703 42804 42P10 3F000 0A000", Class::Schema),
            ("28P01 3D000 42501 XX000 54011", Class::Fatal),
        ] {
            for code in codes.split(' ') {
                assert_eq!(class(Some(code)), expected, "{code}");
            }
        }
        assert_eq!(class(None), Class::Gone);
    }
}
