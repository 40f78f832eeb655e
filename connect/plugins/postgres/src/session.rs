//! One connection to Postgres. The driver of this crate: sockets, tasks and time are touched here
//! only.
//!
//! Owns the connection's task. `sink.rs` opens one per task and drops it whenever its state is in
//! doubt: Postgres rolls back then.

use std::time::Duration;

use flumen_connect::error::TaskError;
use tokio_postgres::{Client, NoTls};

use crate::failure::task_error;
use crate::options::Options;

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
    /// [`TaskError::Retry`] when nobody answers or the server is starting; [`TaskError::Fatal`]
    /// when it refuses us.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the driver file of the crate"
    )]
    pub(crate) async fn connect(options: &Options, name: &str) -> Result<Session, TaskError> {
        let mut config = options.connection.clone();
        let _ = config.application_name(application_name(name));
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|e| {
            let place = format!("connecting to Postgres at {}", place(&config));
            task_error(&place, &e)
        })?;
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
            "SET lock_timeout={}; SET idle_in_transaction_session_timeout={}; SET tcp_user_timeout=10000; \
             SET client_min_messages=warning; SET default_transaction_isolation='read committed'",
            options.lock_timeout_ms, options.idle_timeout_ms
        );
        let doing = |e: &tokio_postgres::Error| task_error("setting up the session", e);
        let set = session.client.batch_execute(&settings).await;
        set.map_err(|e| doing(&e))?;
        let row = session
            .client
            .query_one("SELECT pg_backend_pid()", &[])
            .await;
        session.pid = row.map_err(|e| doing(&e))?.get(0);
        Ok(session)
    }
}

/// Host and port for people.
fn place(config: &tokio_postgres::Config) -> String {
    let host = match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
        None => config
            .get_hostaddrs()
            .first()
            .map_or_else(String::new, ToString::to_string),
    };
    format!("{host}:{}", config.get_ports().first().unwrap_or(&5432))
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
