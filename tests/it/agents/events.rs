//! `GET /api/agents/events` and `GET /api/agents/{id}/events`.

use std::{collections::BTreeSet, time::Duration};

use planasonix_wire::AgentId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{App, actors::Workspace, ask::for_each, rows};

const FIELDS: [&str; 7] = ["id", "agent_id", "type", "at", "actor", "reason", "detail"];

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Every type but those of installers and of the control plane's own absence.
async fn a_life_with_every_event(app: &App, acme: &Workspace) -> AgentId {
    let pending = acme.register("a").await;
    let path = format!("/api/agents/{}", pending.id);
    acme.operator.post_nothing(&format!("{path}/enrollment-token")).await.data(200);
    pending.try_enroll().await.error(401, "enrollment_token_invalid");
    acme.operator.patch(&path, &json!({"label": "b"})).await.data(200);
    acme.revoke_for(pending.id, "lost").await.data(200);
    let agent = acme.enable(pending.id).await.enroll().await;
    agent.heartbeat(&json!({"instance_id": "i-1"})).await.data(200);
    agent.heartbeat(&json!({"instance_id": "i-2"})).await.data(200);
    acme.drain(agent.id).await.data(200);
    acme.resume(agent.id).await.data(200);
    let agent = agent.rotate().await;
    app.time_passes(Duration::from_mins(10)).await;
    agent.beat().await;
    agent.disconnect().await;
    agent.deregister().await;
    agent.id
}

#[tokio::test]
async fn whatever_happens_to_an_agent_is_told_with_its_cause_newest_first() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = a_life_with_every_event(&app, &acme).await;
    let events = acme.trail(&format!("agent_id={agent}")).await;
    let (key, me) = (events.last().unwrap()["actor"].as_str().unwrap(), agent.to_string());
    assert!(key.starts_with("key_"));
    let told: Vec<_> = events
        .iter()
        .rev()
        .map(|event| ["type", "actor", "reason"].map(|field| event[field].as_str().unwrap_or_default()))
        .collect();
    let expected = [
        ["registered", key, ""],
        ["enrollment_token_issued", key, ""],
        ["enrollment_refused", &me, "enrollment_token_invalid"],
        ["updated", key, ""],
        ["revoked", key, "lost"],
        ["enabled", key, ""],
        ["enrolled", &me, ""],
        ["connected", &me, ""],
        ["instance_conflict", "system", ""],
        ["draining", key, ""],
        ["resumed", key, ""],
        ["credential_rotated", &me, ""],
        ["disconnected", "system", "missed_heartbeats"],
        ["connected", &me, ""],
        ["disconnected", &me, "graceful"],
        ["deregistered", &me, ""],
    ];
    assert_eq!(told, expected);
    for event in &events {
        let fields: BTreeSet<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(FIELDS));
        assert!(event["id"].as_str().unwrap().starts_with("evt_") && event["agent_id"] == me);
    }
    let conflict = &acme.trail("type=instance_conflict").await[0]["detail"]["instances"];
    let hosts = conflict.as_array().unwrap().iter().map(|host| host["instance_id"].as_str().unwrap());
    assert_eq!(hosts.collect::<Vec<_>>(), ["i-1", "i-2"]);
    assert_eq!(conflict[0]["remote_ip"], "127.0.0.1");
}

#[tokio::test]
async fn each_filter_narrows_and_all_of_them_together() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (one, two) = (acme.agent("1").await, acme.agent("2").await);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    one.beat().await;
    let all = acme.trail("").await;
    assert_eq!(types(&all), ["connected", "enrolled", "registered", "enrolled", "registered"]);
    let at = |nth: usize| all[nth]["at"].as_str().unwrap();
    assert!(at(0) > at(1), "the beat came in a later second");
    for (query, expected) in [
        (format!("agent_id={}", one.id), &[0, 3, 4][..]),
        (format!("agent_id={}", two.id), &[1, 2]),
        (format!("agent_id={}", AgentId::from_uuid(uuid::Uuid::from_u128(7))), &[]),
        ("type=enrolled".to_owned(), &[1, 3]),
        (format!("since={}", at(0)), &[0]),
        (format!("until={}", at(0)), &[1, 2, 3, 4]),
        ("since=2100-01-01T00:00:00Z".to_owned(), &[]),
        ("until=1971-01-01T00:00:00%2B01:00&colour=blue".to_owned(), &[]),
        (format!("agent_id={}&type=enrolled&until={}", two.id, at(0)), &[1]),
    ] {
        let expected: Vec<_> = expected.iter().map(|&nth| all[nth].clone()).collect();
        assert_eq!(acme.trail(&query).await, expected, "{query}");
    }
    let of_one = acme.operator.get(&format!("{}/events?type=registered", one.path())).await.data(200);
    assert_eq!(of_one, json!([all[4]]));
    for (bad, field, issue) in [
        ("agent_id=nonsense", "agent_id", "malformed"),
        ("type=exploded", "type", "unsupported"),
        ("since=yesterday", "since", "malformed"),
        ("until=2025-02-30T00:00:00Z", "until", "malformed"),
        ("since=1960-01-01T00:00:00Z", "since", "out_of_range"),
        ("type=enrolled&type=enrolled", "type", "repeated"),
        ("limit=101", "limit", "out_of_range"),
    ] {
        let answer = acme.operator.get(&format!("/api/agents/events?{bad}")).await;
        answer.blames_exactly("invalid_request", &[(field, issue)]);
    }
    let answer = acme.operator.get("/api/agents/events?since=x&until=y&type=z&agent_id=w&limit=0").await;
    assert_eq!(answer.blames("invalid_request").len(), 5, "all at once: {answer:?}");
}

