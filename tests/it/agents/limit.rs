//! How many agents a workspace may have.

use serde_json::json;

use crate::support::{App, ask::for_each};

#[tokio::test]
async fn at_the_limit_no_further_agent_is_registered() {
    let app = App::start().await;
    let (acme, other) = (app.workspace("acme").await, app.workspace("other").await);
    let new = json!({"label": "a", "platform": "linux"});
    let first = acme.operator.post_under("k", "/api/agents", &new).await.data(201);
    let second = acme.agent("b").await;
    app.limit_agents("acme", 2).await;
    acme.revoke(second.id).await.data(200);
    let refused = acme.operator.post("/api/agents", &new).await.error(403, "agent_limit_reached");
    assert!(refused["message"].as_str().unwrap().contains('2'), "{refused}");
    other.register("not acme's").await;
    // A repeated request makes no agent, so the limit is none of its business.
    let again = acme.operator.post_under("k", "/api/agents", &new).await.data(201);
    assert_eq!(again["id"], first["id"]);
    acme.operator.post_under("l", "/api/agents", &new).await.error(403, "agent_limit_reached");
    assert_eq!(acme.operator.delete(&second.path()).await.status, 204);
    acme.operator.post_under("l", "/api/agents", &new).await.data(201);
    acme.operator.post("/api/agents", &new).await.error(403, "agent_limit_reached");
    app.limit_agents("acme", 0).await;
    acme.operator.post("/api/agents", &new).await.error(403, "agent_limit_reached");
    acme.operator.get("/api/agents").await.data(200);
}

#[tokio::test]
async fn many_at_once_do_not_pass_the_limit() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.limit_agents("acme", 5).await;
    let new = json!({"label": "a", "platform": "linux"});
    let answers = for_each(0..30, 30, |_| acme.operator.post("/api/agents", &new)).await;
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        match answer.status.as_u16() {
            503 => answer.error(503, "unavailable"),
            _ => answer.error(403, "agent_limit_reached"),
        };
    }
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(acme.operator.get("/api/agents").await.ids().len(), 5);
    assert!(made <= 5, "an answer that was lost may have been a registration");
}
