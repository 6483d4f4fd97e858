//! `POST /api/agents/{id}/credential`.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{App, actors::Agent, ask::eventually};

const DAY: Duration = Duration::from_hours(24);

async fn told_to_rotate(agent: &Agent) -> Value {
    agent.heartbeat(&json!({})).await.data(200)["rotate_credential"].clone()
}

#[tokio::test]
async fn the_old_credential_is_good_until_the_new_one_is_first_used() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let old = acme.agent("a").await;
    let answer = old.try_rotate().await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    cache-control: no-store
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "agent_id": "[agent id]",
        "credential": "[credential]",
        "credential_expires_at": "[time]"
      }
    }
    "#);
    let new = old.with(&answer.data(200));
    for _ in 0..2 {
        old.beat().await;
    }
    new.beat().await;
    assert_eq!(old.refused("credential_rotated").await, "re_enroll");
    assert_eq!(old.try_rotate().await.error(403, "credential_rotated")["action"], "re_enroll");
    new.beat().await;
    assert_eq!(acme.connected().await, [old.id.to_string()], "the run goes on");
    let events = app.event_types(old.id).await;
    assert_eq!(events, ["registered", "enrolled", "credential_rotated", "connected"]);
}

#[tokio::test]
async fn asking_again_replaces_the_unused_one() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let old = acme.agent("a").await;
    let (lost, found) = (old.rotate().await, old.rotate().await);
    assert_eq!(lost.refused("credential_rotated").await, "re_enroll");
    old.beat().await;
    let next = found.rotate().await;
    // The first use of the found one was to ask for the next.
    old.refused("credential_rotated").await;
    found.beat().await;
    next.beat().await;
    found.refused("credential_rotated").await;
}

#[tokio::test]
async fn any_first_use_ends_the_old_one() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let old = acme.agent("a").await;
    let new = old.rotate().await;
    assert_eq!(new.disconnect().await.status, 204);
    old.refused("credential_rotated").await;
    let newer = new.rotate().await;
    assert_eq!(newer.deregister().await.status, 204);
    for dead in [old, new, newer] {
        // A refusal is remembered for half a minute at most, and a dead credential never lives again.
        let told = eventually(async || {
            let answer = dead.heartbeat(&json!({})).await;
            (answer.status != 200).then_some(answer)
        });
        assert!(matches!(told.await.status.as_u16(), 401 | 403));
    }
}

#[tokio::test]
async fn the_heartbeat_says_so_in_the_last_third_of_the_credential_s_life() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    assert_eq!(told_to_rotate(&agent).await, false);
    app.time_passes(Duration::from_hours(20 * 24 - 1)).await;
    assert_eq!(told_to_rotate(&agent).await, false);
    app.time_passes(Duration::from_hours(2)).await;
    assert_eq!(told_to_rotate(&agent).await, true);
    let new = agent.rotate().await;
    assert_eq!(told_to_rotate(&agent).await, true, "the next one was not used yet");
    assert_eq!(told_to_rotate(&new).await, false);
    app.time_passes(20 * DAY + Duration::from_hours(1)).await;
    assert_eq!(told_to_rotate(&new).await, true);
    app.time_passes(10 * DAY).await;
    new.refused("credential_expired").await;
}

#[tokio::test]
async fn the_next_one_outlives_the_old_one_and_is_still_a_way_in() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let old = acme.agent("a").await;
    app.time_passes(29 * DAY).await;
    let new = old.rotate().await;
    app.time_passes(7 * DAY).await;
    assert_eq!(old.refused("credential_expired").await, "re_enroll");
    new.beat().await;
}
