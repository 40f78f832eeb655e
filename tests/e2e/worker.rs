//! A Connect worker as a process: `flumen connect run`, killed, stopped, asked over REST.
//!
//! Owns the process and its log, no assertion about connectors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::server::{binary, free_port, signal};

/// The name under which all workers of a test write: a second one replaces the first.
pub(crate) const GROUP: &str = "pipeline";

/// A worker. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    rest: String,
    log: PathBuf,
}

impl Worker {
    /// Starts a worker on a REST port of its own, to create or update `connectors`; it runs what the group's topics say beside. `log` is appended to.
    pub(crate) fn start(broker: &str, connectors: &[PathBuf], log: &Path) -> Worker {
        let rest = format!("127.0.0.1:{}", free_port());
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log file");
        let child = Command::new(binary())
            .args(["connect", "run", "-b", broker, "--rest", &rest])
            .args(["--group", GROUP])
            .args(connectors)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        Worker {
            child,
            rest,
            log: log.to_owned(),
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("a killed child ends");
    }

    /// SIGTERM: the clean way. Returns the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("the worker ends").code()
    }

    /// SIGSTOP: it stands still wherever it is, and knows nothing of it.
    pub(crate) fn freeze(&self) {
        signal(self.child.id(), "STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        signal(self.child.id(), "CONT");
    }

    /// True once it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("a child can be asked");
        status.is_some()
    }

    /// Bytes of memory that it has in use.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the worker lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        kilobytes
            .expect("a line")
            .parse::<usize>()
            .expect("a number")
            << 10
    }

    /// What REST answers at `path`; `None` while nobody does, or it is no success.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let mut socket = TcpStream::connect(&self.rest).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then_some(())?;
        serde_json::from_str(body).ok()
    }

    /// The states of a connector's tasks, each with its trace: `RUNNING`, or `FAILED: fenced: …`.
    pub(crate) fn tasks(&self, connector: &str) -> Vec<String> {
        let status = self.get(&format!("/connectors/{connector}/status"));
        let tasks = status.and_then(|status| status["tasks"].as_array().cloned());
        let shown = |task: &Value| match task["trace"].as_str() {
            Some(trace) => format!("{}: {trace}", task["state"].as_str().unwrap_or("?")),
            None => task["state"].as_str().unwrap_or("?").to_owned(),
        };
        tasks.unwrap_or_default().iter().map(shown).collect()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the worker's log ---\n{}", self.log());
        }
    }
}
