//! Clients that send requests and do not read the answers, on connections that they keep open.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep_until, timeout_at},
};

use super::{
    actor::Outcome,
    client::{connect, status},
    paced::source,
};
use crate::Result;

/// Bytes; the smallest that the kernel accepts is about this.
const RECEIVE_BUFFER: u32 = 4_096;
const CONNECTING: usize = 256;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unread {
    pub address: SocketAddr,
    pub sources: (Ipv4Addr, u8),
    pub connections: u32,
    /// What the connections send, in turn.
    pub requests: Vec<String>,
    /// Whether to read as much of the first answer as tells its status.
    pub read_status: bool,
    pub seconds: f64,
}

impl Unread {
    pub async fn perform(self) -> Result<Outcome> {
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let plan = Arc::new(self);
        let mut clients = JoinSet::new();
        for connection in 0..plan.connections {
            let (plan, connecting) = (Arc::clone(&plan), Arc::clone(&connecting));
            clients.spawn(async move { plan.hold(connection, &connecting, end).await });
        }
        let mut outcome = Outcome { seconds: plan.seconds, ..Outcome::default() };
        while let Some(done) = clients.join_next().await {
            match done? {
                Ok(status) => {
                    outcome.connected += 1;
                    if let Some((status, micros)) = status {
                        outcome.answers.entry(status).or_default().push(micros);
                    }
                }
                Err(_) => outcome.lost += 1,
            }
        }
        Ok(outcome)
    }

    /// Returns the status of the first answer if that was to be read, once the time is over.
    async fn hold(
        &self,
        connection: u32,
        connecting: &Semaphore,
        end: Instant,
    ) -> Result<Option<(u16, u32)>> {
        let permit = connecting.acquire().await?;
        let source = source(self.sources, connection);
        let mut stream = connect(self.address, source, Some(RECEIVE_BUFFER)).await?;
        drop(permit);
        let index = usize::try_from(connection)? % self.requests.len().max(1);
        let request = self.requests.get(index).ok_or("no request")?;
        let sent = Instant::now();
        // A server that is busy writing takes no more; what it took is enough.
        let _ = timeout_at(end.into(), stream.write_all(request.as_bytes())).await;
        let mut first = [0; 16];
        let known = self.read_status
            && timeout_at(end.into(), stream.read_exact(&mut first)).await.is_ok_and(|read| read.is_ok());
        let micros = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
        sleep_until(end.into()).await;
        Ok(status(&first).filter(|_| known).map(|status| (status, micros)))
    }
}
