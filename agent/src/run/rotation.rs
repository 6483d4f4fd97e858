//! Renewing the credential: when a new one is asked for, and that it can be kept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{cycle::Cycle, pace};
use crate::{
    client::Outcome,
    identity::{IdentityError, Next},
    secret::Token,
};

/// When a rotation may begin.
#[derive(Debug, Default)]
pub(super) struct Rotations {
    /// Requests to rotate are ignored before.
    not_before: Option<Instant>,
    /// Trials in a row that the disk did not take.
    refusals: u32,
    /// Why the last one failed.
    complaint: Option<String>,
}

impl Rotations {
    pub(super) fn may_begin(&self) -> bool {
        self.not_before.is_none_or(|time| time <= Instant::now())
    }

    /// What the heartbeats say of a disk that keeps the credential from being renewed.
    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.clone()
    }

    fn pause(&mut self, pause: Duration) {
        let time = Instant::now() + pause;
        self.not_before = Some(self.not_before.map_or(time, |before| before.max(time)));
    }
}

impl Cycle {
    /// Asks for a new credential, which the next beat uses. If that fails on the way, the next beat's answer asks for
    /// it again; if the disk does not take it, none is asked for until later. `server_now` is the control plane's
    /// clock, which its expiry times refer to.
    pub(super) async fn rotate(&mut self, current: &Token, server_now: DateTime<Utc>) {
        self.agent.notifier.progress();
        if let Err(error) = self.agent.store.prove_writable() {
            return self.disk_refused(&error);
        }
        let rotated = match self.agent.client.rotate(current).await.outcome {
            Outcome::Accepted(rotated) => rotated,
            Outcome::Refused(refusal) => return tracing::warn!(%refusal, "no new credential"),
            Outcome::Retry(retry) => return tracing::warn!(why = retry.why, "no new credential yet"),
        };
        let credential = Token::parse(&rotated.credential).ok().filter(|new| new.replaces(current));
        let Some(credential) = credential else {
            return tracing::warn!("no new credential: the answer held none of this agent");
        };
        let life = DateTime::<Utc>::from(rotated.credential_expires_at) - server_now;
        self.rotations.pause(pace::rotation(life.num_seconds(), &self.agent.timing));
        let next = Next { credential, credential_expires_at: Some(rotated.credential_expires_at) };
        let stored = self.agent.store.update(|identity| {
            // An operator may have enrolled the host anew meanwhile.
            if identity.credential.as_ref() == Some(current) {
                identity.next = Some(next);
            }
        });
        match stored {
            Ok(_) => {
                (self.rotations.refusals, self.rotations.complaint) = (0, None);
                self.reload();
            }
            // It is not used before it is on the disk; the old one stays good.
            Err(error) => self.disk_refused(&error),
        }
    }

    fn disk_refused(&mut self, error: &IdentityError) {
        let rotations = &mut self.rotations;
        rotations.refusals = rotations.refusals.saturating_add(1);
        let pause = pace::disk_retry(rotations.refusals, &self.agent.timing);
        rotations.pause(pause);
        rotations.complaint = Some(format!("the agent's credential cannot be renewed: {error}"));
        tracing::error!(%error, ?pause, "state folder cannot be written; no new credential is asked for meanwhile");
    }
}
