//! Processes that put load on the program under test. Each gets what to do as JSON on standard input, so that no
//! secret is on a command line, and prints what came of it.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::unistd::setsid;
use planasonix::cli::output;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, stdin},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

use super::{hangups::Hangups, paced::Paced, unread::Unread};
use crate::{Result, process, report};

/// What an actor is given beyond its own time: to connect, and for the last answers.
const GRACE: Duration = Duration::from_mins(1);
const LOWEST_PRIORITY: &str = "19";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Act {
    Paced(Paced),
    Unread(Unread),
    Hangups(Hangups),
}

/// What came of one act.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Latencies by status code.
    pub answers: std::collections::BTreeMap<u16, Latencies>,
    /// Answers with a `Retry-After`.
    pub retry_after: u64,
    /// Requests that got no whole answer: connection refused or closed, or no answer in time.
    pub lost: u64,
    /// Connections that were established.
    pub connected: u64,
    pub seconds: f64,
    /// Of the whole process, over all acts.
    pub cpu_seconds: f64,
}

/// Sorted once the outcome is complete; in microseconds.
pub type Latencies = Vec<u32>;

impl Act {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Paced(paced) => paced.address,
            Self::Unread(unread) => unread.address,
            Self::Hangups(hangups) => hangups.address,
        }
    }

    pub fn seconds(&self) -> f64 {
        match self {
            Self::Paced(paced) => paced.seconds,
            Self::Unread(unread) => unread.seconds,
            Self::Hangups(hangups) => hangups.seconds,
        }
    }

    async fn perform(self) -> Result<Outcome> {
        let started = Instant::now();
        let mut outcome = match self {
            Self::Paced(paced) => paced.perform().await?,
            Self::Unread(unread) => unread.perform().await?,
            Self::Hangups(hangups) => hangups.perform().await?,
        };
        if outcome.seconds <= 0.0 {
            outcome.seconds = started.elapsed().as_secs_f64();
        }
        outcome.answers.values_mut().for_each(|latencies| latencies.sort_unstable());
        outcome.cpu_seconds = process::cpu_seconds(std::process::id());
        Ok(outcome)
    }
}

impl Outcome {
    pub fn add(&mut self, other: Self) {
        for (status, latencies) in other.answers {
            let all = self.answers.entry(status).or_default();
            all.extend(latencies);
            all.sort_unstable();
        }
        self.retry_after += other.retry_after;
        self.lost += other.lost;
        self.connected += other.connected;
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
    }

    pub fn answered(&self) -> u64 {
        self.answers.values().map(|latencies| latencies.len() as u64).sum()
    }

    pub fn count(&self, status: u16) -> u64 {
        self.answers.get(&status).map_or(0, |latencies| latencies.len() as u64)
    }

    /// Everything but 200.
    pub fn failed(&self) -> u64 {
        self.answered() - self.count(200) + self.lost
    }

    /// A percentile of the latency of this status in milliseconds.
    pub fn percentile(&self, status: u16, part: f64) -> f64 {
        self.answers.get(&status).map_or(0.0, |sorted| report::percentile(sorted, part) / 1e3)
    }

    /// How many answers of each status, such as `200: 17, 429: 4, lost: 1`.
    pub fn summary(&self) -> String {
        let answers = self.answers.iter().map(|(status, latencies)| format!("{status}: {}", latencies.len()));
        let lost = (self.lost > 0).then(|| format!("lost: {}", self.lost));
        answers.chain(lost).collect::<Vec<_>>().join(", ")
    }
}

/// A process that performs acts. Killed when dropped.
pub struct Actor {
    child: Child,
    patience: Duration,
}

impl Actor {
    /// Starts acts that begin together. Those of an attacker yield the processor to everything else, since they
    /// stand for other machines.
    pub async fn start(acts: &[Act], yielding: bool) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = if yielding {
            let mut nice = Command::new("nice");
            nice.args(["-n", LOWEST_PRIORITY]).arg(program).args(["act", "--yielding"]);
            nice
        } else {
            let mut plain = Command::new(program);
            plain.arg("act");
            plain
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        stdin.write_all(&serde_json::to_vec(acts)?).await?;
        let longest = acts.iter().map(Act::seconds).fold(0.0, f64::max);
        Ok(Self { child, patience: Duration::from_secs_f64(longest) + GRACE })
    }

    /// Waits for the end. Returns an outcome for each act.
    pub async fn finish(self) -> Result<Vec<Outcome>> {
        let done = timeout(self.patience, self.child.wait_with_output()).await??;
        if !done.status.success() {
            return Err(format!("the load failed: {}", String::from_utf8_lossy(&done.stdout)).into());
        }
        Ok(serde_json::from_slice(&done.stdout)?)
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Use the processor only while nothing else wants it
    #[arg(long)]
    yielding: bool,
}

/// Linux divides the processor among sessions first, and heeds a priority only within one: an attacker that shares the
/// session of the program under test, or has one of the default priority, would take time from Postgres.
fn yield_session() -> Result<()> {
    setsid()?;
    match fs::write("/proc/self/autogroup", LOWEST_PRIORITY) {
        // This kernel does not divide by session.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        written => Ok(written?),
    }
}

/// What the process of an actor does.
pub async fn run(args: Args) -> Result<()> {
    if args.yielding {
        yield_session()?;
    }
    let mut input = Vec::new();
    stdin().read_to_end(&mut input).await?;
    let acts: Vec<Act> = serde_json::from_slice(&input)?;
    if acts.iter().any(|act| !act.address().ip().is_loopback()) {
        return Err("load is put on this machine alone".into());
    }
    let mut running = JoinSet::new();
    let count = acts.len();
    for (index, act) in acts.into_iter().enumerate() {
        running.spawn(async move { (index, act.perform().await) });
    }
    let mut outcomes: Vec<Outcome> = (0..count).map(|_| Outcome::default()).collect();
    while let Some(done) = running.join_next().await {
        let (index, outcome) = done?;
        if let Some(place) = outcomes.get_mut(index) {
            *place = outcome?;
        }
    }
    Ok(output::line(&serde_json::to_string(&outcomes)?)?)
}
