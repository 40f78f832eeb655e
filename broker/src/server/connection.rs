//! One client connection: reads frames, starts requests in order, writes responses in order.
//!
//! One task. A request is started as soon as its frame is whole, also while earlier ones wait (for a flush, for bytes); answers are
//! written strictly in request order, so a parked fetch holds back what was asked after it, as Kafka does. Memory is taken as bytes
//! arrive, never because a length prefix says so: at most twice what the peer has already delivered is reserved ahead.
//!
//! What one connection can make the broker hold: an unfinished frame of [`TRUST_MIN`], started ones of [`IN_FLIGHT_FREE`] (all else is
//! taken from `queued.max.request.bytes`), answers of [`OUTBOX_MAX`] and one more. A request whose answer may be much larger than
//! itself is started only when nothing else is owed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
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
use crate::dispatch::{Answer, Peer, Started, answers_broadly, dispatch};
use crate::driver::Socket;

/// Requests of one connection that may be in work at once; beyond that it is not read.
const IN_FLIGHT_MAX: usize = 256;
/// Bytes of requests in work that a connection may hold without asking for memory.
const IN_FLIGHT_FREE: usize = 64 * 1024;
/// Bytes of answers that may wait to be written before another request is started.
const OUTBOX_MAX: usize = 256 * 1024;
/// Read buffer of a connection that is quiet.
const READ_MIN: usize = 4 * 1024;
/// Reserved ahead for a peer that has not delivered more than this yet.
const TRUST_MIN: usize = 64 * 1024;
/// How long a connection that holds some memory waits for the rest.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(5);
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

/// What a request in work holds until it is answered.
struct Held {
    /// Bytes of its frame.
    bytes: usize,
    /// Request memory, if it had to ask for some.
    _memory: Option<OwnedSemaphorePermit>,
}

/// An answer that is owed, and what is held for it.
type InFlight = BoxFuture<'static, (Answer, Held)>;

/// See the head of the file.
pub(crate) struct Connection<'a> {
    server: &'a Arc<Server>,
    peer: Arc<Peer>,
    socket: Box<dyn Socket>,
    inbox: BytesMut,
    /// Memory taken for the frame that is being read, if it is a large one.
    reserved: Option<OwnedSemaphorePermit>,
    /// Since when the connection has held some memory and waited for more.
    stuck_since: Option<Instant>,
    /// Largest frame the peer has delivered whole.
    trusted: usize,
    /// Size of the last frame: what to read next.
    expect: usize,
    in_flight: FuturesOrdered<InFlight>,
    /// Bytes of the frames in flight.
    in_flight_bytes: usize,
    /// Responses that go out next.
    outbox: VecDeque<Segment>,
    /// Bytes in the outbox that are in memory.
    outbox_bytes: usize,
    /// Why the connection ends once the outbox is written.
    end: Option<End>,
    vigil: Vigil,
}

