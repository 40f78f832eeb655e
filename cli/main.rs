//! The binary `flumen`: parses the command line, calls one crate, prints.
//!
//! One file per subcommand. It owns the runtime, the log output and the exit code; it decides nothing about Kafka.
#![allow(
    clippy::disallowed_methods,
    reason = "a program is the driver of its libraries"
)]

mod bench;
mod broker;
mod connect;
mod consume;
mod dev;
mod error;
mod group;
mod log;
mod output;
mod produce;
mod reset;
mod server;
mod streams;
mod topic;
mod transaction;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use flumen::client::{Client, ClientConfig};

use crate::error::CliError;
use crate::output::Output;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A stream-processing framework built on its own log: Kafka-compatible broker, Streams, Connect.
///
/// Examples:
///   flumen dev                                  a broker and a Connect worker on this machine
///   echo hello | flumen produce greetings       one record a line
///   flumen consume greetings --from-beginning   what is there, and what comes
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// Brokers to ask first, as host:port,host:port
    #[arg(
        long,
        short = 'b',
        global = true,
        env = "FLUMEN_BOOTSTRAP",
        default_value = "127.0.0.1:9092"
    )]
    bootstrap: String,
    /// How results are printed
    #[arg(long, short = 'o', global = true, value_enum, default_value = "table")]
    output: Output,
    /// Log more (twice: debug)
    #[arg(long, short = 'v', global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Common {
    /// A client of the cluster.
    async fn client(&self) -> Result<Client, CliError> {
        let mut config = ClientConfig::new(&self.bootstrap);
        "flumen-cli".clone_into(&mut config.client_id);
        Ok(Client::connect(config).await?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Broker and Connect worker in one process, for a machine of your own
    Dev(dev::Dev),
    /// Run a broker
    Server {
        #[command(subcommand)]
        command: server::Server,
    },
    /// List brokers, and show and change their configuration
    Broker {
        #[command(subcommand)]
        command: broker::Broker,
    },
    /// Create, list, describe, change and delete topics
    Topic {
        #[command(subcommand)]
        command: topic::Topic,
    },
    /// Write lines from standard input to a topic
    Produce(produce::Produce),
    /// Read a topic to standard output
    Consume(consume::Consume),
    /// List, describe, reset and delete consumer groups
    Group {
        #[command(subcommand)]
        command: group::Group,
    },
    /// Look at transactions, and end those that hang
    Transaction {
        #[command(subcommand)]
        command: transaction::Transaction,
    },
    /// Look at what lies on the brokers' disks
    Log {
        #[command(subcommand)]
        command: log::Log,
    },
    /// Run a Connect worker
    Connect {
        #[command(subcommand)]
        command: connect::Connect,
    },
    /// Look at running Streams applications
    Streams {
        #[command(subcommand)]
        command: streams::Streams,
    },
    /// Measure a cluster with this client
    Bench {
        #[command(subcommand)]
        command: bench::Bench,
    },
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
}

async fn run(arguments: Arguments) -> Result<(), CliError> {
    let common = &arguments.common;
    match arguments.command {
        Command::Dev(command) => command.run().await,
        Command::Server { command } => command.run().await,
        Command::Broker { command } => command.run(common).await,
        Command::Topic { command } => command.run(common).await,
        Command::Produce(command) => command.run(common).await,
        Command::Consume(command) => command.run(common).await,
        Command::Group { command } => command.run(common).await,
        Command::Transaction { command } => command.run(common).await,
        Command::Log { command } => command.run(common).await,
        Command::Connect { command } => command.run(common).await,
        Command::Streams { command } => command.run(common).await,
        Command::Bench { command } => command.run(common).await,
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "flumen",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}

/// Logs go to stderr; `RUST_LOG` overrides the flags.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("warn,flumen={level}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.common.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: no runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit())
        }
    }
}
