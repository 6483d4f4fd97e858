//! The server forbids core dumps.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The files in `/proc` of a process that is not dumpable belong to root, whoever runs it.
#[test]
fn server_is_not_dumpable() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_planasonix"));
    if nix::unistd::geteuid().is_root() {
        // The build's folder may be closed to others.
        let copy = folder.path().join("planasonix");
        fs::copy(env!("CARGO_BIN_EXE_planasonix"), &copy).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        command = Command::new(copy);
        command.uid(65_534).gid(65_534);
    }
    // It waits for a database that is not there.
    command.env_clear().env("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none");
    command.args(["serve", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let owner = || fs::metadata(format!("/proc/{}/environ", child.id())).unwrap().uid();
    let began = Instant::now();
    while owner() != 0 && began.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(5));
    }
    let owned_by_root = owner() == 0;
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(owned_by_root && running);
}
