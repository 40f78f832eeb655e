//! The demo: real flights through a broker, two connectors and a topology, in one process, checked row by row.
//!
//! `make demo` runs it; `--resume` goes on after a crash. Reading order: `topology.rs` is the idea, `pipeline.rs` what runs,
//! `recompute.rs` and `check.rs` why the result may be believed, `postgres.rs` the private database.
#![allow(
    clippy::disallowed_methods,
    reason = "a program is the driver of its libraries"
)]

mod check;
mod pipeline;
mod postgres;
mod recompute;
mod topology;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::check::{Rows, compare, flights, read_file, read_postgres, worst};
use crate::pipeline::{Pipeline, Places};
use crate::postgres::PrivatePostgres;
use crate::recompute::{Expected, recompute};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// How long nothing may move before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Departure delays per carrier and hour, from CSV to Postgres and JSON lines, exactly once.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of everything the demo writes
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
    /// Flights as CSV, plain or .gz, ordered by day
    #[arg(long, default_value = "examples/data/flights-2013-week1.csv")]
    data: PathBuf,
    /// Go on with what an earlier run left in the folder
    #[arg(long)]
    resume: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    let home = prepare_folder(arguments)?;
    let data = std::fs::canonicalize(&arguments.data)
        .map_err(|e| format!("{}: {e}", arguments.data.display()))?;
    let output = home.join("carrier-delays.jsonl");
    let expected = recompute(&data)?;

    let postgres = PrivatePostgres::start(&home, arguments.resume).await?;
    if postgres.is_none() {
        eprintln!(
            "PostgreSQL is not installed: the demo runs with the file sink alone (sudo apt-get install -y postgresql)"
        );
    }
    let database = match &postgres {
        Some(postgres) => Some(postgres.connect().await?),
        None => None,
    };
    let mut pipeline = Pipeline::start(
        &Places {
            home: &home,
            data: &data,
            output: &output,
        },
        postgres.as_ref(),
    )
    .await?;
    println!(
        "broker     {} (kcat -b {} -C -t carrier-delays)",
        pipeline.broker.bootstrap(),
        pipeline.broker.bootstrap()
    );
    if let Some(rest) = pipeline.worker.rest_address() {
        println!("connect    http://{rest}/connectors");
    }
    println!(
        "data       {} flights, {} of them flown",
        expected.lines, expected.flown
    );

    let done = wait_until_done(&mut pipeline, &output, database.as_ref(), &expected).await;
    pipeline.stop().await?;
    done?;

    let written = read_file(&output)?;
    compare("file sink", &written, &expected.rows)?;
    let stored = match &database {
        Some(database) => read_postgres(database).await?,
        None => written.clone(),
    };
    compare("Postgres sink", &stored, &expected.rows)?;
    println!(
        "\nThe ten worst carrier-hours{}",
        if database.is_some() {
            ", read back from Postgres:"
        } else {
            ":"
        }
    );
    println!("{}", worst(&stored));
    println!(
        "all {} carrier-hours agree with a plain recomputation, in both sinks",
        expected.rows.len()
    );
    println!("outputs    {}", home.display());
    println!("took       {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The folder, emptied unless the run is resumed. Only a folder that a demo made is emptied.
fn prepare_folder(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let (dir, marker) = (&arguments.dir, arguments.dir.join(".flumen-demo"));
    let named = |e: std::io::Error| format!("{}: {e}", dir.display());
    if dir.exists() && !marker.exists() && std::fs::read_dir(dir).map_err(named)?.next().is_some() {
        return Err(format!(
            "{} is not a demo's folder: name another with DIR=",
            dir.display()
        )
        .into());
    }
    if arguments.resume && !marker.exists() {
        return Err(format!("there is nothing to resume in {}", dir.display()).into());
    }
    if !arguments.resume && dir.exists() {
        std::fs::remove_dir_all(dir).map_err(named)?;
    }
    std::fs::create_dir_all(dir).map_err(named)?;
    std::fs::write(&marker, b"").map_err(named)?;
    Ok(std::fs::canonicalize(dir).map_err(named)?)
}

/// Waits until both sinks hold every flight; fails when something stopped or nothing moves any more.
async fn wait_until_done(
    pipeline: &mut Pipeline,
    output: &Path,
    database: Option<&tokio_postgres::Client>,
    expected: &Expected,
) -> Result<(), Failure> {
    let bar = ProgressBar::new(expected.flown.unsigned_abs());
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} flights counted in every sink, {elapsed}",
    )?);
    let (mut best, mut moved) = (0, Instant::now());
    loop {
        let written = read_file(output)?;
        let stored = match database {
            Some(database) => read_postgres(database).await?,
            None => written.clone(),
        };
        if is_done(&written, expected) && is_done(&stored, expected) {
            bar.finish();
            return Ok(());
        }
        let counted = flights(&written).min(flights(&stored));
        bar.set_position(counted.unsigned_abs());
        if counted != best {
            (best, moved) = (counted, Instant::now());
        }
        if let Some(reason) = pipeline.failure().await {
            return Err(reason.into());
        }
        if moved.elapsed() > PATIENCE {
            return Err(format!(
                "nothing moved for {} s: {counted} of {} flights counted",
                PATIENCE.as_secs(),
                expected.flown
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Counts only ever grow to their final value: when the sums agree, every row has arrived.
fn is_done(rows: &Rows, expected: &Expected) -> bool {
    rows.len() == expected.rows.len() && flights(rows) == expected.flown
}
