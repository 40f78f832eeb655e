//! The REST socket within limits: so many connections at once, and none that is silent for ever (slow-loris).
//!
//! Wraps the listener that `rest.rs` opens. Knows nothing of HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::runtime;

/// Connections at once; whoever comes then waits in the system's queue.
const CONNECTIONS_MAX: usize = 256;
/// A connection on which nothing moves for so long is closed, also one that waits for an answer.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A listener within limits.
pub(super) struct Guarded<L> {
    listener: L,
    places: Arc<Semaphore>,
}

impl<L> Guarded<L> {
    pub(super) fn new(listener: L) -> Guarded<L> {
        Guarded {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }
}

impl<L: Listener> Listener for Guarded<L> {
    type Io = Guard<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let (io, addr) = self.listener.accept().await;
        let guard = Guard {
            io,
            silence: silence(),
            _place: place,
        };
        (guard, addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

type Silence = Pin<Box<dyn Future<Output = ()> + Send>>;

fn silence() -> Silence {
    Box::pin(runtime::sleep(SILENCE_MAX))
}

/// A connection that counts how long nothing has moved.
pub(super) struct Guard<I> {
    io: I,
    silence: Silence,
    _place: OwnedSemaphorePermit,
}

impl<I> Guard<I> {
    /// What a read or write said; an error if it has been saying nothing for too long.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        said: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.silence = silence();
            return said;
        }
        match self.silence.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.io).poll_read(context, buffer);
        self.judge(context, said)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(context, said)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::mpsc;

    use super::*;

    /// Connections from within this test.
    struct Inside(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Inside {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(io) => (io, ()),
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn serve() -> mpsc::UnboundedSender<DuplexStream> {
        let (knock, door) = mpsc::unbounded_channel();
        let routes = Router::new().route("/", get(|| async { "here" }));
        let serving = axum::serve(Guarded::new(Inside(door)), routes);
        drop(runtime::spawn(
            "test",
            std::future::IntoFuture::into_future(serving),
        ));
        knock
    }

    fn connect(knock: &mpsc::UnboundedSender<DuplexStream>) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1024);
        knock.send(far).unwrap();
        near
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_silent_is_hung_up_on_whatever_he_has_begun() {
        let knock = serve();
        for begun in ["", "GET / HT"] {
            let begin = runtime::now();
            let mut slow = connect(&knock);
            slow.write_all(begun.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            // Hung up on, with or without a last word.
            drop(slow.read_to_end(&mut rest).await);
            assert_eq!(runtime::now() - begin, SILENCE_MAX, "{begun:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_beyond_the_limit_wait_for_a_place() {
        let knock = serve();
        let mut silent: Vec<DuplexStream> = (0..CONNECTIONS_MAX).map(|_| connect(&knock)).collect();
        let mut one_more = connect(&knock);
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        one_more.write_all(request).await.unwrap();
        let mut answer = String::new();
        let moment = Duration::from_secs(1);
        let waited = tokio::time::timeout(moment, one_more.read_to_string(&mut answer)).await;
        assert!(waited.is_err(), "{answer}");
        drop(silent.pop());
        one_more.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here"), "{answer}");
    }
}
