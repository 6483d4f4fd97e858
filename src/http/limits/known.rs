//! What a replica remembers of presented credentials, by digest: which key or agent a verified one stands for, and why
//! a refused one was refused.
//!
//! Both memories only spare work. Who owns a digest never changes, so its limits can be looked at before the database
//! is asked; whether it is still good is read fresh every time. A refusal whose reason never changes is remembered for
//! minutes. One whose reason may change, since an agent is revoked or enabled, is looked up at most [`MAX_LOOKUPS`]
//! times within [`WINDOW`] and refused from memory for the rest of it: a caller who asks now and then always learns the
//! reason as it is.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache};
use planasonix_wire::{AgentId, ApiKeyId, WorkspaceId};

use crate::{db::Turn, domain::Error};

const MAX_OWNERS: u64 = 100_000;
const MAX_REFUSED: u64 = 100_000;
/// An owner that is not seen for so long has its whole allowance again.
const OWNER_IDLE: Duration = Duration::from_hours(1);
const PERMANENT_FOR: Duration = Duration::from_mins(5);
const WINDOW: Duration = Duration::from_secs(1);
const MAX_LOOKUPS: u32 = 30;

/// The SHA-256 of a token. The token's text names its kind, so digests of different kinds differ.
pub type Digest = [u8; 32];

/// Whose allowance pays for requests with a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// An API key, verified here.
    Key(ApiKeyId, WorkspaceId),
    /// An agent, by its credential or its enrollment token.
    Agent(AgentId, WorkspaceId),
    /// The digest itself: its agent is known, but it is not good any more.
    Retired,
}

impl Owner {
    pub(super) fn turn(self) -> Turn {
        match self {
            Self::Key(_, workspace) | Self::Agent(_, workspace) => Turn::LookUp(workspace),
            Self::Retired => Turn::Unproven,
        }
    }
}

/// What a digest is presented for: its refusal for one purpose says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To be served.
    Access,
    /// To enroll, under a fingerprint of the idempotency key: a used token enrolls again under its own.
    Enroll(Option<u64>),
}

impl Purpose {
    /// Enrollment under this idempotency key.
    pub fn enroll(key: Option<&str>) -> Self {
        Self::Enroll(key.map(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish()
        }))
    }
}

/// A refusal that holds for the digest from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Unauthenticated,
    KeyRevoked,
    KeyExpired,
    TokenInvalid,
    TokenExpired,
    TokenUsed,
    AgentRevoked,
    CredentialRotated,
    CredentialExpired,
}

impl Refused {
    pub(super) fn of(error: &Error) -> Option<Self> {
        Some(match error {
            Error::Unauthenticated => Self::Unauthenticated,
            Error::ApiKeyRevoked => Self::KeyRevoked,
            Error::ApiKeyExpired => Self::KeyExpired,
            Error::EnrollmentTokenInvalid => Self::TokenInvalid,
            Error::EnrollmentTokenExpired => Self::TokenExpired,
            Error::EnrollmentTokenUsed => Self::TokenUsed,
            Error::AgentRevoked => Self::AgentRevoked,
            Error::CredentialRotated => Self::CredentialRotated,
            Error::CredentialExpired => Self::CredentialExpired,
            _ => return None,
        })
    }

    /// Whether it is a failed authentication, which the address pays for. The agent of a retired credential is known.
    pub(super) fn is_failure(self) -> bool {
        !matches!(self, Self::AgentRevoked | Self::CredentialRotated | Self::CredentialExpired)
    }

    /// Whether this stays the reason: the token was never issued, or its key is deleted.
    fn is_permanent(self) -> bool {
        matches!(self, Self::Unauthenticated | Self::KeyRevoked)
    }
}

/// A refusal within its window.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    reason: Refused,
    lookups: u32,
}

impl Remembered {
    fn holds(self) -> bool {
        self.reason.is_permanent() || self.lookups >= MAX_LOOKUPS
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unauthenticated => Self::Unauthenticated,
            Refused::KeyRevoked => Self::ApiKeyRevoked,
            Refused::KeyExpired => Self::ApiKeyExpired,
            Refused::TokenInvalid => Self::EnrollmentTokenInvalid,
            Refused::TokenExpired => Self::EnrollmentTokenExpired,
            Refused::TokenUsed => Self::EnrollmentTokenUsed,
            Refused::AgentRevoked => Self::AgentRevoked,
            Refused::CredentialRotated => Self::CredentialRotated,
            Refused::CredentialExpired => Self::CredentialExpired,
        }
    }
}

/// The two memories, both bounded.
pub(super) struct Known {
    owners: Cache<Digest, Owner>,
    refused: Cache<(Digest, Purpose), Remembered>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            owners: Cache::builder().max_capacity(MAX_OWNERS).time_to_idle(OWNER_IDLE).build(),
            refused: Cache::builder().max_capacity(MAX_REFUSED).expire_after(Lifetime).build(),
        }
    }
}

impl Known {
    pub(super) fn owner(&self, digest: &Digest) -> Option<Owner> {
        self.owners.get(digest)
    }

    /// Why the digest is refused, if that need not be looked up now.
    pub(super) fn refused(&self, digest: Digest, purpose: Purpose) -> Option<Refused> {
        self.refused.get(&(digest, purpose)).filter(|seen| seen.holds()).map(|seen| seen.reason)
    }

    pub(super) fn note_good(&self, digest: Digest, owner: Owner) {
        if self.owners.get(&digest) != Some(owner) {
            self.owners.insert(digest, owner);
        }
    }

    /// Remembers a refusal. What fails is not trusted any more; if it is good for another purpose, it proves so again.
    pub(super) fn note_refused(&self, digest: Digest, purpose: Purpose, reason: Refused) {
        let lookups = self.refused.get(&(digest, purpose)).map_or(1, |seen| seen.lookups + 1);
        self.refused.insert((digest, purpose), Remembered { reason, lookups });
        if reason.is_failure() {
            self.owners.invalidate(&digest);
        } else {
            self.owners.insert(digest, Owner::Retired);
        }
    }
}

struct Lifetime;

impl Expiry<(Digest, Purpose), Remembered> for Lifetime {
    fn expire_after_create(&self, _: &(Digest, Purpose), seen: &Remembered, _: Instant) -> Option<Duration> {
        Some(if seen.reason.is_permanent() { PERMANENT_FOR } else { WINDOW })
    }

    fn expire_after_update(
        &self,
        key: &(Digest, Purpose),
        seen: &Remembered,
        at: Instant,
        left: Option<Duration>,
    ) -> Option<Duration> {
        if seen.reason.is_permanent() { self.expire_after_create(key, seen, at) } else { left }
    }
}
