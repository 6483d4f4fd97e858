//! SIGTERM, and callers who take their time.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time::{sleep, sleep_until, timeout};

use crate::support::{
    actors::Agent,
    process::{Pair, Server},
    rows::{self, Held},
    storm::{self, Storm, heartbeat},
    turn,
    wire::{Line, request},
};

const SECOND: Duration = Duration::from_secs(1);
const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";

async fn readyz(server: &Server) -> io::Result<u16> {
    let mut line = Line::open(server.address).await?;
    Ok(line.ask(&request("GET", "/readyz", None, "")).await?.status)
}

#[tokio::test]
async fn during_the_delay_it_says_no_and_still_serves_and_afterwards_takes_no_connection() {
    let _alone = turn::alone();
    let mut pair = Pair::start(&["--shutdown-delay", "4"]).await;
    let agent = pair.acme.agent("etl").await;
    let mut kept_alive = Line::open(pair.servers[0].address).await.unwrap();
    assert_eq!(kept_alive.ask(&heartbeat(&agent, 1)).await.unwrap().status, 200);

    pair.servers[0].terminate();
    let told = Instant::now();
    while readyz(&pair.servers[0]).await.unwrap() == 200 {
        assert!(told.elapsed() < 3 * SECOND);
    }
    assert_eq!(kept_alive.ask(&heartbeat(&agent, 2)).await.unwrap().status, 200);
    agent.beat().await;
    assert!(told.elapsed() < 4 * SECOND, "too slow to tell anything");

    assert_eq!(pair.servers[0].ended().await.code(), Some(0));
    assert!(told.elapsed() >= 4 * SECOND, "it cut its delay short");
    assert!(told.elapsed() < 10 * SECOND);
    assert!(readyz(&pair.servers[0]).await.is_err());
    agent.at(pair.servers[1].address).beat().await;
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_beats_that_wait_are_committed() {
    let _alone = turn::alone();
    let mut pair = Pair::start(&["--shutdown-delay", "0"]).await;
    let agents = storm::agents(&pair.acme, 20).await;
    let mut held = Vec::new();
    for agent in &agents {
        held.push(Held::agent(&pair.database.options, agent.id).await);
    }
    let at = pair.servers[0].address;
    let beats = Storm::start(&agents, at, Duration::from_millis(1), 0);
    let operator = pair.acme.operator.clone();
    let revoked = agents[0].id;
    let revoke =
        tokio::spawn(async move { operator.post_nothing(&format!("/api/agents/revoke/{revoked}")).await });
    sleep(SECOND / 2).await;
    pair.servers[0].terminate();
    while Line::open(at).await.is_ok() {
        sleep(SECOND / 100).await;
    }
    for lock in held {
        lock.let_go().await;
    }
    revoke.await.unwrap().data(200);
    assert_eq!(pair.servers[0].ended().await.code(), Some(0));
    let beats = beats.stop().await;
    let stored = rows::last_beats(&pair.database.options).await;
    for agent in &agents[1..] {
        let first = beats.iter().find(|beat| beat.agent == agent.id).unwrap();
        assert!(first.accepted_at().is_some(), "{first:?}");
        assert!(stored[&agent.id].1 >= Some(first.jobs));
    }
}

/// The delay may be as long as a load balancer needs; what came in meanwhile still has its time.
#[tokio::test]
async fn a_long_delay_leaves_time_for_what_came_at_its_end() {
    let _alone = turn::alone();
    let mut pair = Pair::start(&["--shutdown-delay", "8"]).await;
    let agent = pair.acme.agent("etl").await;
    let mut line = Line::open(pair.servers[0].address).await.unwrap();
    pair.servers[0].terminate();
    let told = Instant::now();
    sleep_until((told + SECOND * 15 / 2).into()).await;
    let held = Held::agent(&pair.database.options, agent.id).await;
    line.say(&heartbeat(&agent, 1)).await.unwrap();
    sleep_until((told + SECOND * 17 / 2).into()).await;
    held.let_go().await;
    assert_eq!(line.reply().await.unwrap().status, 200);
    assert_eq!(pair.servers[0].ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stop_in_mid_storm_loses_no_acknowledged_beat() {
    let _alone = turn::alone();
    let mut pair = Pair::start(&["--shutdown-delay", "0"]).await;
    let agents = storm::agents(&pair.acme, 100).await;
    let storm = Storm::start(&agents, pair.servers[0].address, SECOND / 50, 0);
    sleep(SECOND).await;
    let told = Instant::now();
    pair.servers[0].terminate();
    assert_eq!(pair.servers[0].ended().await.code(), Some(0));
    assert!(told.elapsed() < 5 * SECOND, "nothing was there to wait for");
    let beats = storm.stop().await;
    let stored = rows::last_beats(&pair.database.options).await;
    assert!(beats.iter().any(|beat| beat.accepted_at().is_some()));
    for beat in beats {
        match beat.accepted_at() {
            Some(_) => assert!(stored[&beat.agent].1 >= Some(beat.jobs), "{beat:?}"),
            None => assert_eq!(beat.outcome, storm::Outcome::Broken),
        }
    }
}

/// An idle connection, one that never said anything, half a head, half a body.
#[tokio::test]
async fn callers_who_dawdle_do_not_keep_it_from_ending() {
    let mut pair = Pair::start(&["--shutdown-delay", "0"]).await;
    let agent = pair.acme.agent("etl").await;
    let at = pair.servers[0].address;
    let [mut idle, _silent, mut head, mut body] = {
        let open = async || Line::open(at).await.unwrap();
        [open().await, open().await, open().await, open().await]
    };
    assert_eq!(idle.ask(LIVEZ).await.unwrap().status, 200);
    head.say("GET /livez HTTP/1.1\r\nHo").await.unwrap();
    let whole = heartbeat(&agent, 1);
    body.say(whole.split_at(whole.len() - 10).0).await.unwrap();
    sleep(SECOND / 2).await;

    let told = Instant::now();
    pair.servers[0].terminate();
    timeout(2 * SECOND, idle.closed()).await.expect("an idle connection is closed at once");
    assert_eq!(pair.servers[0].ended().await.code(), Some(0));
    assert!(told.elapsed() < 10 * SECOND, "{:?}", told.elapsed());
}

#[tokio::test]
async fn a_head_that_takes_for_ever_is_cut_after_ten_seconds_and_a_slow_one_is_served() {
    let _alone = turn::alone();
    let pair = Pair::start(&[]).await;
    let at = pair.servers[0].address;
    let mut slow = Line::open(at).await.unwrap();
    for piece in LIVEZ.as_bytes().chunks(8) {
        slow.say(std::str::from_utf8(piece).unwrap()).await.unwrap();
        sleep(SECOND / 2).await;
    }
    assert_eq!(slow.reply().await.unwrap().status, 200);

    let (mut endless, mut silent) = (Line::open(at).await.unwrap(), Line::open(at).await.unwrap());
    let began = Instant::now();
    let dribble = async {
        endless.say("GET /livez HTTP/1.1\r\nX: ").await.unwrap();
        while endless.say("x").await.is_ok() {
            sleep(SECOND / 4).await;
        }
        began.elapsed()
    };
    let (cut, ()) = tokio::join!(timeout(30 * SECOND, dribble), silent.closed());
    let cut = cut.expect("it is never cut");
    assert!(cut > 9 * SECOND && cut < 15 * SECOND, "{cut:?}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_while_it_is_still_being_sent_and_the_connection_lives() {
    let pair = Pair::start(&[]).await;
    let agent: Agent = pair.acme.agent("etl").await;
    let mut line = Line::open(pair.servers[0].address).await.unwrap();
    let padding = "x".repeat(1024 * 1024);
    let body = json!({"last_error": padding}).to_string();
    let path = format!("/api/agents/{}/heartbeat", agent.id);
    let refused = line.ask(&request("POST", &path, agent.me.token.as_deref(), &body)).await.unwrap();
    assert_eq!(refused.status, 413);
    assert_eq!(refused.json()["error"]["code"], "body_too_large");
    assert_eq!(line.ask(&heartbeat(&agent, 1)).await.unwrap().status, 200);
}
