//! What handlers take apart from the caller: path, query, body, address. Our own, since the framework's
//! answer in their own words when something is wrong.

mod body;

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, RawPathParams},
    http::{HeaderValue, request::Parts},
};
use planasonix_wire::{AgentId, ApiKeyId};

pub use self::body::{BODY_BYTES, HEARTBEAT_BYTES, JsonBody, NoFields, OptionalBody};
use super::{App, error::Problem, query};
use crate::domain::{
    Error,
    agent::{PLATFORMS, Platform},
    idempotency,
    invalid::{Checks, Invalid},
    page::PageSize,
};

/// The record that the path names, if what stands there is an id of its kind.
pub struct PathId<Id>(Option<Id>);

/// The agent that the path names.
pub type AgentPath = PathId<AgentId>;

/// A kind of id that paths name records by.
pub trait Findable: FromStr {
    /// What is said of a record that is not there.
    const ABSENT: Error;
}

impl Findable for AgentId {
    const ABSENT: Error = Error::AgentNotFound;
}

impl Findable for ApiKeyId {
    const ABSENT: Error = Error::ApiKeyNotFound;
}

impl<Id: Findable> PathId<Id> {
    /// The record's id.
    ///
    /// # Errors
    /// A malformed id is an absent record.
    pub fn id(self) -> Result<Id, Error> {
        self.0.ok_or(Id::ABSENT)
    }
}

impl AgentPath {
    /// The agent's id, or one that no agent has.
    pub fn id_or_nobody(self) -> AgentId {
        self.0.unwrap_or(AgentId::from_uuid(uuid::Uuid::nil()))
    }
}

impl<S: Send + Sync, Id: Findable> FromRequestParts<S> for PathId<Id> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        let text = params.as_ref().and_then(|params| params.iter().next()).map(|(_, value)| value);
        Ok(Self(text.and_then(|text| text.parse().ok())))
    }
}

/// The agent and the platform that an installer's path names.
pub struct InstallerPath {
    /// The agent.
    pub agent: AgentPath,
    /// The platform, if what stands there is the name of one.
    pub platform: Result<Platform, Error>,
}

impl<S: Send + Sync> FromRequestParts<S> for InstallerPath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        let name = params.as_ref().and_then(|params| params.iter().nth(1)).map(|(_, value)| value);
        // None is told when one of them is no text; the agent's id must not make the platform unknown.
        let name = name.or(parts.uri.path().rsplit('/').next()).unwrap_or_default().to_owned();
        let mut checks = Checks::default();
        let platform = checks.name("platform", &name, PLATFORMS);
        let unsupported = || checks.finish().err().map_or(Error::AgentNotFound, Error::from);
        let platform = platform.ok_or_else(unsupported);
        Ok(Self { agent: AgentPath::from_request_parts(parts, state).await?, platform })
    }
}

/// The query's parameters, by name. Those that a route does not know are ignored.
pub struct Params(Vec<(String, String)>);

impl Params {
    /// A parameter that may be given once.
    pub fn one(&self, checks: &mut Checks, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let value = values.next();
        if values.next().is_some() {
            checks.fail(name, "repeated", "must be given once");
        }
        if value.is_some_and(|value| value.contains('\0')) {
            checks.fail(name, "invalid_character", "must not contain U+0000");
        }
        value
    }

    /// A parameter that may be given any number of times.
    pub fn all(&self, checks: &mut Checks, name: &str, longest: usize) -> Vec<String> {
        let values: Vec<_> =
            self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value).collect();
        for value in &values {
            checks.text(name, value, 0..=longest);
        }
        values.into_iter().cloned().collect()
    }

    /// The size of the page that is asked for.
    pub fn page_size(&self, checks: &mut Checks, most: u32) -> PageSize {
        let limit = self.one(checks, "limit").map(ToOwned::to_owned);
        PageSize::check(checks, limit.as_deref(), most)
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(query::parse(parts.uri.query().unwrap_or_default())?))
    }
}

/// The key under which a request may be sent again, as it came.
pub struct IdempotencyKey(Option<HeaderValue>);

impl IdempotencyKey {
    /// The key, if one was given.
    ///
    /// # Errors
    /// It is no text of 1 to 255 characters.
    pub fn get(&self) -> Result<Option<&str>, Invalid> {
        let Some(value) = &self.0 else { return Ok(None) };
        let text = value.to_str().map_err(|_| {
            Invalid::field(idempotency::HEADER, "invalid_character", "must be visible ASCII characters")
        })?;
        idempotency::key(text).map(Some)
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(idempotency::HEADER).cloned()))
    }
}

/// Where the request comes from, as far as it can be known: see [`super::remote_ip`].
pub struct RemoteIp(pub IpAddr);

impl RemoteIp {
    pub(super) fn of(parts: &Parts, app: &App) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        Self(app.proxies.remote_ip(peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), &parts.headers))
    }
}

impl FromRequestParts<App> for RemoteIp {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self::of(parts, app))
    }
}
