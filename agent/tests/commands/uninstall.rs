//! `uninstall`: what the agent made goes, and with `--deregister` its record first.

use chrono::TimeDelta;
use planasonix_agent::uninstall::{Error, Options, uninstall};

use crate::{
    host::{Host, credential},
    listeners::{nobody, plain, refusal},
};

const DEREGISTER: Options = Options { deregister: true };

#[tokio::test]
async fn a_deregistered_agent_leaves_nothing() {
    let control_plane = plain(|_| ("204 No Content", String::new()), TimeDelta::zero()).await;
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address));
    let credential = host.enrolled();
    uninstall(&host.config, DEREGISTER).await.unwrap();
    let asked = control_plane.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(&format!("DELETE /api/agents/{} ", credential.agent())), "{asked:?}");
    assert!(asked[0].contains(credential.expose()), "with the agent's own credential");
    assert!(!host.config.state_dir.exists());
}

#[tokio::test]
async fn an_agent_that_is_gone_already_is_no_error() {
    let gone = |_: &str| ("401 Unauthorized", refusal("unauthenticated", "re_enroll"));
    let control_plane = plain(gone, TimeDelta::zero()).await;
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address));
    host.enrolled();
    let done = uninstall(&host.config, DEREGISTER).await.unwrap();
    assert!(done[0].contains("not registered any more"), "{done:?}");
    assert_eq!(host.store().load().unwrap(), None);
    assert!(uninstall(&host.config, DEREGISTER).await.is_ok(), "again finds nothing left to do");
}

#[tokio::test]
async fn a_control_plane_that_cannot_be_told_keeps_everything_in_place() {
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", nobody().await));
    let credential = host.enrolled();
    let error = uninstall(&host.config, DEREGISTER).await.unwrap_err();
    assert!(matches!(error, Error::Remains { .. }));
    let told = error.to_string();
    let how = format!("/api/agents/{}", credential.agent());
    assert!(told.contains("remains registered") && told.contains(&how), "{told}");
    assert!(!told.contains(credential.expose()), "no secret is told");
    assert!(host.store().load().unwrap().is_some());
}

#[tokio::test]
async fn a_revoked_agent_stays_registered_and_says_so() {
    let revoked = |_: &str| ("403 Forbidden", refusal("agent_revoked", "stop"));
    let control_plane = plain(revoked, TimeDelta::zero()).await;
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address));
    host.enrolled();
    let told = uninstall(&host.config, DEREGISTER).await.unwrap_err().to_string();
    assert!(told.contains("agent_revoked"), "{told}");
    assert!(host.store().load().unwrap().is_some());
}

#[tokio::test]
async fn the_old_credential_deregisters_where_the_new_one_is_refused() {
    let only_old = |head: &str| {
        if head.contains(credential(1).expose()) {
            ("204 No Content", String::new())
        } else {
            ("403 Forbidden", refusal("credential_rotated", "re_enroll"))
        }
    };
    let control_plane = plain(only_old, TimeDelta::zero()).await;
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address));
    host.enrolled();
    let next = planasonix_agent::identity::Next { credential: credential(2), credential_expires_at: None };
    host.store().update(|identity| identity.next = Some(next)).unwrap();
    uninstall(&host.config, DEREGISTER).await.unwrap();
    assert_eq!(control_plane.asked().len(), 2);
}

#[tokio::test]
async fn what_others_keep_in_the_folders_stays() {
    let host = Host::new("");
    host.enrolled();
    std::fs::write(host.config.state_dir.join("identity.json.new"), "cut short").unwrap();
    std::fs::create_dir_all(&host.config.runtime_dir).unwrap();
    std::fs::write(host.config.runtime_dir.join("agent.json"), "{}").unwrap();
    std::fs::write(host.config.runtime_dir.join("spark.status.json"), "{}").unwrap();
    uninstall(&host.config, Options::default()).await.unwrap();
    assert!(!host.config.state_dir.exists());
    assert!(!host.config.runtime_dir.join("agent.json").exists());
    assert!(host.config.runtime_dir.join("spark.status.json").exists());
}

#[cfg(unix)]
#[test]
fn folders_are_removed_without_following_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("state/deep/er")).unwrap();
    std::fs::create_dir(path("precious")).unwrap();
    std::fs::write(path("precious/file"), "kept").unwrap();
    for link in ["state/deep/link", "runtime"] {
        std::os::unix::fs::symlink(path("precious"), path(link)).unwrap();
    }
    // No setting is needed: a broken one must not keep the folders.
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_planasonix-agent"))
        .env("PLANASONIX_CONFIG", "/nowhere/agent.conf")
        .arg("remove-folders")
        .args([path("state"), path("runtime"), path("absent")])
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"]);
    assert_eq!(std::fs::read(path("precious/file")).unwrap(), b"kept");
}
