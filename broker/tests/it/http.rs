//! Metrics and health, as Prometheus and an orchestrator ask for them.

use std::sync::Arc;

use flumen_broker::Drivers;
use flumen_log::fault_disk::{Fault, FaultDisk, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::groups::commit_request;
use crate::support::{World, batch};

/// Status and body.
async fn ask(world: &World, method: &str, path: &str) -> (u16, String) {
    let addr = world.broker.as_ref().unwrap().http_addr().unwrap();
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

async fn world_on(disk: Arc<FaultDisk>) -> World {
    let drivers = Drivers {
        disk,
        ..Drivers::os()
    };
    let http = ("flumen.http.listener".to_owned(), "127.0.0.1:0".to_owned());
    World::start_on(vec![http], drivers).await
}

#[tokio::test]
async fn metrics_are_those_that_dashboards_ask_for() {
    let world = world_on(Arc::new(FaultDisk::new())).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    client.call(8, &commit_request("", -1, 1)).await;
    client.values("t", 0, 0).await;
    let (status, text) = ask(&world, "GET", "/metrics").await;
    assert_eq!(status, 200);
    for expected in [
        "kafka_server_brokertopicmetrics_messagesin_total{topic=\"t\"} 3.0\n",
        "kafka_topic_partition_current_offset{topic=\"t\",partition=\"0\"} 3.0\n",
        "kafka_topic_partition_oldest_offset{topic=\"t\",partition=\"0\"} 0.0\n",
        "kafka_consumergroup_lag{consumergroup=\"g\",topic=\"t\",partition=\"0\"} 2.0\n",
        "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"} 2.0\n",
        "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 1.0\n",
        "flumen_request_duration_seconds_count{api=\"Produce\"} 1\n",
        "kafka_brokers 1.0\n",
        "kafka_log_logmanager_offlinelogdirectorycount 0.0\n",
        "kafka_server_socket_server_metrics_connection_count{listener=\"PLAINTEXT\"} 1.0\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let sent = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.to_owned()
    };
    assert_eq!(
        sent("kafka_server_brokertopicmetrics_bytesout_total{topic=\"t\"}"),
        sent("kafka_server_brokertopicmetrics_bytesin_total{topic=\"t\"}"),
        "what came in went out once"
    );
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn health_names_what_is_wrong_and_other_paths_are_refused() {
    let disk = Arc::new(FaultDisk::new());
    let world = world_on(Arc::clone(&disk)).await;
    let mut client = world.client_with_topic("t", 1).await;
    for path in ["/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(ask(&world, "GET", path).await.0, 200, "{path}");
    }
    disk.fail_coming(Kind::Sync, 1, Fault::Io);
    assert_ne!(client.produce("t", 0, batch(&["a"])).await.error_code, 0);
    let (status, body) = ask(&world, "GET", "/health/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("no more writes"), "{body}");
    assert_eq!(
        ask(&world, "GET", "/health/live").await.0,
        200,
        "readers are still served"
    );
    let (_, text) = ask(&world, "GET", "/metrics").await;
    assert!(text.contains("kafka_log_logmanager_offlinelogdirectorycount 1.0\n"));
    assert_eq!(ask(&world, "GET", "/").await.0, 404);
    assert_eq!(ask(&world, "POST", "/metrics").await.0, 405);
}

#[tokio::test]
async fn without_a_listener_nothing_is_served() {
    let world = World::start(&[]).await;
    assert_eq!(world.broker.as_ref().unwrap().http_addr(), None);
}

#[tokio::test(start_paused = true)]
async fn half_a_request_is_hung_up_on_and_holds_nobody_up() {
    let world = world_on(Arc::new(FaultDisk::new())).await;
    let addr = world.broker.as_ref().unwrap().http_addr().unwrap();
    let mut slow = Vec::new();
    // All places are taken by those who never get to the end of their request.
    for _ in 0..64 {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(b"GET /metr").await.unwrap();
        slow.push(socket);
    }
    assert_eq!(ask(&world, "GET", "/health/live").await.0, 200);
    for mut socket in slow {
        let mut rest = Vec::new();
        drop(socket.read_to_end(&mut rest).await);
    }
}
