//! How often callers may ask. Each replica counts for itself.
//!
//! Only who has proven to be somebody is charged, so nobody can use up another's allowance by knowing its id:
//! an API key, and its workspace, once the key's secret was verified; an agent once its credential was. Who
//! fails to prove it is known by address alone, an IPv6 one by its network.
//!
//! An address that fails too often gets 429 for what fails, and its new credentials are not looked up until it
//! may fail again. A credential that has been good here before is looked up all the same: it does not suffer
//! from its neighbours behind one address. Heartbeats are no part of this: the statement that stores them
//! limits them, and floods of bad ones meet `presence`'s memory.

pub mod rate;

use std::{
    future::Future,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::Request,
    http::{Extensions, HeaderName},
    middleware::Next,
    response::Response,
};
use moka::sync::Cache;
use planasonix_wire::{AgentId, ApiKeyId, WorkspaceId};

use self::rate::{Allowance, Rate};
use crate::domain::{Error, Result};

/// The headers that tell an API key what it has left: a minute's requests, those it may make now, and the
/// unix second in which it may make all of them.
pub const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];

const MOST_REMEMBERED: u64 = 200_000;
/// Longer than any address is barred: one failure a minute is the least that can be set.
const BARRED_AT_MOST: Duration = Duration::from_mins(2);

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
    failures: Rate<IpAddr>,
    barred: Cache<IpAddr, (Instant, Duration)>,
    proven: Cache<u64, ()>,
}

impl Limits {
    /// Nobody has asked yet.
    pub fn new(rates: Rates) -> Self {
        Self {
            keys: Rate::a_minute(rates.key),
            workspaces: Rate::a_minute(rates.workspace),
            agents: Rate::a_minute(rates.agent),
            failures: Rate::a_minute(rates.failed_auth),
            barred: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(BARRED_AT_MOST).build(),
            proven: Cache::new(MOST_REMEMBERED),
        }
    }

    /// Charges a verified API key and its workspace, and notes for the answer's headers what is left. A key
    /// that has nothing left costs its workspace nothing.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub fn charge_key(&self, key: ApiKeyId, workspace: WorkspaceId, request: &Extensions) -> Result<()> {
        let own = self.keys.charge(&key);
        let spent = own.is_some_and(|own| own.admit().is_err());
        let shared = if spent { None } else { self.workspaces.charge(&workspace) };
        let Some(tighter) = own.into_iter().chain(shared).reduce(Allowance::tighter) else { return Ok(()) };
        if let Some(Tally(tally)) = request.get() {
            // A request has one key, so this is the first.
            let _ = tally.set(tighter);
        }
        tighter.admit()
    }

    /// Charges a verified agent.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub fn charge_agent(&self, agent: AgentId) -> Result<()> {
        self.agents.charge(&agent).map_or(Ok(()), |allowance| allowance.admit())
    }

    /// Tries to authenticate somebody at this address by `credential`, a fingerprint of what they present.
    ///
    /// # Errors
    /// Those of the trial; [`Error::RateLimited`] in place of a failure that is one too many.
    pub async fn attempt<T>(
        &self,
        address: IpAddr,
        credential: Option<u64>,
        trial: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let network = network(address);
        if !credential.is_some_and(|credential| self.proven.contains_key(&credential)) {
            self.check_barred(network)?;
        }
        let result = trial.await;
        match (&result, credential) {
            (Ok(_), Some(credential)) => self.proven.insert(credential, ()),
            (Err(error), _) if is_failure(error) => {
                if let Some(credential) = credential {
                    self.proven.invalidate(&credential);
                }
                self.charge_failure(network)?;
            }
            _ => {}
        }
        result
    }

    fn charge_failure(&self, network: IpAddr) -> Result<()> {
        let Some(allowance) = self.failures.charge(&network) else { return Ok(()) };
        allowance.admit().inspect_err(|error| {
            if let Error::RateLimited { retry_after } = error {
                self.barred.insert(network, (Instant::now(), *retry_after));
            }
        })
    }

    fn check_barred(&self, network: IpAddr) -> Result<()> {
        let Some((since, time)) = self.barred.get(&network) else { return Ok(()) };
        match time.checked_sub(since.elapsed()) {
            Some(left) => Err(Error::RateLimited { retry_after: Duration::from_secs(left.as_secs() + 1) }),
            None => Ok(()),
        }
    }

    /// Forgets everybody whose allowance is full again; what is remembered stays bounded by it.
    pub fn forget(&self) {
        self.keys.forget();
        self.workspaces.forget();
        self.agents.forget();
        self.failures.forget();
    }
}

