//! Whether this replica stores heartbeats, and since when: what its marks say of the control plane.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// What one flush proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlushResult {
    /// Heartbeats were stored.
    Stored,
    /// There were heartbeats to store, and none was.
    Failed,
    /// Nothing was to be stored: it was empty, or every credential was refused. Proves that the statement runs, not
    /// that rows can be written.
    Empty,
}

/// The unbroken run of successful flushes, and the last flush that had something to store.
pub(super) struct Storing {
    window: Duration,
    since: Option<Instant>,
    last_failure: Option<Instant>,
    /// The database's time at the last mark.
    clock: Option<(Instant, DateTime<Utc>)>,
}

impl Storing {
    /// `window` is how long an agent counts as connected after a heartbeat.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, since: None, last_failure: None, clock: None }
    }

    /// A flush that began at `started` has ended. Returns whether a run begins with it.
    pub(super) fn record(&mut self, result: FlushResult, started: Instant) -> bool {
        match result {
            FlushResult::Failed => {
                self.last_failure = Some(started);
                self.since = None;
                return false;
            }
            FlushResult::Empty if self.is_failing(started) => return false,
            FlushResult::Stored => self.last_failure = None,
            FlushResult::Empty => {}
        }
        let begins = self.since.is_none();
        self.since.get_or_insert(started);
        begins
    }

    /// The run ends: an empty flush failed, or most heartbeats had to be turned away.
    pub(super) fn interrupt(&mut self) {
        self.since = None;
    }

    /// Whether the last flush that had something to store failed. An empty one proves nothing then, until no agent has
    /// tried for a whole window.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        self.last_failure.is_some_and(|at| now.duration_since(at) < self.window)
    }

    /// For how long flushes have succeeded without a break; `None` while they do not.
    pub(super) fn duration(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.duration_since(since))
    }

    /// The database's time was `at` when it was `now` here.
    pub(super) fn set_clock(&mut self, now: Instant, at: DateTime<Utc>) {
        self.clock = Some((now, at));
    }

    /// What the database's clock should show `now`, if both clocks have run alike since the last mark.
    pub(super) fn expected_at(&self, now: Instant) -> Option<DateTime<Utc>> {
        let (then, at) = self.clock?;
        Some(at + now.duration_since(then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(2);

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn run_begins_with_the_first_success_and_ends_with_a_failure() {
        let (mut storing, start) = (Storing::new(WINDOW), Instant::now());
        assert_eq!(storing.duration(start), None, "nothing is proved yet");
        storing.record(FlushResult::Empty, start);
        storing.record(FlushResult::Stored, start + second(3));
        assert_eq!(storing.duration(start + second(9)), Some(second(9)));
        storing.record(FlushResult::Failed, start + second(10));
        assert_eq!(storing.duration(start + second(10)), None);
        storing.record(FlushResult::Stored, start + second(20));
        assert_eq!(storing.duration(start + second(21)), Some(second(1)));
        storing.interrupt();
        assert_eq!(storing.duration(start + second(21)), None);
        storing.record(FlushResult::Empty, start + second(22));
        assert_eq!(storing.duration(start + second(22)), Some(Duration::ZERO));
    }

    #[test]
    fn empty_flush_after_a_failed_one_proves_nothing_for_a_window() {
        let (mut storing, start) = (Storing::new(WINDOW), Instant::now());
        storing.record(FlushResult::Stored, start);
        storing.record(FlushResult::Failed, start + second(1));
        storing.record(FlushResult::Empty, start + second(2));
        assert_eq!(storing.duration(start + second(2)), None);
        let later = start + second(1) + WINDOW;
        storing.record(FlushResult::Empty, later);
        assert_eq!(storing.duration(later), Some(Duration::ZERO), "no agent has tried since");
    }

    #[test]
    fn expected_time_runs_with_the_monotonic_clock() {
        let (mut storing, start) = (Storing::new(WINDOW), Instant::now());
        assert_eq!(storing.expected_at(start), None);
        let at = DateTime::from_timestamp(1_000_000_000, 0).unwrap();
        storing.set_clock(start, at);
        assert_eq!(storing.expected_at(start + second(7)), Some(at + second(7)));
    }
}
