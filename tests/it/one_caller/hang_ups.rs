//! Callers who hang up before they are answered.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{NOISE, Neighbour, forged_keys};
use crate::support::{
    database::Database,
    process::Server,
    rows::{self, Held},
    turn,
    wire::{Line, request},
};

const CLIENTS: usize = 32;
const SECONDS: u64 = 3;
/// Every lane's connections, the flusher's, and those that tests look with.
const MAX_SESSIONS: i64 = 30;

/// Sends forged keys and hangs up a moment later, over and over; gives how many were sent.
async fn hang_up(at: SocketAddr, keys: Vec<String>) -> usize {
    let mut clients = JoinSet::new();
    for keys in keys.chunks(keys.len() / CLIENTS).map(<[String]>::to_vec) {
        clients.spawn(async move {
            let (end, mut sent) = (Instant::now() + Duration::from_secs(SECONDS), 0);
            for (at_once, key) in keys.iter().enumerate() {
                if Instant::now() > end {
                    break;
                }
                let mut line = Line::open(at).await.unwrap();
                line.say(&request("GET", "/api/agents", Some(key), "")).await.unwrap();
                sleep(Duration::from_micros(500 * (at_once as u64 % 4))).await;
                sent += 1;
            }
            sent
        });
    }
    clients.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hang_ups_tear_down_no_connection_and_spare_a_neighbour() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let neighbour = server.workspace(&database.options, "neighbour").await.operator;
    let quiet = Neighbour::quiet(&neighbour).await;
    let before = rows::sessions(&database.options).await;
    let watch = Neighbour::start(&neighbour);
    let sent = hang_up(server.address, forged_keys(1, 40_000)).await;
    let p99 = watch.p99().await;
    let made = rows::sessions(&database.options).await - before;
    println!("{sent} hang-ups, {made} connections made; neighbour {quiet:?}, then {p99:?}");
    assert!(sent > 500, "{sent} are no flood");
    assert!(made < MAX_SESSIONS, "{made} connections made");
    assert!(p99 < quiet * 2 + NOISE, "{quiet:?}, then {p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hang_ups_are_charged_as_failed_authentication() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &["--rate-limit-failed-auth=20"]).await;
    let sent = hang_up(server.address, forged_keys(2, 4_000)).await;
    assert!(sent > 200, "{sent} are no flood");
    let (mut line, mut refused) = (Line::open(server.address).await.unwrap(), 0);
    // One may fail again every three seconds.
    for key in forged_keys(3, 5) {
        let reply = line.ask(&request("GET", "/api/agents", Some(&key), "")).await.unwrap();
        refused += usize::from(reply.status == 429);
    }
    assert!(refused > 0, "{sent} hang-ups were not counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_callers_who_hung_up_are_done() {
    const WRITES: usize = 6;
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let token = acme.operator.token.clone();
    acme.operator.get("/api/agents").await.data(200);
    let held = Held::registrations(&database.options).await;
    let mut lines = Vec::new();
    for number in 0..WRITES {
        let body = format!(r#"{{"label": "agent {number}", "platform": "linux"}}"#);
        let mut line = Line::open(server.address).await.unwrap();
        line.say(&request("POST", "/api/agents", token.as_deref(), &body)).await.unwrap();
        lines.push(line);
    }
    rows::wait_for_lock(&database.options, WRITES.try_into().unwrap()).await;
    drop(lines);
    sleep(Duration::from_millis(50)).await;
    held.let_go().await;
    let registered = async || acme.trail("type=registered&limit=100").await.len();
    let deadline = Instant::now() + Duration::from_secs(10);
    while registered().await < WRITES && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    let agents = acme.operator.get("/api/agents?limit=100").await.ids().len();
    assert_eq!([agents, registered().await], [WRITES; 2], "{}", server.log());
}
