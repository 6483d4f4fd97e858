//! Cargo, building the host's agent while `dev` serves. It ends with `dev`, however that ends.

use std::{
    env, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitStatus, Stdio},
    thread,
};

/// The folder, within Cargo's, of what this build leaves.
const PROFILE: &str = "agent";
const COMMAND: &str = "cargo build --locked --profile agent -p planasonix-agent";
/// What a shell says when there is no such command.
const NOT_FOUND: i32 = 127;

/// Our end of the pipe is closed when we end, whatever ends us: then the whole group is told to end, compilers
/// included. The watcher is a builtin, so that nothing is left over when the build ends first.
const WATCHED: &str = "exec 3<&0
    \"$@\" </dev/null 3<&- & build=$!
    (read -r _ <&3; kill 0) & watcher=$!
    wait $build; status=$?
    kill $watcher; exit $status";

/// What is to be built, and where it will lie.
pub(super) struct Plan {
    checkout: PathBuf,
    target: PathBuf,
    name: &'static str,
}

/// A build under way. Dropped, it ends.
pub struct Build(#[expect(dead_code, reason = "held open: the build ends when it is closed")] ChildStdin);

impl Plan {
    /// How to build this program, if the running one lies in a folder of Cargo's, and the sources are found
    /// around that or around the working folder.
    pub(super) fn find(folder_of_this: &Path, name: &'static str) -> Option<Self> {
        let target = folder_of_this.parent().filter(|folder| folder.join("CACHEDIR.TAG").is_file())?;
        let here = env::current_dir().unwrap_or_default();
        let is_checkout = |folder: &&Path| {
            folder.join("Cargo.lock").is_file() && folder.join("agent").join("Cargo.toml").is_file()
        };
        let checkout = target.ancestors().chain(here.ancestors()).find(is_checkout)?;
        Some(Self { checkout: checkout.to_owned(), target: target.to_owned(), name })
    }

    /// Where the program will be.
    pub(super) fn program(&self) -> PathBuf {
        self.target.join(PROFILE).join(self.name)
    }

    /// Starts the build; `then` is told how it ended, on a thread of its own.
    ///
    /// # Errors
    /// The system starts no more processes or threads.
    pub(super) fn start(&self, then: impl FnOnce(Result<(), String>) + Send + 'static) -> io::Result<Build> {
        let mut child = Command::new("sh")
            .args(["-c", WATCHED, "sh"])
            .args(COMMAND.split(' '))
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.checkout)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let held = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let wait = move || then(verdict(child.wait()));
        thread::Builder::new().name("agent-build".to_owned()).spawn(wait)?;
        Ok(Build(held))
    }
}

fn verdict(ended: io::Result<ExitStatus>) -> Result<(), String> {
    let status = ended.map_err(|error| format!("the build of the agent was lost: {error}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(NOT_FOUND) => Err("cargo, which builds the agent, is not in PATH".to_owned()),
        _ => Err(format!("`{COMMAND}` failed; run it to see why")),
    }
}
