//! A broker in the foreground: `cargo run -p flumen-broker --example serve -- log.dirs=/tmp/flumen listeners=PLAINTEXT://127.0.0.1:9092`.
//!
//! Properties are Kafka's. Prints its address and stops cleanly at ctrl-c.

use flumen_broker::config::BrokerConfig;
use flumen_broker::{Broker, Drivers};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let properties = arguments
        .iter()
        .filter_map(|argument| argument.split_once('='));
    let broker = Broker::start(BrokerConfig::from_properties(properties)?, Drivers::os()).await?;
    println!("{}", broker.addr());
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await;
    Ok(())
}
