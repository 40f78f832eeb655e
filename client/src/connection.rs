//! One socket to one broker, with many requests in flight.
//!
//! Owns framing, correlation, the agreed API versions and the time-out of each request. `client.rs` opens connections and
//! replaces dead ones; it and the producer's and consumer's tasks send through them. A broker answers in the order of the
//! requests, so what is expected is a queue; an answer out of turn ends the connection.
//!
//! The bytes of a request are shared, immutable [`Bytes`] held here until they are written or the connection is gone: no
//! buffer is ever reused under a request on its way (CVE-2026-35554).

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use flumen_protocol::api::{self, ApiKey};
use flumen_protocol::codec::{Message, Request};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::frame::{
    RequestHeader, decode_response, encode_request_segments, peek_correlation_id, take_frame,
};
use flumen_protocol::message::{ApiVersionsRequest, ApiVersionsResponse};
use flumen_protocol::segment::Segment;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::config::ClientConfig;
use crate::error::{ClientError, Failure};
use crate::metadata::Endpoint;
use crate::runtime::{self, Task};
use crate::transport::Duplex;

/// What the broker offers.
#[derive(Debug, Default)]
struct Offer {
    versions: BTreeMap<i16, (i16, i16)>,
    /// Finalized level of `transaction.version`; 2 and above is TV2 (KIP-890).
    transaction_version: i16,
}

#[derive(Debug)]
struct Expected {
    correlation_id: i32,
    reply: oneshot::Sender<Bytes>,
}

/// Requests sent and not answered; `closed` says why there will be no more.
#[derive(Debug, Default)]
struct Pending {
    expected: VecDeque<Expected>,
    closed: Option<String>,
}

impl Pending {
    fn close(&mut self, reason: impl Into<String>) {
        self.closed.get_or_insert_with(|| reason.into());
        self.expected.clear();
    }
}

/// See the head of this file. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    label: String,
    client_id: String,
    request_timeout: Duration,
    next_correlation: AtomicI32,
    pending: Arc<Mutex<Pending>>,
    frames: mpsc::UnboundedSender<Vec<Bytes>>,
    offer: Offer,
    _tasks: [Task; 2],
}

impl Connection {
    /// Opens a socket and agrees on versions, within the connect time-out.
    ///
    /// `label` names the broker in errors: `1 (localhost:9092)`.
    pub(crate) async fn open(
        config: &ClientConfig,
        label: String,
        endpoint: &Endpoint,
    ) -> Result<Connection, ClientError> {
        let unreachable = |reason: String| {
            ClientError::Unavailable(Failure::new("connection", reason).at_broker(&label))
        };
        let opening = async {
            let stream = config
                .transport
                .connect(&endpoint.host, endpoint.port)
                .await;
            let stream = stream.map_err(|error| unreachable(error.to_string()))?;
            let mut connection = Connection::over(config, label.clone(), stream);
            connection.offer = connection.agree().await?;
            Ok(connection)
        };
        match tokio::time::timeout(config.connect_timeout, opening).await {
            Ok(result) => result,
            Err(_) => Err(unreachable("no connection in time".to_owned())),
        }
    }

    fn over(config: &ClientConfig, label: String, stream: Box<dyn Duplex>) -> Connection {
        let (input, output) = tokio::io::split(stream);
        let (frames, queue) = mpsc::unbounded_channel();
        let pending = Arc::new(Mutex::new(Pending::default()));
        let reader = runtime::spawn(read(input, Arc::clone(&pending), config.receive_bytes_max));
        let writer = runtime::spawn(write(output, queue, Arc::clone(&pending)));
        Connection {
            label,
            client_id: config.client_id.clone(),
            request_timeout: config.request_timeout,
            next_correlation: AtomicI32::new(0),
            pending,
            frames,
            offer: Offer::default(),
            _tasks: [reader, writer],
        }
    }

