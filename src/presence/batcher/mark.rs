//! The flusher's marks that heartbeats are being stored.

use std::time::Duration;

use tokio::time::Instant;

use super::{Flusher, MARK_INTERVAL};
use crate::{
    db::fleet,
    presence::{connection::Failure, storing::FlushResult},
};

/// Time until an empty flush that failed is tried again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

impl Flusher {
    /// Marks that heartbeats are being stored, if they are. While none come, an empty flush proves it. A replica that
    /// turns away more than it stores says nothing.
    pub(super) async fn mark(&mut self, idle: bool) {
        if idle && !self.storing.is_failing(Instant::now()) && !self.probe().await {
            return;
        }
        let now = Instant::now();
        let Some(storing_for) = self.storing.duration(now) else { return };
        if self.shared.queue().take_overload() {
            self.storing.interrupt();
            self.next_mark = now + MARK_INTERVAL;
            return;
        }
        self.next_mark = now + MARK_INTERVAL;
        let (expected_at, window) = (self.storing.expected_at(now), self.rules.window);
        let marked = self
            .connection
            .run("record_control_plane_alive", async |connection| {
                fleet::record_control_plane_alive(connection, storing_for, expected_at, window).await
            })
            .await;
        match marked {
            Ok((at, _)) => self.storing.set_clock(Instant::now(), at),
            // Heartbeats are stored all the same; the next mark says so.
            Err(Failure { error, .. }) => tracing::warn!(%error, "failed to mark that heartbeats are stored"),
        }
    }

    /// Runs a flush without heartbeats; returns whether it succeeded.
    async fn probe(&mut self) -> bool {
        let (started, rules) = (Instant::now(), self.rules);
        let probed = self
            .connection
            .run("store_beats", async |connection| fleet::store_beats(connection, &[], rules).await)
            .await;
        match probed {
            Ok(_) => {
                self.note_success();
                self.record(FlushResult::Empty, started);
                true
            }
            Err(failure) => {
                self.note_failure(&failure);
                self.storing.interrupt();
                self.next_mark = Instant::now() + PROBE_INTERVAL;
                false
            }
        }
    }

    pub(super) fn record(&mut self, result: FlushResult, started: Instant) {
        let began = self.storing.record(result, started);
        if began {
            // What was turned away before was turned away for the outage's sake.
            let _ = self.shared.queue().take_overload();
        }
    }
}
