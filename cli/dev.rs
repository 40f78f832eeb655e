//! `flumen dev`: broker and Connect worker in one process, on one folder, for a machine of your own.

use std::path::PathBuf;

use clap::Args;

use crate::connect;
use crate::error::CliError;
use crate::server::{config, start, stop_signal};
use crate::topic::key_value;

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Folder of the data; made if it is not there
    #[arg(long, default_value = "flumen-data", env = "FLUMEN_DIR")]
    dir: PathBuf,
    /// Port of the broker on the loopback address; 0 picks a free one
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// Port of Connect's REST API on the loopback address; 0 picks a free one
    #[arg(long, default_value_t = 8083)]
    connect_port: u16,
    /// Port of metrics and health on the loopback address; 0 picks a free one
    #[arg(long, default_value_t = 9644)]
    http_port: u16,
    /// A setting of the broker as key=value, with Kafka's names; may be repeated
    #[arg(long = "set", value_parser = key_value)]
    settings: Vec<(String, String)>,
}

impl Dev {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let mut properties = vec![
            (
                "log.dirs".to_owned(),
                self.dir.to_string_lossy().into_owned(),
            ),
            (
                "listeners".to_owned(),
                format!("PLAINTEXT://127.0.0.1:{}", self.port),
            ),
            (
                "flumen.http.listener".to_owned(),
                format!("127.0.0.1:{}", self.http_port),
            ),
            // One developer, one member: nobody else is coming.
            (
                "group.initial.rebalance.delay.ms".to_owned(),
                "0".to_owned(),
            ),
        ];
        properties.extend(self.settings);
        let broker = start(config(properties)?).await?;
        let rest = ([127, 0, 0, 1], self.connect_port).into();
        let worker = connect::start(&broker.addr().to_string(), Some(rest), "connect").await?;
        eprintln!(
            "try: echo hello | flumen produce greetings -b {}",
            broker.addr()
        );
        stop_signal().await?;
        worker.shutdown().await;
        broker.shutdown().await;
        Ok(())
    }
}
