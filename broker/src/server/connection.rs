//! One client connection: reads frames, starts requests in order, writes responses in order.
//!
//! One task. A request is started as soon as its frame is whole, also while earlier ones wait (for a flush, for bytes); answers are
//! written strictly in request order, so a parked fetch holds back what was asked after it, as Kafka does. Memory is taken as bytes
//! arrive, never because a length prefix says so: at most twice what the peer has already delivered is reserved ahead.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use flumen_protocol::frame::take_frame;
use flumen_protocol::segment::Segment;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::vigil::{Verdict, Vigil};
use super::writer::write_all;
use super::{MEMORY_UNIT, Server};
use crate::clock::Instant;
use crate::dispatch::{Answer, Peer, Started, dispatch};
use crate::driver::Socket;

/// Requests of one connection that may be in work at once; beyond that it is not read.
const IN_FLIGHT_MAX: usize = 256;
/// Read buffer of a connection that is quiet.
const READ_MIN: usize = 4 * 1024;
/// Reserved ahead for a peer that has not delivered more than this yet.
const TRUST_MIN: usize = 64 * 1024;
/// How long a stopping broker lets a connection finish what it has begun.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The peer closed it, or the broker stops.
    #[error("closed")]
    Closed,
    /// The peer broke a rule; the text is for the log.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An answer that is owed, and the request memory it holds.
type InFlight = BoxFuture<'static, (Answer, Option<OwnedSemaphorePermit>)>;

/// See the head of the file.
pub(crate) struct Connection<'a> {
    server: &'a Arc<Server>,
    peer: Arc<Peer>,
    socket: Box<dyn Socket>,
    inbox: BytesMut,
    /// Memory taken for the frame that is being read, if it is a large one.
    reserved: Option<OwnedSemaphorePermit>,
    /// Largest frame the peer has delivered whole.
    trusted: usize,
    /// Size of the last frame: what to read next.
    expect: usize,
    in_flight: FuturesOrdered<InFlight>,
    /// Responses that go out next.
    outbox: VecDeque<Segment>,
    /// Why the connection ends once the outbox is written.
    end: Option<End>,
    vigil: Vigil,
}

/// What woke the connection.
enum Event {
    Answered(Answer),
    Read(usize),
    Memory(OwnedSemaphorePermit),
    Tick,
    Stop,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(
        server: &'a Arc<Server>,
        socket: Box<dyn Socket>,
        addr: SocketAddr,
    ) -> Connection<'a> {
        let config = &server.node.config;
        let idle_max = Duration::from_millis(
            u64::try_from(config.connections_max_idle_ms).unwrap_or(u64::MAX),
        );
        let local = socket.local_addr().unwrap_or(server.local_addr);
        let vigil = Vigil::new(server.node.drivers.clock.now(), idle_max);
        Connection {
            server,
            peer: Arc::new(Peer { addr, local }),
            socket,
            inbox: BytesMut::new(),
            reserved: None,
            trusted: TRUST_MIN,
            expect: READ_MIN,
            in_flight: FuturesOrdered::new(),
            outbox: VecDeque::new(),
            end: None,
            vigil,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) {
        match self.serve().await {
            Ok(()) | Err(End::Closed) => {}
            Err(End::Refused(why)) => {
                tracing::info!(peer = %self.peer.addr, %why, "connection closed")
            }
            Err(End::Io(error)) => {
                tracing::debug!(peer = %self.peer.addr, %error, "connection lost")
            }
        }
    }

    async fn serve(&mut self) -> Result<(), End> {
        let mut tick_at = self.vigil.next_tick();
        let mut tick = self.server.node.drivers.clock.sleep_until(tick_at);
        loop {
            match self.next_event(&mut tick).await? {
                Event::Answered(answer) => {
                    self.take_answers(answer);
                    // A full connection may have frames that were waiting for this.
                    self.start_frames().await?;
                }
                Event::Read(0) => return Err(End::Closed),
                Event::Read(bytes) => {
                    self.start_frames().await?;
                    let (now, partial) = (self.now(), !self.inbox.is_empty());
                    self.vigil.on_bytes(now, bytes, partial);
                }
                Event::Memory(memory) => self.reserved = Some(memory),
                Event::Tick => self.on_tick()?,
                Event::Stop => return self.drain().await,
            }
            self.flush().await?;
            let due = self.vigil.next_tick();
            if due < tick_at || self.now() >= tick_at {
                tick_at = due;
                tick = self.server.node.drivers.clock.sleep_until(tick_at);
            }
        }
    }

    fn now(&self) -> Instant {
        self.server.node.drivers.clock.now()
    }

