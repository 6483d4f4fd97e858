//! `status`, `identity` and `diagnose` for a user who may not see the agent's folders.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output},
};

use chrono::TimeDelta;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{
    host::Host,
    listeners::{plain, well},
};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// An enrolled host whose agent has said how it stands, in folders that are closed to whom [`ask`] asks as.
fn host(address: std::net::SocketAddr) -> Host {
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{address}"));
    host.enrolled();
    fs::create_dir(&host.config.runtime_dir).unwrap();
    let said = r#"{"agent_id": "agt_01jq8x5g2m4n6p8r0s2t4v6w8y", "status": "active", "accepts_work": true,
        "connected": true, "updated_at": "2025-03-27T15:00:00Z"}"#;
    fs::write(host.config.runtime_dir.join("agent.json"), said).unwrap();
    // The build's folder may be closed to others.
    fs::copy(env!("CARGO_BIN_EXE_planasonix-agent"), host.folder.path().join("agent")).unwrap();
    mode(host.folder.path(), 0o755);
    for folder in [&host.config.state_dir, &host.config.runtime_dir] {
        mode(folder, closed(0o700));
    }
    host
}

/// Root asks as another user, to whom `mode` closes what is root's; everybody else closes it to themselves.
fn closed(mode: u32) -> u32 {
    if nix::unistd::geteuid().is_root() { mode } else { 0 }
}

async fn ask(host: &Host, arguments: &[&str]) -> Output {
    let mut command = Command::new(host.folder.path().join("agent"));
    command.args(arguments).env_clear().env("PLANASONIX_CONFIG", &host.config.file);
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    // The control plane answers on this thread meanwhile.
    spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn open_again(host: &Host) {
    for folder in [&host.config.state_dir, &host.config.runtime_dir] {
        mode(folder, 0o700);
    }
}

#[tokio::test]
async fn what_only_root_may_know_is_unknown_with_a_status_of_its_own() {
    let control_plane = plain(well, TimeDelta::zero()).await;
    let host = host(control_plane.address);
    for arguments in [["status"].as_slice(), &["identity"], &["diagnose"]] {
        let ended = ask(&host, arguments).await;
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(ended.status.code(), Some(4), "{arguments:?}: {said}");
        assert!(said.contains("unknown") && said.contains("run as root"), "{arguments:?}: {said}");
        for wrong in ["not enrolled", "not_running", "said nothing"] {
            assert!(!said.contains(wrong), "{arguments:?}: {said}");
        }
    }
    let status: Value = serde_json::from_slice(&ask(&host, &["status", "--json"]).await.stdout).unwrap();
    assert_eq!((&status["status"], &status["connected"]), (&"unknown".into(), &Value::Null));
    let report: Value = serde_json::from_slice(&ask(&host, &["diagnose", "--json"]).await.stdout).unwrap();
    let verdict = |probe: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["probe"] == probe).unwrap()["verdict"].clone()
    };
    assert_eq!((verdict("credential"), verdict("runtime folder")), ("unknown".into(), "unknown".into()));
    assert_eq!(report["ok"], false);
    open_again(&host);
}

#[tokio::test]
async fn what_the_runtimes_may_see_is_told_without_the_identity() {
    let control_plane = plain(well, TimeDelta::zero()).await;
    let host = host(control_plane.address);
    mode(&host.config.runtime_dir, 0o755);
    let ended = ask(&host, &["status"]).await;
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("agt_01jq8x5g2m4n6p8r0s2t4v6w8y") && said.contains("not_running"), "{said}");
    open_again(&host);
}

#[tokio::test]
async fn settings_that_only_root_may_read_are_unknown_too() {
    let control_plane = plain(well, TimeDelta::zero()).await;
    let host = host(control_plane.address);
    mode(&host.config.file, closed(0o600));
    for arguments in [["status"].as_slice(), &["identity"], &["diagnose"]] {
        let ended = ask(&host, arguments).await;
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(4), "{arguments:?}: {said}");
        assert!(said.contains("unknown: run as root"), "{said}");
    }
    assert_eq!(ask(&host, &["uninstall"]).await.status.code(), Some(2));
    open_again(&host);
}
