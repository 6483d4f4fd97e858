//! Whether the database can be used, asked once for all probes.
//!
//! `/readyz` is public, so the number of statements must not grow with the number of probes: one check runs at a
//! time, on a connection of its own, and its result is shared for `SHARED`.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::error::Problem;
use crate::{
    db::{Budget, Db, schema::Mismatch},
    domain::{Error, Result},
};

/// For how long a result is answered again. A load balancer notices an outage at most this much later.
const SHARED: Duration = Duration::from_secs(1);

/// Shares one check of the database among all callers.
pub struct Readiness {
    db: Db,
    latest: Mutex<watch::Receiver<Option<Checked>>>,
}

/// Result of one check.
struct Checked {
    at: Instant,
    result: Result<Result<(), Mismatch>>,
}

impl Readiness {
    /// No check runs before the first caller.
    pub fn new(db: Db) -> Self {
        // Its sender is gone, so it counts as a check that ended without a result.
        let (_, none) = watch::channel(None);
        Self { db, latest: Mutex::new(none) }
    }

    /// Answers with the latest result, or waits for the check that runs.
    ///
    /// # Errors
    /// The database is away, or its schema is not one that this program serves.
    pub async fn check(&self) -> Result<(), Problem> {
        let mut latest = self.latest();
        match latest.wait_for(Option::is_some).await {
            Ok(checked) => verdict(checked.as_ref()),
            Err(_) => verdict(None),
        }
    }

    /// The running check, or the latest if it is recent; otherwise a new one. It runs on a task of its own: a
    /// caller that hangs up must not end it for the others. The budget of a request bounds it.
    fn latest(&self) -> watch::Receiver<Option<Checked>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_current(&latest) {
            let (sender, receiver) = watch::channel(None);
            let db = self.db.clone();
            tokio::spawn(async move {
                let result = db.check_schema(&Budget::default()).await;
                sender.send_replace(Some(Checked { at: Instant::now(), result }));
            });
            *latest = receiver;
        }
        latest.clone()
    }
}

fn is_current(latest: &watch::Receiver<Option<Checked>>) -> bool {
    match &*latest.borrow() {
        Some(checked) => checked.at.elapsed() < SHARED,
        // Without a result, and with the sender gone, the check panicked.
        None => latest.has_changed().is_ok(),
    }
}

fn verdict(checked: Option<&Checked>) -> Result<(), Problem> {
    let Some(checked) = checked else {
        return Err(Error::Internal("the readiness check panicked".into()).into());
    };
    match &checked.result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(mismatch)) => Err(Problem::unavailable(mismatch.to_string())),
        // The cause belongs to one error; each caller's is a copy of its text.
        Err(Error::Unavailable(cause)) => Err(Error::Unavailable(cause.to_string().into()).into()),
        Err(error) => Err(Error::Internal(error.to_string().into()).into()),
    }
}
