//! A broker of one topic in memory, speaking real frames, that loses, delays and refuses as a test says.

mod answers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use flumen_client::{Client, ClientConfig, Connecting, Duplex, Transport};
use flumen_protocol::api::ApiKey;
use flumen_protocol::batch::{RecordBatch, assign_offsets};
use flumen_protocol::codec::{Message, Reader, Request};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::frame::{decode_request_header, encode_response, take_frame};
use flumen_protocol::id::TopicId;
use flumen_protocol::message::*;
use flumen_protocol::segment::Segment;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;

use answers::find_coordinator;

/// The only topic.
pub(crate) const TOPIC: &str = "orders";

/// What happens to the next request of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Performed, then the connection breaks before the answer.
    AnswerLost,
    /// The connection breaks before anything is performed.
    RequestLost,
    /// Performed and answered, then the connection breaks.
    LostAfterwards,
    /// Never answered; the connection stays.
    Silence,
    /// Every partition is refused with this code.
    Refuse(ErrorCode),
    /// Refused as not the leader, which is named (KIP-951).
    LeaderIs(i32),
    /// Answered under another correlation id.
    WrongCorrelation,
    /// The answer claims to be this long.
    Length(i32),
}

/// One partition's log: whole batches with their offsets.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) aborted: Vec<(i64, i64)>,
    /// Producer id → epoch and last sequence.
    producers: BTreeMap<i64, (i16, i32)>,
}

impl Log {
    pub(crate) fn append(&mut self, batch: &Bytes) -> (ErrorCode, i64) {
        let header = *RecordBatch::parse(batch.clone()).unwrap().header();
        if header.has_producer_id() {
            let known = self.producers.get(&header.producer_id).copied();
            let next = match known {
                Some((epoch, last)) if epoch == header.producer_epoch => last + 1,
                _ => 0,
            };
            if header.base_sequence < next {
                return (ErrorCode::DuplicateSequenceNumber, -1);
            }
            if header.base_sequence > next {
                return (ErrorCode::OutOfOrderSequenceNumber, -1);
            }
            let state = (header.producer_epoch, header.last_sequence());
            self.producers.insert(header.producer_id, state);
        }
        let base = self.end;
        let mut bytes = BytesMut::from(&batch[..]);
        assign_offsets(&mut bytes, base, 0);
        let batch = RecordBatch::parse(bytes.freeze()).unwrap();
        batch.verify_crc().unwrap();
        self.end = batch.header().next_offset();
        self.batches.push(batch);
        (ErrorCode::None, base)
    }

    /// All values, as text.
    pub(crate) fn values(&self) -> Vec<String> {
        let records = |batch: &RecordBatch| batch.records(DecompressionLimit::DEFAULT).unwrap();
        let all = self
            .batches
            .iter()
            .filter(|batch| !batch.header().is_control())
            .flat_map(records);
        all.map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
            .collect()
    }
}

/// What the broker is and has.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) logs: Vec<Log>,
    pub(crate) faults: BTreeMap<ApiKey, VecDeque<Fault>>,
    /// API and version of everything asked, in order.
    pub(crate) asked: Vec<(ApiKey, i16)>,
    /// How many connections were opened to each port.
    pub(crate) connections: BTreeMap<u16, usize>,
    /// Who leads the topic: broker 1 listens on port 1, broker 2 on port 2.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    /// The highest version offered of some APIs; none takes an API away.
    pub(crate) caps: BTreeMap<ApiKey, Option<i16>>,
    pub(crate) transaction_version: i16,
    pub(crate) epoch: i16,
    pub(crate) committed: BTreeMap<i32, i64>,
    /// Topics that were created beside the only one; nothing can be written to them.
    pub(crate) created: BTreeSet<String>,
    /// While set, nothing is read from any socket.
    pub(crate) stalled: bool,
    pub(crate) topic_id: TopicId,
}

/// The broker, and how to reach it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    changed: Arc<Notify>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Transport for Fake {
    fn connect<'a>(&'a self, _host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            *self
                .cluster
                .lock()
                .unwrap()
                .connections
                .entry(port)
                .or_default() += 1;
            let (ours, theirs) = tokio::io::duplex(16 * 1024);
            tokio::spawn(self.clone().serve(theirs, i32::from(port)));
            Ok(Box::new(ours) as Box<dyn Duplex>)
        })
    }
}

