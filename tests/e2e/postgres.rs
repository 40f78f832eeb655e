//! A private PostgreSQL: its own cluster on a port of its own, started, ended as by a power cut, started again.
//!
//! Owns the server process and its folder, which go with it. It never touches a server that it did not start. PostgreSQL refuses root, so as root
//! it runs as the user `postgres`, in a folder of the system's temporary one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::server::{PATIENCE, free_port, signal};

/// A cluster and its server.
#[derive(Debug)]
pub(crate) struct Postgres {
    binaries: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it; `None`, and a line that says so, where there is no PostgreSQL.
    pub(crate) fn start() -> Option<Postgres> {
        let Some(binaries) = find_binaries() else {
            eprintln!("skipped: PostgreSQL is not installed (tools/setup test installs it)");
            return None;
        };
        let folder = tempfile::Builder::new()
            .prefix("flumen-postgres-")
            .tempdir()
            .expect("a temporary folder");
        if is_root() {
            done(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let mut initdb = as_server_user(&binaries.join("initdb"));
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
        initdb
            .args(["--no-sync", "-D"])
            .arg(folder.path().join("data"));
        done(&mut initdb);
        let mut postgres = Postgres {
            binaries,
            folder,
            port: free_port(),
            server: None,
        };
        postgres.resume();
        Some(postgres)
    }

    /// Where to connect, as the sink wants it.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server on what is in the folder. It answers a moment later.
    pub(crate) fn resume(&mut self) {
        assert!(self.server.is_none(), "still running");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("the log file");
        let mut server = as_server_user(&self.binaries.join("postgres"));
        server.arg("-D").arg(self.folder.path().join("data"));
        server.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        // The machine does not lose power here: what reached the kernel stays.
        server.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        server
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        self.server = Some(server.spawn().expect("PostgreSQL starts"));
    }

    /// `pg_ctl stop -m immediate`: no checkpoint, no word to clients; the next start replays the log.
    pub(crate) fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id(), "QUIT");
            server.wait().expect("PostgreSQL ends");
        }
    }

    /// A connection, as soon as the server answers.
    pub(crate) async fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match tokio_postgres::connect(&self.url(), NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "PostgreSQL: {error}\n{}",
                    self.log()
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Debian keeps the servers off the PATH; elsewhere `initdb` is on it.
fn find_binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    versions.sort();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    };
    versions.pop().or_else(on_path)
}

fn is_root() -> bool {
    let uid = Command::new("id").arg("-u").output();
    uid.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// The program as a user that is not root, told to stop when this test dies, however it dies.
fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .args(["--pdeathsig", "INT"])
        .arg(program)
        .current_dir(std::env::temp_dir())
        .env("HOME", std::env::temp_dir());
    command
}

fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
