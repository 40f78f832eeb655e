//! Transactions over the wire: clients that keep their epoch (version 1) and those that bump it with every transaction (version 2).
//!
//! Tests that carry the id of a published anomaly (T-) say so in their first line.

mod compaction;
mod delayed;
mod durable;
mod epochs;
mod fencing;
mod life;
mod loading;
mod offsets;
mod reading;
mod retention;
mod retries;
mod soak;
mod tools;

use std::collections::BTreeSet;

use flumen_protocol::batch::batches;
use flumen_protocol::builder::BatchOptions;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::message::fetch_response::PartitionData;
use flumen_protocol::message::produce_response::PartitionProduceResponse;
use flumen_protocol::message::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use flumen_protocol::message::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, EndTxnResponse,
    InitProducerIdRequest, ProduceRequest, TxnOffsetCommitRequest,
};
use flumen_protocol::segment::Records;

use crate::support::{PATIENCE, Wire, batch_of, fetch_request, produce_request, values};

const ID: &str = "pay";

/// A producer's identity and its next sequence in `t-0`.
#[derive(Clone, Copy, Debug)]
struct Producer {
    version: i16,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    async fn init(client: &mut Wire, version: i16) -> Producer {
        Producer::init_with(client, version, 60_000).await
    }

    async fn init_with(client: &mut Wire, version: i16, timeout_ms: i32) -> Producer {
        let new = Producer {
            version,
            id: -1,
            epoch: -1,
            sequence: 0,
        };
        new.init_again(client, timeout_ms).await.unwrap()
    }