impl Fake {
    pub(crate) fn new(partitions: usize) -> Fake {
        Fake {
            cluster: Arc::new(Mutex::new(Cluster {
                logs: vec![Log::default(); partitions],
                faults: BTreeMap::new(),
                asked: Vec::new(),
                connections: BTreeMap::new(),
                leader: 1,
                leader_epoch: 0,
                caps: BTreeMap::new(),
                transaction_version: 2,
                epoch: -1,
                committed: BTreeMap::new(),
                created: BTreeSet::new(),
                stalled: false,
                topic_id: TopicId([7; 16]),
            })),
            changed: Arc::new(Notify::new()),
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let transport = Arc::new(self.clone());
        ClientConfig {
            transport,
            seed: Some(1),
            ..ClientConfig::new("fake:1")
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.unwrap()
    }

    /// Changes or looks at the broker.
    pub(crate) fn with<T>(&self, touch: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = touch(&mut self.cluster.lock().unwrap());
        self.changed.notify_waiters();
        result
    }

    /// The next requests of `key` meet these faults, one after the other.
    pub(crate) fn fault(&self, key: ApiKey, faults: &[Fault]) {
        self.with(|cluster| cluster.faults.entry(key).or_default().extend(faults));
    }

    /// How often an API was asked.
    pub(crate) fn count(&self, key: ApiKey) -> usize {
        self.with(|cluster| {
            cluster
                .asked
                .iter()
                .filter(|(asked, _)| *asked == key)
                .count()
        })
    }

    /// The values of a partition.
    pub(crate) fn values(&self, partition: usize) -> Vec<String> {
        self.with(|cluster| cluster.logs[partition].values())
    }

    async fn serve(self, mut stream: DuplexStream, broker: i32) {
        let mut buffer = BytesMut::new();
        loop {
            loop {
                let changed = self.changed.notified();
                if !self.cluster.lock().unwrap().stalled {
                    break;
                }
                changed.await;
            }
            let Some(frame) = take_frame(&mut buffer, usize::MAX).unwrap() else {
                match stream.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                }
            };
            let mut reader = Reader::new(frame);
            let header = decode_request_header(&mut reader).unwrap();
            let key = ApiKey::from_code(header.api_key).unwrap();
            let (fault, call) = {
                let mut cluster = self.cluster.lock().unwrap();
                cluster.asked.push((key, header.api_version));
                let fault = cluster.faults.get_mut(&key).and_then(VecDeque::pop_front);
                let version = header.api_version;
                (
                    fault,
                    Call {
                        key,
                        version,
                        correlation_id: header.correlation_id,
                        broker,
                        fault,
                    },
                )
            };
            match fault {
                Some(Fault::RequestLost) => return,
                Some(Fault::Silence) => continue,
                _ => {}
            }
            let answer = self.answer(call, &mut reader).await;
            if fault == Some(Fault::AnswerLost) {
                return;
            }
            let Some(mut answer) = answer else { continue };
            if fault == Some(Fault::WrongCorrelation) {
                answer[7] ^= 1;
            }
            if let Some(Fault::Length(length)) = fault {
                answer[..4].copy_from_slice(&length.to_be_bytes());
            }
            if stream.write_all(&answer).await.is_err() || fault == Some(Fault::LostAfterwards) {
                return;
            }
        }
    }

    async fn answer(&self, call: Call, reader: &mut Reader) -> Option<Vec<u8>> {
        let mut cluster = self.cluster.lock().unwrap();
        Some(match call.key {
            ApiKey::ApiVersions => cluster.api_versions(call),
            ApiKey::Metadata => call.reply::<MetadataRequest>(&cluster.metadata()),
            ApiKey::InitProducerId => {
                let response = cluster.init_producer_id(call, &call.read(reader));
                call.reply::<InitProducerIdRequest>(&response)
            }
            ApiKey::FindCoordinator => call.reply::<FindCoordinatorRequest>(&find_coordinator(
                &call.read(reader),
                call.version,
            )),
            ApiKey::Produce => {
                let request: ProduceRequest = call.read(reader);
                let response = cluster.produce(call, &request);
                if request.acks == 0 {
                    return None;
                }
                call.reply::<ProduceRequest>(&response)
            }
            ApiKey::ListOffsets => {
                let response = cluster.list_offsets(&call.read(reader));
                call.reply::<ListOffsetsRequest>(&response)
            }
            ApiKey::Fetch => {
                let request: FetchRequest = call.read(reader);
                drop(cluster);
                let response = self.fetch(call, &request).await;
                call.reply::<FetchRequest>(&response)
            }
            ApiKey::CreateTopics => {
                let response = cluster.create_topics(&call.read(reader));
                call.reply::<CreateTopicsRequest>(&response)
            }
            ApiKey::EndTxn => call.reply::<EndTxnRequest>(&cluster.end_txn(call)),
            ApiKey::AddPartitionsToTxn => {
                call.reply::<AddPartitionsToTxnRequest>(&Default::default())
            }
            ApiKey::OffsetForLeaderEpoch => {
                let response = cluster.end_of_epochs(&call.read(reader));
                call.reply::<OffsetForLeaderEpochRequest>(&response)
            }
            ApiKey::OffsetFetch => {
                let response = cluster.offset_fetch(&call.read(reader));
                call.reply::<OffsetFetchRequest>(&response)
            }
            key => panic!("nobody taught the fake broker {key}"),
        })
    }

    /// Long-polls as a broker does.
    async fn fetch(&self, call: Call, request: &FetchRequest) -> FetchResponse {
        let wait = std::time::Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap());
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            let (response, something) = self.cluster.lock().unwrap().fetch(call, request);
            if something || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return response;
            }
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
struct Call {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    broker: i32,
    fault: Option<Fault>,
}

impl Call {
    fn read<R: Request>(self, reader: &mut Reader) -> R {
        R::decode(reader, self.version).unwrap()
    }

    fn reply<R: Request>(self, response: &R::Response) -> Vec<u8> {
        frame(self, self.version, response)
    }

    /// What the fault, or who it is not, makes of every partition.
    fn refusal(self, leader: i32) -> ErrorCode {
        match self.fault {
            Some(Fault::Refuse(code)) => code,
            Some(Fault::LeaderIs(_)) => ErrorCode::NotLeaderOrFollower,
            _ if self.broker != leader => ErrorCode::NotLeaderOrFollower,
            _ => ErrorCode::None,
        }
    }
}

fn frame<M: Message>(call: Call, version: i16, response: &M) -> Vec<u8> {
    let segments = encode_response(call.correlation_id, call.key, version, response).unwrap();
    let bytes = |segment: Segment| match segment {
        Segment::Bytes(bytes) => bytes.to_vec(),
        Segment::File(_) => unreachable!("all in memory"),
    };
    segments.into_iter().flat_map(bytes).collect()
}
