//! The view of who is connected: the whole of it as one stream, and page by page.

use std::{net::SocketAddr, time::Instant};

use planasonix::cli::output;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    Result,
    contenders::Server,
    database::{self, Database},
    fill, process, report,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many agents are connected
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    agents: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    database: database::Args,
}

/// Of an answer, what is counted and followed.
#[derive(Deserialize)]
struct Page {
    data: Vec<serde::de::IgnoredAny>,
    meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    page: PageMeta,
}

#[derive(Deserialize)]
struct PageMeta {
    cursor: Option<String>,
}

pub async fn run(args: Args) -> Result<()> {
    let database = Database::start(&args.database).await?;
    let mut connection = database.connect().await?;
    let workspace = fill::workspace(&mut connection).await?;
    fill::agents(&mut connection, workspace, 0..args.agents).await?;
    fill::connect(&mut connection).await?;
    let key = fill::key(&database.options, workspace).await?;
    // Long enough that nobody falls silent meanwhile.
    let server = Server::start("group-commit", &database.url, &["--window".into(), "86400".into()]).await?;
    // The key's slow hash takes memory of its own, once.
    get(server.address, &key, "/api/agents/connected?limit=1").await?;
    let mut rows = Vec::new();
    for _ in 0..args.rounds {
        rows.push(stream(&args, &server, &key).await?);
        rows.push(pages(&args, &server, &key, "connected", 1_000).await?);
        rows.push(pages(&args, &server, &key, "list", 100).await?);
    }
    rows.sort_by(|one, other| one.first().cmp(&other.first()));
    server.stop().await?;
    report::rows(&format!("{} connected agents", args.agents), &rows, args.database.json)
}

async fn stream(args: &Args, server: &Server, key: &str) -> Result<report::Row> {
    let before = process::megabytes(server.process(), "VmRSS");
    process::reset_peak(server.process());
    let started = Instant::now();
    let body = get(server.address, key, "/api/agents/connected").await?;
    let seconds = started.elapsed().as_secs_f64();
    let peak = process::megabytes(server.process(), "VmHWM");
    let found = serde_json::from_slice::<Page>(&body)?.data.len();
    row("the whole view, streamed", args, found, seconds, 1, peak - before)
}

async fn pages(args: &Args, server: &Server, key: &str, view: &str, limit: u32) -> Result<report::Row> {
    let path = if view == "list" { "/api/agents" } else { "/api/agents/connected" };
    let before = process::megabytes(server.process(), "VmRSS");
    process::reset_peak(server.process());
    let (mut found, mut requests, mut seconds) = (0, 0, 0.0);
    let mut query = format!("{path}?limit={limit}");
    loop {
        let started = Instant::now();
        let body = get(server.address, key, &query).await?;
        seconds += started.elapsed().as_secs_f64();
        let page: Page = serde_json::from_slice(&body)?;
        found += page.data.len();
        requests += 1;
        let Some(cursor) = page.meta.page.cursor else {
            break;
        };
        query = format!("{path}?limit={limit}&cursor={cursor}");
    }
    let peak = process::megabytes(server.process(), "VmHWM");
    row(&format!("{path}, {limit} a page"), args, found, seconds, requests, peak - before)
}

fn row(
    what: &str,
    args: &Args,
    found: usize,
    seconds: f64,
    requests: u64,
    growth: f64,
) -> Result<report::Row> {
    let found = found as u64;
    if found != args.agents {
        output::line(&format!("{what}: {found} rows where {} were due", args.agents))?;
    }
    Ok(vec![
        ("what", what.to_owned()),
        ("rows/s", format!("{:.0}", report::count(found) / seconds)),
        ("requests", requests.to_string()),
        ("ms a request", format!("{:.2}", seconds * 1e3 / report::count(requests))),
        ("server's memory grew by MB", format!("{growth:.1}")),
    ])
}

/// The body of one answer, on a connection of its own.
pub async fn get(address: SocketAddr, key: &str, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no answer")?;
    let body = answer.split_off(head + 4);
    let head = String::from_utf8(answer)?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("{path}: {head}").into());
    }
    if head.contains("transfer-encoding: chunked") { joined(&body) } else { Ok(body) }
}

/// A chunked body's chunks, joined.
fn joined(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(rest.len());
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").ok_or("the answer broke off")?;
        let (size, after) = rest.split_at(line);
        let size = usize::from_str_radix(std::str::from_utf8(size)?, 16)?;
        let chunk = after.get(2..2 + size).ok_or("the answer broke off")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunk);
        rest = after.get(size + 4..).ok_or("the answer broke off")?;
    }
}
