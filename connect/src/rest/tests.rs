//! Paths, status codes and bodies, by calls into the router. The cluster behind it is a stub that has no topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::to_bytes;
use bytes::BytesMut;
use flumen_client::{Client, ClientConfig, Connecting, Duplex, Transport};
use flumen_protocol::api::ApiKey;
use flumen_protocol::codec::Reader;
use flumen_protocol::frame::{decode_request_header, encode_response, take_frame};
use flumen_protocol::message::api_versions_response::ApiVersion;
use flumen_protocol::message::metadata_response::MetadataResponseBroker;
use flumen_protocol::message::{ApiVersionsResponse, MetadataResponse};
use flumen_protocol::segment::Segment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::*;
use crate::config::{ConfigDef, ConfigKey, Kind, Props, Settings};
use crate::error::TaskError;
use crate::record::{SinkBatch, TopicPartition};
use crate::registry::Registry;
use crate::sink::{
    AssignedPartition, Guarantee, SinkConnector, SinkContext, SinkTask, StartAt, Written,
};
use crate::state::StateRecord;
use crate::worker::WorkerConfig;

/// Answers ApiVersions and Metadata.
#[derive(Debug)]
struct Stub;

impl Transport for Stub {
    fn connect<'a>(&'a self, _: &'a str, _: u16) -> Connecting<'a> {
        Box::pin(async {
            let (near, mut far) = tokio::io::duplex(1 << 16);
            drop(runtime::spawn("stub", async move {
                let mut buffer = BytesMut::new();
                while far.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                    while let Ok(Some(frame)) = take_frame(&mut buffer, 1 << 20) {
                        for segment in answer(frame) {
                            let Segment::Bytes(bytes) = segment else {
                                return;
                            };
                            far.write_all(&bytes).await.unwrap();
                        }
                    }
                }
            }));
            Ok(Box::new(near) as Box<dyn Duplex>)
        })
    }
}

fn answer(frame: bytes::Bytes) -> Vec<Segment> {
    let header = decode_request_header(&mut Reader::new(frame)).unwrap();
    let (id, version) = (header.correlation_id, header.api_version);
    if header.api_key == ApiKey::ApiVersions as i16 {
        let offer = |api: ApiKey, max_version| ApiVersion {
            api_key: api as i16,
            min_version: 0,
            max_version,
            ..ApiVersion::default()
        };
        let api_keys = vec![offer(ApiKey::ApiVersions, 4), offer(ApiKey::Metadata, 12)];
        return encode_response(
            id,
            ApiKey::ApiVersions,
            version,
            &ApiVersionsResponse {
                api_keys,
                ..ApiVersionsResponse::default()
            },
        )
        .unwrap();
    }
    assert_eq!(
        header.api_key,
        ApiKey::Metadata as i16,
        "the stub knows nothing else"
    );
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: "stub".to_owned(),
        port: 9092,
        ..MetadataResponseBroker::default()
    };
    let body = MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some("stub-cluster".to_owned()),
        controller_id: 1,
        ..MetadataResponse::default()
    };
    encode_response(id, ApiKey::Metadata, version, &body).unwrap()
}

/// A sink that is never given a partition.
struct NowhereSink;

#[async_trait]
impl SinkConnector for NowhereSink {
    fn config(&self) -> ConfigDef {
        ConfigDef::new([
            ConfigKey::required("target", Kind::String, "Where to."),
            ConfigKey::optional("secret", Kind::Password, "A secret."),
        ])
    }
    fn version(&self) -> &'static str {
        "1.2.3"
    }
    fn guarantees(&self, _: &Settings) -> Guarantee {
        Guarantee::ExactlyOnce
    }
    fn task(&self, settings: &Settings) -> Box<dyn SinkTask> {
        assert_ne!(settings.str("target"), "panic", "a plugin's own fault");
        Box::new(NowhereSink)
    }
}

#[async_trait]
impl SinkTask for NowhereSink {
    async fn open(
        &mut self,
        _: SinkContext,
        _: &[AssignedPartition],
    ) -> Result<BTreeMap<TopicPartition, StartAt>, TaskError> {
        unreachable!("there is no partition")
    }
    async fn write(&mut self, _: &[SinkBatch]) -> Result<Written, TaskError> {
        unreachable!("there is no partition")
    }
}

