//! What the loop remembers from one attempt to the next, and how it waits.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Agent,
    pace::{self, Span},
    rotation::Rotations,
    skew::SkewWatch,
    standing::Standing,
};
use crate::{
    client::{Outcome, Retry},
    clock,
    enroll::warn_of_another,
    entropy,
    identity::{Identity, Stamp},
    runtimes::AgentFile,
    secret::Token,
};

/// The state of the loop.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) agent: Agent,
    pub(super) identity: Option<Identity>,
    /// State of the file that `identity` was read from; none forces another look.
    stamp: Stamp,
    pub(super) standing: Standing,
    pub(super) accepts_work: bool,
    /// Attempts in a row that got no usable answer.
    failures: u32,
    pub(super) interval: Duration,
    /// Whether the interval last asked for was not obeyed, which is logged once.
    odd_interval: bool,
    /// When the last heartbeat was accepted.
    accepted_at: Option<Instant>,
    pub(super) rotations: Rotations,
    /// Drawn at random for this loop, so that a second process with the same identity is told from it.
    pub(super) run_id: String,
    pub(super) skew: SkewWatch,
    /// Digest of the token that there was at the last attempt.
    pub(super) tried_token: Option<String>,
    /// Complaint about the token, which is made once.
    bad_token: Option<String>,
    /// When the runtimes were last told.
    published: Instant,
}

impl Cycle {
    pub(super) fn new(agent: Agent) -> Self {
        let interval = agent.timing.interval;
        let mut cycle = Self {
            agent,
            identity: None,
            stamp: None,
            standing: Standing::Starting,
            accepts_work: false,
            failures: 0,
            interval,
            odd_interval: false,
            accepted_at: None,
            rotations: Rotations::default(),
            run_id: entropy::nonce(),
            skew: SkewWatch::default(),
            tried_token: None,
            bad_token: None,
            published: Instant::now(),
        };
        cycle.reload();
        if let Some(agent_id) = cycle.identity.as_ref().and_then(|identity| identity.agent_id) {
            warn_of_another(cycle.agent.expected, agent_id);
        }
        cycle.publish();
        cycle
    }

    /// The credential to use now.
    pub(super) fn bearer(&self) -> Option<Token> {
        self.identity.as_ref()?.bearer().cloned()
    }

    /// The token that was given and not tried in vain.
    pub(super) fn unspent_token(&mut self) -> Option<Token> {
        let token = match self.agent.tokens.read() {
            Ok(token) => token?,
            Err(error) => {
                let complaint = error.to_string();
                if self.bad_token.as_ref() != Some(&complaint) {
                    tracing::error!("{complaint}");
                    self.bad_token = Some(complaint);
                }
                return None;
            }
        };
        let identity = self.identity.as_ref();
        let spent = identity.and_then(|identity| identity.spent_token.clone());
        (spent != Some(token.digest()) && self.bearer().as_ref() != Some(&token)).then_some(token)
    }

    /// Changes the identity on the disk and in memory. If the disk refuses, memory has to do: both
    /// credentials are on the disk as long as it is open which of them will be good.
    pub(super) fn change(&mut self, change: impl Fn(&mut Identity)) {
        match self.agent.store.update(&change) {
            Ok(identity) => (self.identity, self.stamp) = (Some(identity), None),
            // The file is as it was, and must not be taken for news.
            Err(error) => {
                tracing::error!(%error, "the identity cannot be kept");
                self.identity.as_mut().into_iter().for_each(change);
            }
        }
    }

