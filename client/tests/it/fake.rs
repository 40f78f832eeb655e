//! A broker of one topic in memory, speaking real frames, that loses, delays and refuses as a test says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use flumen_client::{Client, ClientConfig, Connecting, Duplex, Transport};
use flumen_protocol::api::{self, ApiKey};
use flumen_protocol::batch::{RecordBatch, assign_offsets};
use flumen_protocol::codec::{Message, Reader, Request};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::frame::{decode_request_header, encode_response, take_frame};
use flumen_protocol::id::TopicId;
use flumen_protocol::message::*;
use flumen_protocol::segment::{Records, Segment};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;

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

fn find_coordinator(request: &FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
    let at = |key: String| find_coordinator_response::Coordinator {
        key,
        node_id: 1,
        host: "fake".to_owned(),
        port: 1,
        ..Default::default()
    };
    match version {
        4.. => FindCoordinatorResponse {
            coordinators: request.coordinator_keys.iter().cloned().map(at).collect(),
            ..Default::default()
        },
        _ => FindCoordinatorResponse {
            node_id: 1,
            host: "fake".to_owned(),
            port: 1,
            ..Default::default()
        },
    }
}

impl Cluster {
    fn api_versions(&self, call: Call) -> Vec<u8> {
        let cap = |key: ApiKey, max: i16| match self.caps.get(&key) {
            Some(cap) => (*cap).map(|cap| cap.min(max)),
            None => Some(max),
        };
        let newest = cap(ApiKey::ApiVersions, 4).unwrap();
        let offer = |key: ApiKey| {
            let range = api::versions(key);
            Some(api_versions_response::ApiVersion {
                api_key: key.code(),
                min_version: *range.start(),
                max_version: cap(key, *range.end())?,
                ..Default::default()
            })
        };
        let too_new = call.version > newest;
        let features = vec![api_versions_response::FinalizedFeatureKey {
            name: "transaction.version".to_owned(),
            max_version_level: self.transaction_version,
            ..Default::default()
        }];
        let response = ApiVersionsResponse {
            error_code: if too_new {
                ErrorCode::UnsupportedVersion.code()
            } else {
                0
            },
            api_keys: ApiKey::all().filter_map(offer).collect(),
            finalized_features: if call.version >= 3 && !too_new {
                features
            } else {
                vec![]
            },
            ..Default::default()
        };
        frame(call, if too_new { 0 } else { call.version }, &response)
    }

    fn metadata(&self) -> MetadataResponse {
        let broker = |node_id: i32| metadata_response::MetadataResponseBroker {
            node_id,
            host: "fake".to_owned(),
            port: node_id,
            ..Default::default()
        };
        let partition = |partition_index: i32| metadata_response::MetadataResponsePartition {
            partition_index,
            leader_id: self.leader,
            leader_epoch: self.leader_epoch,
            ..Default::default()
        };
        let count = i32::try_from(self.logs.len()).unwrap();
        let topic = metadata_response::MetadataResponseTopic {
            name: Some(TOPIC.to_owned()),
            topic_id: self.topic_id,
            partitions: (0..count).map(partition).collect(),
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![broker(1), broker(2)],
            controller_id: 1,
            topics: vec![topic],
            ..Default::default()
        }
    }

    fn init_producer_id(
        &mut self,
        call: Call,
        request: &InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        let replaced = request.producer_epoch >= 0 && request.producer_epoch != self.epoch;
        let refused = match call.fault {
            Some(Fault::Refuse(code)) => Some(code),
            _ => replaced.then_some(ErrorCode::ProducerFenced),
        };
        if let Some(code) = refused {
            return InitProducerIdResponse {
                error_code: code.code(),
                ..Default::default()
            };
        }
        self.epoch += 1;
        InitProducerIdResponse {
            producer_id: 40,
            producer_epoch: self.epoch,
            ..Default::default()
        }
    }

    fn end_txn(&mut self, call: Call) -> EndTxnResponse {
        if let Some(Fault::Refuse(code)) = call.fault {
            return EndTxnResponse {
                error_code: code.code(),
                ..Default::default()
            };
        }
        if call.version < 5 {
            return EndTxnResponse::default();
        }
        self.epoch += 1;
        EndTxnResponse {
            producer_id: 40,
            producer_epoch: self.epoch,
            ..Default::default()
        }
    }

