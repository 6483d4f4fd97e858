//! One day of three agents: all that may happen to them, one thing after the other.

use chrono::{DateTime, Utc};
use nix::sys::signal::Signal;
use planasonix_agent::runtimes::AgentFile;
use serde_json::{Value, json};

use super::{FLAGS, Member, System};
use crate::support::process::Server;

async fn works(member: &Member) -> AgentFile {
    member.host.told_when(|told| told.status == "active" && told.connected && told.accepts_work).await
}

async fn drains(member: &Member) -> AgentFile {
    member.host.told_when(|told| told.status == "active" && told.connected && !told.accepts_work).await
}

/// Waits for a beat later than this.
async fn beats_after(system: &System, member: &Member, then: DateTime<Utc>) {
    let later =
        |health: &Value| health["heartbeat_at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() > then;
    system.acme.health_when(member.id, later).await;
    member.host.told_when(|told| DateTime::from(told.updated_at) > then).await;
}

#[tokio::test]
async fn one_is_barred_and_called_back_one_drains_and_all_outlive_their_server() {
    let mut system = System::start(&[]).await;
    let (barred, mut draining) = (system.member("barred").await, system.member("draining").await);
    let untouched = system.member("untouched").await;
    let since = system.row(untouched.id).await.unwrap()["connected_since"].clone();

    let stolen = system.whoever_has_the_credential_of(&barred);
    system.acme.revoke(barred.id).await.data(200);
    stolen.heartbeat(&json!({})).await.error(403, "agent_revoked");
    barred.host.is("stopped").await;
    system.acme.drain(draining.id).await.data(200);
    drains(&draining).await;
    works(&untouched).await;

    system.server.terminate();
    assert!(system.server.ended().await.success());
    system.server = Server::start_at(system.server.address, &system.database.url(), &FLAGS).await;
    // And the host of one of them restarts, too.
    draining.agent.signal(Signal::SIGKILL);
    draining.agent.ended();
    let restarted = Utc::now();
    draining.agent = draining.host.run(Some(&draining.token));
    beats_after(&system, &draining, restarted).await;
    drains(&draining).await;
    beats_after(&system, &untouched, restarted).await;
    works(&untouched).await;
    assert_eq!(system.row(untouched.id).await.unwrap()["connected_since"], since);
    assert!(!system.is_connected(barred.id).await);

    let token = system.acme.enable(barred.id).await.token.token.unwrap();
    assert!(barred.host.enroll(&token).status.success());
    works(&barred).await;
    stolen.heartbeat(&json!({})).await.error(403, "credential_rotated");
    system.acme.resume(draining.id).await.data(200);
    works(&draining).await;
    for (member, enrolled) in [(&barred, 2), (&draining, 1), (&untouched, 1)] {
        assert!(system.is_connected(member.id).await);
        assert_eq!(system.events(member.id, "enrolled").await.len(), enrolled);
        assert_eq!(system.events(member.id, "disconnected").await.len(), 0);
    }
    for member in [barred, draining, untouched] {
        assert_eq!(member.agent.stop().status.code(), Some(0));
    }
}
