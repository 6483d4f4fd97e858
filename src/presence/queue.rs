//! What waits to be flushed: bounded, merged by (agent, credential), fair to those known to be good.

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

    /// Takes what is due, oldest first, at most half of it unknown. Entries that nobody waits for any
    /// more are dropped.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Entry> {
        while let Some((_, key)) = self.paused.pop_front_if(|(due, _)| *due <= now) {
            let known = self.entries.get(&key).is_some_and(|entry| entry.known);
            self.line(known).keys.push_back(key);
        }
        let mut batch = Vec::new();
        for (known, most) in [(false, MOST_IN_BATCH / 2), (true, MOST_IN_BATCH)] {
            while batch.len() < most
                && let Some(key) = self.line(known).keys.pop_front()
            {
                batch.extend(self.remove(key, now));
            }
        }
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
        if self.known.keys.is_empty() && self.unknown.keys.is_empty() {
            self.paused.front().map(|(due, _)| *due)
        } else {
            Some(now)
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

#[cfg(test)]
mod tests {
    use planasonix_wire::json::Patch;
    use rand::{SeedableRng, rngs::StdRng};
    use ulid::Ulid;

    use super::*;
    use crate::domain::credential::Plain;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn key(n: u64) -> Key {
        let mut rng = StdRng::seed_from_u64(n);
        Key {
            agent: AgentId::from_uuid(uuid::Uuid::from_u128(u128::from(n))),
            credential: Plain::<Agent>::generate(&mut rng, Ulid::nil()).hashed(),
        }
    }

    fn cpu(percent: f64) -> Sample {
        let mut sample = Sample::default();
        sample.figures.cpu_percent = Patch::Set(percent);
        sample
    }

    fn waiter() -> (Waiter, oneshot::Receiver<Outcome>) {
        let (reply, answer) = oneshot::channel();
        (Waiter { reply, deadline: Instant::now() + Duration::from_mins(1) }, answer)
    }

    fn push(queue: &mut Queue, key: Key, sample: Sample) -> Option<oneshot::Receiver<Outcome>> {
        let (waiter, answer) = waiter();
        queue.push(key, sample, HERE, waiter).ok().map(|()| answer)
    }

    #[test]
    fn one_credential_s_beats_become_one_row_and_everyone_is_answered() {
        let mut queue = Queue::default();
        let mut answers: Vec<_> =
            (0..3).filter_map(|n| push(&mut queue, key(1), cpu(f64::from(n)))).collect();
        let mut batch = queue.take(Instant::now());
        assert_eq!(batch.len(), 1);
        let entry = batch.remove(0);
        assert_eq!(entry.sample, cpu(2.0));
        entry.answer(Outcome::Unknown);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_ok()));
    }

    #[test]
    fn another_credential_for_the_same_agent_is_another_row() {
        let mut queue = Queue::default();
        let forged = Key { agent: key(1).agent, ..key(2) };
        let _answers = [push(&mut queue, key(1), cpu(1.0)), push(&mut queue, forged, cpu(99.0))];
        assert_eq!(queue.take(Instant::now()).len(), 2);
    }

    #[test]
    fn what_is_put_back_pauses_and_yields_to_what_was_said_since() {
        let mut queue = Queue::default();
        let _first = push(&mut queue, key(1), cpu(1.0));
        let now = Instant::now();
        let batch = queue.take(now);
        let _later = push(&mut queue, key(1), cpu(2.0));
        queue.put_back(batch, now);
        assert!(queue.take(now).is_empty(), "it pauses");
        let due = queue.next_due(now).unwrap();
        let batch = queue.take(due);
        assert_eq!(batch[0].sample, cpu(2.0));
        assert_eq!(batch[0].waiters.len(), 2);
        assert_eq!(queue.next_due(due), None);
    }

    #[test]
    fn strangers_fill_half_of_the_queue_and_of_a_batch() {
        let mut queue = Queue::default();
        let good = key(0);
        queue.know([good.credential].into_iter());
        let answers: Vec<_> =
            (1..=MOST_WAITING as u64).map_while(|n| push(&mut queue, key(n), cpu(0.0))).collect();
        assert_eq!(answers.len(), MOST_WAITING / 2);
        let _good = push(&mut queue, good, cpu(1.0)).unwrap();
        let batch = queue.take(Instant::now());
        assert_eq!(batch.len(), MOST_IN_BATCH / 2 + 1);
        assert!(batch.iter().any(|entry| entry.key == good));
    }

    #[test]
    fn a_caller_that_has_gone_away_frees_its_place() {
        let mut queue = Queue::default();
        drop(push(&mut queue, key(1), cpu(1.0)));
        assert!(queue.take(Instant::now()).is_empty());
        assert_eq!(queue.unknown.waiting, 0);
    }
}
