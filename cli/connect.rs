//! `flumen connect run`: a Connect worker with the file and Postgres plugins, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use flumen::connect::config::Props;
use flumen::connect::registry::Registry;
use flumen::connect::worker::{Worker, WorkerConfig};

use crate::Common;
use crate::error::{CliError, Exit};
use crate::server::{read_properties, stop_signal};

#[derive(Debug, Subcommand)]
pub(crate) enum Connect {
    /// Run a worker until it is told to stop (SIGINT or SIGTERM)
    Run(Run),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Connectors to create or update at the start, one .properties file each
    connectors: Vec<PathBuf>,
    /// Address of the REST API
    #[arg(long, default_value = "127.0.0.1:8083")]
    rest: SocketAddr,
    /// Name of the worker's cluster: its internal topics and transactional ids begin with it
    #[arg(long, default_value = "connect")]
    group: String,
}

impl Connect {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let Connect::Run(run) = self;
        let worker = start(&common.bootstrap, Some(run.rest), &run.group).await?;
        for path in &run.connectors {
            let mut config: Props = read_properties(path)?.into_iter().collect();
            let name = config.remove("name").ok_or_else(|| {
                CliError::new(
                    Exit::Usage,
                    format!("{}: no name= for the connector", path.display()),
                )
            })?;
            put(&worker, &name, config).await?;
        }
        stop_signal().await?;
        worker.shutdown().await;
        Ok(())
    }
}

/// Every plugin of this binary.
pub(crate) fn registry() -> Registry {
    flumen::connect_postgres::register(flumen::connect_file::register(Registry::new()))
}

/// Starts a worker and says, in one line on stdout, where its REST API is.
pub(crate) async fn start(
    bootstrap: &str,
    rest: Option<SocketAddr>,
    group: &str,
) -> Result<Worker, CliError> {
    let mut config = WorkerConfig::new(bootstrap);
    config.rest = rest;
    group.clone_into(&mut config.group_id);
    let worker = Worker::start(config, registry())
        .await
        .map_err(|e| CliError::new(Exit::Failed, format!("the worker does not start: {e}")))?;
    if let Some(rest) = worker.rest_address() {
        println!("connect worker ready on http://{rest}");
    }
    Ok(worker)
}

async fn put(worker: &Worker, name: &str, config: Props) -> Result<(), CliError> {
    worker
        .put_config(name, config)
        .await
        .map(|_| ())
        .map_err(|e| CliError::new(Exit::Failed, format!("connector {name}: {e}")))
}
