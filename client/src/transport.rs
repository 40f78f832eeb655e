//! Driver: how bytes reach a broker.
//!
//! Owns the [`Transport`] trait and [`TcpTransport`], the real one. `connection.rs` is the only caller. The simulator
//! brings a transport of its network, tests bring one made of in-memory pipes; nothing else in this
//! crate opens a socket.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The future of [`Transport::connect`].
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send + 'a>>;

/// Opens byte streams to brokers.
///
/// Two exist: [`TcpTransport`], and those of the simulator and the tests.
pub trait Transport: Debug + Send + Sync + 'static {
    /// Opens a stream to `host:port`. The caller bounds the time.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a>;
}

/// Plain TCP, without Nagle's delay.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpTransport;

impl Transport for TcpTransport {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this crate that opens a socket"
    )]
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}
