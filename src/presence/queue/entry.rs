//! A heartbeat that waits, with the callers that wait for it.

use std::net::IpAddr;

use planasonix_wire::AgentId;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    domain::{
        Error,
        credential::{Agent, Hashed},
        presence::{Refusal, Sample},
    },
    presence::Accepted,
};

/// What beats are merged by. Never by the agent alone: a forged beat must not displace a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::presence) struct Key {
    pub(in crate::presence) agent: AgentId,
    pub(in crate::presence) credential: Hashed<Agent>,
}

/// How a caller's wait ends.
#[derive(Debug, Clone, Copy)]
pub(in crate::presence) enum Outcome {
    Accepted(Accepted),
    Refused(Refusal),
    /// The database could not say.
    Unknown,
    /// It is not expected to be stored before its caller's deadline.
    Overloaded,
    /// The database refuses this beat, and it is our bug.
    Poisonous,
}

impl From<Outcome> for Result<Accepted, Error> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Accepted(accepted) => Ok(accepted),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Unknown => Err(Error::Unavailable("the credential could not be looked up".into())),
            Outcome::Overloaded => Err(overloaded()),
            Outcome::Poisonous => Err(Error::Internal("the database refuses this heartbeat".into())),
        }
    }
}

pub(super) fn overloaded() -> Error {
    Error::Unavailable("more heartbeats wait than the database stores in time".into())
}

/// A caller that waits.
pub(in crate::presence) struct Waiter {
    pub(in crate::presence) reply: oneshot::Sender<Outcome>,
    pub(in crate::presence) deadline: Instant,
}

impl Waiter {
    /// Whether it will still be there to take an answer at this time.
    pub(super) fn waits_until(&self, time: Instant) -> bool {
        !self.reply.is_closed() && self.deadline > time
    }
}

/// All that one credential said of one agent since the last flush.
pub(in crate::presence) struct Entry {
    pub(in crate::presence) key: Key,
    pub(in crate::presence) sample: Sample,
    pub(in crate::presence) remote_ip: IpAddr,
    pub(super) waiters: Vec<Waiter>,
    pub(super) known: bool,
    pub(super) not_before: Instant,
    /// Whether it was sent to the database before and nobody knows what became of it.
    pub(in crate::presence) resent: bool,
}

impl Entry {
    /// How many callers wait for it.
    pub(in crate::presence) fn callers(&self) -> usize {
        self.waiters.len()
    }

    /// Answers everyone who waits for this entry.
    pub(in crate::presence) fn answer(self, outcome: Outcome) {
        for waiter in self.waiters {
            // A caller that has gone away needs no answer.
            let _ = waiter.reply.send(outcome);
        }
    }
}
