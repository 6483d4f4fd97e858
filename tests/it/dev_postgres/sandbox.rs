//! A cluster of a test's own, its processes, and how to end them.
//!
//! A second user of a cluster is this test program again, running [`hold`].

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use planasonix::dev::postgres::{Cluster, Durability, GuardCommand, Search, Settings};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_planasonix");

/// Tells [`hold`] which cluster to hold.
const HOLD_DIR: &str = "DEV_POSTGRES_TEST_HOLD";

/// Generous, for a busy machine; all of it takes well under a second otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test: the second process. Holds a cluster until it is killed or its input ends.
#[test]
fn hold() {
    let Some(dir) = std::env::var_os(HOLD_DIR) else {
        return;
    };
    let _cluster = Cluster::start(&settings(dir.into())).unwrap();
    println!("\nholding");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn settings(dir: PathBuf) -> Settings {
    Settings {
        dir,
        durability: Durability::Fast,
        search: Search { override_dir: None, path: std::env::var_os("PATH") },
        guard: GuardCommand { program: PROGRAM.into(), args: vec!["postgres-guard".into()] },
        max_connections: 50,
    }
}

/// A folder for one cluster; waits for its server to end, so that no test leaves one behind.
pub struct Sandbox {
    pub dir: PathBuf,
    _temp: TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Self::in_folder("clusters")
    }

    pub fn in_folder(name: &str) -> Self {
        // Open to the user who runs Postgres when the tests run as root.
        let passable = Permissions::from_mode(0o711);
        let temp = tempfile::Builder::new().permissions(passable).tempdir().unwrap();
        let dir = fs::canonicalize(temp.path()).unwrap().join(name);
        fs::DirBuilder::new().mode(0o711).create(&dir).unwrap();
        Self { dir, _temp: temp }
    }

    pub fn settings(&self) -> Settings {
        settings(self.dir.clone())
    }

    pub fn start(&self) -> Cluster {
        Cluster::start(&self.settings()).unwrap()
    }

    /// The folder of the cluster itself.
    pub fn cluster(&self) -> PathBuf {
        let major = self.settings().search.find().unwrap().version.major;
        self.dir.join(format!("postgres-{major}"))
    }

    pub fn guard(&self) -> Pid {
        first_line_as_pid(&self.cluster().join("guard.lock")).unwrap()
    }

    pub fn server(&self) -> Pid {
        first_line_as_pid(&self.cluster().join("data/postmaster.pid")).unwrap()
    }

    /// The data folder that `initdb` works on.
    pub fn unfinished(&self) -> Option<PathBuf> {
        let mut entries = fs::read_dir(self.cluster()).ok()?.flatten().map(|entry| entry.path());
        entries.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("new."))
    }

    fn has_guard(&self) -> bool {
        File::open(self.cluster().join("guard.lock")).is_ok_and(|lock| lock.try_lock().is_err())
    }

    pub fn wait_until_stopped(&self) {
        wait_until("the guard ends", || !self.has_guard());
        assert!(!self.cluster().join("data/postmaster.pid").exists());
    }

    /// Another process that uses the cluster, or soon will.
    pub fn spawn_holder(&self) -> Process {
        // The harness names tests without their crate.
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("{module}::hold"), "--nocapture"]);
        command.env(HOLD_DIR, &self.dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        Process(command.spawn().unwrap())
    }

    /// Another process that uses the cluster.
    pub fn holder(&self) -> Process {
        let mut holder = self.spawn_holder();
        let output = BufReader::new(holder.0.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap() == "holding"));
        holder
    }

    /// A server as a killed guard leaves it where the kernel does not end the two together.
    pub fn unguarded_server(&self) -> Process {
        let programs = self.settings().search.find().unwrap().dir;
        let (data, socket) = (self.cluster().join("data"), self.cluster().join("socket"));
        let owner = fs::metadata(&data).unwrap();
        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(&socket).args(["-c", "listen_addresses="]);
        if geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command.current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
        let server = Process(command.spawn().unwrap());
        wait_until("the server is ready", || {
            let mut pg_isready = Command::new(programs.join("pg_isready"));
            pg_isready.arg("-q").arg("-h").arg(&socket).status().unwrap().success()
        });
        server
    }

    /// Programs that know nothing but their version.
    pub fn fake_programs(&self, version: &str) -> PathBuf {
        let dir = self.dir.join(format!("fake {version}"));
        fs::create_dir(&dir).unwrap();
        for name in ["postgres", "initdb"] {
            let script = format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n");
            fs::write(dir.join(name), script).unwrap();
            fs::set_permissions(dir.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.has_guard() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        if self.has_guard() {
            // On Linux the server goes with it.
            let _ = kill(self.guard(), Signal::SIGKILL);
        }
    }
}

/// A process that ends with its test.
pub struct Process(Child);

impl Process {
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn query(cluster: &Cluster, sql: &str) -> String {
    try_query(cluster, sql).unwrap()
}

pub fn try_query(cluster: &Cluster, sql: &str) -> Result<String, String> {
    psql(cluster, &cluster.url("postgres"), sql)
}

pub fn psql(cluster: &Cluster, url: &str, sql: &str) -> Result<String, String> {
    let mut psql = Command::new(cluster.programs().join("psql"));
    let output = psql.args(["-XAtq", "-d", url, "-c", sql]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn first_line_as_pid(path: &Path) -> Option<Pid> {
    fs::read_to_string(path).ok()?.lines().next()?.parse().ok().map(Pid::from_raw)
}

/// A process that ended a moment before is as dead.
pub fn kill_now(pid: Pid) {
    assert!(matches!(kill(pid, Signal::SIGKILL), Ok(()) | Err(Errno::ESRCH)));
}

/// A process that nobody has waited for yet is dead all the same.
pub fn is_alive(pid: Pid) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    output.status.success() && !output.stdout.starts_with(b"Z")
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
