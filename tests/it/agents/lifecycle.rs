//! The main path, from registration to enrolling again.

use serde_json::json;

use crate::support::App;

#[tokio::test]
async fn an_agent_s_whole_life() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;

    let agent = acme.agent("etl").await;
    assert!(acme.connected().await.is_empty(), "nothing was heard of it yet");
    assert_eq!(acme.health(agent.id).await["status"], "unknown");

    let ack = agent.heartbeat(&json!({"cpu_percent": 34.2})).await.data(200);
    assert_eq!(ack["accepts_work"], true);
    assert_eq!(acme.connected().await, [agent.id.to_string()]);
    assert_eq!(acme.health(agent.id).await["status"], "healthy");

    assert_eq!(acme.revoke(agent.id).await.data(200)["status"], "revoked");
    let refusal = agent.heartbeat(&json!({})).await.error(403, "agent_revoked");
    assert_eq!(refusal["action"], "stop");
    assert!(acme.connected().await.is_empty());

    let pending = acme.enable(agent.id).await;
    let agent = pending.enroll().await;
    agent.beat().await;
    assert_eq!(acme.connected().await, [agent.id.to_string()]);

    let gone = acme.operator.delete(&format!("/api/agents/{}", agent.id)).await;
    assert_eq!(gone.status, 204);
    let refusal = agent.heartbeat(&json!({})).await.error(401, "unauthenticated");
    assert_eq!(refusal["action"], "re_enroll");
    assert_eq!(
        app.event_types(agent.id).await,
        [
            "registered",
            "enrolled",
            "connected",
            "revoked",
            "enabled",
            "enrolled",
            "connected",
            "deregistered"
        ]
    );
}
