//! A server that lost its guard.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Error;
use super::folder::Folder;

/// How long a fast shutdown may take before it is an immediate one.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);

/// Makes sure that no server runs on this data, whatever happened before. For the guard alone.
pub(super) fn retire(folder: &Folder) -> Result<(), Error> {
    let data = folder.data();
    match folder.server_pid() {
        // Postgres sees that by itself, and uses what the file says of its shared memory.
        Some(pid) if !is_alive(pid) => Ok(()),
        Some(pid) if runs_on(pid, &data) => {
            stop(pid, || !is_alive(pid) || !runs_on(pid, &data));
            Ok(())
        }
        // Another process has got the number since, or a power cut emptied the file: Postgres
        // would refuse to start.
        _ => folder.remove_pid_files(),
    }
}

/// Asks a server to disconnect its clients and end, and insists when it does not.
pub(super) fn stop(pid: Pid, mut has_ended: impl FnMut() -> bool) {
    for request in [Signal::SIGINT, Signal::SIGQUIT] {
        // An error means that it has ended.
        let _ = kill(pid, request);
        let deadline = Instant::now() + SHUTDOWN_PATIENCE;
        while Instant::now() < deadline {
            if has_ended() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}

/// Whether a process is a server on this data: Postgres works in its data folder.
#[cfg(target_os = "linux")]
fn runs_on(pid: Pid, data: &Path) -> bool {
    let working_dir = std::fs::read_link(format!("/proc/{pid}/cwd"));
    let data = std::fs::canonicalize(data);
    matches!((working_dir, data), (Ok(working_dir), Ok(data)) if working_dir == data)
}

/// Whether a process is a server on this data: its command line names the folder.
#[cfg(not(target_os = "linux"))]
fn runs_on(pid: Pid, data: &Path) -> bool {
    let mut ps = std::process::Command::new("ps");
    let output = ps.args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(&*data.to_string_lossy()))
}