fn config() -> Props {
    [
        ("connector.class", "NowhereSink"),
        ("name", "n"),
        ("secret", "hush"),
        ("target", "x"),
        ("topics", "t"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A worker with one running connector `n`, as if its topic held it.
async fn worker() -> Worker {
    let client = ClientConfig {
        transport: Arc::new(Stub),
        ..ClientConfig::new("stub:9092")
    };
    let client = Client::connect(client).await.unwrap();
    let registry = Registry::new().sink("org.example.NowhereSinkConnector", &[], NowhereSink);
    let rest = Some(([127, 0, 0, 1], 8083).into());
    let worker = Worker::idle(client, WorkerConfig::new("stub:9092"), registry, rest);
    start(&worker, "n", config());
    until(&worker, "n", crate::status::State::Running).await;
    worker
}

fn start(worker: &Worker, name: &str, mut config: Props) {
    let _ = config.insert("name".to_owned(), name.to_owned());
    let mut task = config.clone();
    let _ = task.insert(
        "task.class".to_owned(),
        "org.example.NowhereSinkConnector".to_owned(),
    );
    let name = name.to_owned();
    let records = [
        StateRecord::Connector(name.clone(), Some(config)),
        StateRecord::Task(name.clone(), 0, task),
        StateRecord::Commit(name.clone(), 1),
    ];
    for record in records {
        worker.inner().state.lock().apply(record);
    }
    worker.inner().start_connector(&name);
}

/// Lets the tasks run until that of `name` is in this state.
async fn until(worker: &Worker, name: &str, state: crate::status::State) {
    for _ in 0..10_000 {
        if worker
            .status(name)
            .unwrap()
            .tasks
            .first()
            .is_some_and(|task| task.state == state)
        {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("not {state:?}: {:?}", worker.status(name));
}

#[tokio::test]
async fn a_plugin_that_panics_fails_alone() {
    let worker = worker().await;
    let mut bad = config();
    let _ = bad.insert("target".to_owned(), "panic".to_owned());
    start(&worker, "bad", bad);
    until(&worker, "bad", crate::status::State::Failed).await;
    let trace = worker.status("bad").unwrap().tasks[0]
        .trace
        .clone()
        .unwrap();
    assert!(
        trace.starts_with("the task panicked:") && trace.contains("a plugin's own fault"),
        "{trace}"
    );
    assert_eq!(
        worker.status("n").unwrap().tasks[0].state,
        crate::status::State::Running
    );
    let (status, body) = call(
        &worker,
        "POST",
        "/connectors/bad/restart?onlyFailed=true&includeTasks=true",
        "",
    )
    .await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (
            status,
            &body["connector"]["state"],
            &body["tasks"][0]["state"]
        ),
        (202, &json!("RUNNING"), &json!("RESTARTING"))
    );
}

async fn call(worker: &Worker, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("content-length", body.len());
    let response = router(Arc::downgrade(worker.inner()))
        .oneshot(request.body(Body::from(body.to_owned())).unwrap())
        .await
        .unwrap();
    let status = response.status().as_u16();
    (
        status,
        String::from_utf8(
            to_bytes(response.into_body(), 1 << 20)
                .await
                .unwrap()
                .to_vec(),
        )
        .unwrap(),
    )
}

async fn check(worker: &Worker, call_as: &str, status: u16, body: &str) {
    let (method, path) = call_as.split_once(' ').unwrap();
    let (found, text) = call(worker, method, path, "").await;
    assert_eq!(found, status, "{call_as}: {text}");
    let json =
        |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
    assert_eq!(json(&text), json(body), "{call_as}");
}

#[tokio::test]
async fn what_is_there_is_shown_in_kafkas_words() {
    let worker = worker().await;
    check(
        &worker,
        "GET /",
        200,
        r#"{"version":"4.3.0","commit":"flumen-0.1.0","kafka_cluster_id":"stub-cluster"}"#,
    )
    .await;
    check(&worker, "GET /health", 200, r#"{"status":"healthy","message":"Worker has completed startup and is ready to handle requests."}"#).await;
    check(&worker, "GET /connectors", 200, r#"["n"]"#).await;
    let info = r#"{"name":"n","config":{"connector.class":"NowhereSink","name":"n","secret":"[hidden]","target":"x","topics":"t"},"tasks":[{"connector":"n","task":0}],"type":"sink"}"#;
    check(&worker, "GET /connectors/n", 200, info).await;
    let state = r#""state":"RUNNING","worker_id":"127.0.0.1:8083","version":"1.2.3""#;
    let status = format!(
        r#"{{"name":"n","connector":{{{state}}},"tasks":[{{"id":0,{state}}}],"type":"sink"}}"#
    );
    check(&worker, "GET /connectors/n/status", 200, &status).await;
    check(
        &worker,
        "GET /connectors/n/tasks/0/status",
        200,
        &format!(r#"{{"id":0,{state}}}"#),
    )
    .await;
    check(
        &worker,
        "GET /connectors?expand=status&expand=info&expand=other",
        200,
        &format!(r#"{{"n":{{"status":{status},"info":{info}}}}}"#),
    )
    .await;
    check(
        &worker,
        "GET /connectors/n/topics",
        200,
        r#"{"n":{"topics":[]}}"#,
    )
    .await;
    check(
        &worker,
        "GET /connectors/n/tasks",
        200,
        r#"[{"id":{"connector":"n","task":0},"config":{"connector.class":"NowhereSink","name":"n","secret":"[hidden]","target":"x","topics":"t","task.class":"org.example.NowhereSinkConnector"}}]"#,
    )
    .await;
    check(
        &worker,
        "GET /connector-plugins",
        200,
        r#"[{"class":"org.example.NowhereSinkConnector","type":"sink","version":"1.2.3"}]"#,
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_refused_in_kafkas_words() {
    let worker = worker().await;
    let refused =
        |code: u16, message: &str| json!({"error_code": code, "message": message}).to_string();
    check(
        &worker,
        "GET /connectors/x",
        404,
        &refused(404, "Connector x not found"),
    )
    .await;
    check(
        &worker,
        "GET /connectors/x/status",
        404,
        &refused(404, "No status found for connector x"),
    )
    .await;
    check(
        &worker,
        "GET /connectors/n/tasks/7/status",
        404,
        &refused(404, "No status found for task n-7"),
    )
    .await;
    check(
        &worker,
        "POST /connectors/n/tasks/7/restart",
        404,
        &refused(404, "Unknown task: n-7"),
    )
    .await;
    check(
        &worker,
        "PUT /connectors/x/pause",
        404,
        &refused(404, "Unknown connector x"),
    )
    .await;
    check(
        &worker,
        "DELETE /connectors/x",
        404,
        &refused(404, "Connector x not found"),
    )
    .await;
    check(
        &worker,
        "GET /nowhere",
        404,
        &refused(404, "HTTP 404 Not Found"),
    )
    .await;
    check(
        &worker,
        "PATCH /connectors",
        405,
        &refused(405, "HTTP 405 Method Not Allowed"),
    )
    .await;
}

#[tokio::test]
async fn a_configuration_that_does_not_stand_is_refused_in_kafkas_words() {
    let worker = worker().await;
    let refused =
        |code: u16, message: &str| json!({"error_code": code, "message": message}).to_string();
    let (status, body) = call(
        &worker,
        "POST",
        "/connectors",
        r#"{"name":"n","config":{"connector.class":"NowhereSink"}}"#,
    )
    .await;
    assert_eq!(
        (status, body),
        (409, refused(409, "Connector n already exists"))
    );
    let (status, body) = call(
        &worker,
        "POST",
        "/connectors",
        r#"{"name":"m","config":{"connector.class":"NowhereSink","topics":"t"}}"#,
    )
    .await;
    let words = "Connector configuration is invalid and contains the following 1 error(s):\nMissing required configuration \"target\" which has no default value.\n\
                 You can also find the above list of errors at the endpoint `/connector-plugins/{connectorType}/config/validate`";
    assert_eq!((status, body), (400, refused(400, words)));
    let (status, body) = call(
        &worker,
        "PUT",
        "/connectors/m/config",
        r#"{"connector.class":"Nobody"}"#,
    )
    .await;
    assert_eq!(
        (
            status,
            body.contains(
                "Failed to find any class that implements Connector and which name matches Nobody"
            )
        ),
        (400, true)
    );
    let (status, body) = call(
        &worker,
        "PUT",
        "/connectors/m/config",
        r#"{"connector.class":"NowhereSink","name":"other"}"#,
    )
    .await;
    assert_eq!(
        (
            status,
            body.contains("doesn't match connector name in the URL (m)")
        ),
        (400, true),
        "{body}"
    );
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let worker = worker().await;
    let (status, _) = call(
        &worker,
        "PATCH",
        "/connectors/n/offsets",
        r#"{"offsets":[{"partition":{"kafka_topic":"t","kafka_partition":0},"offset":null}]}"#,
    )
    .await;
    assert_eq!(status, 400, "it is not stopped");
    assert_eq!(call(&worker, "POST", "/connectors", "{").await.0, 400);
    let config = r#"{"connector.class":"NowhereSink","topics":"t","target":null}"#;
    let created = format!(r#"{{"name":"m","config":{config}}}"#);
    for (method, path, body) in [
        ("POST", "/connectors", created.as_str()),
        ("PUT", "/connectors/n/config", config),
    ] {
        let (status, told) = call(&worker, method, path, body).await;
        let words = "Null value can not be supplied as the configuration value of target";
        assert!(status == 400 && told.contains(words), "{status} {told}");
    }
    let misspelt = r#"{"name":"m","config":{},"initialState":"PAUSED"}"#;
    let (status, told) = call(&worker, "POST", "/connectors", misspelt).await;
    assert!(
        status == 400 && told.contains("initialState"),
        "{status} {told}"
    );
    assert_eq!(
        call(
            &worker,
            "POST",
            "/connectors",
            &" ".repeat(BODY_BYTES_MAX + 1)
        )
        .await
        .0,
        413
    );
}

#[tokio::test]
async fn a_body_that_is_not_json_by_its_type_is_refused() {
    let worker = worker().await;
    let request = Request::builder()
        .method("PUT")
        .uri("/connectors/n/config")
        .header("content-type", "text/plain")
        .header("content-length", "2");
    let response = router(Arc::downgrade(worker.inner()))
        .oneshot(request.body(Body::from("{}")).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 415);
}

#[tokio::test]
async fn restarts_answer_as_kafka_does() {
    let worker = worker().await;
    check(&worker, "POST /connectors/n/restart", 204, "").await;
    check(&worker, "POST /connectors/n/tasks/0/restart", 204, "").await;
    let (status, body) = call(
        &worker,
        "POST",
        "/connectors/n/restart?includeTasks=true&onlyFailed=true",
        "",
    )
    .await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["connector"]["state"],
        "RUNNING",
        "nothing has failed"
    );
    check(
        &worker,
        "POST /connectors/x/restart",
        404,
        r#"{"error_code":404,"message":"Unknown connector: x"}"#,
    )
    .await;
}

#[tokio::test]
async fn validation_names_every_key_its_value_and_what_is_wrong() {
    let worker = worker().await;
    let path = "/connector-plugins/NowhereSink/config/validate";
    let (status, body) = call(
        &worker,
        "PUT",
        path,
        r#"{"topics":"t","tasks.max":0,"secret":"hush","targte":"x"}"#,
    )
    .await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["name"], "org.example.NowhereSinkConnector");
    assert_eq!(body["error_count"], 3);
    let key = |name: &str| {
        let configs = body["configs"].as_array().unwrap();
        configs
            .iter()
            .find(|key| key["value"]["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
            .clone()
    };
    assert_eq!(
        key("name")["value"]["errors"],
        json!(["Missing required configuration \"name\" which has no default value."])
    );
    assert_eq!(
        key("target")["value"]["errors"],
        json!(["Missing required configuration \"target\" which has no default value."])
    );
    assert_eq!(
        key("tasks.max")["value"]["errors"],
        json!([
            "Invalid value 0 for configuration tasks.max: Value must be at least 1 (and at most 1000)"
        ])
    );
    assert_eq!(key("secret")["value"]["value"], "[hidden]");
    assert_eq!(key("secret")["definition"]["type"], "PASSWORD");
    assert_eq!(
        (
            &key("targte")["value"]["errors"],
            &key("targte")["value"]["recommended_values"]
        ),
        (&json!([]), &json!(["target"]))
    );
    let definition = key("target")["definition"].clone();
    let mut fields: Vec<&String> = definition.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "default_value",
            "dependents",
            "display_name",
            "documentation",
            "group",
            "importance",
            "name",
            "order",
            "required",
            "type",
            "width"
        ]
    );
}

#[tokio::test]
async fn validation_knows_what_no_single_key_shows() {
    let worker = worker().await;
    let path = "/connector-plugins/NowhereSink/config/validate";
    let (status, _) = call(&worker, "PUT", path, r#"{"connector.class":"Other"}"#).await;
    assert_eq!(status, 400);
    let (_, body) = call(
        &worker,
        "PUT",
        path,
        r#"{"name":"a","target":"x","topics":"t","topics.regex":"t.*","transforms":"a"}"#,
    )
    .await;
    assert!(
        body.contains("mutually exclusive") && body.contains("this release has no transforms"),
        "{body}"
    );
    let (status, body) = call(
        &worker,
        "GET",
        "/connector-plugins/NowhereSinkConnector/config",
        "",
    )
    .await;
    assert_eq!((status, body.contains("\"errors.tolerance\"")), (200, true));
}

#[tokio::test]
async fn a_request_that_changes_nothing_needs_no_cluster() {
    let worker = worker().await;
    let shown = worker.info("n").unwrap().config;
    let (status, _) = call(
        &worker,
        "PUT",
        "/connectors/n/config",
        &serde_json::to_string(&shown).unwrap(),
    )
    .await;
    assert_eq!(status, 200, "the hidden secret is what it was");
    assert_eq!(
        worker.inner().state.lock().get("n").unwrap().config["secret"],
        "hush"
    );
}

#[test]
fn the_query_is_read_by_name_and_value() {
    assert!(in_query(Some("a=1&onlyFailed=True"), "onlyFailed", "true"));
    assert!(!in_query(Some("onlyFailed=false"), "onlyFailed", "true"));
    assert!(!in_query(None, "onlyFailed", "true"));
}
