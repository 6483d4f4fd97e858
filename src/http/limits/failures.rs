//! The limit on failed authentication, by client address.
//!
//! A credential that was never verified here is charged to its address before it is looked up, and the charge is taken
//! back unless it proves wrong: failures and look-ups under way together never exceed the allowance, so a caller who
//! hangs up pays too. Many clients may stand behind one address, so while only look-ups under way stand in the way,
//! the next one waits for them instead of being refused.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{network, rate::Rate};
use crate::{db::Budget, domain::Result};

/// Failed authentications of each address, of IPv6 of each /64, and look-ups under way.
pub(super) struct Failures {
    rate: Rate<IpAddr>,
    /// Addresses without look-ups are not listed.
    under_way: Mutex<HashMap<IpAddr, UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    trials: u32,
    ended: Arc<Notify>,
}

/// A look-up under way. It counts as a failure unless it is refunded.
#[must_use]
pub(super) struct Trial<'f> {
    failures: &'f Failures,
    address: IpAddr,
    failed: bool,
}

impl Failures {
    pub(super) fn a_minute(failures: u32) -> Self {
        Self { rate: Rate::a_minute(failures), under_way: Mutex::default() }
    }

    /// Charges a failure that needed no look-up.
    ///
    /// # Errors
    /// `RateLimited` when the address had none left.
    pub(super) fn charge(&self, address: IpAddr) -> Result<()> {
        self.rate.charge(&network(address)).map_or(Ok(()), |allowance| allowance.admit())
    }

    /// Charges a look-up in advance; waits, within the budget, while others under way use the allowance up.
    ///
    /// # Errors
    /// `RateLimited` when the address has used its failures up; `Unavailable` when the budget has
    /// run out.
    pub(super) async fn begin(&self, address: IpAddr, budget: &Budget) -> Result<Trial<'_>> {
        let address = network(address);
        budget
            .bound("the look-ups of other credentials from the same address", async {
                loop {
                    let ended = match self.try_begin(address)? {
                        Ok(trial) => return Ok(trial),
                        Err(ended) => ended.notified_owned(),
                    };
                    ended.await;
                }
            })
            .await?
    }

    /// Begins a look-up, or gives what is notified when one has ended.
    fn try_begin(&self, address: IpAddr) -> Result<Result<Trial<'_>, Arc<Notify>>> {
        let mut under_way = self.under_way();
        let allowance = self.rate.peek(&address);
        let allowed = allowance.map_or(u32::MAX, |allowance| allowance.remaining);
        if let Some(Err(error)) = allowance.map(|allowance| allowance.admit()) {
            if let Some(here) = under_way.get(&address) {
                here.ended.notify_one();
            }
            return Err(error);
        }
        let here = under_way.entry(address).or_default();
        if here.trials >= allowed {
            return Ok(Err(Arc::clone(&here.ended)));
        }
        here.trials += 1;
        if here.trials < allowed {
            here.ended.notify_one();
        }
        Ok(Ok(Trial { failures: self, address, failed: true }))
    }

    pub(super) fn forget(&self) {
        self.rate.forget();
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<IpAddr, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial<'_> {
    /// Takes the charge back: the credential did not prove wrong.
    pub(super) fn refund(mut self) {
        self.failed = false;
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let mut under_way = self.failures.under_way();
        if self.failed {
            self.failures.rate.charge(&self.address);
        }
        if let Some(here) = under_way.get_mut(&self.address) {
            here.trials -= 1;
            // One at a time: whoever is woken wakes the next one, so that a flood of waiters costs one turn each.
            here.ended.notify_one();
            if here.trials == 0 {
                here.ended.notify_waiters();
                under_way.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;
    use crate::domain::Error;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn is_limited<T>(result: &Result<T>) -> bool {
        matches!(result, Err(Error::RateLimited { .. }))
    }

    async fn begin(failures: &Failures) -> Result<Trial<'_>> {
        failures.begin(ADDRESS, &Budget::default()).await
    }

    #[tokio::test]
    async fn trial_that_is_dropped_is_a_failure_and_a_refunded_one_is_none() {
        let failures = Failures::a_minute(2);
        for _ in 0..10 {
            begin(&failures).await.unwrap().refund();
        }
        drop(begin(&failures).await.unwrap());
        drop(begin(&failures).await.unwrap());
        assert!(is_limited(&begin(&failures).await));
        assert!(is_limited(&failures.charge(ADDRESS)));
        assert!(failures.under_way().is_empty());
    }

    #[tokio::test]
    async fn good_credentials_behind_one_address_wait_for_each_other() {
        let failures = Arc::new(Failures::a_minute(2));
        let mut trials = JoinSet::new();
        for _ in 0..50 {
            let failures = Arc::clone(&failures);
            trials.spawn(async move {
                let trial = failures.begin(ADDRESS, &Budget::default()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
                trial.refund();
            });
        }
        assert_eq!(trials.join_all().await.len(), 50);
        assert!(failures.under_way().is_empty());
    }

    #[tokio::test]
    async fn waiting_trial_is_refused_once_those_before_it_failed() {
        let failures = Failures::a_minute(1);
        let first = begin(&failures).await.unwrap();
        let (second, ()) = tokio::join!(begin(&failures), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert!(is_limited(&second));
    }

    #[tokio::test]
    async fn waiting_trial_gives_up_with_its_budget() {
        let failures = Failures::a_minute(1);
        let _first = begin(&failures).await.unwrap();
        let late = failures.begin(ADDRESS, &Budget::new(Duration::from_millis(10))).await;
        assert!(matches!(late, Err(Error::Unavailable(_))));
    }
}
