//! `POST /api/agents/enable/{id}` under the policy `rotation`.

use insta::assert_snapshot;
use planasonix::domain::agent::ReenablePolicy;
use serde_json::json;

use crate::support::App;

#[tokio::test]
async fn an_enrolled_agent_keeps_its_enrollment_and_gets_a_new_credential() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.reenable_by("acme", ReenablePolicy::Rotation).await;
    let agent = acme.agent("a").await;
    agent.heartbeat(&json!({"cpu_percent": 7})).await.data(200);
    let waiting = agent.rotate().await;
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
        "status": "active",
        "credential": "[credential]",
        "credential_expires_at": "[time]"
      }
    }
    "#);
    assert!(acme.connected().await.is_empty(), "only a beat opens a run");
    let again = agent.with(&answer.data(200));
    for dead in [&agent, &waiting] {
        assert_eq!(dead.refused("credential_rotated").await, "re_enroll");
    }
    again.beat().await;
    assert_eq!(acme.connected().await, [agent.id.to_string()]);
    let detail = acme.detail(agent.id).await;
    assert_eq!((&detail["status"], detail.get("revoked_at")), (&json!("active"), None));
    let fresh = acme.operator.post_nothing(&format!("{}/enrollment-token", agent.path())).await;
    fresh.error(409, "agent_not_pending");
    let events = app.event_types(agent.id).await;
    let expected =
        ["registered", "enrolled", "connected", "credential_rotated", "revoked", "enabled", "connected"];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn one_that_never_enrolled_gets_the_answer_of_enrollment() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.reenable_by("acme", ReenablePolicy::Rotation).await;
    let first = acme.register("a").await;
    acme.revoke(first.id).await.data(200);
    let second = acme.enable(first.id).await;
    assert_eq!(acme.detail(first.id).await["status"], "pending");
    first.try_enroll().await.error(401, "enrollment_token_invalid");
    second.enroll().await.beat().await;
}

#[tokio::test]
async fn the_policy_of_the_moment_counts_and_is_each_workspace_s_own() {
    let app = App::start().await;
    let (acme, other) = (app.workspace("acme").await, app.workspace("other").await);
    app.reenable_by("other", ReenablePolicy::Rotation).await;
    let (ours, theirs) = (acme.agent("a").await, other.agent("b").await);
    for (workspace, agent, field) in [(&acme, &ours, "enrollment_token"), (&other, &theirs, "credential")] {
        workspace.revoke(agent.id).await.data(200);
        let path = format!("/api/agents/enable/{}", agent.id);
        let enabled = workspace.operator.post_nothing(&path).await.data(200);
        assert!(enabled[field].is_string(), "{enabled}");
        workspace.operator.post_nothing(&path).await.error(409, "agent_not_revoked");
    }
    app.reenable_by("acme", ReenablePolicy::Rotation).await;
    acme.revoke(ours.id).await.data(200);
    let path = format!("/api/agents/enable/{}", ours.id);
    let enabled = acme.operator.post_nothing(&path).await.data(200);
    ours.with(&enabled).beat().await;
}
