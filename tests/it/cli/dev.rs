//! `planasonix dev`: a first look, interrupted in every way.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    dev_postgres::sandbox::Sandbox,
    support::{
        Answer,
        actors::Caller,
        agents, http,
        program::{Program, Running},
    },
};

/// The last line of what `dev` prints.
const END_OF_WELCOME: &str = "/api/agents/enable/$ID";

fn dev(home: &Sandbox) -> Program {
    let folder = home.dir.to_str().unwrap();
    let agents = home.dir.join("agents");
    agents::put(&agents, "linux-x86_64", "planasonix-agent", b"a program");
    let agents = agents.to_str().unwrap();
    Program::new(&["dev", "--listen", "127.0.0.1:0", "--data-dir", folder, "--agents-dir", agents])
}

/// Somebody who pastes the key that is printed.
fn newcomer(running: &Running) -> Caller {
    let said = running.until_it_says(END_OF_WELCOME);
    let (_, after) = said.split_once("KEY=").unwrap();
    Caller {
        http: http::client(),
        base: format!("http://{}", running.address()),
        token: Some(after.split_whitespace().next().unwrap().to_owned()),
    }
}

fn key_file(home: &Sandbox) -> PathBuf {
    home.dir.join("api-key")
}

async fn register(newcomer: &Caller) -> Answer {
    newcomer.post("/api/agents", &json!({"label": "first", "platform": "linux"})).await
}

async fn agents(newcomer: &Caller) -> usize {
    newcomer.get("/api/agents").await.data(200).as_array().unwrap().len()
}

#[tokio::test]
async fn data_and_key_survive_a_kill() {
    let home = Sandbox::new();
    let running = dev(&home).start();
    let first = newcomer(&running);
    register(&first).await.data(201);
    let mode = fs::metadata(key_file(&home)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    running.signal(Signal::SIGKILL);
    drop(running);

    let running = dev(&home).start();
    let again = newcomer(&running);
    assert_eq!(again.token, first.token);
    assert_eq!(agents(&again).await, 1);
    let ended = running.stop();
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test]
async fn what_is_in_the_way_is_said_at_once() {
    let home = Sandbox::new();
    let running = dev(&home).start();
    newcomer(&running);

    let told = dev(&home).run().complaint();
    let process = format!("process {}", running.id());
    assert!(told.contains(&process) && told.contains("--data-dir"), "{told}");
    assert!(told.contains(home.dir.to_str().unwrap()), "{told}");

    let address = running.address().to_string();
    let folder = home.dir.to_str().unwrap();
    let told = Program::new(&["dev", "--listen", &address, "--data-dir", folder]).run().complaint();
    assert!(told.contains(&address) && told.contains("--listen"), "{told}");
    register(&newcomer(&running)).await.data(201);
}

#[tokio::test]
async fn a_lost_key_is_replaced_and_that_is_said() {
    let home = Sandbox::new();
    let running = dev(&home).start();
    let first = newcomer(&running);
    register(&first).await.data(201);
    running.stop();

    for spoil in [|file| fs::remove_file(file).unwrap(), |file: PathBuf| fs::write(file, "nonsense").unwrap()]
    {
        spoil(key_file(&home));
        let running = dev(&home).start();
        let next = newcomer(&running);
        assert_ne!(next.token, first.token);
        assert_eq!(agents(&next).await, 1);
        assert_eq!(fs::read_to_string(key_file(&home)).unwrap().trim(), next.token.unwrap());
        let mode = fs::metadata(key_file(&home)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let ended = running.stop();
        assert!(ended.stderr.contains("making another"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_umask_that_keeps_everybody_out_does_not_keep_out_postgres() {
    let home = Sandbox::new();
    fs::remove_dir(&home.dir).unwrap();
    let (program, folder) = (env!("CARGO_BIN_EXE_planasonix"), home.dir.display());
    let command = format!("umask 077; exec {program} dev --listen 127.0.0.1:0 --data-dir {folder}");
    let running = Program::at(Path::new("/bin/sh"), &["-c", &command]).start();
    register(&newcomer(&running)).await.data(201);
    assert!(running.stop().status.success());
}

#[tokio::test]
async fn the_database_of_another_project_is_left_alone() {
    let home = Sandbox::new();
    let production = "postgres://user:password@127.0.0.1:1/production";
    let running = dev(&home).variable("DATABASE_URL", production).start();
    register(&newcomer(&running)).await.data(201);
}

/// What a POSIX shell prints, line by line.
fn pasted(script: &str) -> Vec<String> {
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The commands that install this agent, as the API's JSON has them.
async fn install_commands(newcomer: &Caller, agent: &str) -> Vec<String> {
    let manual = newcomer.get(&format!("/api/agents/manual-install/{agent}")).await.data(200);
    let steps = manual["steps"].as_array().unwrap();
    steps.iter().map(|step| step["command"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_printed_lines_do_what_they_say() {
    let home = Sandbox::new();
    let running = dev(&home).start();
    let said = running.until_it_says(END_OF_WELCOME);
    let script: String =
        said.lines().filter_map(|line| Some(format!("{}; echo\n", line.strip_prefix("  ")?))).collect();
    let printed = pasted(&script);
    let answers: Vec<serde_json::Value> =
        printed.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(answers.len(), 6, "{printed:?}");
    assert_eq!(answers[0]["data"]["accepts_work"], true);
    assert_eq!(answers[1]["data"][0]["label"], "first-agent");
    assert_eq!(answers[2]["data"]["status"], "healthy");
    assert_eq!(answers[3]["data"]["status"], "revoked");
    assert_eq!(answers[4]["error"]["code"], "agent_revoked");
    assert_eq!(answers[5]["data"]["status"], "pending");

    let agent = answers[5]["data"]["id"].as_str().unwrap();
    for command in install_commands(&newcomer(&running), agent).await {
        assert!(printed.contains(&command), "{command} is not in {printed:?}");
    }
}

#[tokio::test]
async fn the_readme_s_first_session_prints_the_commands_to_paste() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, session) = readme.split_once("## A first session").unwrap();
    let block = session.split("```").nth(1).unwrap().strip_prefix("sh\n").unwrap();
    let home = Sandbox::new();
    let running = dev(&home).start();
    let newcomer = newcomer(&running);
    let (api, key) = (&newcomer.base, newcomer.token.as_ref().unwrap());
    let printed = pasted(&format!("API={api} KEY={key}\n{block}"));
    let agent = newcomer.get("/api/agents").await.ids().remove(0);
    assert_eq!(printed, install_commands(&newcomer, &agent).await);
}
