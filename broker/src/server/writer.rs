//! Writes response segments to a socket: bytes by vectored writes, file ranges by sendfile where the socket is a real one.
//!
//! Called by `connection.rs` with whole responses in request order. A peer that takes less than [`PROGRESS_BYTES`] in [`STALL_MAX`],
//! though more is there, is given up: it would hold the memory of its answers for ever.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use flumen_protocol::segment::{FileRange, Segment};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::clock::{Clock, Instant};
use crate::driver::Socket;

/// A peer that does not take [`PROGRESS_BYTES`] within this is dropped.
const STALL_MAX: Duration = Duration::from_secs(30);
/// See [`STALL_MAX`].
const PROGRESS_BYTES: usize = 10 * 1024;
/// Slices in one vectored write.
const SLICES_MAX: usize = 64;
/// Piece of a file that is read at once where sendfile cannot be used.
const COPY_BYTES: usize = 256 * 1024;
/// Most bytes one sendfile call is asked for.
const SENDFILE_BYTES: usize = 1 << 20;

/// Writes everything in `outbox` and leaves it empty.
///
/// # Errors
/// Whatever the socket says; `TimedOut` if the peer stopped reading; `UnexpectedEof` if a file is shorter than its range.
pub(crate) async fn write_all(
    socket: &mut dyn Socket,
    outbox: &mut VecDeque<Segment>,
    clock: &dyn Clock,
) -> io::Result<()> {
    let mut patience = Patience::new(clock);
    while let Some(next) = outbox.front_mut() {
        match next {
            Segment::File(range) if range.len == 0 => {
                outbox.pop_front();
            }
            Segment::File(range) => {
                send_range(socket, range, &mut patience).await?;
                outbox.pop_front();
            }
            Segment::Bytes(_) => {
                let written = patience.wait(write_slices(socket, outbox)).await?;
                advance(outbox, written);
            }
        }
    }
    Ok(())
}

/// How long the peer may still take for its next [`PROGRESS_BYTES`].
struct Patience<'a> {
    clock: &'a dyn Clock,
    until: Instant,
    taken: usize,
}

impl Patience<'_> {
    fn new(clock: &dyn Clock) -> Patience<'_> {
        Patience {
            clock,
            until: clock.now() + STALL_MAX,
            taken: 0,
        }
    }

    /// A write of some bytes, if the peer takes them in time.
    async fn wait(&mut self, write: impl Future<Output = io::Result<usize>>) -> io::Result<usize> {
        let written = tokio::time::timeout_at(self.until, write)
            .await
            .map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer does not read its responses",
                )
            })??;
        self.taken += written;
        if self.taken >= PROGRESS_BYTES {
            self.taken = 0;
            self.until = self.clock.now() + STALL_MAX;
        }
        Ok(written)
    }
}

async fn write_slices(socket: &mut dyn Socket, outbox: &VecDeque<Segment>) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    let mut more = false;
    for segment in outbox.iter().take(SLICES_MAX) {
        let Segment::Bytes(bytes) = segment else {
            more = !segment.is_empty();
            break;
        };
        slices[count] = IoSlice::new(bytes);
        count += 1;
    }
    let slices = &slices[..count];
    if slices.iter().all(|slice| slice.is_empty()) {
        return Ok(0);
    }
    let written = match socket.as_tcp().filter(|_| more) {
        Some(tcp) => send_before_file(tcp, slices).await?,
        None => {
            let mut socket = Pin::new(socket);
            poll_fn(|cx| socket.as_mut().poll_write_vectored(cx, slices)).await?
        }
    };
    if written == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(written)
    }
}

/// Sends what a file range follows: the kernel keeps it for the same packets, and the peer is woken once for both.
async fn send_before_file(tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    let send = || {
        let mut no_control = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(tcp, slices, &mut no_control, flags)?)
    };
    tcp.async_io(Interest::WRITABLE, send).await
}

/// Takes `written` bytes, and empty segments, off the front.
fn advance(outbox: &mut VecDeque<Segment>, mut written: usize) {
    while let Some(Segment::Bytes(bytes)) = outbox.front_mut() {
        if bytes.len() > written {
            bytes.advance(written);
            return;
        }
        written -= bytes.len();
        outbox.pop_front();
    }
}

async fn send_range(
    socket: &mut dyn Socket,
    range: &mut FileRange,
    patience: &mut Patience<'_>,
) -> io::Result<()> {
    if socket.as_tcp().is_some() && range.source.as_fd().is_some() {
        while range.len > 0 {
            let sent = patience.wait(sendfile(&*socket, range)).await?;
            range.position += sent as u64;
            range.len -= sent;
        }
        return Ok(());
    }
    while range.len > 0 {
        let mut piece = vec![0; range.len.min(COPY_BYTES)];
        let read = range.source.read_at(&mut piece, range.position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        range.position += read as u64;
        range.len -= read;
        let mut copied = VecDeque::from([Segment::Bytes(Bytes::from(piece))]);
        while !copied.is_empty() {
            let written = patience.wait(write_slices(socket, &copied)).await?;
            advance(&mut copied, written);
        }
    }
    Ok(())
}

async fn sendfile(socket: &dyn Socket, range: &FileRange) -> io::Result<usize> {
    let tcp = socket.as_tcp().expect("checked by the caller");
    let file = range.source.as_fd().expect("checked by the caller");
    let sent = tcp
        .async_io(Interest::WRITABLE, || {
            let mut position = range.position;
            Ok(rustix::fs::sendfile(
                tcp,
                file,
                Some(&mut position),
                range.len.min(SENDFILE_BYTES),
            )?)
        })
        .await?;
    if sent == 0 {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(sent)
    }
}