    /// Asks what the broker offers: with our newest version first, and with version 0 if the broker does not know that.
    async fn agree(&self) -> Result<Offer, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "flumen".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ApiVersionsRequest::default()
        };
        let newest = *api::versions(ApiKey::ApiVersions).end();
        let frame = self.exchange(newest, &request).await?;
        // A broker that does not know the version answers in version 0 with error 35 (KIP-511).
        let too_new = frame.get(4..6) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
        let response: ApiVersionsResponse = if too_new {
            let frame = self.exchange(0, &ApiVersionsRequest::default()).await?;
            self.decode::<ApiVersionsRequest>(frame, 0)?
        } else {
            self.decode::<ApiVersionsRequest>(frame, newest)?
        };
        let code = ErrorCode::from_code(response.error_code);
        if code != ErrorCode::None {
            return Err(crate::error::refused(code, "connection")
                .map(|failure| failure.in_api("ApiVersions").at_broker(&self.label)));
        }
        let finalized = response.finalized_features.iter();
        let transaction_version = finalized
            .filter(|feature| feature.name == "transaction.version")
            .map(|feature| feature.max_version_level)
            .next();
        let range = |key: &flumen_protocol::message::api_versions_response::ApiVersion| {
            (key.api_key, (key.min_version, key.max_version))
        };
        Ok(Offer {
            versions: response.api_keys.iter().map(range).collect(),
            transaction_version: transaction_version.unwrap_or(0),
        })
    }

    /// The broker, as errors name it.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Finalized level of `transaction.version`.
    pub(crate) fn transaction_version(&self) -> i16 {
        self.offer.transaction_version
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.pending.lock().closed.is_none()
    }

    /// The newest version of an API that both sides know, at most `cap`.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`]: there is none.
    pub(crate) fn version(&self, key: ApiKey, cap: i16) -> Result<i16, ClientError> {
        let ours = api::versions(key);
        let unsupported = |theirs: &str| {
            let reason = format!(
                "this client speaks versions {}-{}, the broker {theirs}",
                ours.start(),
                cap.min(*ours.end())
            );
            let failure = Failure::new("version", reason);
            ClientError::Unsupported(failure.in_api(key.name()).at_broker(&self.label))
        };
        let Some((min, max)) = self.offer.versions.get(&key.code()).copied() else {
            return Err(unsupported("none"));
        };
        let version = max.min(*ours.end()).min(cap);
        if version < min.max(*ours.start()) {
            return Err(unsupported(&format!("{min}-{max}")));
        }
        Ok(version)
    }

    /// Sends a request now, in the order of the calls, and gives the future of its answer.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`]: the connection is gone, nothing was sent. [`ClientError::Unsupported`]: the request has a value
    /// that this version cannot carry.
    pub(crate) fn submit<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<Reply<R>, ClientError> {
        let answer = self.enqueue(version, request)?;
        Ok(Reply {
            answer,
            version,
            label: self.label.clone(),
            timeout: self.request_timeout,
            pending: Arc::clone(&self.pending),
            shape: PhantomData,
        })
    }

    /// Sends a request that is never answered: Produce with `acks` none.
    pub(crate) fn submit_unanswered<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<(), ClientError> {
        let (_, frame) = self.encode(version, request)?;
        let pending = self.pending.lock();
        if let Some(reason) = &pending.closed {
            return Err(lost(&self.label, R::API, reason));
        }
        self.frames
            .send(frame)
            .map_err(|_| lost(&self.label, R::API, "closed"))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`Connection::submit`] and [`Reply::wait`].
    pub(crate) async fn request<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.submit(version, request)?.wait().await
    }

    /// The same, for a request the broker may park for this long.
    pub(crate) async fn request_within<R: Request>(
        &self,
        version: i16,
        request: &R,
        parked: Duration,
    ) -> Result<R::Response, ClientError> {
        let mut reply = self.submit(version, request)?;
        reply.timeout += parked;
        reply.wait().await
    }

    async fn exchange<R: Request>(&self, version: i16, request: &R) -> Result<Bytes, ClientError> {
        self.enqueue(version, request)?.await.map_err(|_| {
            let reason = self.pending.lock().closed.clone().unwrap_or_default();
            lost(&self.label, R::API, &reason)
        })
    }

    fn enqueue<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<oneshot::Receiver<Bytes>, ClientError> {
        let (correlation_id, frame) = self.encode(version, request)?;
        let (reply, answer) = oneshot::channel();
        // One lock around both, so that answers are expected in the order in which requests leave.
        let mut pending = self.pending.lock();
        if let Some(reason) = &pending.closed {
            return Err(lost(&self.label, R::API, reason));
        }
        if self.frames.send(frame).is_err() {
            return Err(lost(&self.label, R::API, "closed"));
        }
        pending.expected.push_back(Expected {
            correlation_id,
            reply,
        });
        Ok(answer)
    }

    fn encode<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<(i32, Vec<Bytes>), ClientError> {
        let correlation_id = self.next_correlation.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader {
            api_key: R::API.code(),
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let refuse = |reason: String| {
            let failure = Failure::new("request", reason);
            ClientError::Unsupported(failure.in_api(R::API.name()).at_broker(&self.label))
        };
        let segments = encode_request_segments(&header, request)
            .map_err(|error| refuse(format!("version {version}: {error}")))?;
        let frame = segments
            .into_iter()
            .map(|segment| match segment {
                Segment::Bytes(bytes) => Ok(bytes),
                Segment::File(_) => Err(refuse("a client sends no files".to_owned())),
            })
            .collect::<Result<Vec<Bytes>, ClientError>>()?;
        Ok((correlation_id, frame))
    }

    fn decode<R: Request>(&self, frame: Bytes, version: i16) -> Result<R::Response, ClientError> {
        decode::<R>(&self.label, frame, version)
    }
}

/// The answer to come.
#[derive(Debug)]
pub(crate) struct Reply<R> {
    answer: oneshot::Receiver<Bytes>,
    version: i16,
    label: String,
    timeout: Duration,
    pending: Arc<Mutex<Pending>>,
    shape: PhantomData<fn() -> R>,
}

