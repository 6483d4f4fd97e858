//! Clients that send requests and do not read the answers, on connections that they keep open.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep_until, timeout, timeout_at},
};

use super::{
    actor::Outcome,
    client::{Link, connect, status},
    paced::source,
};
use crate::Result;

const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client waits after a refusal before it tries again.
const RETRY_DELAY: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unread {
    pub address: SocketAddr,
    pub sources: (Ipv4Addr, u8),
    pub link: Link,
    pub connections: u32,
    /// What the connections send, in turn.
    pub requests: Vec<String>,
    /// How many connections are being opened at once.
    pub opening: u32,
    /// Whether a connection counts as open only once its first answer has begun with 200, of which no more is
    /// read; after any other answer the client tries again.
    pub until_accepted: bool,
    pub seconds: f64,
}

impl Unread {
    pub async fn perform(self) -> Result<Outcome> {
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let opening = Arc::new(Semaphore::new(usize::try_from(self.opening)?));
        let plan = Arc::new(self);
        let mut clients = JoinSet::new();
        for connection in 0..plan.connections {
            let (plan, opening) = (Arc::clone(&plan), Arc::clone(&opening));
            clients.spawn(async move { plan.hold(connection, &opening, end).await });
        }
        let mut outcome = Outcome { seconds: plan.seconds, ..Outcome::default() };
        while let Some(done) = clients.join_next().await {
            outcome.add(done?);
        }
        outcome.seconds = plan.seconds;
        Ok(outcome)
    }

    /// Opens a connection, again and again if it is refused, and keeps it until the end.
    async fn hold(&self, connection: u32, opening: &Semaphore, end: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        while Instant::now() < end {
            let Ok(permit) = opening.acquire().await else { break };
            let opened = timeout_at(end.into(), self.open(connection)).await;
            drop(permit);
            match opened {
                Ok(Ok((stream, answer))) => {
                    if let Some((status, micros)) = answer {
                        outcome.answers.entry(status).or_default().push(micros);
                    }
                    if answer.is_none_or(|(status, _)| status == 200) {
                        outcome.connected += 1;
                        sleep_until(end.into()).await;
                    }
                    drop(stream);
                }
                Ok(Err(_)) => outcome.lost += 1,
                Err(_) => break,
            }
            sleep_until((Instant::now() + RETRY_DELAY).min(end).into()).await;
        }
        outcome
    }

    /// Returns the connection, and the first answer's status if that was to be read.
    async fn open(&self, connection: u32) -> Result<(TcpStream, Option<(u16, u32)>)> {
        let mut stream = connect(self.address, source(self.sources, connection), self.link).await?;
        let index = usize::try_from(connection)? % self.requests.len().max(1);
        let request = self.requests.get(index).ok_or("no request")?;
        let sent = Instant::now();
        if !self.until_accepted {
            // A server that is busy writing takes no more; what it took is enough.
            let _ = timeout(WRITE_TIMEOUT, stream.write_all(request.as_bytes())).await;
            return Ok((stream, None));
        }
        stream.write_all(request.as_bytes()).await?;
        let mut first = [0; 16];
        stream.read_exact(&mut first).await?;
        let micros = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
        let status = status(&first).ok_or("an answer without a status")?;
        Ok((stream, Some((status, micros))))
    }
}