    /// Reads the identity again. What cannot be read leaves what is known.
    pub(super) fn reload(&mut self) {
        self.stamp = self.agent.store.stamp();
        match self.agent.store.load() {
            Ok(identity) => self.identity = identity,
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Waits until then, or until there is something new to try: another credential, another token. Meanwhile
    /// the runtimes are told again and again: who falls silent is taken for dead. Whatever `until` says, the wait is
    /// no longer than [`Timing::longest_wait`](crate::timing::Timing::longest_wait).
    pub(super) async fn rest(&mut self, until: Instant) {
        let until = until.min(Instant::now() + self.agent.timing.longest_wait());
        loop {
            self.agent.notifier.progress();
            let look = Instant::now() + self.agent.notifier.step(self.agent.timing.watch);
            sleep_until(until.min(look)).await;
            if until <= look || self.credential_changed() || self.token_appeared() {
                return;
            }
            if self.published.elapsed() >= self.agent.timing.republish {
                self.publish();
            }
        }
    }

    fn credential_changed(&mut self) -> bool {
        if self.agent.store.stamp() == self.stamp {
            return false;
        }
        let before = self.bearer();
        self.reload();
        if self.bearer() == before {
            return false;
        }
        tracing::info!("the identity was changed on this host");
        (self.failures, self.standing) = (0, Standing::Starting);
        true
    }

    fn token_appeared(&mut self) -> bool {
        self.standing.wants_token()
            && self.unspent_token().is_some_and(|token| self.tried_token != Some(token.digest()))
    }

    /// Takes the interval that the control plane asks for, as far as it is one.
    pub(super) fn take_interval(&mut self, asked: u32) {
        let timing = &self.agent.timing;
        let obeyed = pace::interval(asked, timing);
        self.interval = obeyed.unwrap_or(self.interval);
        let odd = obeyed != Some(timing.second * asked);
        if odd && !self.odd_interval {
            let interval = self.interval;
            tracing::warn!(asked, ?interval, "heartbeat interval out of range; not obeyed");
        }
        self.odd_interval = odd;
    }

    /// A heartbeat that was sent at `sent` was accepted.
    pub(super) fn heard(&mut self, sent: Instant) {
        self.answered();
        self.accepted_at = Some(sent);
    }

    /// Whether any heartbeat of this loop was accepted.
    pub(super) const fn was_accepted(&self) -> bool {
        self.accepted_at.is_some()
    }

    /// How long the last accepted heartbeat still keeps this agent connected; none when it does not.
    fn kept_for(&self) -> Option<Duration> {
        let lasts = pace::connected_for(self.interval, &self.agent.timing);
        let left = lasts.saturating_sub(self.accepted_at?.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// The same, as far as nothing has been heard since that ends it.
    fn connected_for(&self) -> Option<Duration> {
        self.kept_for().filter(|_| self.standing == Standing::Active)
    }

    /// An attempt succeeded, or was refused: failures are counted afresh.
    pub(super) const fn answered(&mut self) {
        self.failures = 0;
    }

    /// An attempt got no usable answer: when to make the next one. One that keeps quiet does so on.
    pub(super) fn failed(&mut self, attempt: Span, retry: &Retry) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let timing = &self.agent.timing;
        let backoff = if self.standing.is_quiet() {
            pace::quiet(timing.quiet, entropy::fraction())
        } else {
            pace::backoff(self.failures, self.interval, timing, entropy::fraction())
        };
        let next = pace::retry_at(attempt, backoff, retry.after, timing, entropy::fraction());
        let wait = next.saturating_duration_since(Instant::now());
        tracing::warn!(why = retry.why, failures = self.failures, ?wait, "no usable answer; trying again");
        next
    }

    /// The beat came too soon after another one, an operator's `enroll` perhaps. The control plane says so
    /// only of a credential that is good, so nothing has failed: when to make the next one.
    pub(super) fn too_soon(&mut self, attempt: Span, retry: &Retry) -> Instant {
        if self.kept_for().is_some() {
            tracing::debug!(why = retry.why, "a beat too soon after another");
        } else {
            // Unless it ends soon, the control plane believes that this agent has just sent one.
            if self.standing != Standing::Throttled {
                tracing::warn!(
                    why = retry.why,
                    "heartbeat refused as too frequent (429) while none keeps this agent connected; trying again"
                );
            }
            self.stand(Standing::Throttled);
        }
        let timing = &self.agent.timing;
        pace::retry_at(attempt, timing.least_backoff, retry.after, timing, entropy::fraction())
    }

    /// When an agent that was refused asks again.
    pub(super) fn quietly(&self) -> Instant {
        Instant::now() + pace::quiet(self.agent.timing.quiet, entropy::fraction())
    }

    /// Takes a standing, and tells the runtimes and systemd.
    pub(super) fn stand(&mut self, standing: Standing) {
        self.standing = standing;
        if !matches!(standing, Standing::Active | Standing::Unreachable | Standing::Throttled) {
            self.accepts_work = false;
        }
        self.publish();
    }

    fn publish(&mut self) {
        let (now, connected_for) = (clock::now(), self.connected_for());
        let told = AgentFile {
            agent_id: self.identity.as_ref().and_then(|identity| identity.agent_id),
            status: self.standing.as_str().to_owned(),
            accepts_work: self.accepts_work,
            connected: connected_for.is_some(),
            connected_until: connected_for.map(|left| (now + left).into()),
            updated_at: now.into(),
        };
        self.published = Instant::now();
        self.agent.runtimes.publish(&told);
        self.agent.notifier.status(self.standing.as_str());
    }

    /// Tells the runtimes, and within `limit` the control plane, that the agent goes.
    pub(super) async fn leave(&mut self, limit: Duration) {
        let was = self.standing;
        self.stand(Standing::Down);
        let Some(credential) = self.bearer().filter(|_| !was.is_quiet()) else { return };
        let farewell = timeout(limit, self.agent.client.disconnect(&credential)).await;
        match farewell.map(|answer| answer.outcome) {
            Ok(Outcome::Accepted(())) => tracing::info!("disconnected"),
            Ok(Outcome::Refused(refusal)) => tracing::info!(%refusal, "gone without a farewell"),
            Ok(Outcome::Retry(retry)) => tracing::info!(why = retry.why, "gone without a farewell"),
            Err(_) => tracing::info!(why = "no answer in time", "gone without a farewell"),
        }
    }
}
