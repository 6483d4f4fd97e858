//! The real agent's program, and hosts of their own for it to run on.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use planasonix_agent::{
    identity::{Identity, Store},
    runtimes::{AgentFile, read_agent_file},
};
use tempfile::TempDir;

use super::{
    ask::eventually,
    program::{Ended, Program, Running},
};

/// The variable in which the agent is handed a token.
const TOKEN: &str = "PLANASONIX_ENROLLMENT_TOKEN";

/// A host with a configuration as the installer leaves it, and with no program but those it is given.
pub struct AgentHost {
    folder: TempDir,
}

impl AgentHost {
    /// A host that knows where its control plane is.
    pub fn new(server: SocketAddr) -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap() };
        let (state, runtime) = (host.path("state"), host.path("runtime"));
        let settings = format!(
            "PLANASONIX_API_HOST=http://{server}\nPLANASONIX_STATE_DIR={}\nPLANASONIX_RUNTIME_DIR={}\n",
            state.display(),
            runtime.display()
        );
        fs::write(host.path("agent.conf"), settings).unwrap();
        fs::create_dir(host.path("bin")).unwrap();
        host
    }

    /// Installs a program which says this, whatever it is asked.
    pub fn install(&self, program: &str, says: &str) {
        let place = self.path("bin").join(program);
        fs::write(&place, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Starts the agent as its service does, with a token in its environment or without.
    pub fn run(&self, token: Option<&str>) -> Running {
        let program = self.program(&["run"]).bound_to_the_test();
        match token {
            Some(token) => program.variable(TOKEN, token),
            None => program,
        }
        .start()
    }

    /// What an operator does on the host to enroll it with this token.
    pub fn enroll(&self, token: &str) -> Ended {
        self.program(&["enroll"]).variable(TOKEN, token).run()
    }

    /// What an operator does on the host to be rid of the agent.
    pub fn deregister(&self) -> Ended {
        self.program(&["uninstall", "--deregister"]).run()
    }

    /// What the agent told this host's pipeline runtimes last.
    pub fn told(&self) -> AgentFile {
        read_agent_file(&self.path("runtime")).unwrap()
    }

    /// What the agent tells this host's pipeline runtimes, once it is as wanted.
    pub async fn told_when(&self, wanted: impl Fn(&AgentFile) -> bool) -> AgentFile {
        eventually(async || read_agent_file(&self.path("runtime")).filter(&wanted)).await
    }

    /// Waits until the pipeline runtimes are told this status.
    pub async fn is(&self, status: &str) {
        self.told_when(|told| told.status == status).await;
    }

    /// What the agent keeps of itself.
    pub fn identity(&self) -> Identity {
        Store::new(&self.state()).load().unwrap().unwrap()
    }

    /// Where it keeps it.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, arguments: &[&str]) -> Program {
        Program::at(&agent(), arguments)
            .variable("PLANASONIX_CONFIG", self.path("agent.conf").to_str().unwrap())
            .variable("PATH", self.path("bin").to_str().unwrap())
    }
}

/// The agent's program, beside the control plane's. Cargo builds it for its own package's tests, which are
/// tested together with these.
fn agent() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_planasonix")).with_file_name("planasonix-agent");
    assert!(
        is_current(&program).unwrap_or(false),
        "{} is missing or older than its source: run `cargo test`, or `cargo build -p planasonix-agent`, at the workspace's root",
        program.display()
    );
    program
}

/// Whether no file that the program was built from has changed since. Cargo lists them beside a program that
/// `cargo build` made; without a list it is one that `cargo test` made, which then has just looked after it.
fn is_current(program: &Path) -> Option<bool> {
    let changed = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let built = changed(program)?;
    let Ok(listed) = fs::read_to_string(program.with_extension("d")) else { return Some(true) };
    let (_, sources) = listed.lines().next()?.split_once(": ")?;
    // A blank within a path follows a backslash.
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources.split(' ').map(|path| PathBuf::from(path.replace('\0', " ")));
    Some(sources.all(|source| changed(&source).is_some_and(|changed| changed <= built)))
}
