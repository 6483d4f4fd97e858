//! Where `serve` and `dev` find the agent's programs, and the build that `dev` has done.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use planasonix::installer::binaries::{file_name, host};

use super::{on, serve};
use crate::{
    dev_postgres::sandbox::{PROGRAM, Sandbox},
    support::{
        Answer,
        actors::Caller,
        agents::put,
        ask::eventually,
        database::Database,
        http,
        program::{Program, Running},
    },
};

/// The program in a folder of its own.
fn copy_to(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let place = folder.join("planasonix");
    fs::hard_link(PROGRAM, &place).or_else(|_| fs::copy(PROGRAM, &place).map(drop)).unwrap();
    place
}

#[tokio::test]
async fn serve_says_what_it_finds_beside_itself() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let place = copy_to(folder.path());
    put(&folder.path().join("agents"), "linux-x86_64", "planasonix-agent", b"a program");
    put(&folder.path().join("agents"), "macos-aarch64", "planasonix-agent", b"");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--public-url", "https://api.example.test/"];
    let program = Program::at(&place, &arguments).variable("DATABASE_URL", &database.url());
    let running = program.start().until_serving();
    running.until_it_says("installer ready platform=linux");
    let said = running.stop().stderr;
    assert!(said.contains("agent found platform=linux architecture=\"x86_64\""), "{said}");
    assert!(said.contains("not an agent platform=macos"), "{said}");
}

#[tokio::test]
async fn serve_says_why_it_hands_out_no_installers() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let agents = format!("--agents-dir={}", folder.path().display());
    serve(&database, &[&agents]).start().until_it_says("--public-url is not set");
    serve(&database, &[&agents, "--public-url=http://a"]).start().until_it_says("no agents in --agents-dir");
    let absent = format!("{agents}/absent");
    let told = on(&database, &["serve", "--listen=127.0.0.1:0", &absent, "--log=error"]).run().complaint();
    assert!(told.contains("--agents-dir") && told.contains("/absent"), "{told}");
}

/// A checkout whose `cargo` does what it is told here, and `dev` in it.
struct Checkout {
    home: Sandbox,
    root: tempfile::TempDir,
}

