//! A connection that speaks raw frames: what a client must never send is sent from here.
//!
//! Used by `bad_input.rs`; it knows bytes and sockets, nothing of what a broker should answer.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use flumen::protocol::codec::Request;
use flumen::protocol::frame::{RequestHeader, decode_response, encode_request};

use crate::server::{PATIENCE, Server};

/// One TCP connection to a broker.
#[derive(Debug)]
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) fn connect(server: &Server) -> Wire {
        let stream = TcpStream::connect(server.address()).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Wire(stream)
    }

    /// Bytes as they are. A broker that hangs up in the middle is fine.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The next frame without its length, or `None` when the broker closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
        self.0.read_exact(&mut frame).ok()?;
        Some(frame.into())
    }

    /// True when the broker hangs up without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// A well-formed request and its answer.
    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(&frame(version, request));
        let answer = self.receive().expect("an answer");
        decode_response::<R>(answer, version)
            .expect("a well-formed answer")
            .1
    }
}

/// The frame of a request, with its length.
pub(crate) fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let header = RequestHeader {
        api_key: R::API.code(),
        api_version: version,
        correlation_id: 7,
        client_id: Some("e2e".to_owned()),
    };
    encode_request(&header, request).expect("encodable")
}
