//! `POST /api/agents/revoke/{id}`.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{App, ask::for_each};

#[tokio::test]
async fn the_answer_is_the_reference_s() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    assert_snapshot!(acme.revoke_for(agent.id, "compromised_token_suspected").await.show(), @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "id": "[agent id]",
        "status": "revoked",
        "revoked_at": "[time]"
      }
    }
    "#);
}

#[tokio::test]
async fn revoking_again_keeps_the_first_time_and_reason() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let first = acme.revoke_for(agent.id, "first").await.data(200);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(acme.revoke_for(agent.id, "second").await.data(200), first);
    assert_eq!(acme.revoke(agent.id).await.data(200), first);
    let detail = acme.detail(agent.id).await;
    assert_eq!((&detail["revoked_at"], &detail["revoke_reason"]), (&first["revoked_at"], &json!("first")));
    let events = app.events(agent.id).await;
    let revoked: Vec<_> = events.iter().filter(|(event, _)| event == "revoked").collect();
    assert_eq!(revoked, [&("revoked".to_owned(), Some("first".to_owned()))]);

    acme.enable(agent.id).await;
    acme.revoke_for(agent.id, "another life").await.data(200);
    assert_eq!(acme.detail(agent.id).await["revoke_reason"], "another life");
}

#[tokio::test]
async fn of_many_at_once_one_reason_stands() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let reasons = ["a", "b", "c", "d", "e", "f"];
    let answers = for_each(reasons, 6, |reason| acme.revoke_for(agent.id, reason)).await;
    for answer in &answers {
        assert_eq!(answer.data(200), answers[0].data(200));
    }
    assert_eq!(app.event_types(agent.id).await, ["registered", "enrolled", "revoked"]);
}

#[tokio::test]
async fn a_pending_agent_s_token_dies_with_it() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    acme.revoke(pending.id).await.data(200);
    assert_eq!(pending.try_enroll().await.error(403, "agent_revoked")["action"], "stop");
    acme.enable(pending.id).await;
    let refusal = pending.try_enroll().await.error(401, "enrollment_token_invalid");
    assert_eq!(refusal["action"], "re_enroll");
}

#[tokio::test]
async fn the_reason_may_be_left_out_and_is_checked_when_given() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for body in
        ["{}", r#"{"reason":null}"#, r#"{"reason":""}"#, r#"{"reason":"\n\t\u0001🚀"}"#, r#"{"why":1}"#]
    {
        let agent = acme.register("a").await.id;
        acme.operator.post_text(&format!("/api/agents/revoke/{agent}"), body).await.data(200);
    }
    let agent = acme.agent("a").await;
    let path = format!("/api/agents/revoke/{}", agent.id);
    for (reason, issue) in [
        (json!("🚀".repeat(501)), "too_long"),
        (json!("a\0"), "invalid_character"),
        (json!(7), "wrong_type"),
        (json!(["a"]), "wrong_type"),
        (json!({}), "wrong_type"),
    ] {
        let answer = acme.operator.post(&path, &json!({"reason": reason})).await;
        answer.blames_exactly("invalid_request", &[("reason", issue)]);
    }
    agent.beat().await;
    let longest = "🚀".repeat(500);
    acme.revoke_for(agent.id, &longest).await.data(200);
    assert_eq!(acme.detail(agent.id).await["revoke_reason"], longest);
}
