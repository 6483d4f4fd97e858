//! Either side goes and comes back: nobody enrolls a second time.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{FLAGS, Member, System};
use crate::support::process::Server;

/// What an interruption must leave as it was.
async fn standing(system: &System, member: &Member) -> [Value; 3] {
    let detail = system.acme.detail_when(member.id, |detail| detail["instance_id"].is_string()).await;
    let since = system.row(member.id).await.unwrap()["connected_since"].clone();
    let enrolled = system.events(member.id, "enrolled").await;
    assert_eq!(enrolled.len(), 1, "{enrolled:?}");
    [detail["instance_id"].clone(), since, enrolled[0].clone()]
}

#[tokio::test]
async fn a_restarted_server_has_all_its_agents_back_and_their_runs_unbroken() {
    let mut system = System::start(&[]).await;
    let mut members = Vec::new();
    for label in ["east", "west", "north"] {
        members.push(system.member(label).await);
    }
    let mut before = Vec::new();
    for member in &members {
        before.push(standing(&system, member).await);
    }
    system.server.terminate();
    assert!(system.server.ended().await.success());
    for member in &members {
        member.host.is("unreachable").await;
    }
    system.server = Server::start_at(system.server.address, &system.database.url(), &FLAGS).await;
    for (member, before) in members.iter().zip(before) {
        let told = member.host.told_when(|told| told.status == "active").await;
        assert!(told.connected && told.accepts_work, "{told:?}");
        assert_eq!(standing(&system, member).await, before);
    }
    for member in &members {
        assert_eq!(system.events(member.id, "disconnected").await.len(), 0);
    }
}

#[tokio::test]
async fn an_agent_that_was_killed_comes_back_as_the_same_one() {
    let system = System::start(&[]).await;
    let mut member = system.member("killed").await;
    let before = standing(&system, &member).await;
    let identity = member.host.identity();
    member.agent.signal(Signal::SIGKILL);
    assert_eq!(member.agent.ended().status.code(), None);
    // The service's environment still holds the token, as a container's does.
    member.agent = member.host.run(Some(&member.token));
    member.agent.until_it_says(" connected ");
    member.host.is("active").await;
    assert_eq!(standing(&system, &member).await, before);
    assert_eq!(member.host.identity(), identity);
}
