//! The generator of load, in a process of its own: HTTP/1.1 over kept-open connections, one request at a
//! time on each, as lean as it gets, since it shares the machine with what it measures.

use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use planasonix::{
    cli::output,
    domain::credential::{Agent, Plain},
};
use planasonix_wire::AgentId;
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use crate::{Result, fill, process, report::count};

/// An answer that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(10);
const BODY: &str = r#"{"version":"2.14.3","cpu_percent":34.2,"memory_percent":61.0,"disk_free_gb":412.5,"active_jobs":2,"queue_depth":0}"#;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    pub address: SocketAddr,
    /// How many agents beat in turn
    #[arg(long)]
    pub agents: u64,
    #[arg(long)]
    pub connections: u64,
    #[arg(long)]
    pub seconds: f64,
    /// How many requests a second all connections send together, at an even pace; as many as are answered,
    /// unless told
    #[arg(long)]
    pub rate: Option<f64>,
    /// Send well-formed credentials that were never issued, each once, and expect them to be refused
    #[arg(long, requires = "rate")]
    pub forged: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Answers with the status that was to be expected: 200, or 401 to forged ones.
    pub good: u64,
    /// All others, and broken connections.
    pub errors: u64,
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// How long each good answer took, sorted.
    pub micros: Vec<u32>,
}

impl Args {
    /// Runs the generator in a process of its own.
    pub async fn run_apart(&self) -> Result<Outcome> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("load")
            .args(["--address", &self.address.to_string()])
            .args(["--agents", &self.agents.to_string()])
            .args(["--connections", &self.connections.to_string()])
            .args(["--seconds", &self.seconds.to_string()]);
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if self.forged {
            command.arg("--forged");
        }
        let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output().await?;
        if !done.status.success() {
            return Err(format!("the generator failed: {}", String::from_utf8_lossy(&done.stdout)).into());
        }
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    /// How long a connection waits from one request to the next.
    fn pause(&self) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(count(self.connections) / rate))
    }

    fn expected(&self) -> &'static [u8] {
        if self.forged { b"HTTP/1.1 401" } else { b"HTTP/1.1 200" }
    }

    /// What one connection sends, over and over: a forged one no longer than a run lasts.
    fn requests(&self, connection: u64) -> Result<Vec<Vec<u8>>> {
        let own = (connection..self.agents).step_by(usize::try_from(self.connections)?);
        let Some(pause) = self.pause().filter(|_| self.forged) else {
            return Ok(own.map(|number| request(fill::agent(number))).collect());
        };
        let many = Duration::from_secs_f64(self.seconds).div_duration_f64(pause).ceil();
        // Each generator is a process of its own, and forges others.
        let mut rng = StdRng::seed_from_u64((u64::from(std::process::id()) << 32) + connection);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
        Ok(own.cycle().take(many as usize + 1).map(|number| request(forged(number, &mut rng))).collect())
    }
}

pub async fn run(args: Args) -> Result<()> {
    if !args.address.ip().is_loopback() {
        return Err("load is put on this machine alone".into());
    }
    let mut clients = Vec::new();
    for number in 0..args.connections {
        let stream = TcpStream::connect(args.address).await?;
        stream.set_nodelay(true)?;
        let requests = args.requests(number)?;
        clients.push(Client { stream, requests, pause: args.pause(), expected: args.expected() });
    }
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(args.seconds);
    let mut clients: JoinSet<_> = (0..)
        .zip(clients)
        .map(|(number, client)| {
            let lag = args.pause().unwrap_or_default().mul_f64(count(number) / count(args.connections));
            client.run(started + lag, end)
        })
        .collect();
    let mut outcome = Outcome::default();
    while let Some(done) = clients.join_next().await {
        let (micros, errors) = done?;
        outcome.micros.extend(micros);
        outcome.errors += errors;
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.good = outcome.micros.len() as u64;
    outcome.micros.sort_unstable();
    outcome.cpu_seconds = process::cpu_seconds(std::process::id());
    Ok(output::line(&serde_json::to_string(&outcome)?)?)
}

/// A credential of this agent that was never issued.
pub fn forged(number: u64, rng: &mut StdRng) -> (AgentId, Plain<Agent>) {
    let (id, _) = fill::agent(number);
    (id, Plain::generate(rng, id.ulid()))
}

pub fn request((id, credential): (AgentId, Plain<Agent>)) -> Vec<u8> {
    format!(
        "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        credential.reveal(),
        BODY.len(),
    )
    .into_bytes()
}

/// One connection.
struct Client {
    stream: TcpStream,
    requests: Vec<Vec<u8>>,
    pause: Option<Duration>,
    expected: &'static [u8],
}

impl Client {
    /// Sends one agent's beat after another until the end. A broken connection is one error and the end.
    async fn run(mut self, mut next: Instant, end: Instant) -> (Vec<u32>, u64) {
        let (mut micros, mut errors, mut answer) = (Vec::new(), 0, Vec::with_capacity(4096));
        for request in self.requests.iter().cycle() {
            // What is late because the answer before it was counts from when it was due.
            let mut sent = Instant::now();
            if let Some(pause) = self.pause {
                if sent < next {
                    sleep_until(next.into()).await;
                    sent = Instant::now();
                } else {
                    sent = next;
                }
                next += pause;
            }
            if Instant::now() >= end {
                break;
            }
            match timeout(PATIENCE, exchange(&mut self.stream, request, &mut answer)).await {
                Ok(Ok(())) if answer.starts_with(self.expected) => {
                    micros.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Ok(Ok(())) => errors += 1,
                Ok(Err(_)) | Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
        (micros, errors)
    }
}

/// Sends a request and reads the whole answer. All servers here send a length.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the connection was closed".into());
        }
        if let Some(length) = answer_length(buffer)
            && buffer.len() >= length
        {
            return Ok(());
        }
    }
}

/// How long head and body are together, once the head is there.
fn answer_length(answer: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let value = answer.windows(LENGTH.len()).position(|window| window == LENGTH)? + LENGTH.len();
    let digits = answer.get(value..head)?.split(|byte| *byte == b'\r').next()?;
    let body: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(head + body)
}
