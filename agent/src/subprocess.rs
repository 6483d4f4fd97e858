//! Queries of other programs, such as for their version: bounded in time and output. A program that does not answer is
//! killed with the processes that it started.
//!
//! As process 1 of a container the agent also becomes the parent of every process whose own parent has ended, and
//! collects those that end, see [`reap_orphans`].

use std::{
    io,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

use crate::config::TOKEN_VARIABLE;

/// Bytes of an answer that are read from each of a program's outputs.
const MAX_ANSWER: u64 = 64 * 1_024;
/// How long a killed program is waited for.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// Queries whose program may still run. Its exit status belongs to the query.
static QUERIES_IN_PROGRESS: AtomicUsize = AtomicUsize::new(0);

/// What a program wrote, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Whether it ended with exit status 0.
    pub success: bool,
    /// Its standard output, at most 64 KiB.
    pub stdout: Vec<u8>,
    /// Its standard error, at most 64 KiB.
    pub stderr: Vec<u8>,
}

/// Runs a program to its end, with nothing on its standard input and no enrollment token in its environment.
///
/// # Errors
/// `TimedOut` when it or a process that it started kept an output open for longer than `limit`.
pub async fn query(program: &str, arguments: &[&str], limit: Duration) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env_remove(TOKEN_VARIABLE).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    command.process_group(0);
    let _in_progress = QueryGuard::new();
    let mut child = command.spawn()?;
    let mut group = ProcessGroup { leader: child.id() };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let answer = async { tokio::join!(collect(stdout), collect(stderr), child.wait()) };
    if let Ok((stdout, stderr, status)) = timeout(limit, answer).await {
        group.leader = None;
        return Ok(Output { success: status?.success(), stdout, stderr });
    }
    drop(group);
    reap_killed(child).await;
    Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))
}

async fn collect(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        // What was read before an error still counts.
        let _ = output.take(MAX_ANSWER).read_to_end(&mut bytes).await;
    }
    bytes
}

async fn reap_killed(mut child: Child) {
    let _ = timeout(KILL_TIMEOUT, child.wait()).await;
}

/// Counts a query in progress until it is dropped.
struct QueryGuard;

impl QueryGuard {
    fn new() -> Self {
        QUERIES_IN_PROGRESS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for QueryGuard {
    fn drop(&mut self) {
        QUERIES_IN_PROGRESS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The process group of a program, killed when this is dropped while it has a leader.
struct ProcessGroup {
    leader: Option<u32>,
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            kill_group(leader);
        }
    }
}

/// The program leads a process group of its own, which its number goes on to name until the last member has ended.
#[cfg(unix)]
fn kill_group(leader: u32) {
    use nix::{
        sys::signal::{Signal, killpg},
        unistd::Pid,
    };

    if let Ok(leader) = i32::try_from(leader) {
        // An error means that all have ended.
        let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
    }
}

#[cfg(windows)]
fn kill_group(leader: u32) {
    let mut command = std::process::Command::new("taskkill.exe");
    command.args(["/F", "/T", "/PID", &leader.to_string()]);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Collects the processes that become this one's children when their parents end, for as long as it is polled: where
/// this is process 1, or a subreaper. Elsewhere it does nothing. It never ends.
#[cfg(unix)]
pub async fn reap_orphans() {
    use tokio::{
        signal::unix::{SignalKind, signal},
        time::interval,
    };

    /// Processes that end during a query are collected after this long.
    const REAP_INTERVAL: Duration = Duration::from_secs(5);

    if let (true, Ok(mut ended)) = (inherits_orphans(), signal(SignalKind::child())) {
        let mut look = interval(REAP_INTERVAL);
        loop {
            tokio::select! {
                _ = ended.recv() => {}
                _ = look.tick() => {}
            }
            reap();
        }
    }
    std::future::pending::<()>().await;
}

/// Orphans are no concern of a process on Windows.
#[cfg(windows)]
pub async fn reap_orphans() {
    std::future::pending::<()>().await;
}

#[cfg(unix)]
fn inherits_orphans() -> bool {
    #[cfg(target_os = "linux")]
    let subreaper = nix::sys::prctl::get_child_subreaper().unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    let subreaper = false;
    subreaper || std::process::id() == 1
}

/// Does nothing during a query, which would lose its program's exit status.
#[cfg(unix)]
fn reap() {
    use nix::{
        sys::wait::{WaitPidFlag, waitpid},
        unistd::Pid,
    };

    while QUERIES_IN_PROGRESS.load(Ordering::Relaxed) == 0 {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(status) if status.pid().is_some() => {}
            _ => return,
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{path::Path, time::Instant};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    async fn shell(script: &str, limit: Duration) -> io::Result<Output> {
        query("sh", &["-c", script], limit).await
    }

    /// Whether the process whose number is in the file has ended.
    async fn ends(file: &Path) -> bool {
        let process = std::fs::read_to_string(file).unwrap();
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            let status =
                std::fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
            if status.is_empty() || status.contains(") Z ") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn an_answer_is_both_outputs_and_the_exit_status() {
        let said = shell("echo out; echo err >&2; exit 3", LIMIT).await.unwrap();
        assert_eq!(
            (said.stdout.as_slice(), said.stderr.as_slice(), said.success),
            (&b"out\n"[..], &b"err\n"[..], false)
        );
        assert_eq!(
            query("planasonix-no-such-program", &[], LIMIT).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn an_endless_answer_is_read_in_part() {
        let said = shell("yes", LIMIT).await.unwrap();
        assert_eq!(said.stdout.len() as u64, MAX_ANSWER);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        for tail in ["exec sleep 600", "exit 0"] {
            let script = format!("sleep 600 & echo $! > {}; {tail}", file.display());
            let error = shell(&script, Duration::from_millis(300)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(ends(&file).await, "{tail}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_question_that_is_given_up_leaves_no_process_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        let script = format!("sleep 600 & echo $! > {}; exec sleep 600", file.display());
        let given_up = timeout(Duration::from_millis(300), shell(&script, LIMIT)).await;
        assert!(given_up.is_err() && ends(&file).await);
    }
}
