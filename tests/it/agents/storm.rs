//! Heartbeats share a statement, and no trouble.

use serde_json::{Value, json};

use crate::support::{Answer, App, actors::Agent, ask::for_each};

const AGENTS: usize = 24;
const ROUNDS: usize = 6;

/// What a beat is, and how it must be answered.
#[derive(Clone, Copy)]
enum Kind {
    Good,
    Revoked,
    Replaced,
    Elsewhere,
    BadBody,
}

#[tokio::test]
async fn one_bad_heartbeat_never_fails_another_s() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let fleet = for_each(0..AGENTS, 4, |i| {
        let acme = &acme;
        async move { acme.agent(&format!("agent {i}")).await }
    })
    .await;
    let (revoked, replaced) = (acme.agent("revoked").await, acme.agent("replaced").await);
    acme.revoke(revoked.id).await.data(200);
    acme.revoke(replaced.id).await.data(200);
    acme.enable(replaced.id).await.enroll().await;

    let mut beats = Vec::new();
    for round in 0..ROUNDS {
        for (i, agent) in fleet.iter().enumerate() {
            beats.push((
                Kind::Good,
                agent,
                agent,
                json!({"cpu_percent": round, "queue_depth": i, "version": "1"}),
            ));
            let neighbour = &fleet[(i + 1) % AGENTS];
            beats.push(match i % 4 {
                0 => (Kind::Revoked, &revoked, &revoked, json!({"cpu_percent": 99})),
                1 => (Kind::Replaced, &replaced, &replaced, json!({"last_error": "\u{1}"})),
                2 => (Kind::Elsewhere, agent, neighbour, json!({"queue_depth": 99, "last_error": "forged"})),
                _ => (Kind::BadBody, agent, agent, json!({"queue_depth": -1, "hostname": "\0"})),
            });
        }
    }
    let answers = for_each(beats, 96, |(kind, from, to, body): (Kind, &Agent, &Agent, Value)| {
        let path = format!("/api/agents/{}/heartbeat", to.id);
        async move { (kind, from.me.post(&path, &body).await) }
    })
    .await;
    for (kind, answer) in answers {
        check(kind, &answer);
    }
    for (i, agent) in fleet.iter().enumerate() {
        let health = acme.health(agent.id).await;
        assert_eq!(health["queue_depth"], i, "its own beat, not its neighbour's");
        assert_eq!(health["last_error"], Value::Null);
    }
    assert_eq!(acme.connected().await.len(), AGENTS);
    for agent in &fleet {
        assert_eq!(app.event_types(agent.id).await, ["registered", "enrolled", "connected"]);
    }
}

#[track_caller]
fn check(kind: Kind, answer: &Answer) {
    match kind {
        Kind::Good => drop(answer.data(200)),
        Kind::Revoked => drop(answer.error(403, "agent_revoked")),
        Kind::Replaced => drop(answer.error(403, "credential_rotated")),
        Kind::Elsewhere => drop(answer.error(404, "agent_not_found")),
        Kind::BadBody => answer.blames_exactly(
            "invalid_request",
            &[("hostname", "invalid_character"), ("queue_depth", "out_of_range")],
        ),
    }
}