impl Checkout {
    fn new(cargo: Option<&str>) -> Self {
        let checkout = Self { home: Sandbox::new(), root: tempfile::tempdir().unwrap() };
        let root = checkout.root.path();
        copy_to(&root.join("target/debug"));
        fs::write(root.join("target/CACHEDIR.TAG"), "").unwrap();
        put(root, "agent", "Cargo.toml", b"");
        fs::write(root.join("Cargo.lock"), "").unwrap();
        fs::create_dir(root.join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", root.join("bin/sh")).unwrap();
        if let Some(cargo) = cargo {
            script(&checkout.file("cargo"), cargo);
        }
        script(&checkout.file("cargo.built"), &says_version(env!("CARGO_PKG_VERSION")));
        checkout
    }

    /// Where the build leaves the agent.
    fn agent(&self) -> PathBuf {
        self.root.path().join("target/agent").join(file_name(host().unwrap().0))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("bin").join(name)
    }

    fn start(&self) -> Running {
        let place = self.root.path().join("target/debug/planasonix");
        let arguments = ["dev", "--listen", "127.0.0.1:0", "--data-dir", self.home.dir.to_str().unwrap()];
        let more = if self.file("cargo").exists() { ":/usr/bin:/bin" } else { "" };
        let path = format!("{}{more}", self.root.path().join("bin").display());
        Program::at(&place, &arguments).variable("PATH", &path).start()
    }
}

fn script(place: &Path, content: &str) {
    fs::write(place, format!("#!/bin/sh\n{content}\n")).unwrap();
    fs::set_permissions(place, PermissionsExt::from_mode(0o755)).unwrap();
}

/// All that `dev` asks of an agent's program.
fn says_version(version: &str) -> String {
    format!("echo planasonix-agent {version}")
}

/// Asks a running `dev` for an installer of its own host's agent.
async fn ask(running: &Running) -> Answer {
    let said = running.until_it_says("/api/agents/enable/$ID");
    let (_, after) = said.split_once("KEY=").unwrap();
    let operator = Caller {
        http: http::client(),
        base: format!("http://{}", running.address()),
        token: after.split_whitespace().next().map(ToOwned::to_owned),
    };
    let agents = operator.get("/api/agents").await.ids();
    let agent = match agents.first() {
        Some(agent) => agent.clone(),
        None => operator.registered_id().await,
    };
    operator.get(&format!("/api/agents/installer/{agent}/{}", host().unwrap().0)).await
}

impl Caller {
    async fn registered_id(&self) -> String {
        let new = serde_json::json!({"label": "a", "platform": "linux"});
        self.post("/api/agents", &new).await.data(201)["id"].as_str().unwrap().to_owned()
    }
}

/// The target folder is the last argument.
const BUILDS: &str = r#"for target; do :; done
while [ ! -e "$0.go" ]; do sleep 0.05; done
mkdir -p "$target/agent"
echo "$*" >"$0.asked"
cp "$0.built" "$target/agent/planasonix-agent""#;

#[tokio::test]
async fn dev_has_the_agent_built_and_then_hands_it_out() {
    let checkout = Checkout::new(Some(BUILDS));
    let running = checkout.start();
    let waits = ask(&running).await.error(404, "installer_unavailable");
    assert!(waits["message"].as_str().unwrap().contains("being built"), "{waits}");
    fs::write(checkout.file("cargo.go"), "").unwrap();
    eventually(async || Some(ask(&running).await).filter(|answer| answer.status == 200)).await;
    let asked = fs::read_to_string(checkout.file("cargo.asked")).unwrap();
    assert!(asked.starts_with("build --locked --profile agent -p planasonix-agent --target-dir"), "{asked}");
    running.stop();

    // Once built it is there at once.
    let running = checkout.start();
    running.until_it_says("agent found");
    eventually(async || Some(ask(&running).await).filter(|answer| answer.status == 200)).await;
}

#[tokio::test]
async fn dev_has_an_agent_of_another_version_built_again() {
    let checkout = Checkout::new(Some(BUILDS));
    fs::create_dir(checkout.root.path().join("target/agent")).unwrap();
    for old in [says_version("0.0.1"), "exit 1".to_owned()] {
        script(&checkout.agent(), &old);
        let _ = fs::remove_file(checkout.file("cargo.go"));
        let running = checkout.start();
        running.until_it_says("an agent of another version is passed over");
        ask(&running).await.error(404, "installer_unavailable");
        fs::write(checkout.file("cargo.go"), "").unwrap();
        eventually(async || Some(ask(&running).await).filter(|answer| answer.status == 200)).await;
        running.stop();
        let built = fs::read(checkout.file("cargo.built")).unwrap();
        assert_eq!(fs::read(checkout.agent()).unwrap(), built);
    }
}

#[tokio::test]
async fn a_build_that_fails_is_one_line_and_dev_goes_on() {
    for (cargo, told) in [(Some("exit 1"), "failed; run it to see why"), (None, "is not in PATH")] {
        let checkout = Checkout::new(cargo);
        let running = checkout.start();
        running.until_it_says(told);
        ask(&running).await.error(404, "installer_unavailable");
        let said = running.stop().stderr;
        assert_eq!(said.matches(told).count(), 1, "{said}");
    }
}

#[tokio::test]
async fn the_build_ends_with_dev_however_that_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let checkout = Checkout::new(Some("echo $$ >\"$0.new\"; mv \"$0.new\" \"$0.pid\"; sleep 1000"));
        let running = checkout.start();
        running.until_it_says("/api/agents/enable/$ID");
        let file = checkout.file("cargo.pid");
        let process = eventually(async || fs::read_to_string(&file).ok()).await;
        assert!(is_alive(&process));
        running.signal(signal);
        eventually(async || (!is_alive(&process)).then_some(())).await;
    }
}

/// Who has ended and was not yet asked for is not alive.
fn is_alive(process: &str) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", process.trim()]).output().unwrap();
    let state = String::from_utf8(output.stdout).unwrap();
    !state.trim().is_empty() && !state.starts_with('Z')
}
