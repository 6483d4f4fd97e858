//! `DELETE /api/agents/{id}`.

use insta::assert_snapshot;
use reqwest::Method;
use serde_json::json;

use crate::support::App;

#[tokio::test]
async fn a_deleted_agent_is_gone_with_all_that_it_had() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, pending) = (acme.agent("active").await, acme.register("pending").await);
    agent.beat().await;
    let path = format!("/api/agents/{}", agent.id);
    assert_snapshot!(acme.operator.delete(&path).await.show(), @r"
    204 No Content
    x-request-id: [request id]
    ");
    acme.operator.delete(&path).await.error(404, "agent_not_found");
    acme.operator.get(&path).await.error(404, "agent_not_found");
    acme.operator.get(&format!("{path}/health")).await.error(404, "agent_not_found");
    acme.revoke(agent.id).await.error(404, "agent_not_found");
    assert!(acme.connected().await.is_empty());
    assert_eq!(agent.heartbeat(&json!({})).await.error(401, "unauthenticated")["action"], "re_enroll");

    // A body that nobody asked for does no harm.
    let request = acme.operator.request(Method::DELETE, &format!("/api/agents/{}", pending.id));
    assert_eq!(acme.operator.send(request.body("not json")).await.status, 204);
    let refusal = pending.try_enroll().await.error(401, "enrollment_token_invalid");
    assert_eq!(refusal["action"], "re_enroll");
    assert!(acme.operator.get("/api/agents").await.ids().is_empty());
    assert_eq!(app.event_types(agent.id).await, ["registered", "enrolled", "connected", "deregistered"]);
    assert_eq!(app.event_types(pending.id).await, ["registered", "deregistered"]);
}

#[tokio::test]
async fn a_revoked_agent_may_be_deleted() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    acme.revoke(agent.id).await.data(200);
    assert_eq!(acme.operator.delete(&format!("/api/agents/{}", agent.id)).await.status, 204);
    agent.heartbeat(&json!({})).await.error(401, "unauthenticated");
}
