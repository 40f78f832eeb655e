//! One connection to Postgres, and what its errors mean. The driver of this crate: sockets, tasks and time are touched here only.
//!
//! Owns the connection's task. `sink.rs` opens one per task and drops it whenever its state is in doubt: Postgres rolls back then.

use std::time::Duration;

use flumen_connect::error::TaskError;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::options::{Options, parse_url};

/// Postgres keeps 63 bytes of a name.
const APPLICATION_NAME_BYTES: usize = 63;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// The client half.
    pub(crate) client: Client,
    /// Its process at the server.
    pub(crate) pid: i32,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Connects, with the time-outs that keep a stopped worker from holding locks for ever.
    ///
    /// # Errors
    /// [`TaskError::Retry`] when nobody answers or the server is starting; [`TaskError::Fatal`] when it refuses us.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the driver file of the crate"
    )]
    pub(crate) async fn connect(options: &Options, name: &str) -> Result<Session, TaskError> {
        let mut config = parse_url(&options.url).map_err(TaskError::fatal)?;
        if let Some(user) = &options.user {
            let _ = config.user(user);
        }
        if let Some(password) = &options.password {
            let _ = config.password(password);
        }
        if config.get_ssl_mode() == tokio_postgres::config::SslMode::Require {
            return Err(TaskError::fatal(
                "connection.url asks for sslmode=require; this release speaks to Postgres without TLS only",
            ));
        }
        let _ = config
            .application_name(application_name(name))
            .connect_timeout(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(10));
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(|e| task_error("connecting to Postgres", &e))?;
        let connection = tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("the connection to Postgres ended: {e}");
            }
        });
        let mut session = Session {
            client,
            pid: 0,
            connection,
        };
        let settings = format!(
            "SET lock_timeout={}; SET idle_in_transaction_session_timeout={}; SET tcp_user_timeout=10000; SET client_min_messages=warning; SET default_transaction_isolation='read committed'",
            options.lock_timeout_ms, options.idle_timeout_ms
        );
        session
            .client
            .batch_execute(&settings)
            .await
            .map_err(|e| task_error("setting up the session", &e))?;
        let row = session
            .client
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .map_err(|e| task_error("setting up the session", &e))?;
        session.pid = row.get(0);
        Ok(session)
    }
}

/// Every connection of this connector bears it: by this a claim knows whom it may end.
pub(crate) fn application_name(name: &str) -> String {
    let mut full = format!("flumen-connect {name}");
    while full.len() > APPLICATION_NAME_BYTES {
        let _ = full.pop();
    }
    full
}

/// Waits for time to pass.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// What an error of Postgres asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The same may succeed later: connection, resources, locks, serialisation, shutdown.
    Passing,
    /// The rows are wrong: a value, a constraint.
    Data,
    /// Anything else: a missing table or right, a fault of ours.
    Other,
}

/// By SQLSTATE class; no SQLSTATE is a broken connection.
pub(crate) fn class(error: &tokio_postgres::Error) -> Class {
    let Some(code) = error.code() else {
        return Class::Passing;
    };
    match code.code().get(..2) {
        Some("08" | "40" | "53" | "57" | "58") => Class::Passing,
        Some("22" | "23") => Class::Data,
        _ if *code == SqlState::LOCK_NOT_AVAILABLE
            || code.code() == "25P03"
            || code.code() == "25P02" =>
        {
            Class::Passing
        }
        _ => Class::Other,
    }
}

/// The server's own words: message, detail, hint, table and column.
pub(crate) fn message(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    };
    let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    for (what, part) in [
        ("detail", db.detail()),
        ("hint", db.hint()),
        ("table", db.table()),
        ("column", db.column()),
        ("at", db.where_()),
    ] {
        if let Some(part) = part {
            text.push_str(&format!("; {what}: {}", part.lines().next().unwrap_or("")));
        }
    }
    text
}

/// The task's error for one of Postgres that is not about rows.
pub(crate) fn task_error(doing: &str, error: &tokio_postgres::Error) -> TaskError {
    let text = format!("{doing}: {}", message(error));
    match class(error) {
        Class::Passing => TaskError::retry(Duration::from_millis(200), text),
        Class::Data | Class::Other => TaskError::fatal(text),
    }
}
