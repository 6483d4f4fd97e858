//! `POST /api/agents/{id}/disconnect`, and `DELETE /api/agents/{id}` by the agent itself.

use serde_json::json;

use crate::support::App;

#[tokio::test]
async fn a_disconnected_agent_is_gone_at_once_and_its_next_beat_opens_a_run() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    assert_eq!(agent.disconnect().await.status, 204, "there is no run to close");
    agent.heartbeat(&json!({"cpu_percent": 5})).await.data(200);
    for _ in 0..2 {
        let left = agent.disconnect().await;
        assert_eq!((left.status.as_u16(), left.text.as_str()), (204, ""));
        assert!(acme.connected().await.is_empty());
    }
    let health = acme.health(agent.id).await;
    assert_eq!((&health["status"], &health["cpu_percent"]), (&json!("offline"), &json!(5.0)));
    agent.beat().await;
    assert_eq!(acme.connected().await, [agent.id.to_string()]);
    let known = |(event, reason): (String, Option<String>)| (event, reason.unwrap_or_default());
    let events: Vec<_> = app.events(agent.id).await.into_iter().map(known).collect();
    let expected = [
        ("registered", ""),
        ("enrolled", ""),
        ("connected", ""),
        ("disconnected", "graceful"),
        ("connected", ""),
    ];
    assert_eq!(events, expected.map(|(event, reason)| (event.to_owned(), reason.to_owned())));
    let left = &acme.trail("type=disconnected").await[0];
    assert_eq!(left["actor"], agent.id.to_string());
}

#[tokio::test]
async fn an_agent_may_deregister_itself_and_nobody_else() {
    let app = App::start().await;
    let (acme, rival) = (app.workspace("acme").await, app.workspace("rival").await);
    let (agent, other, stranger) = (acme.agent("a").await, acme.agent("b").await, rival.agent("c").await);
    let waiting = acme.register("d").await;
    agent.beat().await;
    for id in [other.id.to_string(), stranger.id.to_string(), waiting.id.to_string(), "nonsense".to_owned()] {
        let refusal = agent.me.delete(&format!("/api/agents/{id}")).await.error(404, "agent_not_found");
        assert_eq!(refusal["action"], "stop");
    }
    waiting.token.delete(&format!("/api/agents/{}", waiting.id)).await.error(401, "unauthenticated");

    let gone = agent.deregister().await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    assert!(acme.connected().await.is_empty());
    acme.operator.get(&agent.path()).await.error(404, "agent_not_found");
    assert_eq!(agent.deregister().await.error(401, "unauthenticated")["action"], "re_enroll");
    agent.refused("unauthenticated").await;
    let last = &acme.trail(&format!("agent_id={}", agent.id)).await[0];
    assert_eq!((&last["type"], &last["actor"]), (&json!("deregistered"), &json!(agent.id.to_string())));
    for left in [other, stranger] {
        left.beat().await;
    }
    waiting.enroll().await;
}

/// A run that nobody closed is closed by the deletion itself.
#[tokio::test]
async fn revoke_and_delete_of_a_connected_agent_write_no_disconnected() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (revoked, deleted) = (acme.agent("a").await, acme.agent("b").await);
    for agent in [&revoked, &deleted] {
        agent.beat().await;
    }
    acme.revoke(revoked.id).await.data(200);
    assert_eq!(deleted.deregister().await.status, 204);
    assert!(acme.trail("type=disconnected").await.is_empty());
    assert!(acme.connected().await.is_empty());
}
