//! What a server has, has not, and has not yet.

use std::{fs, net::TcpListener};

use nix::{sys::stat::Mode, unistd::mkfifo};
use planasonix::{
    domain::agent::Platform,
    installer::{Binary, Installers},
};
use planasonix_wire::AgentId;
use serde_json::json;

use super::path;
use crate::support::{
    App,
    actors::Caller,
    agents::{PUBLIC_URL, put, stocked},
    ask::eventually,
    database::Database,
    http,
    program::Program,
};

fn some_agent() -> AgentId {
    AgentId::from_uuid(uuid::Uuid::from_u128(7))
}

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
    eventually(async || installers.package(some_agent(), Platform::Linux).ok()).await;
}

#[tokio::test]
async fn a_program_that_cannot_be_read_is_tried_again_and_leaves_the_others_in_stock() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "linux-x86_64", "planasonix-agent", b"a program");
    let installers = stocked(folder.path());
    let path = folder.path().join("lost");
    let lost = Binary { platform: Platform::Macos, architecture: "aarch64", path: path.clone() };
    installers.stock_in_background(vec![lost]).unwrap();
    eventually(async || installers.package(some_agent(), Platform::Macos).is_err().then_some(())).await;
    for answer in told(installers.clone(), "macos").await {
        let error = answer.error(503, "unavailable");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("macos") && message.contains("No such file"), "{message}");
        assert_eq!(answer.header("retry-after"), Some("60"));
    }
    let [bundle, manual] = told(installers.clone(), "linux").await;
    assert_eq!(bundle.status, 200);
    manual.data(200);
    fs::write(path, b"a program").unwrap();
    eventually(async || installers.package(some_agent(), Platform::Macos).ok()).await;
}

/// The folder for temporary files is missing or full, and then is neither.
#[tokio::test]
async fn server_without_room_for_temporary_files_prepares_its_installers_later() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let (agents, temporary) = (folder.path().join("agents"), folder.path().join("tmp"));
    put(&agents, "linux-x86_64", "planasonix-agent", b"a program");
    let (public, agents) =
        (format!("--public-url={PUBLIC_URL}"), format!("--agents-dir={}", agents.display()));
    let [address, metrics] =
        [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let metrics_flag = format!("--metrics-listen={metrics}");
    let on = |arguments: &[&str]| Program::new(arguments).variable("DATABASE_URL", &database.url());
    on(&["workspace", "create", "--slug", "acme", "--name", "Acme"]).run().answer();
    let scopes = ["--scope", "agents:read", "--scope", "agents:write", "--json"];
    let key = on(&[&["api-key", "create", "--workspace", "acme", "--name", "test"][..], &scopes].concat())
        .run()
        .json();
    let server =
        on(&["serve", &format!("--listen={address}"), "--shutdown-delay=0", &public, &agents, &metrics_flag])
            .variable("TMPDIR", temporary.to_str().unwrap())
            .start();
    server.until_it_says("installer cannot be prepared");
    let _server = server.until_serving();
    let base = format!("http://{address}");
    let operator = Caller { http: http::client(), base, token: key["secret"].as_str().map(str::to_owned) };
    let new = json!({"label": "a", "platform": "linux"});
    let agent: AgentId =
        operator.post("/api/agents", &new).await.data(201)["id"].as_str().unwrap().parse().unwrap();
    let ready = async || {
        let text = http::client()
            .get(format!("http://{metrics}/metrics"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.lines().find_map(|line| {
            line.strip_prefix("planasonix_installer_ready{platform=\"linux\"} ").map(str::to_owned)
        })
    };
    let refused = operator.get(&path(agent, "linux")).await;
    let message = refused.error(503, "unavailable")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("no room for temporary files in ") && message.contains("TMPDIR"), "{message}");
    assert_eq!(ready().await.as_deref(), Some("0"));
    fs::create_dir(&temporary).unwrap();
    eventually(async || (operator.get(&path(agent, "linux")).await.status == 200).then_some(())).await;
    assert_eq!(ready().await.as_deref(), Some("1"));
}
