//! What can go wrong, in the words of the product. How each is told over HTTP is `http::error`'s business.

use std::{error::Error as StdError, time::Duration};

use super::{Scope, agent::Platform, invalid::Invalid};

/// Shorthand for everything that fails with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The private reason of a failure of ours: logged, never told.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Every way in which a request can be turned down. `Display` is the public text.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's text says what it is")]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("cursor is not one that this list gave out under the same filters; start again without it")]
    InvalidCursor,

    #[error(
        "this route needs a valid credential of its own kind, sent as `Authorization: Bearer <credential>`"
    )]
    Unauthenticated,
    #[error("this API key was revoked; use another one")]
    ApiKeyRevoked,
    #[error("this API key has expired; create another one")]
    ApiKeyExpired,
    #[error("this enrollment token is not known or was replaced; ask for a new one")]
    EnrollmentTokenInvalid,
    #[error("this enrollment token has expired; ask for a new one")]
    EnrollmentTokenExpired,
    #[error("this enrollment token was already used; ask for a new one")]
    EnrollmentTokenUsed,

    #[error("this API key lacks the scope {0}")]
    InsufficientScope(Scope),
    #[error("the workspace's limit of {0} agents is reached; delete an agent or raise the limit")]
    AgentLimitReached(i32),
    #[error("this agent was revoked")]
    AgentRevoked,
    #[error("this credential was replaced by a newer one")]
    CredentialRotated,
    #[error("this credential has expired")]
    CredentialExpired,

    #[error("there is no such agent in this workspace")]
    AgentNotFound,
    #[error("there is no such API key in this workspace")]
    ApiKeyNotFound,

    #[error("{}", no_installer(*platform, there))]
    InstallerUnavailable { platform: Platform, there: Vec<Platform> },
    #[error("the agent for {0} is being built on this server; ask again in a minute")]
    InstallerBeingBuilt(Platform),
    #[error("the installer for {0} is being prepared; ask again in a moment")]
    InstallerBeingPacked(Platform),
    #[error("the installer for {platform} cannot be prepared: {reason}; the server tries again")]
    InstallerFailed { platform: Platform, reason: String },
    #[error("this server hands out no installers: its operator has not told it its own URL (--public-url)")]
    NoPublicUrl,

    #[error("the agent is not revoked")]
    AgentNotRevoked,
    #[error("the agent is already enrolled; revoke and enable it to enroll it again")]
    AgentNotPending,
    #[error("the agent is revoked; enable it first")]
    AgentIsRevoked,

    #[error(
        "{header} does not hold for the agent as it is now; read it again and repeat the request with its ETag"
    )]
    PreconditionFailed { header: &'static str },
    #[error("{header} cannot be evaluated for this request; send it without that header")]
    PreconditionUnsupported { header: &'static str },

    #[error("this is the workspace's last key with admin:organization; create another one first")]
    LastAdminKey,
    #[error("this Idempotency-Key was used for another request, or its agent is deleted; use a new key")]
    IdempotencyConflict,
    #[error("a request with this Idempotency-Key is in progress; wait for its answer")]
    RequestInProgress,

    #[error("too many requests; wait {} s", whole_seconds(*retry_after))]
    RateLimited { retry_after: Duration },

    #[error("the service cannot answer now; the outcome of a write is unknown. Try again")]
    Unavailable(#[source] Cause),
    #[error("something went wrong on our side")]
    Internal(#[source] Cause),
}

/// Rounded up, and a second at least: what a caller is told to wait.
pub fn whole_seconds(wait: Duration) -> u64 {
    let rounded = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    rounded.max(1)
}

fn no_installer(platform: Platform, there: &[Platform]) -> String {
    let names: Vec<_> = there.iter().map(|platform| platform.as_str()).collect();
    let there = if names.is_empty() {
        "nor for any other platform; its operator names a folder of agents with --agents-dir".to_owned()
    } else {
        format!("only for {}", names.join(", "))
    };
    format!("this server has no installer for {platform}, {there}")
}
