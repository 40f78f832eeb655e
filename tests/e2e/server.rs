//! The real binary as a child process: start, wait until it answers, kill -9, start again on the same folder and port.
//!
//! Used by every module of this test; it owns processes and folders, no assertions about Kafka.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything on a busy machine of two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: the one that was built with the tests, or `FLUMEN_BINARY`, for instance a release build whose figures are wanted.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("FLUMEN_BINARY");
    named.map_or_else(|| env!("CARGO_BIN_EXE_flumen").into(), PathBuf::from)
}

/// A `flumen server run` on a folder and a port of its own. Killed and removed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    folder: tempfile::TempDir,
    data: PathBuf,
    port: u16,
    settings: Vec<String>,
}

impl Server {
    /// Starts a broker whose groups form at once.
    pub(crate) fn start() -> Server {
        Server::with(&[])
    }

    /// Starts a broker with `key=value` settings.
    pub(crate) fn with(settings: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        Server::on(folder, data, settings)
    }

    /// Starts a broker that keeps its data in `data`; `folder` is removed with the server.
    pub(crate) fn on(folder: tempfile::TempDir, data: PathBuf, settings: &[&str]) -> Server {
        let mut all = vec!["group.initial.rebalance.delay.ms=0".to_owned()];
        all.extend(settings.iter().map(|s| (*s).to_owned()));
        let mut server = Server {
            child: None,
            folder,
            data,
            port: free_port(),
            settings: all,
        };
        server.restart();
        server
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The id of the process.
    pub(crate) fn process(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the binary and waits until it says that it is ready.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "still running");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("server.log"))
            .expect("the log file");
        let mut command = Command::new(binary());
        command
            .args(["server", "run", "--listen", &self.address(), "--dir"])
            .arg(&self.data);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("piped");
        let mut first = String::new();
        BufReader::new(stdout)
            .read_line(&mut first)
            .expect("stdout is readable");
        assert!(
            first.contains("ready on"),
            "the broker did not get ready: {first:?}\n{}",
            self.log()
        );
        self.child = Some(child);
    }

    /// The process, while it runs.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// kill -9, as a crash of the process.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("SIGKILL");
            child.wait().expect("a killed child ends");
        }
    }

    /// SIGTERM: the clean way. Returns the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("running");
        signal(child.id(), "TERM");
        child.wait().expect("the broker ends").code()
    }

    /// True while the process lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("a child can be asked").is_none())
    }

    /// What the broker wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the broker's log ---\n{}", self.log());
        }
    }
}

/// Sends a signal. A bare Debian has no program `kill`; every shell has it built in.
pub(crate) fn signal(process: u32, name: &str) {
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status();
}

/// A port that nobody listens on right now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// The output of a finished program.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end with `input` on stdin; killed after [`PATIENCE`].
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Finished {
    use std::io::{Read, Write};
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    let (mut stdout, mut stderr) = (
        child.stdout.take().expect("piped"),
        child.stderr.take().expect("piped"),
    );
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that does not read its input closes the pipe: its business.
        let _ = stdin.write_all(&input);
    });
    let out = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        text
    });
    let err = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        text
    });
    let deadline = Instant::now() + PATIENCE * 3;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            break Some(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    };
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().expect("the reader ends")).into_owned()
    };
    let finished = Finished {
        ok: status.is_some_and(|s| s.success()),
        stdout: text(out),
        stderr: text(err),
    };
    let _ = writer.join();
    if status.is_none() {
        panic!(
            "{command:?} did not end\n{}\n{}",
            finished.stdout, finished.stderr
        );
    }
    finished
}
