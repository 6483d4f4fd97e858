//! What a replica remembers of credentials, so that a flood of bad ones costs the database nothing.
//!
//! Both memories only ever spare work. A dead digest never lives again, so remembering it cannot turn
//! down a good one; and having been accepted before buys a beat nothing but its place in the queue.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache};

use super::queue::Key;
use crate::domain::{
    credential::{Agent, Hashed},
    presence::Refusal,
};

const MOST_REFUSED: u64 = 200_000;
const NEVER_ISSUED_FOR: Duration = Duration::from_mins(5);
const DEAD_FOR: Duration = Duration::from_secs(30);
/// Enabling the agent changes why its old credentials are refused, and it must learn that soon.
const REVOKED_FOR: Duration = Duration::from_secs(1);

const MOST_ACCEPTED: usize = 1_000_000;

/// Digests that were refused lately, and why.
pub(super) struct Refused(Cache<Hashed<Agent>, Refusal>);

impl Refused {
    pub(super) fn get(&self, credential: Hashed<Agent>) -> Option<Refusal> {
        self.0.get(&credential)
    }

    pub(super) fn remember(&self, credential: Hashed<Agent>, refusal: Refusal) {
        // A good credential stays good, whatever speaks against this one request.
        if !matches!(refusal, Refusal::OtherAgent | Refusal::TooSoon(_)) {
            self.0.insert(credential, refusal);
        }
    }
}

impl Default for Refused {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST_REFUSED).expire_after(Lifetime).build())
    }
}

struct Lifetime;

impl Expiry<Hashed<Agent>, Refusal> for Lifetime {
    fn expire_after_create(&self, _: &Hashed<Agent>, refusal: &Refusal, _: Instant) -> Option<Duration> {
        Some(match refusal {
            Refusal::NeverIssued => NEVER_ISSUED_FOR,
            Refusal::AgentRevoked => REVOKED_FOR,
            Refusal::Replaced | Refusal::Expired => DEAD_FOR,
            Refusal::OtherAgent | Refusal::TooSoon(_) => Duration::ZERO,
        })
    }
}

/// Credentials that this replica has seen accepted, each with its agent: a good credential on another agent's path is
/// not trusted. Fingerprints of eight bytes, so that a million agents fit, in two generations: the older one is
/// dropped when the younger is full or as old as the window.
#[derive(Default)]
pub(super) struct Accepted {
    younger: HashSet<u64>,
    older: HashSet<u64>,
    began: Option<Instant>,
    /// Keyed at random, since callers choose the agent in the path.
    hasher: RandomState,
}

impl Accepted {
    pub(super) fn contains(&self, key: &Key) -> bool {
        let fingerprint = self.hasher.hash_one(key);
        self.younger.contains(&fingerprint) || self.older.contains(&fingerprint)
    }

    pub(super) fn insert(&mut self, key: &Key) {
        if self.younger.len() >= MOST_ACCEPTED {
            self.older = std::mem::take(&mut self.younger);
        }
        let fingerprint = self.hasher.hash_one(key);
        self.older.remove(&fingerprint);
        self.younger.insert(fingerprint);
    }

    /// Begins a new generation if this one is as old as `window`, and tells how many digests are remembered.
    /// While the database is away nobody can be accepted, so nobody is forgotten for it.
    pub(super) fn age(&mut self, window: Duration, now: Instant, away: bool) -> usize {
        if away {
            self.began = Some(now);
        } else if now.duration_since(*self.began.get_or_insert(now)) >= window {
            self.older = std::mem::take(&mut self.younger);
            self.began = Some(now);
        }
        self.younger.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use planasonix_wire::AgentId;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::domain::credential::Plain;

    const WINDOW: Duration = Duration::from_secs(10);

    fn key(number: u128) -> Key {
        let agent = AgentId::from_uuid(uuid::Uuid::from_u128(number));
        let mut rng = StdRng::seed_from_u64(1);
        Key { agent, credential: Plain::<Agent>::generate(&mut rng, agent.ulid()).hashed() }
    }

    #[test]
    fn who_beats_no_more_is_forgotten_within_two_windows_but_not_for_an_outage_of_ours() {
        let (key, mut accepted, start) = (key(1), Accepted::default(), Instant::now());
        accepted.insert(&key);
        let after = |windows: u32| start + WINDOW * windows;
        assert_eq!(accepted.age(WINDOW, start, false), 1);
        for windows in 1..10 {
            assert_eq!(accepted.age(WINDOW, after(windows), true), 1);
        }
        assert_eq!(accepted.age(WINDOW, after(10), false), 1);
        assert!(accepted.contains(&key));
        assert_eq!(accepted.age(WINDOW, after(11), false), 0);
        assert!(!accepted.contains(&key));
    }

    #[test]
    fn accepted_credential_on_another_path_is_unknown() {
        let (own, mut accepted) = (key(1), Accepted::default());
        accepted.insert(&own);
        assert!(!accepted.contains(&Key { agent: key(2).agent, ..own }));
        assert!(!accepted.contains(&Key { credential: key(2).credential, ..own }));
    }
}
