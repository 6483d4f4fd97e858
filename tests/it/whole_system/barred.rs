//! Agents that an operator bars, calls back, and keeps from new work.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{Member, System};

/// Several beats of an agent that beats.
const A_WHILE: Duration = Duration::from_secs(4);

/// Revokes an agent, which goes quiet and stays up.
async fn revoke(system: &System, member: &Member) {
    let credential = system.whoever_has_the_credential_of(member);
    system.acme.revoke(member.id).await.data(200);
    assert!(!system.is_connected(member.id).await, "at once");
    credential.heartbeat(&json!({})).await.error(403, "agent_revoked");
    let told = member.host.told_when(|told| told.status == "stopped").await;
    assert!(!told.connected && !told.accepts_work, "{told:?}");
    sleep(A_WHILE).await;
    // Each attempt would have left its mark.
    assert_eq!(member.host.told(), told, "it is quiet");
}

/// It is what it was before, and was never started again.
async fn is_back(system: &System, member: Member) {
    let told = member.host.told_when(|told| told.status == "active").await;
    assert!(told.connected && told.accepts_work && told.agent_id == Some(member.id), "{told:?}");
    assert!(system.is_connected(member.id).await);
    let ended = member.agent.stop();
    assert_eq!(ended.status.code(), Some(0), "the process that was revoked ran until now");
    assert!(ended.stderr.contains("agent_revoked"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_revoked_agent_goes_quiet_and_comes_back_with_a_fresh_token() {
    let system = System::start(&[]).await;
    let (member, bystander) = (system.member("revoked").await, system.member("bystander").await);
    revoke(&system, &member).await;
    let again = system.acme.enable(member.id).await.token.token.unwrap();
    let enrolled = member.host.enroll(&again);
    assert!(enrolled.status.success() && enrolled.stdout.contains("(revoked)"), "{enrolled:?}");
    is_back(&system, member).await;
    assert!(system.is_connected(bystander.id).await);
    assert_eq!(bystander.host.told().status, "active");
}

#[tokio::test]
async fn under_policy_rotation_an_agent_comes_back_with_the_credential_that_it_is_handed() {
    let system = System::start(&[]).await;
    system.reenable_by("rotation");
    let member = system.member("revoked").await;
    revoke(&system, &member).await;
    let path = format!("/api/agents/enable/{}", member.id);
    let enabled = system.acme.operator.post_nothing(&path).await.data(200);
    let enrolled = member.host.enroll(enabled["credential"].as_str().unwrap());
    assert!(enrolled.status.success() && enrolled.stdout.contains("goes on as"), "{enrolled:?}");
    assert_eq!(system.events(member.id, "enrolled").await.len(), 1, "it never enrolled anew");
    is_back(&system, member).await;
}

#[tokio::test]
async fn a_draining_agent_stays_connected_and_takes_no_new_work() {
    let system = System::start(&[]).await;
    let member = system.member("draining").await;
    assert!(member.host.told().accepts_work);
    for (route, accepts_work) in [("drain", false), ("resume", true)] {
        let answer = system.acme.operator.post_nothing(&format!("/api/agents/{route}/{}", member.id)).await;
        assert_eq!(answer.data(200)["draining"], !accepts_work);
        let told = member.host.told_when(|told| told.accepts_work == accepts_work).await;
        assert!(told.connected && told.status == "active", "{told:?}");
        assert!(system.is_connected(member.id).await);
    }
    assert_eq!(system.events(member.id, "disconnected").await.len(), 0);
}
