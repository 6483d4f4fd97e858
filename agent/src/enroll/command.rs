//! The command `enroll`. It may be given any number of times: a host that is enrolled stays as it is.

use planasonix_wire::{heartbeat::Heartbeat, terminal};
use tokio::time::{Instant, sleep_until};

use super::{Redeemed, adopt, redeem, warn_of_another};
use crate::{
    client::{Client, Outcome, Refusal, Retry},
    config::Config,
    entropy,
    host::Host,
    identity::{IdentityError, Store},
    output,
    privileges::{self, Refused},
    run::pace::{self, Span},
    secret::Token,
    timing::Timing,
};

/// Why the host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// A setting, or the token, is not one.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Root's rights cannot be given up.
    #[error(transparent)]
    Privileges(#[from] Refused),
    /// The identity cannot be read or kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nothing to enroll with.
    #[error(
        "no enrollment token: set PLANASONIX_ENROLLMENT_TOKEN, or give --token-file; an operator gets one with POST /api/agents, or for an agent that exists with POST /api/agents/{{id}}/enrollment-token or /api/agents/enable/{{id}}"
    )]
    NoToken,
    /// The control plane refused what the host has, and no other was given.
    #[error("{0}; give a fresh enrollment token")]
    Refused(Refusal),
    /// It went on too long.
    #[error(
        "the control plane gave no usable answer: {0}; the same command with the same token goes on where this one ended"
    )]
    Unanswered(String),
}

enum Step {
    Done(String),
    Again(Retry),
}

/// Enrolls the host, unless it is enrolled; says which.
pub async fn run(config: &Config) -> Result<(), EnrollError> {
    let timing = Timing::default();
    let token = config.tokens.clone().settled()?.read()?;
    let enrolling = Enrolling {
        client: Client::new(config, &timing)?,
        store: Store::new(&config.state_dir),
        host: Host::new(&config.data_dir),
        token,
        config,
    };
    if enrolling.token.as_ref().is_some_and(Token::is_enrollment) {
        enrolling.host.probe().await;
    }
    // The token may be in a file of root's, and a program that answers the probe as the service's user could be taken
    // over by another process of that user, which could then type into root's terminal.
    privileges::become_owner_of(&config.state_dir)?;
    let said = enrolling.persist(&timing).await?;
    output::line(&said);
    Ok(())
}

struct Enrolling<'a> {
    client: Client,
    store: Store,
    host: Host,
    token: Option<Token>,
    config: &'a Config,
}

impl Enrolling<'_> {
    /// Tries until it is told yes or no, or the time is up.
    async fn persist(&self, timing: &Timing) -> Result<String, EnrollError> {
        let deadline = Instant::now() + timing.enroll;
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let retry = match self.once().await? {
                Step::Done(said) => return Ok(said),
                Step::Again(retry) => retry,
            };
            failures += 1;
            let span = Span { started, ended: Instant::now() };
            // Somebody watches: begin with short pauses, whatever the interval will be.
            let backoff = pace::backoff(failures, timing.least_backoff, timing, entropy::fraction());
            let next = pace::retry_at(span, backoff, retry.after, timing, entropy::fraction());
            if next >= deadline {
                return Err(EnrollError::Unanswered(retry.why));
            }
            tracing::warn!(why = retry.why, "no usable answer; trying again");
            sleep_until(next).await;
        }
    }

    async fn once(&self) -> Result<Step, EnrollError> {
        let mut refusal = None;
        let identity = self.store.load()?;
        let known = identity.iter().flat_map(|known| [known.bearer(), known.credential.as_ref()]);
        let mut tried: Vec<&Token> = Vec::new();
        for credential in known.flatten() {
            if tried.contains(&credential) {
                continue;
            }
            tried.push(credential);
            match self.try_credential(credential).await? {
                Ok(step) => return Ok(step),
                Err(refused) => refusal = Some(refused),
            }
        }
        match (&self.token, refusal) {
            (Some(token), _) if !tried.contains(&token) => self.try_token(token).await,
            (_, Some(refused)) => Err(EnrollError::Refused(refused)),
            (_, None) => Err(EnrollError::NoToken),
        }
    }

    /// An empty beat tells whether a credential is good. The refusal stands in the inner error.
    async fn try_credential(&self, credential: &Token) -> Result<Result<Step, Refusal>, EnrollError> {
        let answer = self.client.heartbeat(credential, &Heartbeat::default()).await;
        Ok(match answer.outcome {
            Outcome::Accepted(_) => {
                self.store.update(|identity| identity.accepted(credential))?;
                Ok(Step::Done(self.goes_on(credential)))
            }
            // A beat of the running agent came a moment before.
            Outcome::Retry(retry) if retry.is_too_soon() => Ok(Step::Done(self.goes_on(credential))),
            Outcome::Retry(retry) => Ok(Step::Again(retry)),
            Outcome::Refused(refusal) => {
                self.store.update(|identity| identity.refused(credential))?;
                Err(refusal)
            }
        })
    }

    /// What is said of a credential that is good.
    fn goes_on(&self, credential: &Token) -> String {
        let agent = credential.agent();
        warn_of_another(self.config.agent_id, agent);
        let mine = self.token.as_ref() == Some(credential);
        if let Some(token) = self.token.as_ref().filter(|token| token.agent() != agent) {
            let meant = token.agent();
            tracing::warn!(%agent, %meant, "the token was made for another agent and is left unused");
        }
        let said = if mine { "goes on as" } else { "already enrolled as" };
        format!("{said} {agent}")
    }

    async fn try_token(&self, token: &Token) -> Result<Step, EnrollError> {
        if !token.is_enrollment() {
            adopt(&self.store, token)?;
            return self.try_credential(token).await?.map_err(EnrollError::Refused);
        }
        match redeem(&self.client, &self.store, &self.host, token).await {
            Redeemed::Enrolled { agent, label, .. } => {
                warn_of_another(self.config.agent_id, agent);
                Ok(Step::Done(format!("enrolled as {agent} ({})", terminal::value(&label))))
            }
            Redeemed::Refused(refusal) => Err(EnrollError::Refused(refusal)),
            Redeemed::Unwritable(error) => Err(EnrollError::Identity(error)),
            Redeemed::Retry(retry) => Ok(Step::Again(retry)),
        }
    }
}
