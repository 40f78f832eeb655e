//! A private PostgreSQL: a directory, a socket in it, a process that dies with the test.
//!
//! The cluster is made once per machine and version (`initdb`, 0.8 s) and copied for each test.
//! Postgres refuses to run as root: then it runs as `postgres`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    dir: TempDir,
    bin: PathBuf,
    child: Mutex<Option<Child>>,
}

/// Where `postgres` and `initdb` are: Debian keeps them off the PATH.
fn bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut dirs: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    dirs.sort();
    dirs.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    dirs.extend(std::env::split_paths(&path));
    dirs.into_iter()
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
}

fn is_root() -> bool {
    let own = fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
    own.is_ok_and(|uid| uid == 0)
}

/// A command that runs as somebody Postgres accepts, and gets SIGQUIT (to Postgres: stop at once)
/// when the thread that started it ends.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    let _ = command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        let _ = command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    let _ = command
        .arg("--")
        .arg(program)
        .env("HOME", "/tmp")
        .env("LC_ALL", "C")
        .current_dir("/tmp");
    command
}

fn give_to_postgres(path: &Path) {
    if is_root() {
        run(Command::new("chown")
            .arg("-R")
            .arg("postgres:postgres")
            .arg(path));
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
}

/// An initialised cluster to copy, made by whoever comes first.
fn template(bin: &Path) -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = fs::read_link(bin.join("postgres")).unwrap_or_else(|_| bin.to_owned());
        let name: String = version
            .display()
            .to_string()
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect();
        let who = if is_root() { "root" } else { "user" };
        let template = std::env::temp_dir().join(format!("flumen-postgres-template-1{name}-{who}"));
        if !template.join("done").exists() {
            let fresh = tempfile::tempdir().unwrap();
            give_to_postgres(fresh.path());
            let args = [
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
                "--wal-segsize=1",
                "-D",
            ];
            let data = fresh.path().join("data");
            run(command(&bin.join("initdb")).args(args).arg(&data));
            fs::write(data.join("done"), "").unwrap();
            // Somebody else may have been faster: theirs is as good.
            let _ = fs::rename(&data, &template);
        }
        template
    })
}

impl Server {
    /// Starts one; `None`, with a line that says so, where PostgreSQL is not installed.
    pub(crate) async fn start() -> Option<Server> {
        Server::start_with("fsync=off").await
    }

    /// One that is going to be killed.
    pub(crate) async fn start_durable() -> Option<Server> {
        Server::start_with("fsync=on").await
    }

    async fn start_with(fsync: &str) -> Option<Server> {
        let Some(bin) = bin() else {
            println!("skipped: there is no PostgreSQL here (apt-get install postgresql)");
            return None;
        };
        let dir = tempfile::Builder::new()
            .prefix("flumen-pg-")
            .tempdir()
            .unwrap();
        let data = dir.path().join("data");
        run(Command::new("cp").arg("-a").arg(template(&bin)).arg(&data));
        let socket = dir.path().display();
        let config = format!(
            "listen_addresses=''\nunix_socket_directories='{socket}'\n{fsync}\nshared_buffers=32MB\nmax_connections=30\n"
        );
        fs::write(data.join("postgresql.auto.conf"), config).unwrap();
        give_to_postgres(dir.path());
        let server = Server {
            dir,
            bin,
            child: Mutex::new(None),
        };
        server.start_again().await;
        Some(server)
    }

    /// Starts the process on the directory as it is, and waits until it answers.
    pub(crate) async fn start_again(&self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut postgres = command(&self.bin.join("postgres"));
        let _ = postgres.arg("-D").arg(self.dir.path().join("data"));
        let _ = postgres
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        *self.child.lock().unwrap() = Some(postgres.spawn().unwrap());
        for _ in 0..3000 {
            if self.config().connect(NoTls).await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        panic!("postgres did not start:\n{log}");
    }

    /// `pg_ctl stop -m immediate`: no checkpoint, every connection cut; the next start recovers.
    pub(crate) fn crash(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            run(Command::new("sh").args(["-c", &format!("kill -QUIT {}", child.id())]));
            let _ = child.wait();
        }
    }

    /// The directory of its socket: what `connection.host` takes.
    pub(crate) fn host(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join(".s.PGSQL.5432")
    }

    fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        let _ = config
            .host_path(self.dir.path())
            .user("postgres")
            .dbname("postgres");
        config
    }

    /// A connection of the test's own.
    pub(crate) async fn client(&self) -> Client {
        let (client, connection) = self.config().connect(NoTls).await.unwrap();
        drop(tokio::spawn(connection));
        client
    }

    /// Rows as psql -A prints them: `1|UA`, null as `-`.
    pub(crate) async fn query(&self, sql: &str) -> Vec<String> {
        let answer = self.client().await.simple_query(sql).await.unwrap();
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let text = |row: &tokio_postgres::SimpleQueryRow| {
            let fields = (0..row.len()).map(|at| row.get(at).unwrap_or("-"));
            fields.collect::<Vec<_>>().join("|")
        };
        rows.map(text).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}
