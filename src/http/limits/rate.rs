//! One limit: a number of requests a minute for each key, as many of them at once (GCRA).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::domain::{Error, Result, error::whole_seconds};

/// A limit on each key. Remembers only keys whose allowance is not full, once [`Rate::forget`] has run.
pub struct Rate<K>(Option<Limit<K>>);

struct Limit<K> {
    requests: u32,
    /// The time after which one more request is allowed.
    interval: Duration,
    /// When each key's allowance is full again.
    full_at: Mutex<HashMap<K, Instant>>,
}

/// What a key has left.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// How many requests it may make a minute, and at once.
    pub limit: u32,
    /// How many of them it may make now.
    pub remaining: u32,
    /// When it may make all of them.
    pub full_in: Duration,
    /// When it may make one, if it may make none now.
    retry_after: Option<Duration>,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// So many requests a minute; 0 is no limit.
    pub fn a_minute(requests: u32) -> Self {
        Self((requests > 0).then(|| Limit {
            requests,
            interval: Duration::from_mins(1) / requests,
            full_at: Mutex::default(),
        }))
    }

    /// Takes one request from the key's allowance, if there is one left; `None` where there is no limit.
    pub fn charge(&self, key: &K) -> Option<Allowance> {
        let limit = self.0.as_ref()?;
        let (mut full_at, now) = (limit.full_at(), Instant::now());
        let before = limit.allowance(full_at.get(key).copied(), now);
        if before.remaining == 0 {
            return Some(before);
        }
        let full = full_at.entry(key.clone()).or_insert(now);
        *full = (*full).max(now) + limit.interval;
        let left = before.remaining - 1;
        let full_in = limit.interval * (limit.requests - left);
        Some(Allowance { remaining: left, full_in, ..before })
    }

    /// What the key has left, without taking anything; `None` where there is no limit.
    pub fn peek(&self, key: &K) -> Option<Allowance> {
        let limit = self.0.as_ref()?;
        let full_at = limit.full_at().get(key).copied();
        Some(limit.allowance(full_at, Instant::now()))
    }

    /// Forgets every key whose allowance is full again.
    pub fn forget(&self) {
        if let Some(limit) = &self.0 {
            let (mut full_at, now) = (limit.full_at(), Instant::now());
            full_at.retain(|_, full| *full > now);
            full_at.shrink_to_fit();
        }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.0.as_ref().map_or(0, |limit| limit.full_at().len())
    }
}

impl<K> Limit<K> {
    fn full_at(&self) -> MutexGuard<'_, HashMap<K, Instant>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allowance(&self, full_at: Option<Instant>, now: Instant) -> Allowance {
        let full_in = full_at.map_or(Duration::ZERO, |full| full.saturating_duration_since(now));
        let used = full_in.as_nanos().div_ceil(self.interval.as_nanos().max(1));
        let remaining = self.requests.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        let retry_after =
            (remaining == 0).then(|| full_in.saturating_sub(self.interval * (self.requests - 1)));
        Allowance { limit: self.requests, remaining, full_in, retry_after }
    }
}

impl Allowance {
    /// Whether the request may go on: what was charged, or is about to be.
    ///
    /// # Errors
    /// [`Error::RateLimited`], in whole seconds and at least one.
    pub fn admit(&self) -> Result<()> {
        match self.retry_after {
            None => Ok(()),
            Some(wait) => Err(Error::RateLimited { retry_after: Duration::from_secs(whole_seconds(wait)) }),
        }
    }

    /// The one of the two that ends first.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let ends = |allowance: &Self| (allowance.retry_after.is_none(), allowance.remaining);
        if ends(&other) < ends(&self) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn a_key_spends_its_allowance_and_no_other_key_s() {
        let rate = Rate::a_minute(3);
        for left in [2, 1, 0] {
            let allowance = rate.charge(&"a").unwrap();
            assert_eq!((allowance.limit, allowance.remaining), (3, left));
            assert!(allowance.admit().is_ok());
        }
        let refused = rate.charge(&"a").unwrap();
        assert_eq!(refused.remaining, 0);
        let full_in = Duration::from_secs(55)..=Duration::from_mins(1);
        assert!(full_in.contains(&refused.full_in), "{:?}", refused.full_in);
        let Err(Error::RateLimited { retry_after }) = refused.admit() else { panic!("admitted") };
        assert!((1..=20).contains(&retry_after.as_secs()) && retry_after.subsec_nanos() == 0);
        let other = rate.charge(&"b").unwrap();
        assert_eq!((other.remaining, other.full_in), (2, Duration::from_secs(20)));
    }

    #[test]
    fn peek_sees_what_is_left_and_takes_nothing() {
        let rate = Rate::a_minute(2);
        for left in [2, 1, 0] {
            let seen = [rate.peek(&"a").unwrap(), rate.peek(&"a").unwrap()];
            assert_eq!(seen.map(|seen| (seen.remaining, seen.admit().is_ok())), [(left, left > 0); 2]);
            rate.charge(&"a");
        }
    }

    #[test]
    fn one_comes_back_after_each_interval() {
        let rate = Rate::a_minute(6_000);
        while rate.charge(&()).unwrap().admit().is_ok() {}
        sleep(Duration::from_millis(35));
        assert!((3..=6_000).contains(&rate.peek(&()).unwrap().remaining));
        assert!(rate.charge(&()).unwrap().admit().is_ok());
    }

    #[test]
    fn zero_is_no_limit() {
        let rate = Rate::a_minute(0);
        assert!((0..10_000).all(|_| rate.charge(&()).is_none() && rate.peek(&()).is_none()));
    }

    #[test]
    fn the_tighter_is_the_one_that_refuses_or_else_the_one_with_less_left() {
        let of = |remaining, wait: Option<u64>| Allowance {
            limit: 100,
            remaining,
            full_in: Duration::ZERO,
            retry_after: wait.map(Duration::from_secs),
        };
        assert_eq!(of(5, None).tighter(of(4, None)).remaining, 4);
        assert_eq!(of(4, None).tighter(of(5, None)).remaining, 4);
        assert!(of(0, None).tighter(of(0, Some(1))).admit().is_err());
        assert!(of(0, Some(1)).tighter(of(0, None)).admit().is_err());
    }

    #[test]
    fn whoever_has_rested_is_forgotten() {
        let (quick, slow) = (Rate::a_minute(60_000), Rate::a_minute(1));
        for key in 0..1_000 {
            quick.charge(&key);
            slow.charge(&key);
        }
        sleep(Duration::from_millis(20));
        quick.forget();
        slow.forget();
        assert_eq!((quick.remembered(), slow.remembered()), (0, 1_000));
    }
}