/// What woke the connection.
enum Event {
    Answered(Answer, Held),
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
            stuck_since: None,
            trusted: TRUST_MIN,
            expect: READ_MIN,
            in_flight: FuturesOrdered::new(),
            in_flight_bytes: 0,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            end: None,
            vigil,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) {
        match self.serve().await {
            Ok(()) | Err(End::Closed) => {}
            Err(End::Refused(why)) => {
                self.server
                    .refused(self.server.node.drivers.clock.now(), self.peer.addr, &why);
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
            let event = self.next_event(&mut tick).await?;
            if !matches!(event, Event::Tick) {
                let now = self.now();
                self.vigil.on_away(now);
            }
            match event {
                Event::Answered(answer, held) => self.take_answers(answer, &held),
                Event::Read(0) => return Err(End::Closed),
                Event::Read(bytes) => {
                    let (now, unfinished) = (self.now(), self.unfinished());
                    self.vigil.on_bytes(now, bytes, unfinished);
                }
                Event::Memory(memory) => match &mut self.reserved {
                    Some(reserved) => reserved.merge(memory),
                    None => self.reserved = Some(memory),
                },
                Event::Tick => self.on_tick()?,
                Event::Stop => return self.drain().await,
            }
            // A full connection may have frames that waited for an answer to go out.
            while self.start_frames().await? {
                self.flush().await?;
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
        // A whole frame that is still there waits for an answer to go out; what comes after it is not read.
        let room = self.in_flight.len() < IN_FLIGHT_MAX && !self.has_frame();
        let claim = self.claim().filter(|_| room);
        let now = self.now();
        if claim.is_none() || self.reserved.is_none() {
            self.stuck_since = None;
        } else {
            self.stuck_since.get_or_insert(now);
        }
        if room && claim.is_none() {
            self.make_room();
            self.vigil.on_listening(now);
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
            Some((answer, held)) = in_flight.next() => Ok(Event::Answered(answer, held)),
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

    /// Whether a whole frame is there.
    fn has_frame(&self) -> bool {
        self.frame_bytes()
            .is_some_and(|bytes| bytes <= self.inbox.len())
    }

    /// The size of the frame that the bytes at hand leave unfinished, if they do: 0 before its length is known.
    fn unfinished(&self) -> Option<usize> {
        let mut rest = &self.inbox[..];
        while let Some((prefix, tail)) = rest.split_first_chunk::<4>() {
            let size = usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(0);
            match tail.get(size..) {
                Some(next) => rest = next,
                None => return Some(size),
            }
        }
        (!rest.is_empty()).then_some(0)
    }

    /// Units of request memory that must be had before more of a large frame is read: for as much as the peer has proved that it
    /// delivers, or for twice what it has delivered. Who only says that a large frame comes holds nothing.
    fn claim(&self) -> Option<u32> {
        let whole = self.frame_bytes().filter(|bytes| *bytes > TRUST_MIN)?;
        let held = self.held_units();
        let free = if held == 0 && self.trusted <= TRUST_MIN {
            TRUST_MIN
        } else {
            held * MEMORY_UNIT
        };
        let wanted = whole.min(self.trusted.max(2 * self.inbox.len()));
        let units = (wanted / MEMORY_UNIT).min(self.server.request_memory_units);
        if self.inbox.len() < free || units <= held {
            return None;
        }
        Some(u32::try_from(units - held).unwrap_or(u32::MAX))
    }

    fn held_units(&self) -> usize {
        self.reserved
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
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

    /// Starts every request whose frame is whole, as far as there is room for their answers. True if more can be started once the
    /// outbox is written.
    async fn start_frames(&mut self) -> Result<bool, End> {
        let max =
            usize::try_from(self.server.node.config.socket_request_max_bytes).unwrap_or(usize::MAX);
        while self.end.is_none() && self.in_flight.len() < IN_FLIGHT_MAX {
            if self.must_wait() {
                return Ok(!self.outbox.is_empty());
            }
            let Some(memory) = self.take_memory() else {
                return Ok(false);
            };
            let frame = take_frame(&mut self.inbox, max);
            let Some(frame) = frame.map_err(|error| End::Refused(error.to_string()))? else {
                return Ok(false);
            };
            self.trusted = self.trusted.max(frame.len());
            self.expect = (frame.len() + 4).clamp(READ_MIN, TRUST_MIN);
            let held = Held {
                bytes: frame.len(),
                _memory: self.reserved.take().or(memory),
            };
            match dispatch(&self.server.node, &self.peer, frame).await {
                Started::Done(answer) if self.in_flight.is_empty() => self.put(answer),
                Started::Done(answer) => {
                    let bytes = held.bytes;
                    self.owe(std::future::ready((answer, held)).boxed(), bytes);
                }
                Started::Later(answer) => {
                    let bytes = held.bytes;
                    self.owe(answer.map(move |answer| (answer, held)).boxed(), bytes);
                }
            }
        }
        Ok(false)
    }

    fn owe(&mut self, answer: InFlight, bytes: usize) {
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(answer);
    }

    /// Whether the next frame is held back until what is owed has been written.
    fn must_wait(&self) -> bool {
        if self.in_flight.is_empty() && self.outbox.is_empty() {
            return false;
        }
        let api_key = self.inbox.get(4..6).and_then(|key| key.try_into().ok());
        self.outbox_bytes >= OUTBOX_MAX
            || api_key.is_some_and(|key| answers_broadly(i16::from_be_bytes(key)))
    }

    /// Memory for one more small frame: none where the connection holds little. `None`: there is none left, an answer must go out
    /// first.
    #[expect(clippy::option_option, reason = "no memory needed, some, or none left")]
    fn take_memory(&self) -> Option<Option<OwnedSemaphorePermit>> {
        let bytes = self
            .frame_bytes()
            .filter(|bytes| *bytes <= self.inbox.len());
        let bytes = bytes.filter(|_| self.reserved.is_none()).unwrap_or(0);
        if self.in_flight.is_empty() || self.in_flight_bytes + bytes <= IN_FLIGHT_FREE {
            return Some(None);
        }
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.server.request_memory).try_acquire_many_owned(units);
        memory.ok().map(Some)
    }

    /// Puts `first` and every further answer that is ready in turn into the outbox.
    fn take_answers(&mut self, first: Answer, held: &Held) {
        self.in_flight_bytes -= held.bytes;
        self.put(first);
        while self.end.is_none() && self.outbox_bytes < OUTBOX_MAX {
            let Some((answer, held)) = self.in_flight.next().now_or_never().flatten() else {
                break;
            };
            self.in_flight_bytes -= held.bytes;
            self.put(answer);
        }
    }

    /// Puts an answer into the outbox.
    fn put(&mut self, answer: Answer) {
        match answer {
            Answer::Segments(segments) => {
                let bytes = segments.iter().map(in_memory).sum::<usize>();
                self.outbox_bytes += bytes;
                self.outbox.extend(segments);
                let all = self.server.answer_bytes.fetch_add(bytes, Relaxed) + bytes;
                if bytes > OUTBOX_MAX && all / MEMORY_UNIT > self.server.request_memory_units {
                    let why = format!(
                        "{all} bytes of answers wait for peers that do not read (queued.max.request.bytes)"
                    );
                    self.end = self.end.take().or(Some(End::Refused(why)));
                    self.outbox.clear();
                    self.written();
                }
            }
            Answer::Nothing => {}
            Answer::Close(why) => self.end = self.end.take().or(Some(End::Refused(why))),
        }
    }

    /// Writes what the outbox holds; then ends, if an answer said so. A stopping broker does not wait long for a peer that does not
    /// read.
    async fn flush(&mut self) -> Result<(), End> {
        if !self.outbox.is_empty() {
            let Connection {
                server,
                socket,
                outbox,
                ..
            } = self;
            let stopped = async {
                server.stop.cancelled().await;
                server.node.drivers.clock.sleep(DRAIN_MAX).await;
            };
            tokio::select! {
                biased;
                written = write_all(&mut **socket, outbox, &*server.node.drivers.clock) => written?,
                () = stopped => return Err(End::Closed),
            }
            self.written();
            let now = self.now();
            self.vigil.on_response(now);
        }
        self.end.take().map_or(Ok(()), Err)
    }

    /// The outbox is empty, or given up.
    fn written(&mut self) {
        let bytes = std::mem::take(&mut self.outbox_bytes);
        self.server.answer_bytes.fetch_sub(bytes, Relaxed);
    }

    fn on_tick(&mut self) -> Result<(), End> {
        let now = self.now();
        if self.inbox.is_empty() {
            // A quiet connection gives its buffer back.
            self.inbox = BytesMut::new();
            self.expect = READ_MIN;
        }
        // Several that hold some memory and wait for more would wait for each other: one after the other gives up.
        if self
            .stuck_since
            .is_some_and(|since| since + MEMORY_WAIT_MAX <= now)
        {
            let why = format!(
                "no memory for a request of {} bytes (queued.max.request.bytes)",
                self.frame_bytes().unwrap_or(0)
            );
            return Err(End::Refused(why));
        }
        match self.vigil.on_tick(now, !self.in_flight.is_empty()) {
            Verdict::Keep(_) => Ok(()),
            Verdict::Close(why) => Err(End::Refused(why.to_owned())),
        }
    }

    /// The broker stops: what was begun is answered, nothing new is read.
    async fn drain(&mut self) -> Result<(), End> {
        let finish = async {
            while let Some((answer, held)) = self.in_flight.next().await {
                self.take_answers(answer, &held);
                self.flush().await?;
            }
            Err(End::Closed)
        };
        tokio::time::timeout(DRAIN_MAX, finish)
            .await
            .unwrap_or(Err(End::Closed))
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.written();
    }
}

/// Bytes of memory that a segment holds.
fn in_memory(segment: &Segment) -> usize {
    match segment {
        Segment::Bytes(bytes) => bytes.len(),
        Segment::File(_) => 0,
    }
}
