//! Whether the peer takes what it asked for.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Timeouts, timer::Timer};

/// Why a peer is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSlow {
    /// It took nothing for too long.
    Stalled,
    /// It took less than [`Timeouts::write_rate`] on average.
    BelowRate,
}

/// Watches a connection's writes. Only time in which the system takes no more bytes counts: a stream that waits
/// for the database is not the peer's fault.
#[derive(Default)]
pub(super) struct Writes {
    blocked: Option<Blocked>,
    /// Time blocked within the current window, and bytes taken since it began.
    window: (Duration, u64),
    below_rate: bool,
}

struct Blocked {
    since: Instant,
    limit: Duration,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Writes {
    /// The system took bytes.
    pub(super) fn note_progress(&mut self, bytes: usize, timeouts: &Timeouts) {
        if let Some(blocked) = self.blocked.take() {
            self.window.0 += blocked.since.elapsed();
            if self.window.0 >= timeouts.write_window {
                self.below_rate |= self.window.1 < least(timeouts);
                self.window = Default::default();
            }
        }
        self.window.1 = self.window.1.saturating_add(bytes as u64);
    }

    /// The system takes no more bytes. Ready when the peer had its time. While all of `slots` are taken, that is
    /// [`Timeouts::write_stall_pressed`].
    pub(super) fn poll_blocked(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        timeouts: &Timeouts,
        slots: &Arc<Semaphore>,
    ) -> Poll<TooSlow> {
        if self.below_rate {
            return Poll::Ready(TooSlow::BelowRate);
        }
        let blocked = self.blocked.get_or_insert_with(|| {
            let slot = Arc::clone(slots).try_acquire_owned().ok();
            let limit = if slot.is_some() { timeouts.write_stall } else { timeouts.write_stall_pressed };
            Blocked { since: Instant::now(), limit, _slot: slot }
        });
        let stalled = blocked.since + blocked.limit;
        let judged = blocked.since + timeouts.write_window.saturating_sub(self.window.0);
        let is_below_rate = self.window.1 < least(timeouts);
        let (deadline, verdict) = if is_below_rate && judged < stalled {
            (judged, TooSlow::BelowRate)
        } else {
            (stalled, TooSlow::Stalled)
        };
        timer.poll(cx, deadline).map(|()| verdict)
    }
}

/// The bytes that a peer must take within a window.
fn least(timeouts: &Timeouts) -> u64 {
    let window = u64::try_from(timeouts.write_window.as_millis()).unwrap_or(u64::MAX);
    timeouts.write_rate.saturating_mul(window) / 1000
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    async fn cut_after(writes: &mut Writes, timeouts: &Timeouts, slots: usize) -> (TooSlow, Duration) {
        let (began, slots) = (Instant::now(), Arc::new(Semaphore::new(slots)));
        let mut timer = Timer::new(began + Duration::from_secs(10));
        let verdict = poll_fn(|cx| writes.poll_blocked(cx, &mut timer, timeouts, &slots)).await;
        (verdict, began.elapsed())
    }

    #[tokio::test]
    async fn blocked_write_without_a_slot_has_less_time() {
        let timeouts =
            Timeouts { write_stall: 400 * MS, write_stall_pressed: 50 * MS, ..Timeouts::default() };
        for (slots, least, most) in [(1, 400 * MS, 5_000 * MS), (0, 50 * MS, 350 * MS)] {
            let (verdict, elapsed) = cut_after(&mut Writes::default(), &timeouts, slots).await;
            assert_eq!(verdict, TooSlow::Stalled);
            assert!((least..most).contains(&elapsed), "{elapsed:?}");
        }
    }

    #[tokio::test]
    async fn rate_is_judged_over_blocked_time_alone() {
        let timeouts = Timeouts { write_window: 200 * MS, write_rate: 100_000, ..Timeouts::default() };
        let mut writes = Writes::default();
        writes.note_progress(1_000, &timeouts);
        tokio::time::sleep(300 * MS).await;
        let (verdict, elapsed) = cut_after(&mut writes, &timeouts, 1).await;
        assert_eq!(verdict, TooSlow::BelowRate);
        assert!(elapsed >= 200 * MS, "time in which nothing was to be written does not count: {elapsed:?}");
    }
}
