//! What waits to be flushed: bounded, merged by (agent, credential), fair to those known to be good.

mod entry;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::memory;
use crate::{
    db::fleet::BatchLimit,
    domain::{Error, presence::Sample},
};
use entry::overloaded;
pub(super) use entry::{Entry, Key, Outcome, Waiter};

/// How many callers may wait.
const MOST_WAITING: usize = 16_384;
/// Most rows that one flush takes; fewer on a slow database.
const MAX_BATCH: u32 = 4_096;
/// How long a flush should take: far below the callers' deadline and the statement timeout.
const FLUSH_TARGET: Duration = Duration::from_millis(250);
/// What waits must be expected to be stored within this, so that callers are answered before their deadline of 2 s after
/// a flush in progress, their own, and some noise. What comes on top is turned away at once.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long a beat is left alone after its row was locked, or the flush failed.
const PAUSE: Duration = Duration::from_millis(10);
/// How long unknown credentials gather before the next of them are taken. So many look-ups a second a flood
/// of bogus ones can cause at most, whatever its rate; and so long an agent's first beat here may wait.
const GATHER: Duration = Duration::from_millis(10);

/// What waits to be flushed.
pub(super) struct Queue {
    entries: HashMap<Key, Entry>,
    known: Line,
    unknown: Line,
    /// When unknown ones may be taken again.
    gathered: Option<Instant>,
    paused: VecDeque<(Instant, Key)>,
    accepted: memory::Accepted,
    limit: BatchLimit,
    traffic: Traffic,
}

/// The entries of one kind: those that are due in order, how many there are with those that pause, and how many
/// callers wait for them.
#[derive(Default)]
struct Line {
    keys: VecDeque<Key>,
    entries: usize,
    waiting: usize,
}

/// What became of the callers with trusted credentials since the last mark.
#[derive(Default)]
struct Traffic {
    stored: usize,
    shed: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            known: Line::default(),
            unknown: Line::default(),
            gathered: None,
            paused: VecDeque::new(),
            accepted: memory::Accepted::default(),
            limit: BatchLimit::new(MAX_BATCH, FLUSH_TARGET),
            traffic: Traffic::default(),
        }
    }
}

impl Queue {
    /// Adds a beat, or turns it away at once when more waits than can be stored in time. Credentials that were never
    /// seen accepted may fill half of the queue, so a flood of forged ones leaves room for the good.
    pub(super) fn push(
        &mut self,
        key: Key,
        sample: Sample,
        remote_ip: IpAddr,
        waiter: Waiter,
    ) -> Result<(), Error> {
        let merges = self.entries.get(&key).map(|entry| entry.known);
        let known = merges.unwrap_or_else(|| self.accepted.contains(&key));
        if self.is_full(known, merges.is_some()) {
            self.traffic.shed += usize::from(known);
            return Err(overloaded());
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
            let line = self.line(known);
            line.entries += 1;
            line.keys.push_back(key);
        }
        Ok(())
    }

    /// Callers are bounded; so are rows, of which a merged beat needs no further one.
    fn is_full(&self, known: bool, merges: bool) -> bool {
        let rows = self.limit.rows_within(MAX_WAIT);
        let callers_full = self.known.waiting + self.unknown.waiting >= MOST_WAITING
            || (!known && self.unknown.waiting >= MOST_WAITING / 2);
        let rows_full = self.entries.len() >= rows || (!known && self.unknown.entries >= rows.div_ceil(2));
        callers_full || (!merges && rows_full)
    }

