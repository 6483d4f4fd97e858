//! `POST /api/agents/{id}/enrollment-token`.

use insta::assert_snapshot;

use crate::support::{App, ask::for_each};

#[tokio::test]
async fn the_answer_is_the_one_of_enable_and_the_earlier_token_is_dead() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let path = format!("/api/agents/{}/enrollment-token", pending.id);
    let answer = acme.operator.post_nothing(&path).await;
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
    assert_eq!(answer.data(200)["id"], pending.id.to_string());
    assert_eq!(pending.try_enroll().await.error(401, "enrollment_token_invalid")["action"], "re_enroll");
    let token = answer.data(200)["enrollment_token"].as_str().unwrap().to_owned();
    app.bearer(&token).post_nothing("/api/agents/enroll").await.data(200);
    let events = ["registered", "enrollment_token_issued", "enrollment_refused", "enrolled"];
    assert_eq!(app.event_types(pending.id).await, events);
}

#[tokio::test]
async fn an_agent_that_is_not_pending_gets_none() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let path = format!("/api/agents/{}/enrollment-token", agent.id);
    acme.operator.post_nothing(&path).await.error(409, "agent_not_pending");
    acme.revoke(agent.id).await.data(200);
    acme.operator.post_nothing(&path).await.error(409, "agent_is_revoked");
    acme.enable(agent.id).await;
    acme.operator.post_nothing(&path).await.data(200);
}

#[tokio::test]
async fn of_many_issued_at_once_exactly_one_works() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let path = format!("/api/agents/{}/enrollment-token", pending.id);
    let issued = for_each(0..6, 6, |_| acme.operator.post_nothing(&path)).await;
    let tokens =
        issued.iter().map(|answer| answer.data(200)["enrollment_token"].as_str().unwrap().to_owned());
    let enrolled = for_each(tokens, 1, |token| {
        let installer = app.bearer(&token);
        async move { installer.post_nothing("/api/agents/enroll").await.status == 200 }
    })
    .await;
    assert_eq!(enrolled.into_iter().filter(|&worked| worked).count(), 1);
}
