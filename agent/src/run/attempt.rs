//! One attempt: a beat, with whatever its answer asks for, or an enrollment.

use chrono::{DateTime, TimeDelta, Utc};
use planasonix_wire::{heartbeat::HeartbeatAck, json::Patch};
use tokio::time::Instant;

use super::{
    cycle::Cycle,
    pace::{self, Span},
    standing::Standing,
};
use crate::{
    client::{Answer, Outcome, Refusal, Remedy, Retry},
    clock,
    enroll::{self, Redeemed, warn_of_another},
    entropy,
    secret::Token,
};

/// The control plane cuts its time to whole seconds; on average half of one is lost.
const CUT_OFF: TimeDelta = TimeDelta::milliseconds(500);

impl Cycle {
    /// Does what is to be done now, and answers when to do the next.
    pub(super) async fn attempt(&mut self) -> Instant {
        self.agent.notifier.progress();
        let bearer = self.bearer();
        if bearer.is_none() || self.standing == Standing::NeedsEnrollment {
            let token = self.unspent_token();
            self.tried_token = token.as_ref().map(Token::digest);
            if let Some(token) = token {
                return self.redeem(token).await;
            }
        }
        match bearer {
            Some(credential) => self.beat(credential).await,
            None => self.not_enrolled(),
        }
    }

    fn not_enrolled(&mut self) -> Instant {
        if self.standing != Standing::NotEnrolled {
            tracing::warn!(
                "this host is not enrolled: run `planasonix-agent enroll` with PLANASONIX_ENROLLMENT_TOKEN set; the agent waits"
            );
        }
        self.stand(Standing::NotEnrolled);
        self.quietly()
    }

    async fn redeem(&mut self, token: Token) -> Instant {
        let started = Instant::now();
        if !token.is_enrollment() {
            if let Err(error) = enroll::adopt(&self.agent.store, &token) {
                tracing::error!(%error, "the identity cannot be kept");
                return self.quietly();
            }
            self.reload();
            self.standing = Standing::Starting;
            return started;
        }
        let redeemed = enroll::redeem(&self.agent.client, &self.agent.store, &self.agent.host, &token).await;
        let attempt = Span { started, ended: Instant::now() };
        self.reload();
        match redeemed {
            Redeemed::Enrolled { agent, label, interval } => {
                tracing::info!(%agent, label, "enrolled");
                warn_of_another(self.agent.expected, agent);
                self.take_interval(interval);
                self.answered();
                self.stand(Standing::Starting);
                attempt.ended
            }
            Redeemed::Refused(refusal) => {
                tracing::error!(%refusal, "the enrollment token was refused");
                self.answered();
                self.after_refused_token(attempt)
            }
            Redeemed::Unwritable(error) => self.failed_to_enroll(attempt, &Retry::because(error.to_string())),
            Redeemed::Retry(retry) => self.failed_to_enroll(attempt, &retry),
        }
    }

    fn failed_to_enroll(&mut self, attempt: Span, retry: &Retry) -> Instant {
        // There is something to try, so this is no time to be quiet.
        self.stand(Standing::Unreachable);
        let next = self.failed(attempt, retry);
        self.standing =
            if self.bearer().is_some() { Standing::NeedsEnrollment } else { Standing::Unreachable };
        next
    }

    /// The token was no good; what there was before may still be.
    fn after_refused_token(&mut self, attempt: Span) -> Instant {
        if self.bearer().is_none() {
            return self.not_enrolled();
        }
        self.stand(Standing::NeedsEnrollment);
        attempt.ended + self.agent.timing.quiet / 2
    }

    async fn beat(&mut self, credential: Token) -> Instant {
        let seed = self.identity.as_ref().map(|identity| identity.seed.clone()).unwrap_or_default();
        let mut runtimes = self.agent.runtimes.totals(clock::file_time());
        runtimes.last_error = runtimes.last_error.or_else(|| self.rotations.complaint());
        let mut beat = self.agent.host.beat(&seed, runtimes, clock::now());
        beat.run_id = Patch::Set(self.run_id.clone());
        beat.run_continues = Patch::Set(self.was_accepted());
        let started = Instant::now();
        let answer = self.agent.client.heartbeat(&credential, &beat).await;
        let attempt = Span { started, ended: Instant::now() };
        self.measure(&answer);
        match answer.outcome {
            Outcome::Accepted(ack) => {
                self.accepted(&credential, &ack, started).await;
                let pause = pace::beat(self.interval, entropy::fraction());
                (started + pause).max(Instant::now())
            }
            Outcome::Refused(refusal) => self.refused(&credential, &refusal, attempt),
            Outcome::Retry(retry) if retry.is_too_soon() && !self.standing.is_quiet() => {
                self.too_soon(attempt, &retry)
            }
            Outcome::Retry(retry) => {
                if !self.standing.is_quiet() {
                    self.stand(Standing::Unreachable);
                }
                self.failed(attempt, &retry)
            }
        }
    }

    async fn accepted(&mut self, credential: &Token, ack: &HeartbeatAck, sent: Instant) {
        self.heard(sent);
        if self.identity.as_ref().is_some_and(|identity| identity.next.is_some()) {
            self.change(|identity| identity.accepted(credential));
            tracing::info!("the new credential is in use");
        }
        self.take_interval(ack.heartbeat_interval_seconds);
        if self.standing != Standing::Active {
            tracing::info!(agent = %ack.agent_id, interval = ?self.interval, "connected");
        }
        if self.accepts_work != ack.accepts_work {
            self.accepts_work = ack.accepts_work;
            tracing::info!(accepts_work = ack.accepts_work, "new work");
        }
        self.stand(Standing::Active);
        if ack.rotate_credential && self.rotations.may_begin() {
            self.rotate(credential, ack.server_time.into()).await;
        }
    }

    fn refused(&mut self, credential: &Token, refusal: &Refusal, attempt: Span) -> Instant {
        self.answered();
        if self.identity.as_ref().is_some_and(|identity| identity.next.is_some()) {
            self.change(|identity| identity.refused(credential));
            if self.bearer().is_some() {
                tracing::warn!(%refusal, "the new credential was refused; the old one is used again");
                return attempt.ended + self.agent.timing.gap;
            }
        }
        let standing = match refusal.remedy {
            Remedy::Stop => Standing::Stopped,
            Remedy::ReEnroll if self.bearer().is_none() => Standing::NotEnrolled,
            Remedy::ReEnroll => Standing::NeedsEnrollment,
        };
        if self.standing != standing {
            tracing::error!(%refusal, "the control plane refused this agent; it takes no work and asks again seldom, at once after `planasonix-agent enroll`");
        }
        self.stand(standing);
        self.tried_token = None;
        if standing.wants_token() && self.unspent_token().is_some() {
            return attempt.ended + self.agent.timing.gap;
        }
        self.quietly()
    }

    fn measure(&mut self, answer: &Answer<HeartbeatAck>) {
        let ahead = match &answer.outcome {
            Outcome::Accepted(ack) => {
                Some(answer.midpoint - DateTime::<Utc>::from(ack.server_time) - CUT_OFF)
            }
            Outcome::Refused(_) | Outcome::Retry(_) => answer.skew,
        };
        if let Some(ahead) = ahead {
            self.skew.measure(ahead);
        }
    }
}
