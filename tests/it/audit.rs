//! A change and its entry in the audit trail are one transaction; and what is our fault is told as that.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{
    App,
    actors::Caller,
    database::Database,
    process::Server,
    rows::{self, Held},
};

#[tokio::test]
async fn without_its_event_no_change_is_made() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (pending, active, revoked) =
        (acme.register("pending").await, acme.agent("active").await, acme.agent("revoked").await);
    active.beat().await;
    acme.revoke(revoked.id).await.data(200);
    let draining = acme.agent("draining").await;
    acme.drain(draining.id).await.data(200);
    rows::refuse_events(&app.database.options).await;
    let before = rows::everything(&app.database.options).await;

    let (operator, me) = (&acme.operator, &active.me);
    let agent = |verb: &str| format!("/api/agents/{verb}/{}", active.id);
    let itself = format!("/api/agents/{}", active.id);
    let changes: [(&Caller, Method, String, Value); 14] = [
        (operator, Method::POST, "/api/agents".into(), json!({"label": "new", "platform": "linux"})),
        (operator, Method::PATCH, itself.clone(), json!({"label": "another"})),
        (operator, Method::POST, agent("drain"), json!({})),
        (operator, Method::POST, format!("/api/agents/resume/{}", draining.id), json!({})),
        (operator, Method::POST, agent("revoke"), json!({})),
        (operator, Method::POST, format!("/api/agents/enable/{}", revoked.id), json!({})),
        (operator, Method::POST, format!("/api/agents/{}/enrollment-token", pending.id), json!({})),
        (operator, Method::GET, format!("{}/linux", agent("installer")), Value::Null),
        (&pending.token, Method::POST, "/api/agents/enroll".into(), json!({})),
        (me, Method::POST, format!("{itself}/credential"), json!({})),
        (me, Method::POST, format!("{itself}/disconnect"), json!({})),
        (me, Method::DELETE, itself.clone(), json!({})),
        (&draining.me, Method::POST, format!("/api/agents/{}/heartbeat", draining.id), json!({})),
        (operator, Method::DELETE, itself.clone(), json!({})),
    ];
    for (caller, method, path, body) in changes {
        let request = caller.request(method.clone(), &path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = caller.send(request).await;
        assert_eq!(answer.status, 500, "{method} {path}: {answer:?}");
        answer.error(500, "internal");
        let after = rows::everything(&app.database.options).await;
        assert_eq!(after, before, "{method} {path}");
    }
}

/// A beat that cannot be stored stands beside others that can: it alone fails.
#[tokio::test]
async fn one_beat_that_the_database_refuses_fails_no_other() {
    let app = App::one_process(|_| {}).await;
    let acme = app.workspace("acme").await;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for number in 0..12 {
        good.push(acme.agent(&format!("good {number}")).await);
        bad.push(acme.agent(&format!("bad {number}")).await);
    }
    for agent in &good {
        agent.beat().await;
    }
    rows::refuse_events(&app.database.options).await;
    let held = Held::flushes(&app.database.options).await;
    let figures = json!({"active_jobs": 7});
    let beats = |agents: &[crate::support::actors::Agent]| {
        let (agents, figures) = (agents.to_vec(), figures.clone());
        async move { futures_util::future::join_all(agents.iter().map(|agent| agent.heartbeat(&figures))).await }
    };
    // A first beat writes an event; those of the good ones do not.
    let (taken, refused, ()) = tokio::join!(beats(&good), beats(&bad), async {
        sleep(Duration::from_millis(300)).await;
        held.let_go().await;
    });
    for (agent, answer) in good.iter().zip(&taken) {
        answer.data(200);
        assert_eq!(acme.health(agent.id).await["active_jobs"], 7);
    }
    for (agent, answer) in bad.iter().zip(&refused) {
        assert_eq!(answer.error(500, "internal")["action"], "retry");
        assert_eq!(acme.health(agent.id).await["status"], "unknown");
    }
}

#[tokio::test]
async fn a_fault_of_ours_is_told_in_general_and_logged_with_its_cause() {
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    rows::refuse_events(&database.options).await;
    let answer = acme.operator.post("/api/agents", &json!({"label": "a", "platform": "linux"})).await;
    let error = answer.error(500, "internal");
    assert_eq!(error["message"], "something went wrong on our side");
    assert!(!answer.text.contains("events"), "{answer:?}");
    let (log, id) = (server.log(), error["request_id"].as_str().unwrap());
    let told = log.lines().find(|line| line.contains(id) && line.contains("ERROR")).unwrap();
    assert!(told.contains("no more events"), "{told}");
}
