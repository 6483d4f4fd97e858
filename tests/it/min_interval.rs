//! An agent that beats too often is told to wait, whichever replica it asks.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    Answer,
    actors::Agent,
    cut::Wire,
    database::Database,
    process::{Pair, Server},
    turn,
};

const SECOND: Duration = Duration::from_secs(1);

fn assert_told_to_wait(answer: &Answer) {
    let error = answer.error(429, "rate_limited");
    assert_eq!(error["action"], "retry");
}

/// A minute between two beats at least, with the rhythm that leaves room for it.
const SELDOM: [&str; 3] =
    ["--heartbeat-min-interval=60", "--heartbeat-interval=200", "--connected-window=1000"];

#[tokio::test]
async fn an_agent_beats_no_faster_than_once_a_second_over_all_replicas() {
    let _alone = turn::alone();
    let pair = Pair::start(&["--heartbeat-min-interval", "1"]).await;
    let agent = pair.acme.agent("hasty").await;
    let places = pair.servers.each_ref().map(|server| agent.at(server.address));
    let body = json!({"queue_depth": 1});
    let (began, mut accepted) = (Instant::now(), 0_u32);
    for place in places.iter().cycle() {
        if began.elapsed() > 4 * SECOND {
            break;
        }
        let answer = place.heartbeat(&body).await;
        match answer.status.as_u16() {
            200 => accepted += 1,
            _ => assert_told_to_wait(&answer),
        }
        sleep(SECOND / 5).await;
    }
    let most = began.elapsed().as_secs() + 1;
    assert!((2..=most).contains(&u64::from(accepted)), "{accepted} in {most} s");

    // What was refused left no trace, and the agent's next credential buys it nothing.
    sleep(SECOND + SECOND / 5).await;
    let new = places[0].rotate().await;
    places[0].heartbeat(&body).await.data(200);
    assert_told_to_wait(&places[1].heartbeat(&json!({"queue_depth": 9})).await);
    assert_told_to_wait(&new.heartbeat(&json!({"queue_depth": 9})).await);
    assert_eq!(pair.acme.health(agent.id).await["queue_depth"], 1);
    sleep(SECOND + SECOND / 5).await;
    places[1].heartbeat(&body).await.data(200);
}

#[tokio::test]
async fn of_two_beats_at_two_replicas_at_once_one_is_accepted() {
    let pair = Pair::start(&SELDOM).await;
    for number in 0..20 {
        let agent = pair.acme.agent(&format!("hasty {number}")).await;
        let places: [Agent; 2] = pair.servers.each_ref().map(|server| agent.at(server.address));
        let body = json!({});
        let (one, other) = tokio::join!(places[0].heartbeat(&body), places[1].heartbeat(&body));
        let (good, bad) = if one.status == 200 { (one, other) } else { (other, one) };
        good.data(200);
        assert_told_to_wait(&bad);
    }
}

#[tokio::test]
async fn a_beat_that_the_server_sends_again_is_not_too_soon() {
    let database = Database::create().await;
    let wire = Wire::to(&database.options).await;
    let server = Server::start(&wire.url, &SELDOM).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agent = acme.agent("patient").await;
    wire.cut_after(agent.id);
    agent.beat().await;
    assert_eq!(wire.cuts(), 1, "it was committed, and nobody heard");
    assert_told_to_wait(&agent.heartbeat(&json!({})).await);
    let events = acme.operator.get(&format!("/api/agents/{}/events?type=connected", agent.id)).await;
    assert_eq!(events.ids().len(), 1, "stored twice, told once");
}
