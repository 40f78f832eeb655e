//! A Connect worker as its users run it: the binary, with one connector, killed when it is done with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::measure::{cpu_seconds, peak_memory_mb};

/// The running worker.
pub(crate) struct Worker {
    process: Child,
    log: PathBuf,
}

impl Worker {
    /// Starts `flumen connect run` with one connector; its files go to `folder`.
    pub(crate) fn start(
        flumen: &Path,
        (bootstrap, group): (&str, &str),
        folder: &Path,
        connector: &[(&str, String)],
    ) -> Result<Worker, Failure> {
        let properties = folder.join("connector.properties");
        let lines = connector
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"));
        std::fs::write(&properties, lines.collect::<String>())?;
        let log = folder.join("worker.log");
        let output = std::fs::File::create(&log)?;
        let process = Command::new(flumen)
            .args(["connect", "run", "-b", bootstrap, "--rest", "127.0.0.1:0"])
            .args(["--group", group])
            .arg(&properties)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|e| format!("{}: {e}; cargo build --release -p flumen", flumen.display()))?;
        Ok(Worker { process, log })
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        cpu_seconds(&self.process.id().to_string())
    }

    pub(crate) fn peak_memory_mb(&self) -> Result<f64, Failure> {
        peak_memory_mb(&self.process.id().to_string())
    }

    /// An error with its log if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.complaint(&format!("the worker ended with {status}"))),
        }
    }

    pub(crate) fn complaint(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("{what}; its log:\n{log}").into()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// CPU seconds of a process, of its children that live and of those that ended.
pub(crate) fn cpu_of_family(parent: &str) -> Result<f64, Failure> {
    let mut ticks = 0.0;
    for process in std::fs::read_dir("/proc")?.flatten() {
        let name = process.file_name();
        let Ok(stat) = std::fs::read_to_string(process.path().join("stat")) else {
            continue;
        };
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // proc(5): state, ppid, ... utime, stime, cutime, cstime.
        let count = match fields.get(1) {
            _ if name == parent => 4,
            Some(of) if *of == parent => 2,
            _ => continue,
        };
        for field in fields.iter().skip(11).take(count) {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / 100.0)
}
