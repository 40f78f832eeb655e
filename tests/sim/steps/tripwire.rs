//! A client's way to the broker that fails at one request, chosen by its number.
//!
//! [`Tripwire`] counts the requests of a host over all its connections and incarnations. At the one that was asked for it does what
//! can be done from inside (cut, delay), or stops all traffic and tells the driver of the simulation, which ends a host.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use flumen_client::{Connecting, Duplex, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use turmoil::net::TcpStream;

/// Number of a request's API.
pub(crate) type Api = i16;

/// What happens at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The client's process dies; the request was not sent.
    KillBefore,
    /// The client's process dies; the request is on its way.
    KillAfter,
    /// The connection breaks; the request was not sent.
    CutBefore,
    /// The connection breaks; the request arrives, its answer does not.
    CutAfter,
    /// The broker dies; the request was not sent.
    BrokerBefore,
    /// The broker dies when it has carried out the request; the answer does not arrive.
    BrokerAfter,
    /// The request is sent so much later.
    Stall(Duration),
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trip {
    /// The first is 0.
    pub(crate) request: usize,
    pub(crate) way: Way,
}

/// A fault that takes place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tripped {
    pub(crate) api: Api,
    pub(crate) way: Way,
}

#[derive(Debug, Default)]
struct State {
    trip: Option<Trip>,
    apis: Vec<Api>,
    tripped: Option<Tripped>,
    /// Connections up to this number carry nothing any more: their process is dead, or is about to be.
    dead_upto: usize,
    connections: usize,
}

/// The wire of one host.
#[derive(Clone, Debug)]
pub(crate) struct Tripwire(Arc<Mutex<State>>);

impl Tripwire {
    pub(crate) fn new(trip: Option<Trip>) -> Tripwire {
        let state = State {
            trip,
            ..State::default()
        };
        Tripwire(Arc::new(Mutex::new(state)))
    }

    /// The fault, once, when the driver has to act.
    pub(crate) fn tripped(&self) -> Option<Tripped> {
        self.0.lock().unwrap().tripped.take()
    }

    /// The APIs of all requests so far, in the order in which they were sent.
    pub(crate) fn apis(&self) -> Vec<Api> {
        self.0.lock().unwrap().apis.clone()
    }
}

impl Transport for Tripwire {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            let number = {
                let mut state = self.0.lock().unwrap();
                state.connections += 1;
                state.connections
            };
            let wire = self.clone();
            Ok(Box::new(Wire {
                stream,
                wire,
                number,
                left: 0,
                after: None,
                stall: None,
                cut: false,
            }) as Box<dyn Duplex>)
        })
    }
}

struct Wire {
    stream: TcpStream,
    wire: Tripwire,
    number: usize,
    /// Bytes of the request that are still to be written.
    left: usize,
    /// What happens when they are.
    after: Option<Tripped>,
    stall: Option<Pin<Box<Sleep>>>,
    cut: bool,
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by the tripwire")
}

impl Wire {
    fn is_dead(&self) -> bool {
        self.number <= self.wire.0.lock().unwrap().dead_upto
    }

    /// A request begins. What it sets off at once.
    fn begin(&mut self, head: &[u8]) {
        let size = u32::from_be_bytes(head[..4].try_into().unwrap());
        let api = i16::from_be_bytes(head[4..6].try_into().unwrap());
        self.left = 4 + size as usize;
        let mut state = self.wire.0.lock().unwrap();
        state.apis.push(api);
        let number = state.apis.len() - 1;
        let Some(way) = state.trip.filter(|trip| trip.request == number) else {
            return;
        };
        let way = way.way;
        let tripped = Tripped { api, way };
        match way {
            Way::KillBefore | Way::BrokerBefore => {
                state.dead_upto = state.connections;
                state.tripped = Some(tripped);
            }
            Way::CutBefore => {
                self.cut = true;
                state.tripped = Some(tripped);
            }
            Way::Stall(time) => {
                self.stall = Some(Box::pin(tokio::time::sleep(time)));
                state.tripped = Some(tripped);
            }
            Way::KillAfter | Way::CutAfter | Way::BrokerAfter => self.after = Some(tripped),
        }
    }

    /// The request is written.
    fn end(&mut self) {
        let Some(tripped) = self.after.take() else {
            return;
        };
        let mut state = self.wire.0.lock().unwrap();
        if tripped.way == Way::CutAfter {
            self.cut = true;
        } else {
            state.dead_upto = state.connections;
        }
        state.tripped = Some(tripped);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_dead() {
            // What would come now is lost, but that the peer has gone is seen.
            let mut lost = [0; 4096];
            let mut lost = ReadBuf::new(&mut lost);
            loop {
                lost.clear();
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut lost)) {
                    Ok(()) if !lost.filled().is_empty() => {}
                    other => return Poll::Ready(other),
                }
            }
        }
        if self.cut {
            return Poll::Ready(Err(reset()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 && !self.cut && !self.is_dead() {
            self.begin(buf);
        }
        if let Some(stall) = &mut self.stall {
            ready!(stall.as_mut().poll(cx));
            self.stall = None;
        }
        if self.is_dead() {
            return Poll::Pending;
        }
        if self.cut {
            return Poll::Ready(Err(reset()));
        }
        let most = buf.len().min(self.left);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..most]))?;
        self.left -= written;
        if self.left == 0 {
            self.end();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.poll_write(cx, &whole)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The same without a wire.
#[derive(Debug)]
pub(crate) struct Plain;

impl Transport for Plain {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}
