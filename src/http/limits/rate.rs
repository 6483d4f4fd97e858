//! One limit: so many requests a minute from each key, as many of them at once (GCRA).

use std::{hash::Hash, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};

use crate::domain::{Error, Result};

type Gcra<K> = RateLimiter<K, DashMapStateStore<K>, MonotonicClock, StateInformationMiddleware>;

/// A limit on each key. Remembers only keys whose allowance is not full, once [`Rate::forget`] has been by.
pub struct Rate<K: Hash + Eq + Clone>(Option<Gcra<K>>);

/// What a key has left.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// How many requests it may make a minute, and at once.
    pub limit: u32,
    /// How many of them it may make now.
    pub remaining: u32,
    /// When it may make all of them.
    pub full_in: Duration,
    /// When it may make one, if this one was one too many.
    retry_after: Option<Duration>,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// So many requests a minute; 0 is no limit.
    pub fn a_minute(requests: u32) -> Self {
        let quota = NonZeroU32::new(requests).map(Quota::per_minute);
        Self(quota.map(|quota| RateLimiter::new(quota, DashMapStateStore::default(), MonotonicClock)))
    }

    /// Takes one request from the key's allowance, if there is one left; `None` where there is no limit.
    pub fn charge(&self, key: &K) -> Option<Allowance> {
        let gcra = self.0.as_ref()?;
        let (quota, remaining, retry_after) = match gcra.check_key(key) {
            Ok(state) => (state.quota(), state.remaining_burst_capacity(), None),
            Err(refused) => (refused.quota(), 0, Some(refused.wait_time_from(MonotonicClock.now()))),
        };
        let limit = quota.burst_size().get();
        let full_in = quota.replenish_interval() * limit.saturating_sub(remaining);
        Some(Allowance { limit, remaining, full_in, retry_after })
    }

    /// Forgets every key whose allowance is full again.
    pub fn forget(&self) {
        if let Some(gcra) = &self.0 {
            gcra.retain_recent();
            gcra.shrink_to_fit();
        }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.0.as_ref().map_or(0, RateLimiter::len)
    }
}

impl Allowance {
    /// Whether the request may go on.
    ///
    /// # Errors
    /// [`Error::RateLimited`], in whole seconds and at least one.
    pub fn admit(&self) -> Result<()> {
        match self.retry_after {
            None => Ok(()),
            Some(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Err(Error::RateLimited { retry_after: Duration::from_secs(seconds.max(1)) })
            }
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
        assert_eq!((refused.remaining, refused.full_in), (0, Duration::from_mins(1)));
        let Err(Error::RateLimited { retry_after }) = refused.admit() else { panic!("admitted") };
        assert!((1..=20).contains(&retry_after.as_secs()) && retry_after.subsec_nanos() == 0);
        let other = rate.charge(&"b").unwrap();
        assert_eq!((other.remaining, other.full_in), (2, Duration::from_secs(20)));
    }

    #[test]
    fn zero_is_no_limit() {
        let rate = Rate::a_minute(0);
        assert!((0..10_000).all(|_| rate.charge(&()).is_none()));
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
