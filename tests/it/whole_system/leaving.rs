//! Agents that go, for a while or for good.

use serde_json::json;

use super::System;

#[tokio::test]
async fn an_agent_that_is_stopped_takes_leave_at_once() {
    let system = System::start(&[]).await;
    let member = system.member("stopped").await;
    let ended = member.agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!system.is_connected(member.id).await, "at once");
    let told = member.host.told();
    assert_eq!((told.status.as_str(), told.connected, told.accepts_work), ("down", false, false));
    let left = system.events(member.id, "disconnected").await;
    assert_eq!((left.len(), &left[0]["reason"]), (1, &json!("graceful")));
    assert_eq!(system.acme.detail(member.id).await["status"], "active", "it may come back");
}

#[tokio::test]
async fn an_agent_that_is_deregistered_leaves_nothing() {
    let system = System::start(&[]).await;
    let member = system.member("deregistered").await;
    let credential = system.whoever_has_the_credential_of(&member);
    assert_eq!(member.agent.stop().status.code(), Some(0));
    let gone = member.host.deregister();
    assert!(gone.status.success(), "{gone:?}");
    system.acme.operator.get(&format!("/api/agents/{}", member.id)).await.error(404, "agent_not_found");
    assert_eq!(credential.heartbeat(&json!({})).await.status, 401);
    assert!(!member.host.state().exists());
    assert_eq!(system.events(member.id, "deregistered").await.len(), 1);
}
