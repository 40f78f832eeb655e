//! The network: turmoil's, with connections that can be cut, and requests that arrive after their client has gone.
//!
//! [`BrokerNetwork`] is the broker's driver, [`ClientTransport`] that of our own client. The nemesis commands a host's connections
//! through its [`Wires`]; delays, partitions and holds of whole links are turmoil's own. A host that dies falls silent first: the order in
//! which a dead runtime drops its sockets depends on what else the process runs, so nothing that a drop sends may arrive.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use flumen_broker::driver::{Listener, Network, Socket};
use flumen_client::{Connecting, Duplex, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::disk::Power;
use crate::summary::Counters;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request that shall lose its connection on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Detach {
    /// Requests that go through before.
    pub(crate) skip: u32,
    /// How much later it arrives. Its answer goes to nobody.
    pub(crate) delay: Duration,
    /// The client is not told: it waits for an answer until it gives up. Else its connection breaks at once.
    pub(crate) hangs: bool,
}

/// All connections of one client host, as the nemesis sees them.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    state: Mutex<WiresState>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct WiresState {
    open: Vec<Weak<Mutex<Wire>>>,
    detach: VecDeque<Detach>,
    /// The host is dying: nothing leaves it any more.
    mute: bool,
    last_word: Option<LastWord>,
}

/// The request at which a host dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastWord {
    /// Requests before it.
    pub(crate) skip: u32,
    /// Whether it is sent.
    pub(crate) sent: bool,
}

/// One end of a connection.
#[derive(Debug, Default)]
struct Wire {
    cut: bool,
    reader: Option<Waker>,
    /// Who is at the other end.
    peer: Option<IpAddr>,
}

impl Wires {
    pub(crate) fn new(counters: Arc<Counters>) -> Arc<Wires> {
        Arc::new(Wires {
            state: Mutex::default(),
            counters,
        })
    }

    /// Breaks every connection that is open now; what was sent arrives all the same.
    pub(crate) fn cut(&self) {
        self.cut_where(|_| true);
    }

    /// Breaks those with one peer.
    pub(crate) fn cut_from(&self, peer: IpAddr) {
        self.cut_where(|wire| wire.peer == Some(peer));
    }

    fn cut_where(&self, chosen: impl Fn(&Wire) -> bool) {
        let state = self.state.lock().unwrap();
        for wire in state.open.iter().filter_map(Weak::upgrade) {
            let mut wire = wire.lock().unwrap();
            if wire.cut || !chosen(&wire) {
                continue;
            }
            wire.cut = true;
            self.counters.cut_connections.add(1);
            if let Some(waker) = wire.reader.take() {
                waker.wake();
            }
        }
    }

    /// Whether anything leaves the host. A host that dies falls silent first, so that what it had sent arrives.
    pub(crate) fn set_mute(&self, mute: bool) {
        self.state.lock().unwrap().mute = mute;
    }

    /// One request to come loses its connection.
    pub(crate) fn detach(&self, order: Detach) {
        self.state.lock().unwrap().detach.push_back(order);
    }

    /// No more requests lose theirs.
    pub(crate) fn attach_all(&self) {
        self.state.lock().unwrap().detach.clear();
    }

    pub(crate) fn is_mute(&self) -> bool {
        self.state.lock().unwrap().mute
    }

    /// The host falls silent at one of the requests to come; none: it does not.
    pub(crate) fn set_last_word(&self, last_word: Option<LastWord>) {
        self.state.lock().unwrap().last_word = last_word;
    }

    /// Whether a request leaves the host.
    fn may_leave(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.mute {
            return false;
        }
        match &mut state.last_word {
            None => true,
            Some(last) if last.skip > 0 => {
                last.skip -= 1;
                true
            }
            Some(last) => {
                let sent = last.sent;
                (state.mute, state.last_word) = (true, None);
                sent
            }
        }
    }

    fn add(&self, peer: Option<IpAddr>) -> Arc<Mutex<Wire>> {
        let wire = Arc::new(Mutex::new(Wire {
            peer,
            ..Wire::default()
        }));
        let mut state = self.state.lock().unwrap();
        state.open.retain(|open| open.strong_count() > 0);
        state.open.push(Arc::downgrade(&wire));
        wire
    }