    fn produce(&mut self, call: Call, request: &ProduceRequest) -> ProduceResponse {
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let mut partitions = Vec::new();
            for data in &topic.partition_data {
                let Some(Records::Bytes(records)) = &data.records else {
                    panic!("no records")
                };
                let mut answer = produce_response::PartitionProduceResponse {
                    index: data.index,
                    error_code: call.refusal(self.leader).code(),
                    base_offset: -1,
                    ..Default::default()
                };
                if answer.error_code == 0 {
                    let (code, base) =
                        self.logs[usize::try_from(data.index).unwrap()].append(records);
                    (answer.error_code, answer.base_offset) = (code.code(), base);
                }
                if let Some(Fault::LeaderIs(leader)) = call.fault {
                    answer.current_leader.leader_id = leader;
                    answer.current_leader.leader_epoch = self.leader_epoch;
                }
                partitions.push(answer);
            }
            responses.push(produce_response::TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: partitions,
                ..Default::default()
            });
        }
        ProduceResponse {
            responses,
            ..Default::default()
        }
    }

    fn create_topics(&mut self, request: &CreateTopicsRequest) -> CreateTopicsResponse {
        let mut create = |topic: &create_topics_request::CreatableTopic| {
            let fresh = self.created.insert(topic.name.clone());
            create_topics_response::CreatableTopicResult {
                name: topic.name.clone(),
                error_code: match fresh {
                    true => 0,
                    false => ErrorCode::TopicAlreadyExists.code(),
                },
                ..Default::default()
            }
        };
        CreateTopicsResponse {
            topics: request.topics.iter().map(&mut create).collect(),
            ..Default::default()
        }
    }

    fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let partition = |asked: &list_offsets_request::ListOffsetsPartition| {
            let log = &self.logs[usize::try_from(asked.partition_index).unwrap()];
            list_offsets_response::ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                offset: if asked.timestamp == -2 {
                    log.start
                } else {
                    log.end
                },
                ..Default::default()
            }
        };
        let topic = |topic: &list_offsets_request::ListOffsetsTopic| {
            list_offsets_response::ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(partition).collect(),
                ..Default::default()
            }
        };
        ListOffsetsResponse {
            topics: request.topics.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    fn fetch(&self, call: Call, request: &FetchRequest) -> (FetchResponse, bool) {
        let (mut responses, mut something) = (Vec::new(), false);
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let log = &self.logs[usize::try_from(asked.partition).unwrap()];
                let mut code = call.refusal(self.leader);
                if code == ErrorCode::None && !(log.start..=log.end).contains(&asked.fetch_offset) {
                    code = ErrorCode::OffsetOutOfRange;
                }
                let from = log
                    .batches
                    .partition_point(|batch| batch.header().last_offset() < asked.fetch_offset);
                let bytes: Vec<u8> = match code {
                    ErrorCode::None => log.batches[from..]
                        .iter()
                        .flat_map(|batch| batch.bytes().to_vec())
                        .collect(),
                    _ => Vec::new(),
                };
                something |= !bytes.is_empty() || code != ErrorCode::None;
                let aborted = log.aborted.iter().map(|&(producer_id, first_offset)| {
                    fetch_response::AbortedTransaction {
                        producer_id,
                        first_offset,
                        ..Default::default()
                    }
                });
                partitions.push(fetch_response::PartitionData {
                    partition_index: asked.partition,
                    error_code: code.code(),
                    high_watermark: log.end,
                    last_stable_offset: log.end,
                    log_start_offset: log.start,
                    aborted_transactions: Some(aborted.collect()),
                    records: Some(Records::Bytes(bytes.into())),
                    ..Default::default()
                });
            }
            responses.push(fetch_response::FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions,
                ..Default::default()
            });
        }
        (
            FetchResponse {
                responses,
                ..Default::default()
            },
            something,
        )
    }

    /// Every record is of epoch 0.
    fn end_of_epochs(&self, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let partition = |asked: &offset_for_leader_epoch_request::OffsetForLeaderPartition| {
            offset_for_leader_epoch_response::EpochEndOffset {
                partition: asked.partition,
                leader_epoch: 0,
                end_offset: self.logs[usize::try_from(asked.partition).unwrap()].end,
                ..Default::default()
            }
        };
        let topic = |topic: &offset_for_leader_epoch_request::OffsetForLeaderTopic| {
            offset_for_leader_epoch_response::OffsetForLeaderTopicResult {
                topic: topic.topic.clone(),
                partitions: topic.partitions.iter().map(partition).collect(),
                ..Default::default()
            }
        };
        let topics = request.topics.iter().map(topic).collect();
        OffsetForLeaderEpochResponse {
            topics,
            ..Default::default()
        }
    }

    fn offset_fetch(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        let partition = |index: &i32| offset_fetch_response::OffsetFetchResponsePartitions {
            partition_index: *index,
            committed_offset: self.committed.get(index).copied().unwrap_or(-1),
            ..Default::default()
        };
        let topic = |topic: &offset_fetch_request::OffsetFetchRequestTopics| {
            offset_fetch_response::OffsetFetchResponseTopics {
                name: topic.name.clone(),
                partitions: topic.partition_indexes.iter().map(partition).collect(),
                ..Default::default()
            }
        };
        let group = |group: &offset_fetch_request::OffsetFetchRequestGroup| {
            offset_fetch_response::OffsetFetchResponseGroup {
                group_id: group.group_id.clone(),
                topics: group.topics.iter().flatten().map(topic).collect(),
                ..Default::default()
            }
        };
        OffsetFetchResponse {
            groups: request.groups.iter().map(group).collect(),
            ..Default::default()
        }
    }
}
