//! What a session is made of: state on disk, producer, group member, engine thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flumen_client::{
    ClientError, Consumer, ConsumerConfig, Isolation, Node, OffsetReset, Producer, ProducerConfig,
};
use flumen_protocol::message::LeaveGroupRequest;
use flumen_protocol::message::leave_group_request::MemberIdentity;
use parking_lot::Mutex;

use super::start::Backends;
use super::{PAUSE_FIRST, PAUSE_MAX};
use crate::app::App;
use crate::assign::TaskAssignor;
use crate::error::StreamsError;
use crate::state::rocks::RocksDatabase;
use crate::topology::TaskId;
use crate::worker::Worker;

pub(super) async fn open_backends(app: &Arc<App>, index: usize) -> Result<Backends, StreamsError> {
    let Some((folder, memory)) = &app.disk else {
        return Ok(Backends::Memory(Arc::default()));
    };
    let stores: Vec<String> = app
        .topology
        .subtopologies()
        .iter()
        .flat_map(|s| &s.stores)
        .map(|s| s.name.clone())
        .collect();
    let (folder, memory) = (folder.database(index), memory.clone());
    let database = app
        .config
        .threads
        .blocking(move || RocksDatabase::open(&folder, &stores, &memory))
        .await?;
    Ok(Backends::Rocks(database))
}

/// The tasks whose state is on disk.
pub(super) fn stored_tasks(
    app: &App,
    backends: &Backends,
) -> Result<BTreeSet<TaskId>, StreamsError> {
    let mut stored = BTreeSet::new();
    for (subtopology, count) in app.topology.subtopologies().iter().zip(&app.task_counts) {
        let Some(first) = subtopology.stores.iter().find(|store| store.logging) else {
            continue;
        };
        for partition in 0..*count {
            if backends.get(&first.name, partition).position()?.is_some() {
                stored.insert(TaskId {
                    subtopology: subtopology.id,
                    partition,
                });
            }
        }
    }
    Ok(stored)
}

pub(super) async fn connect_producer(
    app: &Arc<App>,
    index: usize,
) -> Result<Producer, StreamsError> {
    let mut config = ProducerConfig {
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    };
    if app.config.exactly_once() {
        config.transactional_id = Some(app.transactional_id(index));
        config.transaction_timeout = app.config.transaction_timeout;
    }
    let mut pause = PAUSE_FIRST;
    loop {
        match connected(app, config.clone()).await {
            Ok(producer) => return Ok(producer),
            Err(error) if error.is_retriable() && !app.is_closing() => {
                tracing::warn!(%error, "no producer yet; trying again");
                app.pause(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn connected(app: &App, config: ProducerConfig) -> Result<Producer, ClientError> {
    let transactional = config.transactional_id.is_some();
    let producer = Producer::new(&app.client, config).await?;
    if transactional {
        producer.init_transactions().await?;
    }
    Ok(producer)
}

pub(super) async fn connect_consumer(
    app: &Arc<App>,
    index: usize,
    stored: &Arc<Mutex<BTreeSet<TaskId>>>,
) -> Result<Consumer, StreamsError> {
    let exactly_once = app.config.exactly_once();
    let config = ConsumerConfig {
        group_id: Some(app.config.application_id.clone()),
        group_instance_id: app.instance_id(index),
        isolation: if exactly_once {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        auto_offset_reset: OffsetReset::Earliest,
        session_timeout: app.config.session_timeout,
        heartbeat_interval: app.config.heartbeat_interval,
        assignors: vec![Arc::new(TaskAssignor::new(
            app.plan.clone(),
            Arc::clone(stored),
        ))],
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(&app.client, config).await?;
    let topics = app.plan.topics();
    consumer
        .subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())
        .await?;
    Ok(consumer)
}

pub(super) fn start_worker(app: &Arc<App>, index: usize) -> Result<Worker, StreamsError> {
    let name = format!("{}-engine-{index}", app.config.application_id);
    let threads = app.config.threads;
    Worker::start(
        &name,
        &app.topology,
        app.engine_options(),
        &app.metrics,
        threads,
    )
    .map_err(|error| StreamsError::Config(format!("no thread for the engine: {error}")))
}

/// Leaves the group, so that others need not wait for the session to end. Whoever else held the consumer has ended.
pub(super) async fn leave(app: &App, index: usize, consumer: Arc<Consumer>) {
    let member_id = consumer.group_metadata().member_id;
    match Arc::into_inner(consumer) {
        Some(consumer) => consumer.close().await,
        None => tracing::debug!("the consumer is still in use: it leaves when it is dropped"),
    }
    // A consumer with a name of its own does not leave by itself when it is closed.
    let Some(instance_id) = app.instance_id(index) else {
        return;
    };
    let group_id = app.config.application_id.clone();
    // With the member id: if another process took over the name, it is not thrown out.
    let member = MemberIdentity {
        member_id,
        group_instance_id: Some(instance_id),
        reason: Some("the application was closed".to_owned()),
        ..MemberIdentity::default()
    };
    let request = LeaveGroupRequest {
        group_id: group_id.clone(),
        members: vec![member],
        ..LeaveGroupRequest::default()
    };
    let left = app.client.send(Node::GroupCoordinator(&group_id), request);
    if let Err(error) = left.await {
        tracing::debug!(%error, "the group learns by the session time-out that this member is gone");
    }
}