    /// Takes what is due and the database stores in one short statement, oldest first, at most half of it unknown, and
    /// those only once they have gathered. Callers whose deadline has passed, or cannot be met, are left out.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Entry> {
        while let Some((_, key)) = self.paused.pop_front_if(|(due, _)| *due <= now) {
            let known = self.entries.get(&key).is_some_and(|entry| entry.known);
            self.line(known).keys.push_back(key);
        }
        let limit = self.limit.get();
        // A fifth more than expected, for the way back to the caller.
        let answered = now + self.limit.expected(limit.min(self.entries.len())) * 6 / 5;
        let mut batch = Vec::new();
        if self.gathered.is_none_or(|due| due <= now) {
            self.move_to(&mut batch, false, (limit / 2).max(1), now, answered);
            self.gathered = (!batch.is_empty()).then(|| now + GATHER);
        }
        // Even where the limit is one row, the unknown leave one to the known.
        let most = limit.max(batch.len() + 1);
        self.move_to(&mut batch, true, most, now, answered);
        batch
    }

    /// The statement for a batch of this many rows succeeded after `elapsed`.
    pub(super) fn record_success(&mut self, rows: usize, elapsed: Duration) {
        self.limit.record_success(rows, elapsed);
    }

    /// The statement for a batch of this many rows had not ended after `elapsed`.
    pub(super) fn record_timeout(&mut self, rows: usize, elapsed: Duration) {
        self.limit.record_timeout(rows, elapsed);
    }

    /// Puts back as much of a batch that took too long as the next one may hold, the youngest first, and turns the
    /// others away: they must not keep fresh ones out.
    pub(super) fn put_back_some(&mut self, mut batch: Vec<Entry>, now: Instant) {
        let kept = batch.split_off(batch.len().saturating_sub(self.limit.get()));
        for entry in batch {
            self.turn_away(entry);
        }
        self.put_back(kept, now);
    }

    /// Puts entries back that could not be settled, to be taken again after a pause. What was said since
    /// wins over them.
    pub(super) fn put_back(&mut self, entries: Vec<Entry>, now: Instant) {
        for mut entry in entries {
            let key = entry.key;
            entry.not_before = now + PAUSE;
            if let Some(newer) = self.entries.remove(&key) {
                // It stands in its line, with its callers.
                entry.known = newer.known;
                entry.resent |= newer.resent;
                self.line(entry.known).waiting += entry.waiters.len();
                entry.sample.merge(newer.sample);
                entry.remote_ip = newer.remote_ip;
                entry.waiters.extend(newer.waiters);
            } else {
                let line = self.line(entry.known);
                line.entries += 1;
                line.waiting += entry.waiters.len();
                self.paused.push_back((entry.not_before, key));
            }
            self.entries.insert(key, entry);
        }
    }

    /// Remembers credentials that were accepted for their agents, from as many callers.
    pub(super) fn know<'k>(&mut self, keys: impl Iterator<Item = &'k Key>, callers: usize) {
        keys.for_each(|key| self.accepted.insert(key));
        self.traffic.stored += callers;
    }

    /// How many callers wait, and how many credentials beat here, of late within `window` or two; `away` is
    /// whether the database is.
    pub(super) fn load(&mut self, window: Duration, now: Instant, away: bool) -> (usize, usize) {
        (self.known.waiting + self.unknown.waiting, self.accepted.age(window, now.into_std(), away))
    }

    /// Whether more callers with trusted credentials were turned away than had their heartbeat stored since this was
    /// last asked.
    pub(super) fn take_overload(&mut self) -> bool {
        let Traffic { stored, shed } = std::mem::take(&mut self.traffic);
        shed > stored
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

    fn move_to(&mut self, batch: &mut Vec<Entry>, known: bool, most: usize, now: Instant, answered: Instant) {
        while batch.len() < most
            && let Some(key) = self.line(known).keys.pop_front()
        {
            batch.extend(self.remove(key, now, answered));
        }
    }

    fn line(&mut self, known: bool) -> &mut Line {
        if known { &mut self.known } else { &mut self.unknown }
    }

    /// Takes an entry out of the queue, for the callers that will still wait when it is `answered`.
    fn remove(&mut self, key: Key, now: Instant, answered: Instant) -> Option<Entry> {
        let not_before = self.entries.get(&key)?.not_before;
        if not_before > now {
            self.paused.push_back((not_before, key));
            return None;
        }
        let mut entry = self.entries.remove(&key)?;
        let line = self.line(entry.known);
        line.entries = line.entries.saturating_sub(1);
        line.waiting = line.waiting.saturating_sub(entry.waiters.len());
        if entry.waiters.iter().any(|waiter| waiter.waits_until(answered)) {
            entry.waiters.retain(|waiter| waiter.waits_until(now));
            return Some(entry);
        }
        entry.waiters.retain(|waiter| waiter.waits_until(now));
        self.turn_away(entry);
        None
    }

    fn turn_away(&mut self, entry: Entry) {
        if entry.known {
            self.traffic.shed += entry.waiters.len();
        }
        entry.answer(Outcome::Overloaded);
    }
}
