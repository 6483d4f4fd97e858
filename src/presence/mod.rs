//! Heartbeats, taken in groups.
//!
//! [`Presence::record`] promises: it returns `Ok` only after the beat is committed; the statement that
//! stored it is also the one that authorised it, so no revoked credential is ever accepted, on any
//! replica; one beat can neither fail nor displace another's; and it ends within two seconds.
//!
//! Behind it stands one [`Flusher`] a replica, on one connection. It takes all that has queued, stores it
//! in one statement, answers, and takes what has queued meanwhile: one round trip when idle, large
//! groups under load, no timer. Only credentials that this replica has not seen accepted gather for a
//! moment, so that the number of statements does not follow a flood of bogus ones.

mod batcher;
mod connection;
mod fleet_size;
mod memory;
mod queue;
mod slow;
mod storing;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use planasonix_wire::AgentId;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

pub use batcher::Flusher;
pub use fleet_size::FleetSize;
use memory::Refused;
use queue::{Key, Queue, Waiter};

use crate::{
    db::{Db, fleet::BeatRules},
    domain::{
        Error, Result,
        credential::{Agent, Hashed},
        presence::Sample,
    },
};

/// How long a caller waits at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// One heartbeat, validated.
pub struct Beat {
    /// The agent that the request named.
    pub agent: AgentId,
    /// The credential that it presented.
    pub credential: Hashed<Agent>,
    /// Where it came from.
    pub remote_ip: IpAddr,
    /// What it said.
    pub sample: Sample,
}

/// A heartbeat that is committed.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// Whether the agent is being drained.
    pub draining: bool,
    /// Whether it is time for a new credential.
    pub rotate: bool,
    /// The database's clock.
    pub now: DateTime<Utc>,
}

/// A wait that took too long.
#[derive(Debug, thiserror::Error)]
#[error("the heartbeat was not committed within {} s", PATIENCE.as_secs())]
struct OutOfTime;

/// Takes heartbeats. Cheap to clone.
#[derive(Clone)]
pub struct Presence(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    refused: Refused,
    wake: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// A desk for heartbeats, and the task that must run behind it.
    pub fn new(db: &Db, rules: BeatRules) -> (Self, Flusher) {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            refused: Refused::default(),
            wake: Notify::new(),
        });
        (Self(Arc::clone(&shared)), Flusher::new(shared, db.options().clone(), rules))
    }

    /// Records a heartbeat; see the module for what that promises.
    ///
    /// # Errors
    /// The refusal of the credential; [`Error::Unavailable`] when the queue is full or the beat could not
    /// be committed in time (it may have been); [`Error::Internal`] when the database takes every beat
    /// but this one.
    pub async fn record(&self, beat: Beat) -> Result<Accepted> {
        if let Some(refusal) = self.0.refused.get(beat.credential) {
            return Err(refusal.into());
        }
        let deadline = Instant::now() + PATIENCE;
        let (reply, answer) = oneshot::channel();
        let key = Key { agent: beat.agent, credential: beat.credential };
        self.0.queue().push(key, beat.sample, beat.remote_ip, Waiter { reply, deadline })?;
        self.0.wake.notify_one();
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome.into(),
            Ok(Err(_)) | Err(_) => Err(Error::Unavailable(OutOfTime.into())),
        }
    }
}
