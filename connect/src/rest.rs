//! Kafka Connect's REST API: its paths, status codes and bodies, so that kcctl and the web consoles work unchanged.
//!
//! Owns the routes; the JSON is in `rest/body.rs`, what the requests do in `worker/requests.rs`. A driver file: it listens. Whoever reaches the address may do
//! everything, so it is the loopback unless configured otherwise; bodies are bounded and must be JSON by their content type, which a web page of another
//! origin cannot send unasked. Source: Kafka `ConnectorsResource`, `ConnectorPluginsResource`, `RootResource`.

mod body;
mod guard;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::error::WorkerError;
use crate::runtime;
use crate::state::TargetState;
use crate::worker::{Inner, Offset, Worker};

/// The largest request body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The release of Kafka Connect whose API this is.
const API_VERSION: &str = "4.3.0";

/// An answer other than success.
struct Refused(StatusCode, String);

type Answer = Result<Response, Refused>;

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (
            self.0,
            axum::Json(json!({"error_code": self.0.as_u16(), "message": self.1})),
        )
            .into_response()
    }
}

impl From<WorkerError> for Refused {
    /// Kafka: `ConnectExceptionMapper`.
    fn from(error: WorkerError) -> Refused {
        let status = match &error {
            WorkerError::NotFound(_) => StatusCode::NOT_FOUND,
            WorkerError::AlreadyExists(_) | WorkerError::Conflict(_) => StatusCode::CONFLICT,
            WorkerError::InvalidConfig(_) | WorkerError::BadRequest(_) => StatusCode::BAD_REQUEST,
            WorkerError::Cluster(_) | WorkerError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refused(status, error.to_string())
    }
}

/// Opens the socket.
#[expect(clippy::disallowed_methods, reason = "the one socket of this crate")]
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, WorkerError> {
    TcpListener::bind(address)
        .await
        .map_err(|e| WorkerError::Internal(format!("cannot listen for REST on {address}: {e}")))
}

/// Serves until the task is aborted.
pub(crate) fn serve(listener: TcpListener, worker: Weak<Inner>) -> tokio::task::JoinHandle<()> {
    runtime::spawn("connect REST", async move {
        if let Err(e) = axum::serve(guard::Guarded::new(listener), router(worker)).await {
            tracing::error!("REST ended: {e}");
        }
    })
}

/// All routes.
pub(crate) fn router(worker: Weak<Inner>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/health", get(health))
        .route("/connectors", get(list).post(create))
        .route("/connectors/{name}", get(info).delete(delete))
        .route(
            "/connectors/{name}/config",
            get(config).put(put_config).patch(patch_config),
        )
        .route("/connectors/{name}/status", get(status))
        .route("/connectors/{name}/tasks", get(tasks))
        .route("/connectors/{name}/tasks/{task}/status", get(task_status))
        .route(
            "/connectors/{name}/tasks/{task}/restart",
            post(restart_task),
        )
        .route("/connectors/{name}/restart", post(restart))
        .route("/connectors/{name}/pause", put(pause))
        .route("/connectors/{name}/resume", put(resume))
        .route("/connectors/{name}/stop", put(stop))
        .route("/connectors/{name}/topics", get(topics))
        .route("/connectors/{name}/topics/reset", put(reset_topics))
        .route(
            "/connectors/{name}/offsets",
            get(offsets).patch(alter_offsets).delete(reset_offsets),
        )
        .route("/connector-plugins", get(plugins))
        .route("/connector-plugins/{plugin}/config", get(plugin_config))
        .route("/connector-plugins/{plugin}/config/validate", put(validate))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn(only_json))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(worker)
}

/// Kafka answers 415 to a body that is not declared as JSON; for us it also keeps other origins out.
async fn only_json(request: Request<Body>, next: Next) -> Response {
    let changes = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let has_body = length.is_some_and(|length| length > 0)
        || request.headers().contains_key(header::TRANSFER_ENCODING);
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("");
    let json = kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if changes && has_body && !json {
        return Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "HTTP 415 Unsupported Media Type".to_owned(),
        )
        .into_response();
    }
    let response = next.run(request).await;
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The request body is larger than {BODY_BYTES_MAX} bytes"),
        )
        .into_response();
    }
    // A path that cannot be read is refused before any of our handlers: in plain text, which no client of this API expects.
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if status.is_client_error() && !is_json {
        return Refused(status, format!("HTTP {status}")).into_response();
    }
    response
}

async fn nothing_here(_: Uri) -> Refused {
    Refused(StatusCode::NOT_FOUND, "HTTP 404 Not Found".to_owned())
}

