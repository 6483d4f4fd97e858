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
