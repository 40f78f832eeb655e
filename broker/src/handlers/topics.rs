//! CreateTopics and DeleteTopics: one command to the cluster for all topics of a request, one result each.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicId;
use flumen_protocol::message::create_topics_request::CreatableTopic;
use flumen_protocol::message::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use flumen_protocol::message::delete_topics_response::DeletableTopicResult;
use flumen_protocol::message::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
};

use super::configs::{Layers, topic_settings};
use crate::cluster::controller::{
    CreateTopics, CreatedTopic, DeleteTopics, Layout, NewTopic, Refused,
};
use crate::cluster::image::ClusterImage;
use crate::dispatch::Context;
use crate::node::Node;

/// Answers CreateTopics.
pub(crate) async fn create_topics(
    node: &Arc<Node>,
    context: &Context,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.as_str()).or_default() += 1;
    }
    let check = |topic: &CreatableTopic| {
        if named[topic.name.as_str()] > 1 {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                "duplicate topic name",
            ));
        }
        new_topic(node, topic)
    };
    // One result per name; a name that came twice is refused once.
    let mut results: BTreeMap<&str, Result<CreatedTopic, Refused>> = BTreeMap::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        match check(topic) {
            Ok(new) => topics.push(new),
            Err(refused) => {
                results.insert(&topic.name, Err(refused));
            }
        }
    }
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let given: BTreeMap<String, Vec<(String, Option<String>)>> = topics
        .iter()
        .map(|topic| (topic.name.clone(), topic.configs.clone()))
        .collect();
    let command = CreateTopics {
        topics,
        placement_start: node.placement_start(),
    };
    let replies = if request.validate_only {
        node.cluster.dry_run(&command)
    } else {
        node.cluster.propose(command).await
    };
    let replies =
        replies.unwrap_or_else(|refused| names.iter().map(|_| Err(refused.clone())).collect());
    for (name, reply) in names.iter().zip(replies) {
        results.insert(name, reply);
    }
    let topics = results.into_iter().map(|(name, result)| match result {
        Ok(created) => created_result(node, context, &created, given.get(name)),
        Err(refused) => CreatableTopicResult {
            name: name.to_owned(),
            error_code: refused.code.code(),
            error_message: Some(refused.message),
            configs: (context.version >= 5).then(Vec::new),
            ..Default::default()
        },
    });
    CreateTopicsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn new_topic(node: &Node, topic: &CreatableTopic) -> Result<NewTopic, Refused> {
    let layout = if topic.assignments.is_empty() {
        let default = |given: i32, default: i32| if given == -1 { default } else { given };
        Layout::Counted {
            partitions: default(topic.num_partitions, node.config.num_partitions),
            replicas: default(
                i32::from(topic.replication_factor),
                node.config.default_replication_factor,
            ),
        }
    } else {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let message = "a manual assignment must not come with a number of partitions or a replication factor";
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
        Layout::Assigned(
            topic
                .assignments
                .iter()
                .map(|a| (a.partition_index, a.broker_ids.clone()))
                .collect(),
        )
    };
    let configs = topic
        .configs
        .iter()
        .map(|config| (config.name.clone(), config.value.clone()))
        .collect();
    Ok(NewTopic {
        name: topic.name.clone(),
        id: TopicId(node.drivers.random_id()),
        layout,
        configs,
    })
}

fn created_result(
    node: &Node,
    context: &Context,
    created: &CreatedTopic,
    given: Option<&Vec<(String, Option<String>)>>,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult {
        name: created.name.clone(),
        topic_id: created.id,
        error_message: None,
        ..Default::default()
    };
    if context.version >= 5 {
        let set: BTreeMap<String, String> = given
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
            .collect();
        result.num_partitions = i32::try_from(created.partitions).unwrap_or(i32::MAX);
        result.replication_factor = i16::try_from(created.replicas).unwrap_or(i16::MAX);
        let image = node.cluster.image();
        let settings = topic_settings(&Layers::new(node, &image), Some(&set))
            .into_iter()
            .map(|setting| CreatableTopicConfigs {
                name: setting.name,
                value: setting.value,
                read_only: false,
                config_source: setting.source,
                ..Default::default()
            });
        result.configs = Some(settings.collect());
    }
    result
}

