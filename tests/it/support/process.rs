//! A control plane that is a process of its own, so that it can be killed.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use planasonix::{
    api_keys,
    db::{Budget, Db, LaneSizes},
    domain::{Scope, agent::ReenablePolicy, api_key::NewKey},
};
use planasonix_wire::{ApiKeyId, WorkspaceId};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{
    actors::{Caller, Workspace},
    database::Database,
    http,
};

/// Generous, for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const GLANCE: Duration = Duration::from_millis(20);

/// Callers of most tests are in more of a hurry than any that is served. A flag sets another limit.
const UNLIMITED: [&str; 4] = [
    "PLANASONIX_RATE_LIMIT_KEY",
    "PLANASONIX_RATE_LIMIT_WORKSPACE",
    "PLANASONIX_RATE_LIMIT_AGENT",
    "PLANASONIX_RATE_LIMIT_FAILED_AUTH",
];

/// A `planasonix serve`, killed with its test.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    logs: TempDir,
}

impl Server {
    /// A server that is ready.
    pub async fn start(database_url: &str, flags: &[&str]) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), database_url, flags).await
    }

    /// A server that is ready, in the place of another one.
    pub async fn start_at(address: SocketAddr, database_url: &str, flags: &[&str]) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_planasonix"));
        command
            .args(["serve", "--listen", &address.to_string()])
            .args(flags)
            .envs(UNLIMITED.map(|name| (name, "0")))
            .env("DATABASE_URL", database_url)
            .env("PLANASONIX_HEARTBEAT_MIN_INTERVAL", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(logs.path().join("stderr")).unwrap());
        die_with_the_test(&mut command);
        let mut server = Self { address, child: command.spawn().unwrap(), logs };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&mut self) {
        let (http, deadline) = (http::client(), Instant::now() + PATIENCE);
        loop {
            assert!(self.child.try_wait().unwrap().is_none(), "{}", self.log());
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            sleep(GLANCE).await;
            let Some(address) = said_address(&self.log()) else {
                continue;
            };
            self.address = address;
            let ready = http.get(format!("http://{address}/readyz")).send().await;
            if ready.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
        }
    }

    /// Its resident memory that is not a mapped file, in bytes.
    #[cfg(target_os = "linux")]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.logs.path().join("stderr")).unwrap()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "does not end: {}", self.log());
            sleep(GLANCE).await;
        }
    }

    /// A new workspace in this server's database, with an operator who calls this server.
    pub async fn workspace(&self, database: &PgConnectOptions, slug: &str) -> Workspace {
        let db = Db::new(database.clone(), LaneSizes { reads: 1, writes: 1 });
        let id = db.create_workspace(slug, slug).await.unwrap().unwrap();
        db.close().await;
        let (_, operator) = self.operator(database, id, &[Scope::AgentsRead, Scope::AgentsWrite]).await;
        Workspace { id, operator }
    }

    /// An operator with a new API key of these scopes, who calls this server.
    pub async fn operator(
        &self,
        database: &PgConnectOptions,
        workspace: WorkspaceId,
        scopes: &[Scope],
    ) -> (ApiKeyId, Caller) {
        let db = Db::new(database.clone(), LaneSizes { reads: 1, writes: 1 });
        let new = NewKey { name: "test".to_owned(), scopes: scopes.to_vec(), expires_in_days: Some(1) };
        let key = api_keys::create(&db.workspace(workspace, Budget::default()), new).await.unwrap();
        db.close().await;
        let base = format!("http://{}", self.address);
        (key.id, Caller { http: http::client(), base, token: Some(key.secret) })
    }

    /// The most memory that it has held at any time, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }
}

/// Two servers on one database. The operator calls the first.
pub struct Pair {
    pub servers: [Server; 2],
    pub database: Database,
    pub acme: Workspace,
}

impl Pair {
    pub async fn start(flags: &[&str]) -> Self {
        let database = Database::create().await;
        let url = database.url();
        let servers = [Server::start(&url, flags).await, Server::start(&url, flags).await];
        let acme = servers[0].workspace(&database.options, "acme").await;
        Self { servers, database, acme }
    }

    /// Sets what enabling an agent of a workspace asks of it, as the command line does.
    pub async fn reenable_by(&self, slug: &str, policy: ReenablePolicy) {
        let db = Db::new(self.database.options.clone(), LaneSizes { reads: 1, writes: 1 });
        assert!(db.set_workspace(slug, Some(policy), None).await.unwrap());
        db.close().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn said_address(log: &str) -> Option<SocketAddr> {
    let said = log.lines().find(|line| line.contains("serving"))?;
    let (_, address) = said.split_once("address=")?;
    address.split_whitespace().next()?.parse().ok()
}

/// Also when the test is killed and no destructor runs. The kernel watches the thread that spawns,
/// which is the test's own.
#[cfg(target_os = "linux")]
pub fn die_with_the_test(command: &mut Command) {
    let bind = || nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; `bind` makes one plain
    // system call and allocates nothing.
    #[expect(unsafe_code, reason = "std has no safe way to run code between fork and exec")]
    unsafe {
        command.pre_exec(bind)
    };
}

#[cfg(not(target_os = "linux"))]
pub fn die_with_the_test(_: &mut Command) {}
