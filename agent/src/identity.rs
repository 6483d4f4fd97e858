//! Who this installation is, and which credentials speak for it. A [`Store`] keeps it on the disk.

mod running;
mod store;

use planasonix_wire::{AgentId, json::Timestamp};
use serde::{Deserialize, Serialize};

pub use self::{
    running::{AlreadyRunning, RunLock},
    store::{IdentityError, Stamp, Store},
};
use crate::{entropy, secret::Token};

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Drawn once; with the machine's own id it makes the `instance_id`, so that a cloned disk shows as
    /// another instance.
    pub seed: String,
    /// The agent that this host is; none before the first enrollment.
    #[serde(default)]
    pub agent_id: Option<AgentId>,
    /// What it authenticates with.
    #[serde(default)]
    pub credential: Option<Token>,
    /// Until when the credential works, if that was told.
    #[serde(default)]
    pub credential_expires_at: Option<Timestamp>,
    /// A new credential that was not accepted yet; the old one stays until it was.
    #[serde(default)]
    pub next: Option<Next>,
    /// An enrollment under way: the same token is sent again with the same key.
    #[serde(default)]
    pub enrollment: Option<Attempt>,
    /// Digest of the last enrollment token that was used up or refused: it is not tried again.
    #[serde(default)]
    pub spent_token: Option<String>,
}

/// A credential on its way in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Next {
    /// The credential.
    pub credential: Token,
    /// Until when it works, if that was told.
    #[serde(default)]
    pub credential_expires_at: Option<Timestamp>,
}

/// An enrollment whose answer has not arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Sent as `Idempotency-Key`.
    pub idempotency_key: String,
    /// Digest of the token that the key belongs to.
    pub token_digest: String,
}

impl Identity {
    fn fresh() -> Self {
        Self {
            seed: entropy::nonce(),
            agent_id: None,
            credential: None,
            credential_expires_at: None,
            next: None,
            enrollment: None,
            spent_token: None,
        }
    }

    /// The credential to use now: a new one that waits to be accepted, else the current one.
    pub fn bearer(&self) -> Option<&Token> {
        self.next.as_ref().map(|next| &next.credential).or(self.credential.as_ref())
    }

    /// Makes a credential the current one; whatever was there before is gone.
    pub fn settle(&mut self, credential: Token, expires_at: Option<Timestamp>) {
        self.agent_id = Some(credential.agent());
        self.credential = Some(credential);
        self.credential_expires_at = expires_at;
        self.next = None;
    }

    /// The control plane accepted `used`: if that was the new credential, the old one goes.
    pub fn accepted(&mut self, used: &Token) {
        if let Some(next) = self.next.take_if(|next| next.credential == *used) {
            self.settle(next.credential, next.credential_expires_at);
        }
    }

    /// The control plane refused `used`: if that was the new credential, the old one is used again.
    pub fn refused(&mut self, used: &Token) {
        self.next.take_if(|next| next.credential == *used);
    }
}

#[cfg(test)]
mod tests {
    use planasonix_wire::token::Kind;

    use super::*;
    use crate::secret::tests::token;

    #[test]
    fn the_old_credential_stays_until_the_new_one_was_accepted() {
        let (old, new) = (token(Kind::Agent, 1), token(Kind::Agent, 2));
        let mut identity = Identity::fresh();
        identity.settle(old.clone(), None);
        let next = Next { credential: new.clone(), credential_expires_at: None };
        identity.next = Some(next.clone());
        identity.refused(&old);
        identity.accepted(&old);
        assert_eq!(identity.bearer(), Some(&new));
        identity.refused(&new);
        assert_eq!((identity.bearer(), &identity.next), (Some(&old), &None));
        identity.next = Some(next);
        identity.accepted(&new);
        assert_eq!((identity.credential, identity.next), (Some(new), None));
    }
}
