//! What waits to be flushed: bounded, merged by (agent, credential), fair to those known to be good.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use planasonix_wire::AgentId;
use tokio::{sync::oneshot, time::Instant};

use super::{Accepted, memory};
use crate::domain::{
    Error,
    credential::{Agent, Hashed},
    presence::{Refusal, Sample},
};

/// How many callers may wait.
const MOST_WAITING: usize = 16_384;
/// How many rows one flush takes.
const MOST_IN_BATCH: usize = 4_096;
/// How long a beat is left alone after its row was locked, or the flush failed.
const PAUSE: Duration = Duration::from_millis(10);
/// How long unknown credentials gather before the next of them are taken. So many look-ups a second a flood
/// of bogus ones can cause at most, whatever its rate; and so long an agent's first beat here may wait.
const GATHER: Duration = Duration::from_millis(10);

/// What beats are merged by. Never by the agent alone: a forged beat must not displace a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) agent: AgentId,
    pub(super) credential: Hashed<Agent>,
}

/// How a caller's wait ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Accepted(Accepted),
    Refused(Refusal),
    /// The database could not say.
    Unknown,
    /// The database refuses this beat, and it is our bug.
    Poisonous,
}

impl From<Outcome> for Result<Accepted, Error> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Accepted(accepted) => Ok(accepted),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Unknown => Err(Error::Unavailable("the credential could not be looked up".into())),
            Outcome::Poisonous => Err(Error::Internal("the database refuses this heartbeat".into())),
        }
    }
}

/// A caller that waits.
pub(super) struct Waiter {
    pub(super) reply: oneshot::Sender<Outcome>,
    pub(super) deadline: Instant,
}

impl Waiter {
    fn is_there(&self, now: Instant) -> bool {
        !self.reply.is_closed() && self.deadline > now
    }
}

/// All that one credential said of one agent since the last flush.
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) sample: Sample,
    pub(super) remote_ip: IpAddr,
    waiters: Vec<Waiter>,
    known: bool,
    not_before: Instant,
    /// Whether it was sent to the database before and nobody knows what became of it.
    pub(super) resent: bool,
}

impl Entry {
    /// Answers everyone who waits for this entry.
    pub(super) fn answer(self, outcome: Outcome) {
        for waiter in self.waiters {
            // A caller that has gone away needs no answer.
            let _ = waiter.reply.send(outcome);
        }
    }
}

/// What waits to be flushed.
#[derive(Default)]
pub(super) struct Queue {
    entries: HashMap<Key, Entry>,
    known: Line,
    unknown: Line,
    /// When unknown ones may be taken again.
    gathered: Option<Instant>,
    paused: VecDeque<(Instant, Key)>,
    accepted: memory::Accepted,
    shed: bool,
}

/// The entries of one kind, in order, and how many callers wait for them.
#[derive(Default)]
struct Line {
    keys: VecDeque<Key>,
    waiting: usize,
}

impl Queue {
    /// Adds a beat, or turns it away at once when the queue is full. Credentials that were never seen
    /// accepted may fill half of it, so a flood of bogus ones leaves room for the good.
    pub(super) fn push(
        &mut self,
        key: Key,
        sample: Sample,
        remote_ip: IpAddr,
        waiter: Waiter,
    ) -> Result<(), Error> {
        let known =
            self.entries.get(&key).map_or_else(|| self.accepted.contains(key.credential), |e| e.known);
        let full = self.known.waiting + self.unknown.waiting >= MOST_WAITING;
        if full || (!known && self.unknown.waiting >= MOST_WAITING / 2) {
            self.shed |= known;
            return Err(Error::Unavailable("the queue of heartbeats is full".into()));
        }
        self.line(known).waiting += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.sample.merge(sample);
            entry.remote_ip = remote_ip;
            entry.waiters.push(waiter);
        } else {
            let not_before = Instant::now();
            self.entries.insert(
                key,
                Entry { key, sample, remote_ip, waiters: vec![waiter], known, not_before, resent: false },
            );
            self.line(known).keys.push_back(key);
        }
        Ok(())
    }

    /// Takes what is due, oldest first, at most half of it unknown, and those only once they have gathered.
    /// Entries that nobody waits for any more are dropped.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Entry> {
        while let Some((_, key)) = self.paused.pop_front_if(|(due, _)| *due <= now) {
            let known = self.entries.get(&key).is_some_and(|entry| entry.known);
            self.line(known).keys.push_back(key);
        }
        let mut batch = Vec::new();
        if self.gathered.is_none_or(|due| due <= now) {
            self.move_to(&mut batch, false, MOST_IN_BATCH / 2, now);
            self.gathered = (!batch.is_empty()).then(|| now + GATHER);
        }
        self.move_to(&mut batch, true, MOST_IN_BATCH, now);
        batch
    }

    /// Puts entries back that could not be settled, to be taken again after a pause. What was said since
    /// wins over them.
    pub(super) fn put_back(&mut self, entries: Vec<Entry>, now: Instant) {
        for mut entry in entries {
            let key = entry.key;
            entry.not_before = now + PAUSE;
            if let Some(newer) = self.entries.remove(&key) {
                entry.known = newer.known;
                entry.resent |= newer.resent;
                self.line(entry.known).waiting += entry.waiters.len();
                entry.sample.merge(newer.sample);
                entry.remote_ip = newer.remote_ip;
                entry.waiters.extend(newer.waiters);
            } else {
                self.line(entry.known).waiting += entry.waiters.len();
                self.paused.push_back((entry.not_before, key));
            }
            self.entries.insert(key, entry);
        }
    }

    /// Remembers credentials that were accepted.
    pub(super) fn know(&mut self, credentials: impl Iterator<Item = Hashed<Agent>>) {
        credentials.for_each(|credential| self.accepted.insert(credential));
    }

    /// How many callers wait, and how many credentials beat here, of late within `window` or two; `away` is
    /// whether the database is.
    pub(super) fn load(&mut self, window: Duration, now: Instant, away: bool) -> (usize, usize) {
        (self.known.waiting + self.unknown.waiting, self.accepted.age(window, now.into_std(), away))
    }

    /// Whether a good beat had to be turned away since this was last asked.
    pub(super) fn take_shed(&mut self) -> bool {
        std::mem::take(&mut self.shed)
    }

    /// When there will be something to take: `None` is not before the next push.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        if !self.known.keys.is_empty() {
            return Some(now);
        }
        let unknown = (!self.unknown.keys.is_empty()).then(|| self.gathered.unwrap_or(now).max(now));
        let paused = self.paused.front().map(|(due, _)| *due);
        unknown.into_iter().chain(paused).min()
    }

    fn move_to(&mut self, batch: &mut Vec<Entry>, known: bool, most: usize, now: Instant) {
        while batch.len() < most
            && let Some(key) = self.line(known).keys.pop_front()
        {
            batch.extend(self.remove(key, now));
        }
    }

    fn line(&mut self, known: bool) -> &mut Line {
        if known { &mut self.known } else { &mut self.unknown }
    }

    fn remove(&mut self, key: Key, now: Instant) -> Option<Entry> {
        let not_before = self.entries.get(&key)?.not_before;
        if not_before > now {
            self.paused.push_back((not_before, key));
            return None;
        }
        let mut entry = self.entries.remove(&key)?;
        let line = self.line(entry.known);
        line.waiting = line.waiting.saturating_sub(entry.waiters.len());
        entry.waiters.retain(|waiter| waiter.is_there(now));
        if entry.waiters.is_empty() { None } else { Some(entry) }
    }
}
