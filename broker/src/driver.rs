//! Everything the broker takes from the world outside: disk, clock, network, randomness, threads.
//!
//! [`Drivers::os`] is the real machine; `tests/sim` gives a simulated set. Nothing else in this crate opens a socket, starts a
//! task or reads a clock. Owned by [`Broker::start`](crate::Broker::start) and handed down.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use flumen_log::disk::{Disk, OsDisk};
use futures_util::future::BoxFuture;
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::clock::{Clock, OsClock};

/// The outside world, as the broker sees it.
#[derive(Debug, Clone)]
pub struct Drivers {
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Listening sockets.
    pub network: Arc<dyn Network>,
    /// Random bytes: topic ids, member ids, directory ids.
    pub entropy: Arc<dyn Entropy>,
    /// Tasks and blocking work.
    pub tasks: Arc<dyn Tasks>,
}

impl Drivers {
    /// The real machine.
    #[must_use]
    pub fn os() -> Drivers {
        Drivers {
            disk: Arc::new(OsDisk::default()),
            clock: Arc::new(OsClock),
            network: Arc::new(OsNetwork),
            entropy: Arc::new(OsEntropy),
            tasks: Arc::new(OsTasks),
        }
    }

    /// Starts a task that runs until it is done; `name` is for the reader of a trace.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(name, Box::pin(task));
    }

    /// Runs `work`, which may wait for the disk, away from the tasks that serve sockets.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (done, result) = tokio::sync::oneshot::channel();
        self.tasks.blocking(Box::new(move || {
            // The waiter may have gone (connection closed): the work is done all the same.
            let _ = done.send(work());
        }));
        result
            .await
            .expect("blocking work always sends its result, or the process has panicked")
    }

    /// As [`Drivers::blocking`], when one of `places` is free. It is taken for as long as the work runs, whether its waiter is still
    /// there or not.
    pub async fn blocking_in<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let place = Arc::clone(places).acquire_owned().await;
        self.blocking(move || {
            let _place = place;
            work()
        })
        .await
    }

    /// A random 128-bit id that is not all zeros and whose text does not begin with `-` (Kafka's `Uuid.randomUuid`).
    #[must_use]
    pub fn random_id(&self) -> [u8; 16] {
        let mut id = [0u8; 16];
        loop {
            self.entropy.fill(&mut id);
            // Version 4, variant 2 of RFC 9562.
            id[6] = (id[6] & 0x0f) | 0x40;
            id[8] = (id[8] & 0x3f) | 0x80;
            if id[0] >> 2 != 62 {
                return id;
            }
        }
    }
}

/// Opens listening sockets.
pub trait Network: Send + Sync + Debug {
    /// Listens on `addr`; port 0 picks a free one.
    fn bind(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// A listening socket.
pub trait Listener: Send + Sync + Debug {
    /// The next connection and who it is from.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, SocketAddr)>>;
    /// Where it listens, with the real port.
    ///
    /// # Errors
    /// What the system says; a bound socket has an address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// One connection. When it is a real TCP socket the server may hand file ranges to the kernel instead of reading them.
pub trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug {
    /// Our own end of it.
    ///
    /// # Errors
    /// What the system says; the listener's address serves instead.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// The TCP socket beneath, if sendfile works on it.
    fn as_tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// Random bytes.
pub trait Entropy: Send + Sync + Debug {
    /// Fills `buf`.
    fn fill(&self, buf: &mut [u8]);
}

/// Tasks and threads.
pub trait Tasks: Send + Sync + Debug {
    /// Starts a task.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
    /// Runs `work` where it may block. A simulation runs it inline.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>);
    /// How much work can go on at once.
    fn processors(&self) -> usize {
        1
    }
}

#[derive(Debug)]
struct OsNetwork;

impl Network for OsNetwork {
    fn bind(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            #[expect(clippy::disallowed_methods, reason = "this is the network driver")]
            let listener = TcpListener::bind(addr).await?;
            Ok(Box::new(OsListener(listener)) as Box<dyn Listener>)
        })
    }
}

#[derive(Debug)]
struct OsListener(TcpListener);

impl Listener for OsListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            // A response is written whole: waiting for more bytes to join it (Nagle) only adds latency.
            // Where it cannot be set the peer is gone already, and its connection finds out.
            let _ = stream.set_nodelay(true);
            if is_of_this_machine(&stream, peer) {
                // Nothing is congested here. Where the system's choice paces (BBR), it sets a timer for every 64 KiB of an answer, which costs more
                // than to send them.
                let _ = SockRef::from(&stream).set_tcp_congestion(UNPACED);
            }
            Ok((Box::new(stream) as Box<dyn Socket>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A congestion control that every Linux has and that paces nothing.
const UNPACED: &[u8] = b"reno";

/// Whether what is sent to `peer` never leaves the machine.
fn is_of_this_machine(stream: &TcpStream, peer: SocketAddr) -> bool {
    peer.ip().is_loopback() || stream.local_addr().is_ok_and(|own| own.ip() == peer.ip())
}

impl Socket for TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::local_addr(self)
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

#[derive(Debug)]
struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buf: &mut [u8]) {
        let mut filled = 0;
        while filled < buf.len() {
            match rustix::rand::getrandom(&mut buf[filled..], GetRandomFlags::empty()) {
                Ok(bytes) => filled += bytes,
                // Only more than 256 bytes can be interrupted.
                Err(Errno::INTR) => {}
                Err(error) => panic!("getrandom(2) is there on every Linux since 3.17: {error}"),
            }
        }
    }
}

#[derive(Debug)]
struct OsTasks;

impl Tasks for OsTasks {
    #[expect(clippy::disallowed_methods, reason = "this is where tasks start")]
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is where blocking work goes"
    )]
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    fn processors(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    type Work = Box<dyn FnOnce() + Send>;

    /// Work is done by who asks for it.
    #[derive(Debug)]
    struct Held(mpsc::Sender<Work>);

    impl Tasks for Held {
        fn spawn(&self, _name: &'static str, _task: BoxFuture<'static, ()>) {}

        fn blocking(&self, work: Work) {
            self.0.send(work).unwrap();
        }
    }

    #[tokio::test]
    async fn a_place_is_taken_while_the_work_runs_though_its_waiter_is_gone() {
        let (held, begun) = mpsc::channel();
        let drivers = Drivers {
            tasks: Arc::new(Held(held)),
            ..Drivers::os()
        };
        let places = Arc::new(Semaphore::new(1));
        // Waits for once, and is dropped.
        let ask = || drivers.blocking_in(&places, || ()).now_or_never();
        assert_eq!(ask(), None);
        let work = begun.try_recv().unwrap();
        assert_eq!(ask(), None);
        assert!(begun.try_recv().is_err(), "there is no place for another");
        work();
        assert_eq!(ask(), None);
        begun.try_recv().unwrap()();
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a peer of the driver")]
    async fn answers_to_this_machine_are_not_paced() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = OsNetwork.bind(any).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let _peer = TcpStream::connect(addr).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let control = SockRef::from(socket.as_tcp().unwrap()).tcp_congestion();
        let control = control.unwrap();
        assert!(control.starts_with(UNPACED), "{control:?}");
    }
}
