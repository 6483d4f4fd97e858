//! Getting in: an enrollment token is traded for a credential, or a credential that a re-enable handed
//! out is taken over. The command `enroll` does it once, the loop whenever it has to.

mod command;

use planasonix_wire::{AgentId, enroll::Enrolled};

pub use self::command::{EnrollError, run};
use crate::{
    client::{Client, Outcome, Refusal, Retry},
    entropy,
    host::Host,
    identity::{Attempt, Identity, IdentityError, Next, Store},
    secret::Token,
};

/// What came of a token.
#[derive(Debug)]
pub enum Redeemed {
    /// The host is that agent now, and its credential is on the disk.
    Enrolled {
        /// The agent.
        agent: AgentId,
        /// Its name for people.
        label: String,
        /// Seconds between heartbeats.
        interval: u32,
    },
    /// The token is no good, and will not be tried again.
    Refused(Refusal),
    /// Nobody knows: the same again later, which is safe.
    Retry(Retry),
    /// The disk does not take a credential, so none was asked for, and the token is as good as before.
    Unwritable(IdentityError),
}

/// Trades an enrollment token for a credential. Before it asks, the key is on the disk by which the same
/// can be asked again, so a lost answer costs no token, whichever of the two sides dies meanwhile. It asks only if the
/// disk also takes the answer.
pub async fn redeem(client: &Client, store: &Store, host: &Host, token: &Token) -> Redeemed {
    let digest = token.digest();
    let begun = store.update(|identity| begin(identity, &digest));
    let (key, about) = match begun.and_then(|identity| store.prove_writable().map(|()| identity)) {
        Ok(identity) => (key_of(&identity), host.about(&identity.seed)),
        Err(error) => return Redeemed::Unwritable(error),
    };
    match client.enroll(token, &key, &about).await.outcome {
        Outcome::Accepted(enrolled) => settle(store, enrolled, &digest),
        Outcome::Retry(retry) => Redeemed::Retry(retry),
        Outcome::Refused(refusal) => {
            if let Err(error) = store.update(|identity| spend(identity, &digest)) {
                tracing::warn!(%error, "that the token was refused could not be kept");
            }
            Redeemed::Refused(refusal)
        }
    }
}

/// Takes over a credential that a re-enable handed out: it is used from the next beat on, and the current
/// one stays until it was accepted.
pub fn adopt(store: &Store, credential: &Token) -> Result<Identity, IdentityError> {
    store.update(|identity| {
        identity.next = Some(Next { credential: credential.clone(), credential_expires_at: None });
        identity.spent_token = Some(credential.digest());
    })
}

/// Warns of an identity that is not the one the settings name.
pub fn warn_of_another(expected: Option<AgentId>, agent: AgentId) {
    if let Some(expected) = expected.filter(|expected| *expected != agent) {
        tracing::warn!(%agent, %expected, "this host is another agent than PLANASONIX_AGENT_ID names");
    }
}

fn begin(identity: &mut Identity, digest: &str) {
    if identity.enrollment.as_ref().is_none_or(|under_way| under_way.token_digest != digest) {
        identity.enrollment =
            Some(Attempt { idempotency_key: entropy::nonce(), token_digest: digest.to_owned() });
    }
}

fn key_of(identity: &Identity) -> String {
    identity.enrollment.as_ref().map(|under_way| under_way.idempotency_key.clone()).unwrap_or_default()
}

fn spend(identity: &mut Identity, digest: &str) {
    identity.spent_token = Some(digest.to_owned());
    identity.enrollment.take_if(|under_way| under_way.token_digest == digest);
}

fn settle(store: &Store, enrolled: Enrolled, digest: &str) -> Redeemed {
    let credential = Token::parse(&enrolled.credential).ok().filter(|token| !token.is_enrollment());
    let Some(credential) = credential else {
        return Redeemed::Retry(Retry::because(
            "the answer held no credential that this version understands",
        ));
    };
    let stored = store.update(|identity| {
        spend(identity, digest);
        identity.settle(credential, Some(enrolled.credential_expires_at));
    });
    match stored {
        Ok(_) => Redeemed::Enrolled {
            agent: enrolled.agent_id,
            label: enrolled.label,
            interval: enrolled.heartbeat_interval_seconds,
        },
        Err(error) => Redeemed::Retry(Retry::because(error.to_string())),
    }
}
