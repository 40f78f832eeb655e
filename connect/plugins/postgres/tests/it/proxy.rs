//! A man in the middle that reads Postgres' messages, and cuts, stalls or kills at a chosen one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::server::Server;

/// Where in the life of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// `BEGIN` does not reach the server.
    Begin,
    /// The compare-and-set does not reach the server.
    Claim,
    /// The compare-and-set is done, the COPY is not begun.
    Copy,
    /// A piece of the COPY has reached the server, the end of it has not.
    InCopy,
    /// The rows are there, `COMMIT` does not reach the server.
    Commit,
    /// `COMMIT` reached the server, nobody waits for its answer.
    Committing,
    /// `COMMIT` is done, its answer is lost.
    Committed,
}

/// All of them.
pub(crate) const POINTS: [Point; 7] = [
    Point::Begin,
    Point::Claim,
    Point::Copy,
    Point::InCopy,
    Point::Commit,
    Point::Committing,
    Point::Committed,
];

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The connection breaks.
    Cut,
    /// The server is killed (and with it the connection).
    Kill,
    /// The client's bytes stop here, as if it were stopped; the connection stays.
    Stall,
}

/// The proxy. It acts once per [`Proxy::arm`].
#[derive(Debug)]
pub(crate) struct Proxy {
    /// `127.0.0.1:port`, what `connection.host` of the harness takes.
    pub(crate) host: String,
    rule: Arc<Mutex<Option<(Point, Action)>>>,
    /// Told when the rule was used.
    pub(crate) acted: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: &Arc<Server>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let rule = Arc::new(Mutex::new(None));
        let acted = Arc::new(Notify::new());
        let (server, rules, notify) = (Arc::clone(server), Arc::clone(&rule), Arc::clone(&acted));
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let link = Link {
                    server: Arc::clone(&server),
                    rule: Arc::clone(&rules),
                    acted: Arc::clone(&notify),
                };
                drop(tokio::spawn(link.run(client)));
            }
        });
        Proxy {
            host,
            rule,
            acted,
            accepting,
        }
    }

    /// Does `action` when next a connection comes to `point`.
    pub(crate) fn arm(&self, point: Point, action: Action) {
        *self.rule.lock().unwrap() = Some((point, action));
    }

    /// Whether the rule still waits.
    pub(crate) fn is_armed(&self) -> bool {
        self.rule.lock().unwrap().is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Link {
    server: Arc<Server>,
    rule: Arc<Mutex<Option<(Point, Action)>>>,
    acted: Arc<Notify>,
}

impl Link {
    async fn run(self, mut client: TcpStream) {
        let socket: PathBuf = self.server.socket();
        let Ok(mut server) = UnixStream::connect(socket).await else {
            return;
        };
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let mut inbox = vec![0; 64 * 1024];
        let mut pending: Vec<u8> = Vec::new();
        let (mut begun, mut after_commit) = (false, false);
        let mut buf = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                biased;
                read = from_client.read(&mut inbox) => {
                    let Ok(n @ 1..) = read else { return };
                    pending.extend_from_slice(&inbox[..n]);
                    while let Some(len) = message_len(&pending, begun) {
                        let message: Vec<u8> = pending.drain(..len).collect();
                        let point = if begun { point(&message) } else { None };
                        begun = true;
                        let hit = self.hit(point);
                        // What was sent and lost is on its way; everything else never left.
                        let forward = hit.is_none_or(|(point, _)| matches!(point, Point::InCopy | Point::Committing | Point::Committed));
                        if forward && to_server.write_all(&message).await.is_err() { return }
                        match hit {
                            None => {}
                            Some((Point::Committed, Action::Cut)) => after_commit = true,
                            Some((_, Action::Cut)) => { self.acted.notify_one(); return }
                            Some((_, Action::Kill)) => { self.server.crash(); self.acted.notify_one(); return }
                            Some((_, Action::Stall)) => {
                                self.acted.notify_one();
                                // The server may end the connection; the client hears of it as it
                                // would when it wakes.
                                let _ = from_server.read(&mut buf).await;
                                return;
                            }
                        }
                    }
                }
                read = from_server.read(&mut buf) => {
                    let Ok(n @ 1..) = read else { return };
                    if after_commit { self.acted.notify_one(); return }
                    if to_client.write_all(&buf[..n]).await.is_err() { return }
                }
            }
        }
    }

    /// The rule, if this is its point; it is used up then.
    fn hit(&self, at: Option<Point>) -> Option<(Point, Action)> {
        let mut rule = self.rule.lock().unwrap();
        let (point, _) = (*rule)?;
        let commit =
            matches!(point, Point::Committing | Point::Committed) && at == Some(Point::Commit);
        (at == Some(point) || commit).then(|| rule.take()).flatten()
    }
}

/// Length of the first message: the start-up one has no type byte.
fn message_len(bytes: &[u8], begun: bool) -> Option<usize> {
    let type_len = usize::from(begun);
    let length: [u8; 4] = bytes.get(type_len..type_len + 4)?.try_into().unwrap();
    let len = type_len + usize::try_from(u32::from_be_bytes(length)).unwrap();
    (bytes.len() >= len).then_some(len)
}

fn point(message: &[u8]) -> Option<Point> {
    let text = String::from_utf8_lossy(&message[5..]);
    match message[0] {
        b'Q' if text.starts_with("BEGIN") => Some(Point::Begin),
        b'Q' if text.starts_with("COMMIT") => Some(Point::Commit),
        b'P' if text.contains("SET next_offset = u.next") => Some(Point::Claim),
        b'P' if text.contains("COPY ") => Some(Point::Copy),
        b'd' => Some(Point::InCopy),
        _ => None,
    }
}
