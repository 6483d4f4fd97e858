//! `POST /api/agents/drain/{id}` and `POST /api/agents/resume/{id}`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{
    App,
    actors::{Agent, Workspace},
    process::Pair,
};

async fn accepts_work(agent: &Agent) -> Value {
    agent.heartbeat(&json!({})).await.data(200)["accepts_work"].clone()
}

#[tokio::test]
async fn a_draining_agent_goes_on_beating_and_takes_no_work_from_the_next_beat_on() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    assert_eq!(accepts_work(&agent).await, true);
    assert_snapshot!(acme.drain(agent.id).await.show(), @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "id": "[agent id]",
        "status": "active",
        "draining": true
      }
    }
    "#);
    let again = acme.drain(agent.id).await.data(200);
    assert_eq!(again, json!({"id": agent.id, "status": "active", "draining": true}));
    for _ in 0..2 {
        assert_eq!(accepts_work(&agent).await, false);
    }
    assert_eq!(acme.detail(agent.id).await["draining"], true);
    assert_eq!(acme.connected().await, [agent.id.to_string()]);
    assert_eq!(acme.health(agent.id).await["status"], "healthy");

    for _ in 0..2 {
        let resumed = acme.resume(agent.id).await.data(200);
        assert_eq!(resumed, json!({"id": agent.id, "status": "active", "draining": false}));
    }
    assert_eq!(accepts_work(&agent).await, true);
    assert_eq!(acme.detail(agent.id).await["draining"], false);
    let events = app.event_types(agent.id).await;
    assert_eq!(events, ["registered", "enrolled", "connected", "draining", "resumed"]);
}

#[tokio::test]
async fn every_agent_but_a_revoked_one_may_be_drained_and_an_enrollment_changes_nothing_about_it() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    assert_eq!(acme.resume(pending.id).await.data(200)["draining"], false);
    let drained = acme.drain(pending.id).await.data(200);
    assert_eq!((&drained["status"], &drained["draining"]), (&json!("pending"), &json!(true)));
    let enrolled = pending.try_enroll().await.data(200);
    assert_eq!(enrolled["draining"], true);
    let agent = Agent { id: pending.id, me: pending.token.clone() }.with(&enrolled);
    assert_eq!(accepts_work(&agent).await, false);

    acme.revoke(agent.id).await.data(200);
    acme.drain(agent.id).await.error(409, "agent_is_revoked");
    acme.resume(agent.id).await.error(409, "agent_is_revoked");
    let again = acme.enable(agent.id).await;
    assert_eq!(again.try_enroll().await.data(200)["draining"], true);
    assert_eq!(acme.trail("type=draining").await.len(), 1);
}

#[tokio::test]
async fn draining_survives_a_restart_and_is_told_by_every_server() {
    let pair = Pair::start(&[]).await;
    let agent = pair.acme.agent("a").await;
    pair.acme.drain(agent.id).await.data(200);
    let Pair { servers: [here, there], database, acme } = pair;
    assert_eq!(accepts_work(&agent.at(there.address)).await, false);
    drop((here, there));
    let server = crate::support::process::Server::start(&database.url(), &[]).await;
    let agent = agent.at(server.address);
    assert_eq!(accepts_work(&agent).await, false);
    let acme = Workspace { id: acme.id, operator: acme.operator.at(server.address) };
    acme.resume(agent.id).await.data(200);
    assert_eq!(accepts_work(&agent).await, true);
}