    fn next_write(&self) -> Option<Detach> {
        let mut state = self.state.lock().unwrap();
        match state.detach.front_mut() {
            Some(order) if order.skip > 0 => {
                order.skip -= 1;
                None
            }
            Some(_) => state.detach.pop_front(),
            None => None,
        }
    }
}

/// How a client host reaches the broker.
#[derive(Debug)]
pub(crate) struct ClientTransport(pub(crate) Arc<Wires>);

impl Transport for ClientTransport {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            if self.0.is_mute() {
                return std::future::pending().await;
            }
            let stream = TcpStream::connect((host, port)).await?;
            let wires = Arc::clone(&self.0);
            wires.counters.connections.add(1);
            let wire = wires.add(None);
            Ok(Box::new(ClientStream {
                stream: Some(stream),
                wire,
                wires,
            }) as Box<dyn Duplex>)
        })
    }
}

struct ClientStream {
    /// None once a request has taken it along.
    stream: Option<TcpStream>,
    wire: Arc<Mutex<Wire>>,
    wires: Arc<Wires>,
}

impl ClientStream {
    /// The request arrives later, on a connection that nobody reads any more.
    fn straggle(&mut self, request: Vec<u8>, order: Detach) {
        self.wires.counters.detached_requests.add(1);
        let mut stream = self.stream.take().expect("asked before");
        self.wire.lock().unwrap().cut = !order.hangs;
        tokio::spawn(async move {
            tokio::time::sleep(order.delay).await;
            if stream.write_all(&request).await.is_ok() {
                let answer = &mut [0; 1];
                let _ = tokio::time::timeout(Duration::from_secs(5), stream.read(answer)).await;
            }
        });
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the nemesis cut it")
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut wire = self.wire.lock().unwrap();
            if wire.cut {
                return Poll::Ready(Err(reset()));
            }
            wire.reader = Some(cx.waker().clone());
        }
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_read(cx, buf),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.wire.lock().unwrap().cut {
            return Poll::Ready(Err(reset()));
        }
        if self.stream.is_none() || !self.wires.may_leave() {
            return Poll::Ready(Ok(buf.len()));
        }
        if let Some(order) = self.wires.next_write() {
            self.straggle(buf.to_vec(), order);
            return Poll::Ready(Ok(buf.len()));
        }
        let stream = self.stream.as_mut().expect("looked above");
        Pin::new(stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, &parts.concat_parts())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// A request is one segment of the simulated network: it arrives whole or not at all.
trait ConcatParts {
    fn concat_parts(&self) -> Vec<u8>;
}

impl ConcatParts for [IoSlice<'_>] {
    fn concat_parts(&self) -> Vec<u8> {
        self.iter().flat_map(|part| part.iter().copied()).collect()
    }
}

/// The broker's sockets.
#[derive(Debug)]
pub(crate) struct BrokerNetwork {
    pub(crate) power: Arc<Power>,
    pub(crate) wires: Arc<Wires>,
}

impl Network for BrokerNetwork {
    fn bind(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (power, wires) = (Arc::clone(&self.power), Arc::clone(&self.wires));
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            Ok(Box::new(BrokerListener {
                listener,
                power,
                wires,
            }) as Box<dyn Listener>)
        })
    }
}

struct BrokerListener {
    listener: TcpListener,
    power: Arc<Power>,
    wires: Arc<Wires>,
}

impl fmt::Debug for BrokerListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerListener")
    }
}

impl Listener for BrokerListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            let socket = BrokerSocket {
                stream,
                wire: self.wires.add(Some(peer.ip())),
                power: Arc::clone(&self.power),
            };
            Ok((Box::new(socket) as Box<dyn Socket>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct BrokerSocket {
    stream: TcpStream,
    wire: Arc<Mutex<Wire>>,
    power: Arc<Power>,
}

impl fmt::Debug for BrokerSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerSocket")
    }
}

impl Socket for BrokerSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl AsyncRead for BrokerSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut wire = self.wire.lock().unwrap();
            if wire.cut {
                return Poll::Ready(Err(reset()));
            }
            wire.reader = Some(cx.waker().clone());
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BrokerSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.power.is_off() {
            // What still runs between the last operation of the disk and the end of the process never was.
            return Poll::Pending;
        }
        if self.wire.lock().unwrap().cut {
            return Poll::Ready(Err(reset()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, &parts.concat_parts())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.power.is_off() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