impl<R: Request> Reply<R> {
    /// The answer. If it does not come in time the connection is given up: what follows on it would be late as well.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`]: the connection is gone; whether the request took effect is unknown. [`ClientError::Timeout`]: the
    /// same, by time. [`ClientError::Corrupt`]: the answer cannot be read.
    pub(crate) async fn wait(self) -> Result<R::Response, ClientError> {
        match tokio::time::timeout(self.timeout, self.answer).await {
            Ok(Ok(frame)) => decode::<R>(&self.label, frame, self.version),
            Ok(Err(_)) => {
                let reason = self.pending.lock().closed.clone().unwrap_or_default();
                Err(lost(&self.label, R::API, &reason))
            }
            Err(_) => {
                let reason = format!("no answer to {} within {:?}", R::API.name(), self.timeout);
                self.pending.lock().close(reason.clone());
                let failure = Failure::new("connection", reason);
                Err(ClientError::Timeout(
                    failure.in_api(R::API.name()).at_broker(&self.label),
                ))
            }
        }
    }
}

fn decode<R: Request>(label: &str, frame: Bytes, version: i16) -> Result<R::Response, ClientError> {
    let decoded = decode_response::<R>(frame, version).map_err(|error| {
        let failure = Failure::new(<R::Response as Message>::NAME, error.to_string());
        ClientError::Corrupt(failure.in_api(R::API.name()).at_broker(label))
    })?;
    Ok(decoded.1)
}

fn lost(label: &str, key: ApiKey, reason: &str) -> ClientError {
    let failure = Failure::new("connection", format!("lost: {reason}"));
    ClientError::Unavailable(failure.in_api(key.name()).at_broker(label))
}

/// Reads answers and hands each to who expects it, until the socket or the broker's sense of order ends.
async fn read(
    mut input: tokio::io::ReadHalf<Box<dyn Duplex>>,
    pending: Arc<Mutex<Pending>>,
    max: usize,
) {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let reason = loop {
        match take_frame(&mut buffer, max) {
            Ok(Some(frame)) => match deliver(&pending, frame) {
                Ok(()) => continue,
                Err(reason) => break reason,
            },
            Ok(None) => {}
            Err(error) => break error.to_string(),
        }
        reserve(&mut buffer);
        match input.read_buf(&mut buffer).await {
            Ok(0) => break "closed by the broker".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
        if pending.lock().closed.is_some() {
            return;
        }
    };
    pending.lock().close(reason);
}

const READ_BYTES: usize = 64 * 1024;

/// Room for the rest of the frame that has begun, but no more than a few reads at once: a length is only a claim.
fn reserve(buffer: &mut BytesMut) {
    let missing = match buffer.first_chunk::<4>() {
        Some(prefix) => usize::try_from(i32::from_be_bytes(*prefix))
            .unwrap_or(0)
            .saturating_add(4)
            .saturating_sub(buffer.len()),
        None => 0,
    };
    buffer.reserve(missing.clamp(READ_BYTES / 4, 64 * READ_BYTES));
}

fn deliver(pending: &Mutex<Pending>, frame: Bytes) -> Result<(), String> {
    let correlation_id = peek_correlation_id(&frame).map_err(|error| error.to_string())?;
    let expected = pending.lock().expected.pop_front();
    match expected {
        Some(expected) if expected.correlation_id == correlation_id => {
            // Who gave up waiting is not told.
            let _ = expected.reply.send(frame);
            Ok(())
        }
        Some(expected) => Err(format!(
            "answer {correlation_id} where {} was due",
            expected.correlation_id
        )),
        None => Err(format!("answer {correlation_id} that nobody asked for")),
    }
}

/// Writes requests in order, several in one system call where they have piled up.
async fn write(
    mut output: tokio::io::WriteHalf<Box<dyn Duplex>>,
    mut queue: mpsc::UnboundedReceiver<Vec<Bytes>>,
    pending: Arc<Mutex<Pending>>,
) {
    while let Some(frame) = queue.recv().await {
        let mut parts: VecDeque<Bytes> = frame.into();
        while parts.len() < WRITE_PARTS
            && let Ok(frame) = queue.try_recv()
        {
            parts.extend(frame);
        }
        if let Err(error) = write_all(&mut output, parts).await {
            pending.lock().close(error.to_string());
            return;
        }
        if pending.lock().closed.is_some() {
            break;
        }
    }
    // Nothing to do about a socket that does not even close.
    let _ = output.shutdown().await;
}

/// Parts of one vectored write; systems allow 1024.
const WRITE_PARTS: usize = 64;

async fn write_all(
    output: &mut (impl AsyncWrite + Unpin),
    mut parts: VecDeque<Bytes>,
) -> io::Result<()> {
    while let Some(first) = parts.front() {
        if first.is_empty() {
            parts.pop_front();
            continue;
        }
        let slices: Vec<IoSlice<'_>> = parts
            .iter()
            .take(WRITE_PARTS)
            .map(|part| IoSlice::new(part))
            .collect();
        let mut written = output.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(part) = parts.front_mut()
            && written > 0
        {
            let step = written.min(part.len());
            part.advance(step);
            written -= step;
            if part.is_empty() {
                parts.pop_front();
            }
        }
    }
    output.flush().await
}