async fn not_allowed() -> Refused {
    Refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "HTTP 405 Method Not Allowed".to_owned(),
    )
}

type Here = State<Weak<Inner>>;

fn worker(here: &Weak<Inner>) -> Result<Worker, Refused> {
    let inner: Option<Arc<Inner>> = here.upgrade();
    inner.map(Worker::from_inner).ok_or_else(|| {
        Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "The worker is shutting down".to_owned(),
        )
    })
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|e| {
        Refused(
            StatusCode::BAD_REQUEST,
            format!("The request body cannot be read: {e}"),
        )
    })
}

fn ok(value: Value) -> Answer {
    Ok(axum::Json(value).into_response())
}

/// Whether `name` stands in the query, and with this value if one is given.
fn in_query(query: Option<&str>, name: &str, value: &str) -> bool {
    let pairs = query
        .unwrap_or("")
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .into_iter()
        .any(|(key, found)| key == name && found.eq_ignore_ascii_case(value))
}

async fn root(State(here): Here) -> Answer {
    ok(
        json!({"version": API_VERSION, "commit": concat!("flumen-", env!("CARGO_PKG_VERSION")), "kafka_cluster_id": worker(&here)?.cluster_id()}),
    )
}

async fn health(State(here): Here) -> Answer {
    let _ = worker(&here)?;
    ok(
        json!({"status": "healthy", "message": "Worker has completed startup and is ready to handle requests."}),
    )
}

async fn list(State(here): Here, RawQuery(query): RawQuery) -> Answer {
    let worker = worker(&here)?;
    let (status, info) = (
        in_query(query.as_deref(), "expand", "status"),
        in_query(query.as_deref(), "expand", "info"),
    );
    if !status && !info {
        return ok(json!(worker.connectors()));
    }
    let mut all = serde_json::Map::new();
    for name in worker.connectors() {
        let mut parts = serde_json::Map::new();
        // A connector that is deleted meanwhile is left out.
        if status && let Ok(status) = worker.status(&name) {
            let _ = parts.insert("status".to_owned(), body::status(&status));
        }
        if info && let Ok(info) = worker.info(&name) {
            let _ = parts.insert("info".to_owned(), body::info(&info));
        }
        let _ = all.insert(name, parts.into());
    }
    ok(all.into())
}

async fn create(State(here): Here, body: Bytes) -> Answer {
    let request: body::Create = parse(&body)?;
    let worker = worker(&here)?;
    let name = request.name.trim().to_owned();
    let target = request
        .target()
        .map_err(|e| Refused(StatusCode::BAD_REQUEST, e))?;
    let offsets = request.initial_offsets.unwrap_or_default();
    let info = if offsets.is_empty() {
        worker.create_in(&name, request.config, target).await?
    } else {
        // Its offsets can be set only while it is stopped: so it is, until they are.
        let _ = worker
            .create_in(&name, request.config, TargetState::Stopped)
            .await?;
        until_stopped(&worker, &name).await;
        worker.alter_offsets(&name, offsets).await?;
        worker.set_target(&name, target).await?;
        worker.info(&name)?
    };
    let location = format!("/connectors/{name}");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        axum::Json(body::info(&info)),
    )
        .into_response())
}

