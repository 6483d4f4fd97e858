//! What a server has, has not, and has not yet.

use std::fs;

use nix::{sys::stat::Mode, unistd::mkfifo};
use planasonix::{
    domain::agent::Platform,
    installer::{Binary, Installers},
};
use serde_json::json;

use super::path;
use crate::support::{
    App,
    agents::{PUBLIC_URL, put, stocked},
    ask::eventually,
};

/// An app with these installers, and an agent of each platform on it.
async fn told(installers: Installers, platform: &str) -> [crate::support::Answer; 2] {
    let app = App::with(|settings| settings.installers = installers).await;
    let acme = app.workspace("acme").await;
    let new = json!({"label": "a", "platform": platform});
    let agent = acme.operator.post("/api/agents", &new).await.data(201)["id"].as_str().unwrap().to_owned();
    let agent = agent.parse().unwrap();
    [acme.operator.get(&path(agent, platform)).await, acme.operator.manual(agent).await]
}

#[tokio::test]
async fn a_platform_without_a_program_is_told_with_those_that_have_one() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "linux-x86_64", "planasonix-agent", b"a program");
    put(folder.path(), "windows-x86_64", "planasonix-agent.exe", b"a program");
    put(folder.path(), "macos-x86_64", "planasonix-agent", b"");
    fs::create_dir_all(folder.path().join("macos-aarch64/planasonix-agent")).unwrap();
    put(folder.path(), "solaris-sparc", "planasonix-agent", b"a program");
    for answer in told(stocked(folder.path()), "macos").await {
        let error = answer.error(404, "installer_unavailable");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("macos") && message.contains("linux, windows"), "{message}");
    }
}

#[tokio::test]
async fn a_server_without_any_program_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for answer in told(stocked(folder.path()), "linux").await {
        let error = answer.error(404, "installer_unavailable");
        assert!(error["message"].as_str().unwrap().contains("--agents-dir"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_its_own_url_hands_out_nothing() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "linux-x86_64", "planasonix-agent", b"a program");
    let installers = Installers::new(None);
    installers.stock(&planasonix::installer::binaries::in_folder(folder.path()).unwrap());
    for answer in told(installers, "linux").await {
        let error = answer.error(503, "unavailable");
        assert!(error["message"].as_str().unwrap().contains("--public-url"), "{error}");
        assert_eq!(answer.header("retry-after"), Some("3600"), "only the server's operator ends it");
    }
}

#[tokio::test]
async fn a_program_that_is_being_built_is_told_so() {
    let installers = Installers::new(Some(PUBLIC_URL.parse().unwrap()));
    installers.await_build(Platform::Linux);
    for answer in told(installers.clone(), "linux").await {
        let error = answer.error(404, "installer_unavailable");
        assert!(error["message"].as_str().unwrap().contains("being built"), "{error}");
    }
    installers.give_up(Platform::Linux);
    for answer in told(installers, "linux").await {
        answer.error(404, "installer_unavailable");
    }
}

/// The program is a pipe, so its bundle is packed for as long as nobody writes.
#[tokio::test]
async fn a_bundle_that_is_being_packed_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("planasonix-agent");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let installers = Installers::new(Some(PUBLIC_URL.parse().unwrap()));
    let binary = Binary { platform: Platform::Linux, architecture: "x86_64", path: pipe.clone() };
    installers.stock_in_background(vec![binary]).unwrap();
    for answer in told(installers.clone(), "linux").await {
        let error = answer.error(404, "installer_unavailable");
        assert!(error["message"].as_str().unwrap().contains("being prepared; ask again"), "{error}");
    }
    drop(fs::OpenOptions::new().write(true).open(pipe).unwrap());
    let agent = planasonix_wire::AgentId::from_uuid(uuid::Uuid::from_u128(7));
    eventually(async || installers.package(agent, Platform::Linux).ok()).await;
}

#[tokio::test]
async fn a_program_that_cannot_be_read_leaves_the_others_in_stock() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "linux-x86_64", "planasonix-agent", b"a program");
    let installers = stocked(folder.path());
    let lost =
        Binary { platform: Platform::Macos, architecture: "aarch64", path: folder.path().join("lost") };
    installers.stock(&[lost]);
    for answer in told(installers.clone(), "macos").await {
        let error = answer.error(404, "installer_unavailable");
        assert!(error["message"].as_str().unwrap().contains("linux"), "{error}");
    }
    let [bundle, manual] = told(installers, "linux").await;
    assert_eq!(bundle.status, 200);
    manual.data(200);
}
