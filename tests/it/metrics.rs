//! Metrics: every one that the program names is served, and moves when it should.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use planasonix::meter::{Kind, METRICS};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    agents::{PUBLIC_URL, put},
    ask::{eventually, for_each},
    cut::Wire,
    database::Database,
    http,
    process::Server,
    rows::{self, Held},
    wire::Line,
};

const QUEUE: &str = "planasonix_heartbeat_queue_depth";
const USED: &str = "planasonix_database_connections_used";

/// The sum of each metric over its labels; of a histogram, how much it has met.
async fn scrape(at: SocketAddr) -> HashMap<&'static str, f64> {
    let answer = http::client().get(format!("http://{at}/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    let sum = |name: &str, kind: Kind| {
        let wanted = if kind == Kind::Histogram { format!("{name}_count") } else { name.to_owned() };
        let samples = text.lines().filter(|line| line.split([' ', '{']).next() == Some(&wanted));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    METRICS.iter().map(|&(name, kind, _)| (name, sum(name, kind))).collect()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn every_metric_is_served_and_moves() {
    let database = Database::create().await;
    rows::connected_agents(&database.options, 20).await;
    rows::analyze(&database.options).await;
    let wire = Wire::to(&database.options).await;
    let metrics = free_address();
    let agents = tempfile::tempdir().unwrap();
    put(agents.path(), "linux-x86_64", "planasonix-agent", b"a program");
    let flags = [
        &format!("--metrics-listen={metrics}"),
        "--max-connections=60",
        &format!("--public-url={PUBLIC_URL}"),
        &format!("--agents-dir={}", agents.path().display()),
    ];
    let server = Server::start(&wire.url, &flags).await;
    let acme = server.workspace(&database.options, "acme").await;
    let before = scrape(metrics).await;
    // More connections than are allowed.
    let lines = for_each(0..70, 70, |_| Line::open(server.address)).await;
    sleep(Duration::from_millis(200)).await;
    drop(lines);
    sleep(Duration::from_millis(200)).await;

    let agent = acme.agent("measured").await;
    agent.beat().await;
    wire.cut_after(agent.id);
    agent.beat().await;
    let busy = [QUEUE, USED];
    let held = Held::agent(&database.options, agent.id).await;
    let waiting = tokio::spawn({
        let agent = agent.clone();
        async move { agent.heartbeat(&json!({})).await }
    });
    let revoking = tokio::spawn({
        let operator = acme.operator.clone();
        async move { operator.post_nothing(&format!("/api/agents/revoke/{}", agent.id)).await }
    });
    let mut seen = HashMap::from(busy.map(|name| (name, 0.0)));
    while !(waiting.is_finished() && revoking.is_finished()) {
        let now = scrape(metrics).await;
        for (name, most) in &mut seen {
            *most = now[name].max(*most);
        }
        sleep(Duration::from_millis(20)).await;
    }
    held.let_go().await;
    assert_eq!(revoking.await.unwrap().status, 503);

    // Whoever waited has given up; the desk clears up with its next flush.
    eventually(async || (scrape(metrics).await[QUEUE] == 0.0).then_some(())).await;
    let after = scrape(metrics).await;
    for (name, kind, _) in METRICS {
        let moved = match kind {
            Kind::Gauge if busy.contains(&name) => seen[name] > 0.0 && after[name] == 0.0,
            Kind::Gauge => after[name] > 0.0,
            Kind::Counter | Kind::Histogram => after[name] > before[name],
        };
        assert!(moved, "{name}: {} before, {} after", before[name], after[name]);
    }
}

#[tokio::test]
async fn what_callers_send_makes_no_new_label() {
    let database = Database::create().await;
    let metrics = free_address();
    let server = Server::start(&database.url(), &["--metrics-listen", &metrics.to_string()]).await;
    let lines = async || {
        let answer = http::client().get(format!("http://{metrics}/metrics")).send().await.unwrap();
        let told_of_requests = |line: &&str| line.contains("_http_") || line.contains("_refusals_");
        answer.text().await.unwrap().lines().filter(told_of_requests).count()
    };
    let ask = async |number: usize| {
        let method = reqwest::Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        let path = format!("http://{}/api/agents/agt_{number}/{number}", server.address);
        http::client().request(method, path).send().await.unwrap()
    };
    ask(0).await;
    let before = lines().await;
    for number in 1..20 {
        assert_eq!(ask(number).await.status(), 404);
    }
    assert_eq!(lines().await, before);
}

#[tokio::test]
async fn a_metrics_listener_serves_nothing_else_and_the_service_serves_no_metrics() {
    let database = Database::create().await;
    let metrics = free_address();
    let server = Server::start(&database.url(), &["--metrics-listen", &metrics.to_string()]).await;
    let status = async |at: SocketAddr, path: &str| {
        http::client().get(format!("http://{at}{path}")).send().await.unwrap().status()
    };
    assert_eq!(status(metrics, "/metrics").await, 200);
    assert_eq!(status(metrics, "/api/agents").await, 404);
    assert_eq!(status(server.address, "/metrics").await, 404);
}
