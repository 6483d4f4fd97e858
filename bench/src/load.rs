//! The generator of load, in a process of its own: HTTP/1.1 over kept-open connections, one request at a
//! time on each, as lean as it gets, since it shares the machine with what it measures.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use planasonix::cli::output;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{Result, fill, process};

/// An answer that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(10);
const BODY: &str = r#"{"version":"2.14.3","cpu_percent":34.2,"memory_percent":61.0,"disk_free_gb":412.5,"active_jobs":2,"queue_depth":0}"#;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    pub address: SocketAddr,
    #[arg(long)]
    pub agents: u64,
    #[arg(long)]
    pub connections: u64,
    #[arg(long)]
    pub seconds: f64,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Answers with status 200.
    pub good: u64,
    /// All others, and broken connections.
    pub errors: u64,
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// How long each good answer took, sorted.
    pub micros: Vec<u32>,
}

pub async fn run(args: Args) -> Result<()> {
    if !args.address.ip().is_loopback() {
        return Err("load is put on this machine alone".into());
    }
    let mut streams = Vec::new();
    for number in 0..args.connections {
        let stream = TcpStream::connect(args.address).await?;
        stream.set_nodelay(true)?;
        let own = (number..args.agents).step_by(usize::try_from(args.connections)?);
        streams.push((stream, own.map(request).collect::<Vec<_>>()));
    }
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(args.seconds);
    let mut clients: JoinSet<_> =
        streams.into_iter().map(|(stream, requests)| client(stream, requests, end)).collect();
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

fn request(number: u64) -> Vec<u8> {
    let (id, credential) = fill::agent(number);
    format!(
        "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        credential.reveal(),
        BODY.len(),
    )
    .into_bytes()
}

/// Sends one agent's beat after another until the end. A broken connection is one error and the end.
async fn client(mut stream: TcpStream, requests: Vec<Vec<u8>>, end: Instant) -> (Vec<u32>, u64) {
    let (mut micros, mut errors, mut buffer) = (Vec::new(), 0, Vec::with_capacity(4096));
    for request in requests.iter().cycle() {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        match timeout(PATIENCE, exchange(&mut stream, request, &mut buffer)).await {
            Ok(Ok(true)) => micros.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Ok(Ok(false)) => errors += 1,
            Ok(Err(_)) | Err(_) => {
                errors += 1;
                break;
            }
        }
    }
    (micros, errors)
}

/// Whether the answer is a 200. All servers here send a length.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<bool> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the connection was closed".into());
        }
        if let Some(length) = answer_length(buffer)
            && buffer.len() >= length
        {
            return Ok(buffer.starts_with(b"HTTP/1.1 200"));
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
