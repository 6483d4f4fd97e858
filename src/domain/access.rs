//! Who acts, and what they may do.

use planasonix_wire::{AgentId, ApiKeyId};

pub use planasonix_wire::api_key::Scope;

/// Who caused a change, as the audit trail names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Somebody with an API key.
    Key(ApiKeyId),
    /// The agent itself.
    Agent(AgentId),
}

/// Whether holding `held` is enough where `needed` is asked for.
pub fn allows(held: Scope, needed: Scope) -> bool {
    held == needed || held == Scope::AdminOrganization
}
