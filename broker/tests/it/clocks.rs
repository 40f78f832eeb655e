//! A machine whose clock is set while the broker runs (D-15): nothing ends early, nothing is held open.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use flumen_broker::Drivers;
use flumen_broker::clock::{Clock, Instant};
use flumen_protocol::builder::BatchOptions;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::{EndTxnRequest, InitProducerIdRequest};

use crate::groups::{commit_request, committed};
use crate::support::{PATIENCE, Wire, World, batch_of, fetch_request, produce_request};

const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// The machine's clock, off by so many milliseconds.
#[derive(Debug)]
struct WrongClock {
    machine: Arc<dyn Clock>,
    off_ms: AtomicI64,
}

impl Clock for WrongClock {
    fn now(&self) -> Instant {
        self.machine.now()
    }

    fn wall_ms(&self) -> i64 {
        self.machine.wall_ms() + self.off_ms.load(Ordering::Relaxed)
    }

    fn sleep_until(
        &self,
        deadline: Instant,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.machine.sleep_until(deadline)
    }
}

async fn world(properties: &[(&str, &str)]) -> (World, Arc<WrongClock>) {
    let os = Drivers::os();
    let clock = Arc::new(WrongClock {
        machine: Arc::clone(&os.clock),
        off_ms: AtomicI64::new(0),
    });
    let drivers = Drivers {
        clock: clock.clone(),
        ..os
    };
    let properties = properties
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    (World::start_on(properties.collect(), drivers).await, clock)
}

/// Begins a transaction with one record in `t-0`; what ends it.
async fn begin(client: &mut Wire, timeout_ms: i32) -> EndTxnRequest {
    let init = InitProducerIdRequest {
        transactional_id: Some("pay".to_owned()),
        transaction_timeout_ms: timeout_ms,
        ..Default::default()
    };
    let init = client.call(4, &init).await;
    let options = BatchOptions {
        producer_id: init.producer_id,
        producer_epoch: init.producer_epoch,
        base_sequence: 0,
        transactional: true,
        ..BatchOptions::default()
    };
    let mut request = produce_request("t", 0, -1, batch_of(options, &["x"]));
    request.transactional_id = Some("pay".to_owned());
    let written = client.call(12, &request).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0);
    EndTxnRequest {
        transactional_id: "pay".to_owned(),
        producer_id: init.producer_id,
        producer_epoch: init.producer_epoch,
        committed: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_clock_set_a_year_ahead_ends_no_transaction_and_expires_no_offset() {
    let (world, clock) = world(&[
        ("offsets.retention.check.interval.ms", "10"),
        (
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "10",
        ),
    ])
    .await;
    let mut client = world.client_with_topic("t", 1).await;
    client.call(7, &commit_request("", -1, 42)).await;
    let end = begin(&mut client, 60_000).await;
    clock.off_ms.store(YEAR_MS, Ordering::Relaxed);
    for _ in 0..200 {
        assert_eq!(committed(&mut client, true).await, Ok(42));
    }
    let ended = client.call(5, &end).await;
    assert_eq!(ErrorCode::from_code(ended.error_code), ErrorCode::None);
}

#[tokio::test]
async fn a_clock_set_back_by_an_hour_holds_no_transaction_open() {
    for restarts in [false, true] {
        let (mut world, clock) = world(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        begin(&mut client, 500).await;
        clock.off_ms.store(-HOUR_MS, Ordering::Relaxed);
        if restarts {
            world.restart().await;
            client = world.client().await;
        }
        let aborted = async {
            while client
                .call(11, &fetch_request("t", 0, 0, 0))
                .await
                .responses[0]
                .partitions[0]
                .last_stable_offset
                < 2
            {}
        };
        tokio::time::timeout(PATIENCE, aborted)
            .await
            .expect("the transaction is aborted when its time is over");
    }
}