#[tokio::test]
async fn a_walk_sees_each_event_once_while_more_are_written() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    for _ in 0..3 {
        acme.drain(agent.id).await.data(200);
        acme.resume(agent.id).await.data(200);
    }
    let expected = acme.operator.get("/api/agents/events").await.ids();
    assert_eq!(expected.len(), 8);
    for path in ["/api/agents/events".to_owned(), format!("{}/events", agent.path())] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let at = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
            let page = acme.operator.get(&format!("{path}?limit=3{at}")).await;
            seen.extend(page.ids());
            acme.drain(agent.id).await.data(200);
            acme.resume(agent.id).await.data(200);
            cursor = page.cursor();
            if cursor.is_none() {
                break;
            }
        }
        let seen: Vec<_> = seen.into_iter().filter(|id| expected.contains(id)).collect();
        assert_eq!(seen, expected, "{path}");
    }
    let cursor = acme.operator.get("/api/agents/events?limit=1").await.cursor().unwrap();
    for other in [
        format!("/api/agents/events?type=enrolled&cursor={cursor}"),
        format!("/api/agents/events?agent_id={}&cursor={cursor}", agent.id),
        format!("/api/agents?cursor={cursor}"),
        "/api/agents/events?cursor=nonsense".to_owned(),
    ] {
        acme.operator.get(&other).await.error(400, "invalid_cursor");
    }
}

#[tokio::test]
async fn a_deleted_agent_s_events_stay_and_are_its_workspace_s_alone() {
    let app = App::start().await;
    let (acme, rival) = (app.workspace("acme").await, app.workspace("rival").await);
    let agent = acme.agent("a").await;
    acme.operator.delete(&agent.path()).await;
    let path = format!("{}/events", agent.path());
    let events = acme.operator.get(&path).await.data(200);
    assert_eq!(types(events.as_array().unwrap()), ["deregistered", "enrolled", "registered"]);
    assert_eq!(acme.trail(&format!("agent_id={}", agent.id)).await, *events.as_array().unwrap());
    rival.operator.get(&path).await.error(404, "agent_not_found");
    assert!(rival.trail(&format!("agent_id={}", agent.id)).await.is_empty());
    for absent in [AgentId::from_uuid(uuid::Uuid::from_u128(7)).to_string(), "nonsense".to_owned()] {
        acme.operator.get(&format!("/api/agents/{absent}/events")).await.error(404, "agent_not_found");
    }
}

#[tokio::test]
async fn nobody_changes_what_was_written() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    acme.agent("a").await.beat().await;
    let before = acme.trail("").await;
    let told = rows::tamper_with_events(&app.database.options).await;
    assert_eq!(told, vec!["42501"; told.len()]);
    assert_eq!(acme.trail("").await, before);
}

#[tokio::test]
async fn what_an_agent_causes_at_will_is_noted_once_a_minute() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    pending.enroll().await;
    // Few enough in all that none is refused from memory.
    let noted = async || {
        for_each(0..8, 8, |_| pending.try_enroll()).await;
        for _ in 0..3 {
            let bundle =
                acme.operator.request(Method::GET, &format!("/api/agents/installer/{}/linux", pending.id));
            bundle.send().await.unwrap().bytes().await.unwrap();
        }
        let types = ["enrollment_refused", "installer_downloaded"];
        for_each(types, 1, async |kind| acme.trail(&format!("type={kind}")).await.len()).await
    };
    assert_eq!(noted().await, [1, 1]);
    app.events_age(Duration::from_secs(50)).await;
    assert_eq!(noted().await, [1, 1]);
    app.events_age(Duration::from_secs(10)).await;
    assert_eq!(noted().await, [2, 2]);
}
