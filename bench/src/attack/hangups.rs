//! Clients that send a request with a forged key and close the connection before the answer can be there.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use planasonix::domain::credential::{ApiKey, Plain};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use ulid::Ulid;

use super::{
    actor::{Act, Outcome},
    arena::{Arena, Check},
    client::{Client, get},
    rounds::{Plan, Report},
};
use crate::Result;

const CLIENTS: u32 = 32;
/// Long enough that the statement has begun, too short for it to end.
const PATIENCE_MICROS: u64 = 800;
/// New database connections a second that are no sign of torn ones.
const SESSIONS_PER_SECOND: f64 = 2.0;
/// Fewer than a fresh address may fail.
const PROBES: u64 = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hangups {
    pub address: SocketAddr,
    pub seconds: f64,
}

impl Hangups {
    /// Uses threads, since a timer of the runtime is too coarse. The outcome counts connections only.
    pub async fn perform(self) -> Result<Outcome> {
        let (address, end) = (self.address, Instant::now() + Duration::from_secs_f64(self.seconds));
        let connected = spawn_blocking(move || {
            thread::scope(|scope| {
                let client = |number| scope.spawn(move || hang_up(address, number, end));
                let clients: Vec<_> = (0..CLIENTS).map(client).collect();
                clients.into_iter().map(|client| client.join().unwrap_or_default()).sum()
            })
        });
        Ok(Outcome { connected: connected.await?, seconds: self.seconds, ..Outcome::default() })
    }
}

/// Returns how many requests were sent.
fn hang_up(address: SocketAddr, client: u32, end: Instant) -> u64 {
    let mut sent = 0;
    while Instant::now() < end {
        let request =
            forged_request((u64::from(std::process::id()) << 32) + (u64::from(client) << 24) + sent);
        if let Ok(mut stream) = TcpStream::connect(address)
            && stream.write_all(request.as_bytes()).is_ok()
        {
            sent += 1;
            thread::sleep(Duration::from_micros(PATIENCE_MICROS));
        }
    }
    sent
}

/// A request with a well-formed key that was never issued.
fn forged_request(seed: u64) -> String {
    let mut rng = StdRng::seed_from_u64(seed);
    let id = Ulid::from_parts(rng.random_range(1_700_000_000_000..1_750_000_000_000), rng.random());
    get("/api/agents", &Plain::<ApiKey>::generate(&mut rng, id).reveal())
}

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan = Plan { name: "hangups", latency: true, title: "32 clients that hang up after 0.8 ms" };
    let mut subject = arena.serve().await?;
    let (address, seconds) = (subject.address, arena.seconds());
    let report = Report::take(arena, &mut subject, plan, async |_| {
        Ok(vec![Act::Hangups(Hangups { address, seconds })])
    })
    .await?;
    let mut checks = report.checks();
    if !report.died() {
        let accepted = failures_until_limited(address).await?;
        let seen = accepted.map_or_else(|| "not limited".to_owned(), |count| format!("after {count} of 401"));
        checks.push(plan.check("forged keys afterwards are limited (429)", seen, accepted.is_some()));
    }
    let sessions = report.attacked.sessions / report.attacked.seconds;
    checks.push(plan.check(
        "at most 2 new database connections a second",
        format!("{sessions:.1}, {:.0} requests a second", report.attacked.connected_per_second()),
        sessions <= SESSIONS_PER_SECOND,
    ));
    subject.stop().await?;
    Ok(checks)
}

/// How many forged keys are looked up before the address is refused with 429. `None` if none of 100 is, which is
/// more than the allowance regains since the attack.
async fn failures_until_limited(address: SocketAddr) -> Result<Option<u64>> {
    let mut client = Client::new(address, Ipv4Addr::LOCALHOST);
    for number in 0..PROBES {
        if client.exchange(forged_request(number).as_bytes()).await?.status == 429 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}