/// Answers DeleteTopics, by name or by id.
pub(crate) async fn delete_topics(
    node: &Arc<Node>,
    context: &Context,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let mut asked: Vec<(Option<String>, TopicId)> = request
        .topic_names
        .into_iter()
        .map(|name| (Some(name), TopicId::NIL))
        .collect();
    asked.extend(
        request
            .topics
            .into_iter()
            .map(|topic| (topic.name, topic.topic_id)),
    );
    let image = node.cluster.image();
    let found = asked
        .iter()
        .map(|(name, id)| to_delete(node, context, &image, name.as_deref(), *id));
    let mut found: Vec<_> = found.collect();
    refuse_repeated(&mut found);
    let ids: Vec<TopicId> = found.iter().flatten().map(|(_, id)| *id).collect();
    let names = found.iter().flatten().map(|(name, _)| name.clone());
    let mut replies = delete(node, ids, names.collect()).await.into_iter();
    let mut responses = Vec::with_capacity(asked.len());
    for ((name, id), found) in asked.into_iter().zip(found) {
        responses.push(match found {
            Ok((name, id)) => {
                let result = replies.next().expect("one reply per topic that was found");
                deleted_result(Some(name), id, result)
            }
            Err(refused) => deleted_result(name, id, Err(refused)),
        });
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

/// Deletes topics and the offsets that groups have committed for them; one reply per topic. In a task of its own: once it has begun
/// it comes to its end, even if the one who asks vanishes.
async fn delete(
    node: &Arc<Node>,
    ids: Vec<TopicId>,
    names: Vec<String>,
) -> Vec<Result<(), Refused>> {
    let (done, replies) = tokio::sync::oneshot::channel();
    let (task, count) = (Arc::clone(node), ids.len());
    node.drivers.spawn("topic deletion", async move {
        let replies = task.cluster.propose(DeleteTopics { topics: ids }).await;
        let replies = replies.unwrap_or_else(|refused| vec![Err(refused); count]);
        let gone = names.into_iter().zip(&replies);
        let gone: Vec<String> = gone
            .filter_map(|(name, reply)| reply.is_ok().then_some(name))
            .collect();
        if !gone.is_empty() {
            task.coordinators.topics_deleted(&gone).await;
        }
        // The one who asked may have gone.
        let _ = done.send(replies);
    });
    replies.await.unwrap_or_else(|_| {
        let stopped = Refused::new(ErrorCode::UnknownServerError, "the broker is stopping");
        vec![Err(stopped); count]
    })
}

/// Who names a topic twice, be it by name and by id, meant something else: it stays, as in Kafka.
fn refuse_repeated(found: &mut [Result<(String, TopicId), Refused>]) {
    let mut times: BTreeMap<TopicId, usize> = BTreeMap::new();
    for (_, id) in found.iter().flatten() {
        *times.entry(*id).or_default() += 1;
    }
    for result in found {
        if result.as_ref().is_ok_and(|(_, id)| times[id] > 1) {
            let message = "this topic is named more than once; nothing was deleted of it";
            *result = Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
    }
}

/// Name and id of the topic that is meant, if it may be deleted.
fn to_delete(
    node: &Node,
    context: &Context,
    image: &ClusterImage,
    name: Option<&str>,
    id: TopicId,
) -> Result<(String, TopicId), Refused> {
    if !node.config.delete_topic_enable {
        let old = context.version < 3;
        let code = if old {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TopicDeletionDisabled
        };
        return Err(Refused::new(
            code,
            "topic deletion is disabled (delete.topic.enable)",
        ));
    }
    let topic = match name {
        Some(_) if !id.is_nil() => {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                "give a name or an id, not both",
            ));
        }
        Some(name) => image.topic(name).ok_or_else(|| {
            Refused::new(
                ErrorCode::UnknownTopicOrPartition,
                "this topic does not exist",
            )
        })?,
        None if id.is_nil() => {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                "neither a name nor an id is given",
            ));
        }
        None => image.topic_by_id(id).ok_or_else(|| {
            Refused::new(ErrorCode::UnknownTopicId, "this topic id does not exist")
        })?,
    };
    if topic.is_internal() {
        let message = "internal topics hold offsets and transactions: they cannot be deleted";
        return Err(Refused::new(ErrorCode::InvalidTopicException, message));
    }
    Ok((topic.name.clone(), topic.id))
}

fn deleted_result(
    name: Option<String>,
    topic_id: TopicId,
    result: Result<(), Refused>,
) -> DeletableTopicResult {
    let mut response = DeletableTopicResult {
        name,
        topic_id,
        ..Default::default()
    };
    if let Err(refused) = result {
        response.error_code = refused.code.code();
        response.error_message = Some(refused.message);
    }
    response
}