    async fn next_event(&mut self, tick: &mut BoxFuture<'static, ()>) -> Result<Event, End> {
        let room = self.in_flight.len() < IN_FLIGHT_MAX;
        let claim = self.claim().filter(|_| room);
        if room && claim.is_none() {
            self.make_room();
        }
        let Connection {
            server,
            socket,
            inbox,
            in_flight,
            ..
        } = self;
        let memory = Arc::clone(&server.request_memory).acquire_many_owned(claim.unwrap_or(0));
        tokio::select! {
            biased;
            // First of all: answers that go out give back the memory that is waited for below.
            Some((answer, _memory)) = in_flight.next() => Ok(Event::Answered(answer)),
            memory = memory, if claim.is_some() => memory.map(Event::Memory).map_err(|_| End::Closed),
            read = socket.read_buf(inbox), if room && claim.is_none() => Ok(Event::Read(read?)),
            () = server.stop.cancelled() => Ok(Event::Stop),
            () = tick => Ok(Event::Tick),
        }
    }

    /// Length of the frame that is being read, prefix included; it has been checked against the limit.
    fn frame_bytes(&self) -> Option<usize> {
        let prefix = self.inbox.first_chunk::<4>()?;
        Some(4 + usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(0))
    }

    /// Units of request memory that must be had before more of a large frame is read.
    fn claim(&self) -> Option<u32> {
        let whole = self
            .frame_bytes()
            .filter(|bytes| *bytes > TRUST_MIN && self.reserved.is_none())?;
        let units = (whole / MEMORY_UNIT).min(self.server.request_memory_units);
        Some(u32::try_from(units).unwrap_or(u32::MAX))
    }

    /// Space in the inbox for the next read.
    fn make_room(&mut self) {
        let free = self.inbox.capacity() - self.inbox.len();
        match self.frame_bytes() {
            None if free < 4 => self.inbox.reserve(self.expect),
            None => {}
            Some(whole) => {
                let missing = whole.saturating_sub(self.inbox.len()).max(1);
                let ahead = missing.min(self.trusted.max(self.inbox.len()));
                if free < ahead {
                    self.inbox.reserve(ahead);
                }
            }
        }
    }

    /// Starts every request whose frame is whole, as far as there is room for their answers.
    async fn start_frames(&mut self) -> Result<(), End> {
        let max =
            usize::try_from(self.server.node.config.socket_request_max_bytes).unwrap_or(usize::MAX);
        while self.end.is_none() && self.in_flight.len() < IN_FLIGHT_MAX {
            let frame = take_frame(&mut self.inbox, max);
            let Some(frame) = frame.map_err(|error| End::Refused(error.to_string()))? else {
                return Ok(());
            };
            self.trusted = self.trusted.max(frame.len());
            self.expect = (frame.len() + 4).clamp(READ_MIN, TRUST_MIN);
            let memory = self.reserved.take();
            match dispatch(&self.server.node, &self.peer, frame).await {
                Started::Done(answer) if self.in_flight.is_empty() => self.take_answers(answer),
                Started::Done(answer) => {
                    self.in_flight
                        .push_back(std::future::ready((answer, memory)).boxed());
                }
                Started::Later(answer) => {
                    self.in_flight
                        .push_back(answer.map(move |answer| (answer, memory)).boxed());
                }
            }
        }
        Ok(())
    }

    /// Puts `first` and every further answer that is ready in turn into the outbox.
    fn take_answers(&mut self, first: Answer) {
        let mut next = Some(first);
        while let Some(answer) = next {
            match answer {
                Answer::Segments(segments) => self.outbox.extend(segments),
                Answer::Nothing => {}
                Answer::Close(why) => self.end = self.end.take().or(Some(End::Refused(why))),
            }
            if self.end.is_some() {
                break;
            }
            next = self
                .in_flight
                .next()
                .now_or_never()
                .flatten()
                .map(|(answer, _memory)| answer);
        }
    }

    /// Writes what the outbox holds; then ends, if an answer said so.
    async fn flush(&mut self) -> Result<(), End> {
        if !self.outbox.is_empty() {
            write_all(&mut *self.socket, &mut self.outbox).await?;
            let now = self.now();
            self.vigil.on_response(now);
        }
        self.end.take().map_or(Ok(()), Err)
    }

    fn on_tick(&mut self) -> Result<(), End> {
        let now = self.now();
        if self.inbox.is_empty() {
            // A quiet connection gives its buffer back.
            self.inbox = BytesMut::new();
            self.expect = READ_MIN;
        }
        match self.vigil.on_tick(now, !self.in_flight.is_empty()) {
            Verdict::Keep(_) => Ok(()),
            Verdict::Close(why) => Err(End::Refused(why.to_owned())),
        }
    }

    /// The broker stops: what was begun is answered, nothing new is read.
    async fn drain(&mut self) -> Result<(), End> {
        let finish = async {
            while let Some((answer, _memory)) = self.in_flight.next().await {
                self.take_answers(answer);
                self.flush().await?;
            }
            Err(End::Closed)
        };
        tokio::time::timeout(DRAIN_MAX, finish)
            .await
            .unwrap_or(Err(End::Closed))
    }
}
