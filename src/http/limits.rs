//! How often callers may ask. Each replica counts for itself.
//!
//! Only a token whose secret was verified is charged to what it stands for, so knowing an id uses up no one's
//! allowance: an API key and its workspace, an agent. Once this replica has verified a token, the allowance is charged
//! before the database is asked, and a request over it is refused from memory. A retired credential of an agent is
//! charged to its own digest. Every other failure to authenticate is charged to the client's address alone, of IPv6 to
//! its network, before the look-up (`failures`).
//!
//! An address that fails too often gets 429 for what fails, and its new credentials are not looked up until it
//! may fail again. A credential that was good here before is looked up all the same: it does not suffer
//! from its neighbours behind one address. Heartbeats are no part of this: the statement that stores them
//! limits them, and floods of forged ones meet `presence`'s memory.

mod failures;
mod headers;
mod known;
pub mod rate;

use std::net::{IpAddr, Ipv6Addr};

use axum::http::Extensions;
use planasonix_wire::{AgentId, ApiKeyId, WorkspaceId};

use self::{
    failures::{Failures, Trial},
    known::{Known, Refused},
    rate::{Allowance, Rate},
};
pub use self::{
    headers::{HEADERS, tell},
    known::{Digest, Owner, Purpose},
};
use crate::{
    db::{Budget, Turn},
    domain::{Error, Result},
};

/// How many requests a minute there may be; 0 is no limit, as are all unless said otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Of an API key.
    pub key: u32,
    /// Of all API keys of a workspace together.
    pub workspace: u32,
    /// Of an agent, heartbeats aside.
    pub agent: u32,
    /// Of failed authentications from one address.
    pub failed_auth: u32,
}

/// What callers have left of their allowances.
pub struct Limits {
    keys: Rate<ApiKeyId>,
    workspaces: Rate<WorkspaceId>,
    agents: Rate<AgentId>,
    retired: Rate<Digest>,
    failures: Failures,
    known: Known,
}

/// A token that a request presents.
#[derive(Clone, Copy)]
pub struct Claim<'r> {
    /// The client's address.
    pub address: IpAddr,
    /// The token's digest.
    pub digest: Digest,
    /// What it is presented for.
    pub purpose: Purpose,
    /// The request's extensions, where the answer's headers are noted.
    pub request: &'r Extensions,
    /// What is left of the time that the request may wait.
    pub budget: &'r Budget,
}

impl Limits {
    /// Every allowance is full.
    pub fn new(rates: Rates) -> Self {
        Self {
            keys: Rate::a_minute(rates.key),
            workspaces: Rate::a_minute(rates.workspace),
            agents: Rate::a_minute(rates.agent),
            retired: Rate::a_minute(rates.agent),
            failures: Failures::a_minute(rates.failed_auth),
            known: Known::default(),
        }
    }

    /// Authenticates a token by `trial`, which looks it up in the given turn, and charges whom it stands for.
    ///
    /// # Errors
    /// Those of the trial, which may come from memory; [`Error::RateLimited`].
    pub async fn admit<T>(
        &self,
        claim: Claim<'_>,
        trial: impl AsyncFnOnce(Turn) -> Result<(Owner, T)>,
    ) -> Result<T> {
        self.attempt(claim, |owner| self.charge(owner, claim), trial).await
    }

    /// The same, but an agent is not charged: whoever admits it later charges it, with [`Self::charge_agent`].
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub async fn admit_uncharged<T>(
        &self,
        claim: Claim<'_>,
        trial: impl AsyncFnOnce(Turn) -> Result<(Owner, T)>,
    ) -> Result<T> {
        let peek = |owner| match owner {
            Owner::Agent(agent, _) => self.agents.peek(&agent).map_or(Ok(()), |allowance| allowance.admit()),
            owner => self.charge(owner, claim),
        };
        self.attempt(claim, peek, trial).await
    }

    /// Refuses a request that presents nothing that could be looked up.
    pub fn reject(&self, address: IpAddr) -> Error {
        self.failures.charge(address).err().unwrap_or(Error::Unauthenticated)
    }

    /// Charges a verified agent.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub fn charge_agent(&self, agent: AgentId) -> Result<()> {
        self.agents.charge(&agent).map_or(Ok(()), |allowance| allowance.admit())
    }

    /// Remembers and charges what turned a token down after it was admitted; gives the error for the caller.
    pub fn turned_down(&self, claim: Claim<'_>, error: Error) -> Error {
        self.settle(claim, None, error)
    }

    async fn attempt<T>(
        &self,
        claim: Claim<'_>,
        pay: impl Fn(Owner) -> Result<()>,
        trial: impl AsyncFnOnce(Turn) -> Result<(Owner, T)>,
    ) -> Result<T> {
        let owner = self.known.owner(&claim.digest);
        owner.map_or(Ok(()), &pay)?;
        if let Some(refused) = self.known.refused(claim.digest, claim.purpose) {
            if refused.is_failure() {
                self.failures.charge(claim.address)?;
            }
            return Err(refused.into());
        }
        let proven = owner.is_some_and(|owner| owner != Owner::Retired);
        let charged =
            if proven { None } else { Some(self.failures.begin(claim.address, claim.budget).await?) };
        match trial(owner.map_or(Turn::Unproven, Owner::turn)).await {
            Ok((owner, value)) => {
                if let Some(charged) = charged {
                    charged.refund();
                }
                self.known.note_good(claim.digest, owner);
                if proven { Ok(value) } else { pay(owner).map(|()| value) }
            }
            Err(error) => Err(self.settle(claim, charged, error)),
        }
    }

    fn settle(&self, claim: Claim<'_>, charged: Option<Trial<'_>>, error: Error) -> Error {
        let refused = Refused::of(&error);
        if let Some(refused) = refused {
            self.known.note_refused(claim.digest, claim.purpose, refused);
        }
        match charged {
            Some(failure) if refused.is_some_and(Refused::is_failure) => drop(failure),
            Some(other) => other.refund(),
            None if refused.is_some_and(Refused::is_failure) => {
                return self.failures.charge(claim.address).err().unwrap_or(error);
            }
            None => {}
        }
        error
    }

    fn charge(&self, owner: Owner, claim: Claim<'_>) -> Result<()> {
        match owner {
            Owner::Key(key, workspace) => self.charge_key(key, workspace, claim.request),
            Owner::Agent(agent, _) => self.charge_agent(agent),
            Owner::Retired => {
                self.retired.charge(&claim.digest).map_or(Ok(()), |allowance| allowance.admit())
            }
        }
    }

    /// Charges an API key and its workspace, and notes for the answer's headers what is left. A key that has
    /// nothing left costs its workspace nothing.
    fn charge_key(&self, key: ApiKeyId, workspace: WorkspaceId, request: &Extensions) -> Result<()> {
        let own = self.keys.charge(&key);
        let spent = own.is_some_and(|own| own.admit().is_err());
        let shared = if spent { None } else { self.workspaces.charge(&workspace) };
        let Some(tighter) = own.into_iter().chain(shared).reduce(Allowance::tighter) else { return Ok(()) };
        headers::note(request, tighter);
        tighter.admit()
    }

    /// Forgets every allowance that is full again, so that memory is bounded by those in use.
    pub fn forget(&self) {
        self.keys.forget();
        self.workspaces.forget();
        self.agents.forget();
        self.retired.forget();
        self.failures.forget();
    }
}

/// Whoever has one IPv6 address has the 2⁶⁴ of its network.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests;
