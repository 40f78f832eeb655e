//! A broker inside a test or a program: real files, a real TCP port, gone when it is stopped.
//!
//! For end-to-end tests in your own CI and for the examples. It owns the broker and, if it made one, the temporary folder; it is no mock:
//! the same code as `flumen server run` answers.

use std::path::Path;

use flumen_broker::config::{BrokerConfig, ConfigError};
use flumen_broker::{Broker, Drivers, StartError};
use flumen_client::{Client, ClientConfig, ClientError};

/// A running broker on a free port of the loopback address. Groups form at once (`group.initial.rebalance.delay.ms=0`).
///
/// ```
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let broker = flumen::embedded::EmbeddedBroker::start().await?;
/// let client = broker.client().await?;
/// assert!(client.cluster_id().is_some());
/// broker.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EmbeddedBroker {
    broker: Broker,
    /// Removed when this is dropped.
    _folder: Option<tempfile::TempDir>,
}

/// Why an embedded broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The folder cannot be made: check the path and its rights.
    #[error("no folder for the data: {0}")]
    Folder(#[from] std::io::Error),
    /// A setting is unknown or out of its bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker says why.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl EmbeddedBroker {
    /// Starts on a temporary folder that goes with it.
    ///
    /// # Errors
    /// [`EmbeddedError`] says which step failed.
    pub async fn start() -> Result<EmbeddedBroker, EmbeddedError> {
        let folder = tempfile::tempdir()?;
        let broker = start(folder.path(), &[]).await?;
        Ok(EmbeddedBroker {
            broker,
            _folder: Some(folder),
        })
    }

    /// Starts on a folder that stays, with settings by Kafka's names. What an earlier broker kept there is served again.
    ///
    /// # Errors
    /// [`EmbeddedError`] says which step failed.
    pub async fn start_in(
        folder: &Path,
        settings: &[(&str, &str)],
    ) -> Result<EmbeddedBroker, EmbeddedError> {
        let broker = start(folder, settings).await?;
        Ok(EmbeddedBroker {
            broker,
            _folder: None,
        })
    }

    /// `127.0.0.1:port`, for any Kafka client.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.broker.addr().to_string()
    }

    /// A client of this broker.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn client(&self) -> Result<Client, ClientError> {
        Client::connect(ClientConfig::new(&self.bootstrap())).await
    }

    /// Stops cleanly: everything flushed, the next start scans nothing.
    pub async fn stop(self) {
        self.broker.shutdown().await;
    }
}

async fn start(folder: &Path, settings: &[(&str, &str)]) -> Result<Broker, EmbeddedError> {
    let folder = folder.to_string_lossy();
    let mut properties = vec![
        ("log.dirs", folder.as_ref()),
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("group.initial.rebalance.delay.ms", "0"),
    ];
    properties.extend(settings);
    Ok(Broker::start(BrokerConfig::from_properties(properties)?, Drivers::os()).await?)
}
