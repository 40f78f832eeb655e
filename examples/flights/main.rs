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

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::check::{Growing, Progress, compare, count_postgres, read_file, read_postgres, worst};
use crate::pipeline::{Pipeline, Places};
use crate::postgres::PrivatePostgres;
use crate::recompute::{Expected, recompute};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// How long nothing may move before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is read where nothing else is named.
const WEEK: &str = "examples/data/flights-2013-week1.csv";

/// Departure delays per carrier and hour, from CSV to Postgres and JSON lines, exactly once.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of everything the demo writes
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
    /// Flights as CSV, plain or .gz, ordered by day; the first week of 2013 if not given, or what the resumed run read
    #[arg(long)]
    data: Option<PathBuf>,
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
    let Folder {
        home,
        data,
        resumed,
    } = prepare_folder(arguments)?;
    let output = home.join("carrier-delays.jsonl");
    let expected = recompute(&data)?;

    let postgres = PrivatePostgres::start(&home, resumed).await?;
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

    check_sinks(&output, database.as_ref(), &expected).await?;
    println!("outputs    {}", home.display());
    println!("took       {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Holds what both sinks have against the recomputation, row by row, and shows the worst of it.
async fn check_sinks(
    output: &Path,
    database: Option<&tokio_postgres::Client>,
    expected: &Expected,
) -> Result<(), Failure> {
    let written = read_file(output)?;
    compare("file sink", &written, &expected.rows)?;
    let stored = match database {
        Some(database) => read_postgres(database).await?,
        None => written.clone(),
    };
    if database.is_some() {
        compare("Postgres sink", &stored, &expected.rows)?;
    }
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
        "all {} carrier-hours agree with a plain recomputation, {}",
        expected.rows.len(),
        if database.is_some() {
            "in both sinks"
        } else {
            "in the file sink"
        }
    );
    Ok(())
}

/// Where a run happens and what it reads.
#[derive(Debug)]
struct Folder {
    home: PathBuf,
    data: PathBuf,
    /// It goes on with an earlier run.
    resumed: bool,
}

/// The folder, emptied unless the run is resumed. Only a folder that a demo made is emptied.
///
/// The marker names the data of the run that the folder holds: whoever resumes it reads the same. It is empty while the folder is
/// emptied, so that a kill in between leaves nothing that looks like a run.
fn prepare_folder(arguments: &Arguments) -> Result<Folder, Failure> {
    let (dir, marker) = (&arguments.dir, arguments.dir.join(".flumen-demo"));
    let named = |e: std::io::Error| format!("{}: {e}", dir.display());
    let known = match std::fs::read(&marker) {
        Ok(data) => Some(PathBuf::from(OsString::from_vec(data))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(named(e).into()),
    };
    if known.is_none() && dir.exists() && std::fs::read_dir(dir).map_err(named)?.next().is_some() {
        return Err(format!(
            "{} is not a demo's folder: name another with DIR=",
            dir.display()
        )
        .into());
    }
    let earlier = known.filter(|data| arguments.resume && !data.as_os_str().is_empty());
    let data = arguments.data.as_ref().or(earlier.as_ref());
    let data = data.map_or(Path::new(WEEK), PathBuf::as_path);
    let data = std::fs::canonicalize(data).map_err(|e| format!("{}: {e}", data.display()))?;
    let resumed = earlier.is_some();
    match earlier {
        Some(earlier) if earlier != data => {
            return Err(format!(
                "{} holds a run over {}: resume it without DATA=, or begin anew without RESUME=1",
                dir.display(),
                earlier.display()
            )
            .into());
        }
        Some(_) => {}
        None => {
            if arguments.resume {
                eprintln!(
                    "there is nothing to resume in {}: from the beginning",
                    dir.display()
                );
            }
            begin_folder(dir, &marker, &data).map_err(named)?;
        }
    }
    Ok(Folder {
        home: std::fs::canonicalize(dir).map_err(named)?,
        data,
        resumed,
    })
}

/// Empties the folder, or makes it, and says in the marker whose it is now.
fn begin_folder(dir: &Path, marker: &Path, data: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(marker, b"")?;
    PrivatePostgres::stop_leftover(dir);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path() == marker {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    let named = dir.join(".flumen-demo.new");
    std::fs::write(&named, data.as_os_str().as_bytes())?;
    std::fs::rename(&named, marker)
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
    let all = Progress {
        rows: expected.rows.len(),
        flights: expected.flown,
    };
    let mut file = Growing::default();
    let (mut best, mut moved) = (0, Instant::now());
    loop {
        let written = file.read_on(output)?;
        let stored = match database {
            Some(database) => count_postgres(database).await?,
            None => written,
        };
        if written == all && stored == all {
            bar.finish();
            return Ok(());
        }
        let counted = written.flights.min(stored.flights);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(dir: &Path, data: Option<&Path>, resume: bool) -> Result<Folder, String> {
        let arguments = Arguments {
            dir: dir.to_path_buf(),
            data: data.map(Path::to_path_buf),
            resume,
        };
        prepare_folder(&arguments).map_err(|e| e.to_string())
    }

    #[test]
    fn a_resumed_run_reads_what_the_earlier_one_read() {
        let home = tempfile::tempdir().unwrap();
        let (dir, year) = (home.path().join("demo"), home.path().join("year.csv"));
        let week = home.path().join("week.csv");
        std::fs::write(&year, b"").unwrap();
        std::fs::write(&week, b"").unwrap();
        let first = prepare(&dir, Some(&year), false).unwrap();
        assert!(!first.resumed);
        std::fs::write(dir.join("state"), b"x").unwrap();
        for data in [None, Some(year.as_path())] {
            let again = prepare(&dir, data, true).unwrap();
            assert_eq!((again.resumed, &again.data), (true, &first.data));
        }
        let other = prepare(&dir, Some(&week), true).unwrap_err();
        assert!(other.contains("year.csv"), "{other}");
        assert!(dir.join("state").exists());
        let anew = prepare(&dir, Some(&week), false).unwrap();
        assert!(!anew.resumed && !dir.join("state").exists());
    }

    #[test]
    fn killed_before_it_began_it_begins_when_it_is_resumed() {
        let home = tempfile::tempdir().unwrap();
        let (dir, data) = (home.path().join("demo"), home.path().join("week.csv"));
        std::fs::write(&data, b"").unwrap();
        assert!(!prepare(&dir, Some(&data), true).unwrap().resumed);
        // Killed while the folder was emptied.
        std::fs::write(dir.join(".flumen-demo"), b"").unwrap();
        std::fs::write(dir.join("half"), b"x").unwrap();
        assert!(!prepare(&dir, Some(&data), true).unwrap().resumed);
        assert!(!dir.join("half").exists());
        // What no demo made stays.
        let foreign = home.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("precious"), b"x").unwrap();
        prepare(&foreign, Some(&data), false).unwrap_err();
        prepare(&foreign, Some(&data), true).unwrap_err();
        assert!(foreign.join("precious").exists());
    }
}
