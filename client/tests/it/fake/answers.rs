//! What the broker in memory answers to each request, and what the request changes.

use flumen_protocol::api::{self, ApiKey};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::*;
use flumen_protocol::segment::Records;

use super::{Call, Cluster, Fault, TOPIC, frame};

pub(super) fn find_coordinator(
    request: &FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
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
    pub(super) fn api_versions(&self, call: Call) -> Vec<u8> {
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

    pub(super) fn metadata(&self) -> MetadataResponse {
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

    pub(super) fn init_producer_id(
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

    pub(super) fn end_txn(&mut self, call: Call) -> EndTxnResponse {
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

    pub(super) fn produce(&mut self, call: Call, request: &ProduceRequest) -> ProduceResponse {
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

    pub(super) fn create_topics(&mut self, request: &CreateTopicsRequest) -> CreateTopicsResponse {
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

    pub(super) fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
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

    pub(super) fn fetch(&self, call: Call, request: &FetchRequest) -> (FetchResponse, bool) {
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
    pub(super) fn end_of_epochs(
        &self,
        request: &OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
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

    pub(super) fn offset_fetch(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
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
