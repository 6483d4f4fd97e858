//! `POST /api/agents/enable/{id}`.

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{App, ask::for_each};

#[tokio::test]
async fn the_answer_is_the_reference_s() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    acme.revoke(agent.id).await.data(200);
    let answer = acme.operator.post_nothing(&format!("/api/agents/enable/{}", agent.id)).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    cache-control: no-store
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "id": "[agent id]",
        "status": "pending",
        "enrollment_token": "[enrollment token]",
        "token_expires_at": "[time]"
      }
    }
    "#);
}

#[tokio::test]
async fn only_a_revoked_agent_may_be_enabled() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (pending, active) = (acme.register("a").await, acme.agent("b").await);
    for id in [pending.id, active.id] {
        let answer = acme.operator.post_nothing(&format!("/api/agents/enable/{id}")).await;
        assert_eq!(answer.error(409, "agent_not_revoked").get("action"), None);
    }
    pending.enroll().await;
    active.beat().await;
}

#[tokio::test]
async fn of_many_at_once_one_enables_and_its_token_is_the_one_that_works() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    acme.revoke(agent.id).await.data(200);
    let path = format!("/api/agents/enable/{}", agent.id);
    let answers = for_each(0..6, 6, |_| acme.operator.post_nothing(&path)).await;
    let (enabled, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(enabled.len(), 1);
    for answer in refused {
        answer.error(409, "agent_not_revoked");
    }
    let token = enabled[0].data(200)["enrollment_token"].as_str().unwrap().to_owned();
    app.bearer(&token).post_nothing("/api/agents/enroll").await.data(200);
}

#[tokio::test]
async fn nothing_issued_before_the_revocation_works_again() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (first, agent) = (acme.register("a").await, acme.agent("b").await);
    acme.revoke(first.id).await.data(200);
    acme.revoke(agent.id).await.data(200);
    let refusal = agent.heartbeat(&json!({})).await.error(403, "agent_revoked");
    assert_eq!(refusal["action"], "stop");
    acme.enable(first.id).await;
    acme.enable(agent.id).await;
    first.try_enroll().await.error(401, "enrollment_token_invalid");
    crate::support::ask::eventually(async || {
        let answer = agent.heartbeat(&json!({})).await;
        (answer.json()["error"]["code"] == "credential_rotated").then_some(answer)
    })
    .await
    .error(403, "credential_rotated");
}