    /// The next identity of a producer that goes on after an error (KIP-360).
    async fn init_again(self, client: &mut Wire, timeout_ms: i32) -> Result<Producer, ErrorCode> {
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.to_owned()),
            transaction_timeout_ms: timeout_ms,
            producer_id: self.id,
            producer_epoch: self.epoch,
            ..Default::default()
        };
        let response = client.call(4, &request).await;
        ErrorCode::from_code(response.error_code).ok()?;
        Ok(Producer {
            version: self.version,
            id: response.producer_id,
            epoch: response.producer_epoch,
            sequence: 0,
        })
    }

    /// Sends one record; version 1 adds its partition first.
    async fn send(&mut self, client: &mut Wire, value: &str) -> ErrorCode {
        if self.version == 1 {
            let code = self.add(client, "t").await;
            if code != ErrorCode::None {
                return code;
            }
        }
        self.produce(client, if self.version == 1 { 9 } else { 12 }, value)
            .await
    }

    async fn produce(&mut self, client: &mut Wire, api_version: i16, value: &str) -> ErrorCode {
        let response = self.produce_to(client, api_version, 0, value).await;
        let code = ErrorCode::from_code(response.error_code);
        if code == ErrorCode::None {
            self.sequence += 1;
        }
        code
    }

    /// One record with the present sequence, which stays: the caller may send it again.
    fn record(&self, partition: i32, value: &str) -> ProduceRequest {
        let options = BatchOptions {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: self.sequence,
            transactional: true,
            ..BatchOptions::default()
        };
        let mut request = produce_request("t", partition, -1, batch_of(options, &[value]));
        request.transactional_id = Some(ID.to_owned());
        request
    }

    async fn produce_to(
        &self,
        client: &mut Wire,
        api_version: i16,
        partition: i32,
        value: &str,
    ) -> PartitionProduceResponse {
        let request = self.record(partition, value);
        let mut response = client.call(api_version, &request).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    async fn add(&self, client: &mut Wire, topic: &str) -> ErrorCode {
        self.add_partition(client, topic, 0).await
    }

    async fn add_partition(&self, client: &mut Wire, topic: &str, partition: i32) -> ErrorCode {
        let topic = AddPartitionsToTxnTopic {
            name: topic.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.to_owned(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        let response = client.call(0, &request).await;
        let result = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
        ErrorCode::from_code(result.partition_error_code)
    }

    fn end_request(&self, committed: bool) -> EndTxnRequest {
        EndTxnRequest {
            transactional_id: ID.to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
            ..Default::default()
        }
    }

    async fn end_as(&self, client: &mut Wire, api_version: i16, committed: bool) -> EndTxnResponse {
        client.call(api_version, &self.end_request(committed)).await
    }

    /// As `end_as`, and its code alone.
    async fn end_code(&self, client: &mut Wire, api_version: i16, committed: bool) -> ErrorCode {
        ErrorCode::from_code(self.end_as(client, api_version, committed).await.error_code)
    }

    /// Ends the transaction and takes over the new identity.
    async fn end(&mut self, client: &mut Wire, committed: bool) -> ErrorCode {
        let response = self
            .end_as(client, if self.version == 1 { 1 } else { 5 }, committed)
            .await;
        if response.error_code == 0 && self.version == 2 {
            (self.id, self.epoch, self.sequence) =
                (response.producer_id, response.producer_epoch, 0);
        }
        ErrorCode::from_code(response.error_code)
    }

    async fn commit_offset(&self, client: &mut Wire, offset: i64) -> ErrorCode {
        self.commit_offset_as(client, offset, ("", -1)).await
    }

    /// As a member of a generation (KIP-447).
    async fn commit_offset_as(
        &self,
        client: &mut Wire,
        offset: i64,
        (member_id, generation_id): (&str, i32),
    ) -> ErrorCode {
        if self.version == 1 {
            let request = AddOffsetsToTxnRequest {
                transactional_id: ID.to_owned(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: "g".to_owned(),
                ..Default::default()
            };
            let response = client.call(0, &request).await;
            assert_eq!(response.error_code, 0);
        }
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_metadata: None,
            ..Default::default()
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.to_owned(),
            group_id: "g".to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            generation_id,
            member_id: member_id.to_owned(),
            topics: vec![topic],
            ..Default::default()
        };
        let response = client
            .call(if self.version == 1 { 3 } else { 5 }, &request)
            .await;
        ErrorCode::from_code(response.topics[0].partitions[0].error_code)
    }
}

/// What a read_committed consumer sees of `t-0`, once the last stable offset has reached the high watermark.
async fn stable(client: &mut Wire) -> Vec<String> {
    stable_in(client, 0).await
}

/// As [`stable`], of any partition of `t`.
async fn stable_in(client: &mut Wire, partition: i32) -> Vec<String> {
    let read = async {
        let (mut consumer, mut next) = (Consumer::default(), 0);
        loop {
            let mut request = fetch_request("t", partition, next, 50);
            request.isolation_level = 1;
            let mut response = client.call(11, &request).await;
            let data = response.responses.remove(0).partitions.remove(0);
            assert_eq!(data.error_code, 0);
            let (stable, end) = (data.last_stable_offset, data.high_watermark);
            next = consumer.take(data).unwrap_or(next);
            if next == end && stable == end {
                return consumer.kept;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("the last stable offset moves")
}

/// Drops what was aborted, by the list in the response and the markers among the records, as every consumer does.
#[derive(Default)]
struct Consumer {
    aborting: BTreeSet<i64>,
    kept: Vec<String>,
}

impl Consumer {
    /// The offset after the last batch.
    fn take(&mut self, data: PartitionData) -> Option<i64> {
        let aborted = data
            .aborted_transactions
            .expect("a list for read_committed");
        let bytes = data.records.unwrap_or_default().into_bytes().unwrap();
        let mut next = None;
        for batch in batches(bytes) {
            let batch = batch.unwrap();
            let header = *batch.header();
            next = Some(header.next_offset());
            let begins = aborted
                .iter()
                .filter(|txn| txn.first_offset == header.base_offset);
            self.aborting.extend(begins.map(|txn| txn.producer_id));
            if header.is_control() {
                self.aborting.remove(&header.producer_id);
            } else if !self.aborting.contains(&header.producer_id) {
                let records = Some(Records::Bytes(batch.bytes().clone()));
                self.kept.extend(values(PartitionData {
                    records,
                    ..Default::default()
                }));
            }
        }
        next
    }
}

async fn open_end(client: &mut Wire) -> (i64, i64) {
    let mut request = fetch_request("t", 0, 0, 0);
    request.isolation_level = 1;
    let response = client.call(11, &request).await;
    let data = &response.responses[0].partitions[0];
    (data.last_stable_offset, data.high_watermark)
}
