//! The program as the one agent of its host, and as the parent of processes that nobody else waits for.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    time::{Duration, Instant},
};

use planasonix_agent::identity::Store;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    process::{output, program, terminate},
    rig::credential,
    rough::Rough,
};

async fn enrolled() -> (TempDir, Rough) {
    let folder = TempDir::new().unwrap();
    Store::new(&folder.path().join("state")).update(|new| new.settle(credential(1), None)).unwrap();
    (folder, Rough::start(None, 2).await)
}

#[tokio::test]
async fn a_second_agent_on_one_state_folder_ends_and_the_first_stays() {
    let (folder, server) = enrolled().await;
    let run = || {
        let mut command = program(folder.path(), &server);
        command.arg("run");
        command
    };
    let first = run().spawn().unwrap();
    server.wait(0, "a heartbeat", |request| request.accepted).await;
    let second = output(run()).await;
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!((second.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("another agent runs on the state folder"), "{said}");
    assert!(server.seen().iter().all(|request| request.line.ends_with("/heartbeat")));
    assert_eq!(terminate(first).await.status.code(), Some(0));
    let known = server.count();
    let third = run().spawn().unwrap();
    server.wait(known, "a heartbeat of the next one", |request| request.accepted).await;
    terminate(third).await;
}

#[tokio::test]
async fn processes_without_a_parent_are_reaped() {
    let (folder, server) = enrolled().await;
    let orphan = folder.path().join("orphan");
    let script = format!(
        "#!/bin/sh\n/bin/sleep 1 >/dev/null 2>&1 &\necho $! > {}\necho Docker version 24\n",
        orphan.display()
    );
    install(&folder.path().join("docker"), &script);
    let mut command = program(folder.path(), &server);
    command.arg("run").env("PATH", folder.path());
    // SAFETY: the child only makes a system call before it becomes the program.
    #[expect(unsafe_code, reason = "the program inherits orphans as process 1 of a container does")]
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_child_subreaper(true)?));
    }
    let agent = command.spawn().unwrap();
    server.wait(0, "a heartbeat", |request| request.accepted).await;
    let process = fs::read_to_string(&orphan).unwrap();
    let place = Path::new("/proc").join(process.trim());
    let began = Instant::now();
    while place.exists() && began.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!place.exists(), "{}", fs::read_to_string(place.join("stat")).unwrap());
    terminate(agent).await;
}

fn install(place: &Path, script: &str) {
    fs::write(place, script).unwrap();
    fs::set_permissions(place, PermissionsExt::from_mode(0o755)).unwrap();
}