async fn until_stopped(worker: &Worker, name: &str) {
    for _ in 0..500 {
        if worker
            .status(name)
            .is_ok_and(|status| status.connector.state == crate::status::State::Stopped)
        {
            return;
        }
        runtime::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn info(State(here): Here, Path(name): Path<String>) -> Answer {
    ok(body::info(&worker(&here)?.info(&name)?))
}

async fn delete(State(here): Here, Path(name): Path<String>) -> Answer {
    worker(&here)?.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn config(State(here): Here, Path(name): Path<String>) -> Answer {
    ok(json!(worker(&here)?.info(&name)?.config))
}

async fn put_config(State(here): Here, Path(name): Path<String>, body: Bytes) -> Answer {
    let body::Config(config) = parse(&body)?;
    let (info, new) = worker(&here)?.put_config(&name, config).await?;
    let location = [(header::LOCATION, format!("/connectors/{name}"))];
    let body = axum::Json(body::info(&info));
    Ok(if new {
        (StatusCode::CREATED, location, body).into_response()
    } else {
        body.into_response()
    })
}

async fn patch_config(State(here): Here, Path(name): Path<String>, body: Bytes) -> Answer {
    ok(body::info(
        &worker(&here)?
            .patch_config(&name, body::patch(parse(&body)?))
            .await?,
    ))
}

async fn status(State(here): Here, Path(name): Path<String>) -> Answer {
    ok(body::status(&worker(&here)?.status(&name)?))
}

async fn tasks(State(here): Here, Path(name): Path<String>) -> Answer {
    let tasks = worker(&here)?.tasks(&name)?;
    ok(tasks
        .iter()
        .map(|task| json!({"id": {"connector": name, "task": task.task}, "config": task.config}))
        .collect())
}

async fn task_status(State(here): Here, Path((name, task)): Path<(String, String)>) -> Answer {
    let status = worker(&here)?.status(&name)?;
    let found = task
        .parse::<usize>()
        .ok()
        .and_then(|task| body::task(&status, task));
    found.map_or_else(
        || {
            Err(Refused(
                StatusCode::NOT_FOUND,
                format!("No status found for task {name}-{task}"),
            ))
        },
        ok,
    )
}

async fn restart_task(State(here): Here, Path((name, task)): Path<(String, String)>) -> Answer {
    let number = task.parse::<usize>().map_err(|_| {
        Refused(
            StatusCode::NOT_FOUND,
            format!("Unknown task: {name}-{task}"),
        )
    })?;
    worker(&here)?.restart_task(&name, number)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn restart(State(here): Here, Path(name): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let (include, failed) = (
        in_query(query.as_deref(), "includeTasks", "true"),
        in_query(query.as_deref(), "onlyFailed", "true"),
    );
    let status = worker(&here)?.restart(&name, include, failed).await?;
    Ok(if include || failed {
        (StatusCode::ACCEPTED, axum::Json(body::status(&status))).into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}

async fn pause(State(here): Here, Path(name): Path<String>) -> Answer {
    worker(&here)?
        .set_target(&name, TargetState::Paused)
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn resume(State(here): Here, Path(name): Path<String>) -> Answer {
    worker(&here)?
        .set_target(&name, TargetState::Started)
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn stop(State(here): Here, Path(name): Path<String>) -> Answer {
    worker(&here)?
        .set_target(&name, TargetState::Stopped)
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn topics(State(here): Here, Path(name): Path<String>) -> Answer {
    let topics = worker(&here)?.topics(&name)?;
    ok(json!({ name: {"topics": topics} }))
}

async fn reset_topics(State(here): Here, Path(name): Path<String>) -> Answer {
    worker(&here)?.reset_topics(&name)?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn offsets(State(here): Here, Path(name): Path<String>) -> Answer {
    ok(json!({"offsets": worker(&here)?.offsets(&name).await?}))
}

async fn alter_offsets(State(here): Here, Path(name): Path<String>, body: Bytes) -> Answer {
    #[derive(serde::Deserialize)]
    struct Alter {
        offsets: Vec<Offset>,
    }
    worker(&here)?
        .alter_offsets(&name, parse::<Alter>(&body)?.offsets)
        .await?;
    ok(json!({"message": "The offsets for this connector have been altered successfully"}))
}

async fn reset_offsets(State(here): Here, Path(name): Path<String>) -> Answer {
    worker(&here)?.reset_offsets(&name).await?;
    ok(json!({"message": "The offsets for this connector have been reset successfully"}))
}

async fn plugins(State(here): Here, RawQuery(query): RawQuery) -> Answer {
    let all = in_query(query.as_deref(), "connectorsOnly", "false");
    let plugins = worker(&here)?.registry().plugins();
    let shown = plugins
        .iter()
        .filter(|plugin| all || plugin.kind != "converter");
    ok(shown
        .map(
            |plugin| json!({"class": plugin.class, "type": plugin.kind, "version": plugin.version}),
        )
        .collect())
}

async fn plugin_config(State(here): Here, Path(plugin): Path<String>) -> Answer {
    let def = worker(&here)?.plugin_config(&plugin)?;
    ok(def
        .keys()
        .iter()
        .enumerate()
        .map(|(order, key)| body::definition(key, key.name, order))
        .collect())
}

async fn validate(State(here): Here, Path(plugin): Path<String>, body: Bytes) -> Answer {
    let worker = worker(&here)?;
    let body::Config(mut config) = parse(&body)?;
    let named = worker
        .registry()
        .connector(&plugin)
        .map(|(class, _)| class.to_owned());
    let configured = config
        .entry("connector.class".to_owned())
        .or_insert_with(|| plugin.clone());
    if worker
        .registry()
        .connector(configured)
        .map(|(class, _)| class)
        != named.as_deref()
    {
        let words =
            format!("Included connector type {configured} does not match request type {plugin}");
        return Err(Refused(StatusCode::BAD_REQUEST, words));
    }
    ok(body::validated(&worker.validate(&config).await?))
}

#[cfg(test)]
mod tests;
