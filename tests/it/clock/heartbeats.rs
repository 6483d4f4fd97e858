//! What a heartbeat is held against.

use std::time::Duration;

use planasonix::domain::agent::ReenablePolicy;
use serde_json::{Value, json};

use super::{AHEAD, assert_past};
use crate::support::{
    App,
    actors::{Agent, Workspace},
    ask::eventually,
    time,
};

const LAST_SEEN: &[&str] = &["last_seen_at"];

/// An app with a minimum interval between heartbeats that no test waits for.
async fn app() -> (App, Workspace) {
    let app = App::with(|settings| settings.rhythm.min_interval = Duration::from_mins(5)).await;
    let acme = app.workspace("acme").await;
    (app, acme)
}

async fn since(acme: &Workspace, agent: &Agent) -> Value {
    let rows = acme.operator.get("/api/agents/connected").await.data(200);
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == json!(agent.id)).cloned();
    row.unwrap_or_default()["connected_since"].clone()
}

#[tokio::test]
async fn heartbeat_after_one_that_is_ahead_is_accepted_and_ends_it() {
    let (app, acme) = app().await;
    for ahead in AHEAD {
        let agent = acme.agent("etl").await;
        agent.beat().await;
        agent.heartbeat(&json!({})).await.error(429, "rate_limited");
        app.heartbeats_ahead(LAST_SEEN, ahead).await;
        agent.beat().await;
        let health = acme.health(agent.id).await;
        assert_eq!(health["status"], "healthy");
        assert_past(&health["heartbeat_at"]);
        agent.heartbeat(&json!({})).await.error(429, "rate_limited");
    }
}

#[tokio::test]
async fn drained_agent_is_told_and_disconnected_one_returns() {
    let (app, acme) = app().await;
    let agent = acme.agent("etl").await;
    for ahead in AHEAD {
        app.heartbeats_ahead(LAST_SEEN, ahead).await;
        acme.drain(agent.id).await.data(200);
        let told = agent.heartbeat(&json!({})).await.data(200);
        assert_eq!(told["accepts_work"], false);
        assert_eq!(agent.disconnect().await.status, 204);
        app.heartbeats_ahead(LAST_SEEN, ahead).await;
        assert_eq!(since(&acme, &agent).await, Value::Null);
        agent.beat().await;
        assert_past(&since(&acme, &agent).await);
    }
}

#[tokio::test]
async fn agent_whose_heartbeat_is_ahead_is_not_connected_until_the_next_one() {
    let (app, acme) = app().await;
    let agent = acme.agent("dead").await;
    for ahead in AHEAD {
        app.time_passes(Duration::from_mins(6)).await;
        agent.beat().await;
        app.heartbeats_ahead(&["last_seen_at", "connected_since"], ahead).await;
        assert!(acme.connected().await.is_empty());
        let health = acme.health(agent.id).await;
        assert_eq!(
            (&health["status"], &health["heartbeat_at"]),
            (&json!("unknown"), &Value::Null),
            "{health}"
        );
        assert_eq!(acme.detail(agent.id).await["last_seen_at"], Value::Null);
        assert_eq!(acme.operator.get("/api/agents").await.data(200)[0]["last_seen_at"], Value::Null);
        agent.beat().await;
        assert_past(&since(&acme, &agent).await);
    }
}

/// The run of an agent that goes on is neither lost nor dated in the future.
#[tokio::test]
async fn step_of_the_clock_breaks_no_run() {
    for step in [Duration::from_secs(10), Duration::from_secs(29), AHEAD[0], AHEAD[1]] {
        let (app, acme) = app().await;
        let agent = acme.agent("etl").await;
        agent.beat().await;
        time::clock_steps_back(&mut app.database.connect().await, step).await;
        agent.beat().await;
        assert_past(&since(&acme, &agent).await);
        assert_eq!(app.event_types(agent.id).await, ["registered", "enrolled", "connected"], "{step:?}");
    }
}

#[tokio::test]
async fn run_that_began_ahead_is_shown_and_kept_as_one_of_now() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    for ahead in AHEAD {
        agent.beat().await;
        app.heartbeats_ahead(&["connected_since"], ahead).await;
        assert_past(&since(&acme, &agent).await);
        agent.beat().await;
        assert_past(&since(&acme, &agent).await);
    }
    assert_eq!(app.event_types(agent.id).await, ["registered", "enrolled", "connected"]);
}

#[tokio::test]
async fn host_facts_written_ahead_are_no_reason_to_wait() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    let says = async |version: &str| {
        agent.heartbeat(&json!({"version": version})).await.data(200);
        eventually(async || {
            agent.heartbeat(&json!({"version": version})).await.data(200);
            (acme.detail(agent.id).await["version"] == version).then_some(())
        })
        .await;
    };
    says("1").await;
    for (ahead, version) in AHEAD.into_iter().zip(["2", "3"]) {
        app.heartbeats_ahead(&["slow_at"], ahead).await;
        says(version).await;
    }
}

#[tokio::test]
async fn conflict_that_is_ahead_is_none_and_hides_none() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("cloned").await;
    let beat =
        async |instance: &str| drop(agent.heartbeat(&json!({"instance_id": instance})).await.data(200));
    let noted = async || acme.trail("type=instance_conflict&limit=100").await.len();
    beat("first").await;
    beat("second").await;
    assert_eq!(noted().await, 1);
    for (ahead, noted_before) in AHEAD.into_iter().zip(1..) {
        app.heartbeats_ahead(&["conflict_at", "conflict_noted_at"], ahead).await;
        assert_eq!(acme.health(agent.id).await["status"], "healthy");
        beat("first").await;
        beat("second").await;
        assert_eq!(acme.health(agent.id).await["reasons"], json!(["instance_conflict"]));
        assert_eq!(noted().await, noted_before + 1);
    }
}

/// Whoever is let back in by a rotation is in the same place.
#[tokio::test]
async fn agent_let_back_in_is_not_held_up() {
    let (app, acme) = app().await;
    app.reenable_by("acme", ReenablePolicy::Rotation).await;
    let agent = acme.agent("etl").await;
    agent.beat().await;
    app.heartbeats_ahead(LAST_SEEN, AHEAD[1]).await;
    acme.revoke(agent.id).await.data(200);
    let enabled = acme.operator.post_nothing(&format!("/api/agents/enable/{}", agent.id)).await.data(200);
    let me = agent.me.with_token(enabled["credential"].as_str().unwrap());
    Agent { id: agent.id, me }.beat().await;
}
