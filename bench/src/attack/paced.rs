//! Clients that read their answers: at an even pace whatever the answers take, or each request as soon as the
//! last was answered.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
    time::sleep_until,
};

use super::{
    actor::Outcome,
    client::{Client, post},
};
use crate::{
    Result, fill,
    load::{forged, request},
};

/// Connections that are being established at once; more would overflow the listener's backlog.
const CONNECTING: usize = 256;
/// How long a client waits after a broken connection before it tries again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paced {
    pub address: SocketAddr,
    /// The first loopback address to connect from, and how many to use in turn.
    pub sources: (Ipv4Addr, u8),
    pub connections: u32,
    pub requests: Requests,
    /// Requests a second over all connections. What is late counts from when it was due. Without a rate, each
    /// client sends as soon as it was answered.
    pub rate: Option<f64>,
    /// Whether the first request of all connections is sent at once.
    pub together: bool,
    /// Most requests on each connection.
    pub most: Option<u64>,
    pub seconds: f64,
    /// Whether connections stay open until the end.
    pub hold: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Requests {
    /// These in turn.
    Texts(Vec<String>),
    /// Valid heartbeats of these agents in turn.
    Heartbeats { first: u64, agents: u64 },
    /// Heartbeats with well-formed credentials that were never issued, each another, with bodies of this size.
    Forged { bytes: usize },
}

/// Requests as they are sent.
enum Prepared {
    Fixed(Vec<Vec<u8>>),
    Forged { body: String, seed: u64 },
}

#[derive(Default)]
struct Tally {
    answers: BTreeMap<u16, Vec<u32>>,
    retry_after: u64,
    lost: u64,
    connected: bool,
}

/// The loopback address of this connection.
pub fn source((first, count): (Ipv4Addr, u8), connection: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits() + connection % u32::from(count.max(1)))
}

impl Paced {
    pub async fn perform(self) -> Result<Outcome> {
        let prepared = Arc::new(self.requests.prepare());
        let plan = Arc::new(self);
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let start = Arc::new(Barrier::new(usize::try_from(plan.connections)?));
        let mut clients = JoinSet::new();
        for connection in 0..plan.connections {
            let (plan, prepared) = (Arc::clone(&plan), Arc::clone(&prepared));
            let (connecting, start) = (Arc::clone(&connecting), Arc::clone(&start));
            clients.spawn(async move {
                let mut client = Client::new(plan.address, source(plan.sources, connection));
                let permit = connecting.acquire().await;
                let connected = client.connect().await.is_ok();
                drop(permit);
                start.wait().await;
                let mut tally = plan.converse(connection, &mut client, &prepared).await;
                tally.connected = connected;
                tally
            });
        }
        let mut outcome = Outcome { seconds: plan.seconds, ..Outcome::default() };
        while let Some(tally) = clients.join_next().await {
            let tally = tally?;
            for (status, latencies) in tally.answers {
                outcome.answers.entry(status).or_default().extend(latencies);
            }
            outcome.retry_after += tally.retry_after;
            outcome.lost += tally.lost;
            outcome.connected += u64::from(tally.connected);
        }
        Ok(outcome)
    }

    async fn converse(&self, connection: u32, client: &mut Client, requests: &Prepared) -> Tally {
        let mut tally = Tally::default();
        let started = Instant::now();
        let end = started + Duration::from_secs_f64(self.seconds);
        let pause = self.rate.map(|rate| Duration::from_secs_f64(f64::from(self.connections) / rate));
        let share = if self.together { 0.0 } else { f64::from(connection) / f64::from(self.connections) };
        let mut due = started + pause.unwrap_or_default().mul_f64(share);
        for number in 0..self.most.unwrap_or(u64::MAX) {
            if pause.is_some() {
                sleep_until(due.into()).await;
            }
            let sent = if pause.is_some() { due } else { Instant::now() };
            if Instant::now() >= end {
                break;
            }
            let request = requests.nth(u64::from(connection) + number * u64::from(self.connections));
            if let Ok(answer) = client.exchange(&request).await {
                tally.note(answer.status, answer.retry_after, sent.elapsed());
            } else {
                tally.lost += 1;
                sleep_until((Instant::now() + RETRY_DELAY).into()).await;
            }
            due += pause.unwrap_or_default();
        }
        if self.hold {
            sleep_until(end.into()).await;
        }
        tally
    }
}

impl Tally {
    fn note(&mut self, status: u16, retry_after: bool, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.answers.entry(status).or_default().push(micros);
        self.retry_after += u64::from(retry_after);
    }
}

impl Requests {
    fn prepare(&self) -> Prepared {
        match self {
            Self::Texts(texts) => {
                Prepared::Fixed(texts.iter().map(|text| text.clone().into_bytes()).collect())
            }
            Self::Heartbeats { first, agents } => Prepared::Fixed(
                (*first..*first + *agents).map(|number| request(fill::agent(number))).collect(),
            ),
            Self::Forged { bytes } => Prepared::Forged {
                body: format!(r#"{{"padding":"{}"}}"#, "x".repeat(bytes.saturating_sub(14))),
                // Each process forges others.
                seed: u64::from(std::process::id()) << 32,
            },
        }
    }
}

impl Prepared {
    fn nth(&self, number: u64) -> std::borrow::Cow<'_, [u8]> {
        match self {
            Self::Fixed(requests) => {
                let index = usize::try_from(number % count_of(requests)).unwrap_or_default();
                requests.get(index).map_or(&[][..], Vec::as_slice).into()
            }
            Self::Forged { body, seed } => {
                let (id, credential) = forged(number, &mut StdRng::seed_from_u64(seed + number));
                post(&format!("/api/agents/{id}/heartbeat"), &credential.reveal(), body).into_bytes().into()
            }
        }
    }
}

fn count_of(requests: &[Vec<u8>]) -> u64 {
    (requests.len() as u64).max(1)
}
