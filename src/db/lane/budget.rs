//! The time that one request may wait on the database.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::timeout;

use crate::domain::{Error, Result};

/// How long one request may still wait on the database, over all its statements.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Mutex<Duration>>);

impl Budget {
    /// A request's budget.
    pub const REQUEST: Duration = Duration::from_secs(2);

    /// A fresh budget.
    pub fn new(whole: Duration) -> Self {
        Self(Arc::new(Mutex::new(whole)))
    }

    /// Waits for something else than the database, within the same budget.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the budget ran out.
    pub async fn bound<T>(&self, what: &'static str, wait: impl Future<Output = T>) -> Result<T> {
        let started = Instant::now();
        let waited = timeout(self.left(), wait).await;
        self.spend(started.elapsed());
        waited.map_err(|_| Error::Unavailable(OutOfTime(what).into()))
    }

    pub(super) fn left(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spend(&self, spent: Duration) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(spent);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::REQUEST)
    }
}

/// A wait on the database that took longer than the request may wait.
#[derive(Debug, thiserror::Error)]
#[error("{0} did not end within the time that a request may wait")]
pub(super) struct OutOfTime(pub(super) &'static str);
