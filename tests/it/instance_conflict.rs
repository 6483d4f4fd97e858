//! Two hosts that beat on one credential are seen.

use std::{net::IpAddr, time::Duration};

use planasonix::domain::agent::ReenablePolicy;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{
    App,
    actors::{Agent, Workspace},
    rows::Held,
};

const MOMENT: Duration = Duration::from_millis(100);

async fn beat(agent: &Agent, instance: &str) {
    agent.heartbeat(&json!({"instance_id": instance})).await.data(200);
}

async fn conflicts(acme: &Workspace, agent: &Agent) -> Vec<Value> {
    let path = format!("/api/agents/{}/events?type=instance_conflict", agent.id);
    acme.operator.get(&path).await.data(200).as_array().unwrap().clone()
}

fn instances(event: &Value) -> Vec<&str> {
    let hosts = event["detail"]["instances"].as_array().unwrap().iter();
    let mut names: Vec<_> = hosts.map(|host| host["instance_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

async fn assert_reasons(acme: &Workspace, agent: &Agent, status: &str, reasons: Value) {
    let health = acme.health(agent.id).await;
    assert_eq!((&health["status"], &health["reasons"]), (&json!(status), &reasons), "{health}");
}

#[tokio::test]
async fn two_hosts_on_one_credential_are_told_once_a_minute_and_forgotten_after_a_window() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("cloned").await;
    for _ in 0..3 {
        beat(&agent, "first").await;
    }
    agent.beat().await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    for instance in ["second", "first", "second", "first"] {
        beat(&agent, instance).await;
        assert_reasons(&acme, &agent, "degraded", json!(["instance_conflict"])).await;
    }
    let events = conflicts(&acme, &agent).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["actor"], "system");
    assert_eq!(instances(&events[0]), ["first", "second"]);
    for host in events[0]["detail"]["instances"].as_array().unwrap() {
        assert!(host["remote_ip"].as_str().unwrap().parse::<IpAddr>().is_ok(), "{host}");
    }

    app.time_passes(Duration::from_secs(61)).await;
    beat(&agent, "second").await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 2);

    for _ in 0..3 {
        app.time_passes(Duration::from_secs(50)).await;
        beat(&agent, "second").await;
    }
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 2);
}

#[tokio::test]
async fn a_host_that_takes_over_from_a_silent_one_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("moved").await;
    beat(&agent, "first").await;
    app.time_passes(Duration::from_secs(121)).await;
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn a_name_that_was_taken_back_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("renamed").await;
    beat(&agent, "first").await;
    agent.heartbeat(&json!({"instance_id": null})).await.data(200);
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn a_host_that_enrolls_anew_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("reinstalled").await;
    beat(&agent, "first").await;
    acme.revoke(agent.id).await.data(200);
    let agent = acme.enable(agent.id).await.enroll().await;
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn a_host_that_is_handed_the_credential_of_an_enable_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.reenable_by("acme", ReenablePolicy::Rotation).await;
    let agent = acme.agent("replaced").await;
    beat(&agent, "first").await;
    acme.revoke(agent.id).await.data(200);
    let enabled = acme.operator.post_nothing(&format!("/api/agents/enable/{}", agent.id)).await.data(200);
    let me = agent.me.with_token(enabled["credential"].as_str().unwrap());
    let agent = Agent { id: agent.id, me };
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn two_hosts_whose_beats_were_merged_are_seen_too() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, busy) = (acme.agent("cloned").await, acme.agent("busy").await);
    let held = Held::flushes(&app.database.options).await;
    let merged = async {
        sleep(MOMENT).await;
        tokio::join!(beat(&agent, "first"), beat(&agent, "second"), async {
            sleep(MOMENT).await;
            held.let_go().await;
        })
    };
    tokio::join!(busy.beat(), merged);
    assert_reasons(&acme, &agent, "degraded", json!(["instance_conflict"])).await;
    let events = conflicts(&acme, &agent).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(instances(&events[0]), ["first", "second"]);
}
