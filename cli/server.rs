//! `flumen server run`: one broker in the foreground.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use flumen::broker::config::BrokerConfig;
use flumen::broker::{Broker, Drivers};

use crate::error::{CliError, Exit};
use crate::topic::key_value;

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Run a broker until it is told to stop (SIGINT or SIGTERM)
    Run(Run),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Folder of the data; made if it is not there
    #[arg(long, env = "FLUMEN_DIR")]
    dir: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free one
    #[arg(long)]
    listen: Option<String>,
    /// Address that clients are told to connect to
    #[arg(long)]
    advertise: Option<String>,
    /// Where `/metrics` and `/health` are served, as 127.0.0.1:9644; nowhere if not given
    #[arg(long)]
    http: Option<String>,
    /// A server.properties of Kafka's; flags win over it
    #[arg(long)]
    properties: Option<PathBuf>,
    /// A setting as key=value, with Kafka's names; may be repeated
    #[arg(long = "set", value_parser = key_value)]
    settings: Vec<(String, String)>,
}

impl Server {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let Server::Run(run) = self;
        let broker = start(run.config()?).await?;
        stop_signal().await?;
        broker.shutdown().await;
        Ok(())
    }
}

impl Run {
    fn config(self) -> Result<BrokerConfig, CliError> {
        let mut properties = match &self.properties {
            Some(path) => read_properties(path)?,
            None => Vec::new(),
        };
        let mut set = |name: &str, value: Option<String>| {
            properties.extend(value.map(|value| (name.to_owned(), value)))
        };
        set(
            "log.dirs",
            self.dir.map(|dir| dir.to_string_lossy().into_owned()),
        );
        set(
            "listeners",
            self.listen.map(|at| format!("PLAINTEXT://{at}")),
        );
        set(
            "advertised.listeners",
            self.advertise.map(|at| format!("PLAINTEXT://{at}")),
        );
        set("flumen.http.listener", self.http);
        properties.extend(self.settings);
        config(properties)
    }
}

/// Settings by Kafka's names; the last of a name wins.
pub(crate) fn config(properties: Vec<(String, String)>) -> Result<BrokerConfig, CliError> {
    BrokerConfig::from_properties(properties).map_err(|e| {
        CliError::new(Exit::Usage, e.to_string())
            .next("docs/config.md lists every setting with its type and default")
    })
}

/// Starts a broker and says, in one line on stdout, that it answers.
pub(crate) async fn start(config: BrokerConfig) -> Result<Broker, CliError> {
    let folder = config.data_dir();
    let broker = Broker::start(config, Drivers::os())
        .await
        .map_err(|e| CliError::new(Exit::Failed, format!("the broker does not start: {e}")))?;
    println!(
        "broker ready on {}, data in {}",
        broker.addr(),
        folder.display()
    );
    if let Some(http) = broker.http_addr() {
        eprintln!("metrics and health on http://{http}/metrics and /health/ready");
    }
    Ok(broker)
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn stop_signal() -> Result<(), CliError> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    Ok(())
}

/// A `server.properties`.
pub(crate) fn read_properties(path: &Path) -> Result<Vec<(String, String)>, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| CliError::new(Exit::Usage, format!("{}: {e}", path.display())))?;
    flumen::broker::config::parse_properties(&text).map_err(|line| {
        CliError::new(
            Exit::Usage,
            format!("{}:{line}: expected key=value", path.display()),
        )
    })
}
