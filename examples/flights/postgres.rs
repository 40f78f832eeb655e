//! A private PostgreSQL for the demo: its own cluster on a free port, run by a user that is not root, gone when the demo is gone.
//!
//! Called by `main.rs`. It never touches a server that it did not start.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server and how to reach it.
#[derive(Debug)]
pub(crate) struct PrivatePostgres {
    server: Child,
    /// `host=127.0.0.1 port=… user=postgres dbname=postgres`.
    pub(crate) connection: String,
    /// The port on the loopback address.
    pub(crate) port: u16,
}

impl PrivatePostgres {
    /// Starts a server on the cluster of an earlier run, or on a new one.
    ///
    /// `Ok(None)`: there is no PostgreSQL on this machine.
    ///
    /// # Errors
    /// A message that says which step failed and where its log lies.
    pub(crate) async fn start(
        demo: &Path,
        resume: bool,
    ) -> Result<Option<PrivatePostgres>, String> {
        let Some(binaries) = find_binaries() else {
            return Ok(None);
        };
        let home = cluster_folder(demo);
        if !resume && home.exists() {
            PrivatePostgres::stop_leftover(demo);
            std::fs::remove_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
        }
        let data = home.join("data");
        if data.exists() {
            PrivatePostgres::stop_leftover(demo);
        } else {
            create_cluster(&binaries, &home, &data)?;
        }
        let port = free_port()?;
        let log = std::fs::File::create(home.join("log")).map_err(|e| e.to_string())?;
        let server = as_server_user(&binaries.join("postgres"), |c| {
            c.arg("-D")
                .arg(&data)
                .args(["-h", "127.0.0.1", "-p", &port.to_string()])
                .args(["-c", "unix_socket_directories="])
        })
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|e| e.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|e| format!("starting PostgreSQL: {e}"))?;
        let connection = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let mut started = PrivatePostgres {
            server,
            connection,
            port,
        };
        started.wait_until_ready(&home).await?;
        Ok(Some(started))
    }

    /// Killed half-way, the demo's server got its own signal; this waits until it has let go, or finds nothing to stop.
    ///
    /// To be called before its files are taken away: it might still be writing some.
    pub(crate) fn stop_leftover(demo: &Path) {
        let data = cluster_folder(demo).join("data");
        let (Some(binaries), Ok(data)) = (find_binaries(), std::fs::canonicalize(data)) else {
            return;
        };
        let mut stop = as_server_user(&binaries.join("pg_ctl"), |command| {
            command.args(["stop", "-m", "immediate", "-D"]).arg(data)
        });
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }

    async fn wait_until_ready(&mut self, home: &Path) -> Result<(), String> {
        for _ in 0..300 {
            if let Ok((_, connection)) =
                tokio_postgres::connect(&self.connection, tokio_postgres::NoTls).await
            {
                drop(connection);
                return Ok(());
            }
            if let Ok(Some(status)) = self.server.try_wait() {
                let log = home.join("log");
                return Err(format!(
                    "PostgreSQL ended with {status}; see {}",
                    log.display()
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("PostgreSQL did not answer within 30 seconds".to_owned())
    }

    /// A connection of its own, driven in the background.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub(crate) async fn connect(&self) -> Result<tokio_postgres::Client, String> {
        let (client, connection) = tokio_postgres::connect(&self.connection, tokio_postgres::NoTls)
            .await
            .map_err(|e| format!("PostgreSQL on port {}: {e}", self.port))?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown; setpriv hands it on because it became the server by exec.
        // A bare Debian has no program `kill`; every shell has it built in.
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -INT {}", self.server.id())])
            .status();
        let _ = self.server.wait();
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

/// PostgreSQL refuses root, and its user may not enter root's folders: as root the cluster lies in the temporary folder, under a name made from the demo's.
fn cluster_folder(demo: &Path) -> PathBuf {
    if !is_root() {
        return demo.join("postgres");
    }
    let full = std::fs::canonicalize(demo).unwrap_or_else(|_| demo.to_path_buf());
    let name: String = full
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    std::env::temp_dir().join(format!("flumen-postgres{name}"))
}

/// Makes a cluster. A demo that is killed meanwhile leaves `data.new`, which the next one makes anew.
fn create_cluster(binaries: &Path, home: &Path, data: &Path) -> Result<(), String> {
    let named = |e: std::io::Error| format!("{}: {e}", home.display());
    let unfinished = home.join("data.new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(named)?;
    }
    std::fs::create_dir_all(home).map_err(named)?;
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(home))?;
    }
    run(&mut as_server_user(&binaries.join("initdb"), |command| {
        command
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&unfinished)
    }))?;
    std::fs::rename(&unfinished, data).map_err(named)
}

/// The program as a user that is not root, told to stop (SIGINT) when this process dies, however it dies.
fn as_server_user(program: &Path, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .args(["--pdeathsig", "INT"])
        .arg(program)
        .current_dir(std::env::temp_dir())
        .env("HOME", std::env::temp_dir());
    arguments(&mut command);
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|e| e.to_string())?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}
