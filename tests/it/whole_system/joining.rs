//! Hosts that join: what is on the record is true.

use std::fs;

use nix::sys::statvfs::statvfs;
use planasonix_agent::facts;
use serde_json::{Value, json};

use super::System;
use crate::support::{agent_program::AgentHost, ask::eventually};

#[tokio::test]
async fn three_hosts_enroll_and_are_connected_with_true_figures() {
    let system = System::start(&[]).await;
    let mut members = Vec::new();
    for label in ["east", "west", "north"] {
        let host = AgentHost::new(system.server.address);
        host.install("python3", "Python 3.11.2");
        if label == "north" {
            host.install("docker", "Docker version 27.1");
        }
        members.push((label, system.member_at(host, label).await));
    }
    let mut instances = Vec::new();
    for (label, member) in &members {
        let row = system.row(member.id).await.unwrap();
        assert_eq!((&row["label"], &row["remote_ip"]), (&json!(label), &json!("127.0.0.1")));
        let health = system.acme.health_when(member.id, |health| health["cpu_percent"].is_number()).await;
        is_true(&health, &member.host);
        let detail = system.acme.detail_when(member.id, |detail| detail["instance_id"].is_string()).await;
        let capabilities =
            if *label == "north" { json!(["docker", "python_3_11"]) } else { json!(["python_3_11"]) };
        assert_eq!((&detail["capabilities"], &detail["status"]), (&capabilities, &json!("active")));
        assert_eq!((&detail["version"], &detail["platform"]), (&json!(facts::VERSION), &json!("linux")));
        assert_eq!(detail["hostname"], fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        instances.push(detail["instance_id"].clone());
    }
    instances.dedup();
    assert_eq!(instances.len(), 3, "each installation has a name of its own");
}

/// Roughly: the machine is busy with other things, too.
fn is_true(health: &Value, host: &AgentHost) {
    assert!((0.0..=100.0).contains(&health["cpu_percent"].as_f64().unwrap()), "{health}");
    let free = statvfs(&host.state()).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "it is compared roughly")]
    let gigabytes = (free.blocks_available() * free.fragment_size()) as f64 / 1e9;
    assert!(
        (health["disk_free_gb"].as_f64().unwrap() - gigabytes).abs() < 5.0,
        "{health}, not {gigabytes} GB"
    );
    let percent = 100.0 * (1.0 - memory("MemAvailable") / memory("MemTotal"));
    let told = health["memory_percent"].as_f64().unwrap();
    assert!((told - percent).abs() < 25.0, "{health}, not {percent} %");
    assert_eq!((&health["active_jobs"], &health["queue_depth"]), (&json!(0), &json!(0)));
    assert!(health["last_error"].is_null() && health["clock_skew_ms"].is_number(), "{health}");
}

/// A figure of the kernel's.
fn memory(name: &str) -> f64 {
    let all = fs::read_to_string("/proc/meminfo").unwrap();
    let line = all.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_new_credential_takes_the_place_of_the_old_one_while_the_agent_stays_connected() {
    let system = System::start(&["--credential-ttl=18"]).await;
    let member = system.member("rotating").await;
    let since = system.row(member.id).await.unwrap()["connected_since"].clone();
    let first = member.host.identity();
    let old = system.whoever_has_the_credential_of(&member);
    eventually(async || {
        let now = member.host.identity();
        (now.credential != first.credential && now.next.is_none()).then_some(())
    })
    .await;
    assert!(member.host.identity().credential_expires_at > first.credential_expires_at);
    assert_eq!(system.row(member.id).await.unwrap()["connected_since"], since);
    assert_eq!(system.events(member.id, "credential_rotated").await.len(), 1);
    old.heartbeat(&json!({})).await.error(403, "credential_rotated");
    system.whoever_has_the_credential_of(&member).beat().await;
}