/// Whether nobody knows the caller. A dead credential's agent is known, and so is a key without the scope.
fn is_failure(error: &Error) -> bool {
    matches!(
        error,
        Error::Unauthenticated
            | Error::ApiKeyRevoked
            | Error::ApiKeyExpired
            | Error::EnrollmentTokenInvalid
            | Error::EnrollmentTokenExpired
            | Error::EnrollmentTokenUsed
    )
}

/// Whoever has one IPv6 address has the 2⁶⁴ of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// From the extractor that charges a key to the headers of the answer.
#[derive(Clone, Default)]
struct Tally(Arc<OnceLock<Allowance>>);

/// Tells an API key what it has left, whatever the answer.
pub async fn tell(mut request: Request, next: Next) -> Response {
    let tally = Tally::default();
    request.extensions_mut().insert(tally.clone());
    let mut response = next.run(request).await;
    if let Some(allowance) = tally.0.get() {
        let reset = seconds(since_epoch() + allowance.full_in);
        let values = [allowance.limit.into(), allowance.remaining.into(), reset.into()];
        response.headers_mut().extend(HEADERS.into_iter().zip(values));
    }
    response
}

fn since_epoch() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a header for the caller's own clock; it decides nothing")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// In whole seconds, never too few.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn limits(failed_auth: u32) -> Limits {
        Limits::new(Rates { failed_auth, ..Rates::default() })
    }

    async fn fails(limits: &Limits, address: &str) -> bool {
        let trial = ready(Err::<(), _>(Error::Unauthenticated));
        let result = limits.attempt(address.parse().unwrap(), Some(1), trial).await;
        matches!(result, Err(Error::RateLimited { .. }))
    }

    #[tokio::test]
    async fn who_fails_too_often_is_known_by_address_and_of_ipv6_by_network() {
        for [one, neighbour, other] in [
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"],
            ["2001:db8:0:1::1", "2001:db8:0:1:ffff::", "2001:db8:0:2::1"],
        ] {
            let limits = limits(2);
            assert!(!fails(&limits, one).await && !fails(&limits, one).await);
            assert!(fails(&limits, one).await && fails(&limits, neighbour).await);
            assert!(!fails(&limits, other).await);
        }
    }

    #[tokio::test]
    async fn a_barred_address_s_new_credentials_are_not_looked_up_and_proven_ones_are() {
        let (limits, address) = (limits(1), "192.0.2.1");
        let from = address.parse().unwrap();
        limits.attempt(from, Some(7), ready(Ok(()))).await.unwrap();
        assert!(!fails(&limits, address).await && fails(&limits, address).await);
        limits.attempt(from, Some(7), ready(Ok(()))).await.unwrap();
        let unseen = async { panic!("looked up") };
        let refused: Result<()> = limits.attempt(from, Some(8), unseen).await;
        assert!(matches!(refused, Err(Error::RateLimited { .. })));
    }

    #[tokio::test]
    async fn a_credential_that_has_died_is_proven_no_more() {
        let (limits, from) = (limits(2), "192.0.2.1".parse().unwrap());
        limits.attempt(from, Some(7), ready(Ok(()))).await.unwrap();
        let died = ready(Err::<(), _>(Error::ApiKeyRevoked));
        assert!(matches!(limits.attempt(from, Some(7), died).await, Err(Error::ApiKeyRevoked)));
        assert!(!limits.proven.contains_key(&7));
    }
}
