//! The program under test: its commands, and `serve` in a process of its own under a memory limit.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use super::{cgroup::Cgroup, client};
use crate::{Result, process};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// What the program is to assume for a connection when no cgroup tells it the limit.
const BYTES_PER_CONNECTION: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// The `planasonix` under test [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Further arguments of `planasonix serve`; repeat for more
    #[arg(long = "serve-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_args: Vec<String>,
}

/// The executable under test and the database that it works on.
pub struct Program {
    path: PathBuf,
    url: String,
    folder: PathBuf,
    serve_args: Vec<String>,
}

/// A running `planasonix serve`. Killed when dropped.
pub struct Subject {
    pub address: SocketAddr,
    child: Child,
    pid: u32,
    sampler: JoinHandle<()>,
    seen: Arc<Seen>,
    limit_megabytes: u32,
    cgroup: Option<Cgroup>,
}

/// The highest values that were sampled; they remain when the process has ended.
#[derive(Default)]
struct Seen {
    threads: AtomicU32,
    megabytes: AtomicU32,
}

impl Program {
    pub fn find(args: &Args, url: &str, folder: PathBuf) -> Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("planasonix");
        let path = args.program.clone().unwrap_or(beside);
        if !path.is_file() {
            return Err(format!(
                "there is no program {}: build it with the same profile as this one (cargo build -p planasonix), \
                 or name another with --program",
                path.display()
            )
            .into());
        }
        Ok(Self { path, url: url.to_owned(), folder, serve_args: args.serve_args.clone() })
    }

    /// Runs a command of the program that must succeed. Returns its standard output.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.path);
        command.args(arguments).env("DATABASE_URL", &self.url).stdin(Stdio::null()).kill_on_drop(true);
        let done = command.output().await?;
        if !done.status.success() {
            let errors = String::from_utf8_lossy(&done.stderr);
            return Err(format!("planasonix {}: {errors}", arguments.join(" ")).into());
        }
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Creates an API key. Returns its secret.
    pub async fn api_key(&self, workspace: &str, scope: &str) -> Result<String> {
        let key =
            ["api-key", "create", "--workspace", workspace, "--name", "bench", "--scope", scope, "--json"];
        let key: Value = serde_json::from_str(&self.run(&key).await?)?;
        Ok(key.get("secret").and_then(Value::as_str).ok_or("api-key create gave no secret")?.to_owned())
    }

    /// Starts `serve` with a memory limit in megabytes; 0 is none. Returns once it is ready.
    pub async fn serve(&self, limit_megabytes: u32) -> Result<Subject> {
        // The port could be taken before the program binds it; then the start fails and says so.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let bytes = u64::from(limit_megabytes) * 1_048_576;
        let name = format!("planasonix-bench-{}", std::process::id());
        let cgroup = if bytes > 0 { Cgroup::create(&name, bytes) } else { None };
        let mut command = self.enter(cgroup.as_ref());
        command.args(["serve", "--listen", &address.to_string()]);
        if bytes > 0
            && cgroup.is_none()
            && self.run(&["serve", "--help"]).await?.contains("--max-connections ")
        {
            command.arg(format!("--max-connections={}", bytes / BYTES_PER_CONNECTION));
        }
        command.args(&self.serve_args).env("DATABASE_URL", &self.url);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(self.log())?);
        let child = command.kill_on_drop(true).spawn()?;
        let pid = child.id().ok_or("the program ended at once")?;
        let seen = Arc::default();
        let enforced = if cgroup.is_none() { limit_megabytes } else { 0 };
        let sampler = tokio::spawn(sample(pid, Arc::clone(&seen), enforced));
        let mut subject = Subject { address, child, pid, sampler, seen, limit_megabytes, cgroup };
        subject.wait_until_ready(&self.log()).await?;
        Ok(subject)
    }

    /// A command that runs the program in a cgroup.
    fn enter(&self, cgroup: Option<&Cgroup>) -> Command {
        let Some(cgroup) = cgroup else { return Command::new(&self.path) };
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(cgroup.entrance()).arg(&self.path);
        shell
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

/// Notes threads and memory. Kills the process when its resident memory exceeds `enforced` megabytes, as the
/// kernel would in a cgroup; 0 is no limit.
async fn sample(pid: u32, seen: Arc<Seen>, enforced: u32) {
    let mut ticks = interval(SAMPLE_INTERVAL);
    loop {
        ticks.tick().await;
        let megabytes = whole(process::megabytes(pid, "VmHWM"));
        seen.threads.fetch_max(whole(process::threads(pid)), Ordering::Relaxed);
        seen.megabytes.fetch_max(megabytes, Ordering::Relaxed);
        if enforced > 0 && megabytes > enforced {
            // Fails if it has ended.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status().await;
            return;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
fn whole(number: f64) -> u32 {
    number.ceil() as u32
}

impl Subject {
    async fn wait_until_ready(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let request = client::get("/readyz", "");
        loop {
            let mut client = client::Client::new(self.address, Ipv4Addr::LOCALHOST);
            if client.exchange(request.as_bytes()).await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                let log = fs::read_to_string(log)?;
                return Err(format!("planasonix serve: {status}: {log}").into());
            }
            if Instant::now() > deadline {
                return Err("planasonix serve did not become ready".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Resident memory in megabytes.
    pub fn resident(&self) -> f64 {
        process::megabytes(self.pid, "VmRSS")
    }

    /// Highest resident memory so far in megabytes, by samples once the process has ended.
    pub fn peak(&self) -> u32 {
        self.seen.megabytes.load(Ordering::Relaxed).max(whole(process::megabytes(self.pid, "VmHWM")))
    }

    /// Peak memory in words.
    pub fn memory(&self) -> String {
        let resident = format!("{} MB resident", self.peak());
        match self.cgroup.as_ref().and_then(Cgroup::peak_megabytes) {
            Some(peak) => format!("{resident}, cgroup {peak:.0} of {} MB", self.limit_megabytes),
            None => resident,
        }
    }

    pub fn is_within_limit(&self) -> bool {
        self.limit_megabytes == 0 || self.peak() <= self.limit_megabytes
    }

    /// The most threads that were seen.
    pub fn threads(&self) -> u32 {
        self.seen.threads.load(Ordering::Relaxed)
    }

    pub async fn stop(mut self) -> Result<()> {
        self.sampler.abort();
        // It holds nothing that outlives the run, so it need not drain.
        if self.ended()?.is_none() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.sampler.abort();
        // Fails if it has ended. The cgroup, dropped after this, can only go once it has.
        let _ = self.child.start_kill();
    }
}
