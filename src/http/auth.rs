//! Who is calling, and what they may do.
//!
//! The middleware [`identify`] says who: it reads the bearer token's form, asks nobody, refuses nothing.
//! The extractors say what they may, in the handlers' signatures: [`Reader`], [`Writer`], [`Admin`],
//! [`Enrolling`], [`Beating`], [`AgentSelf`], [`Installing`]. A path or method that does not exist is therefore
//! told before any credential is asked.

mod enrolling;
mod installing;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderName, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use planasonix_wire::{
    AgentId,
    token::{Kind, inspect},
};

pub use self::{
    enrolling::Enrolling,
    installing::{Installing, InstallingOrSelf},
};
use super::{
    App,
    detached::Overloaded,
    error::Problem,
    extract::{AgentPath, RemoteIp},
    limits::{Claim, Digest, Owner, Purpose},
    response_budget::AnswerOwner,
};
use crate::{
    db::{Budget, Workspace},
    domain::{
        Actor, Error, Scope,
        access::allows,
        credential::{self, Agent, ApiKey, Enrollment, Hashed, Plain},
    },
};

/// Headers that may carry an API key instead of `Authorization`, for clients of old.
pub const LEGACY_KEY_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("x-planasonix-api-key"), HeaderName::from_static("x-planasonix-key")];

/// The credential that a request presents, by its form alone.
#[derive(Debug, Clone)]
enum Presented {
    /// None, a malformed one, or several.
    Nothing,
    ApiKey(Arc<Plain<ApiKey>>),
    Enrollment(Arc<Plain<Enrollment>>),
    Agent(Hashed<Agent>),
}

/// Reads the presented credential's form. Asks no database, and refuses nothing unless the service is overloaded.
/// What an API key is answered counts against its budget until it is read.
pub async fn identify(mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Overloaded>().is_some() {
        let cause = "too many requests still run whose callers have hung up";
        return Problem::from(Error::Unavailable(cause.into())).into_response();
    }
    let presented = presented(request.headers()).unwrap_or(Presented::Nothing);
    let owner = matches!(presented, Presented::ApiKey(_)).then(|| AnswerOwner::attach(&mut request));
    request.extensions_mut().insert(presented);
    let response = next.run(request).await;
    match owner {
        Some(owner) => owner.count(response),
        None => response,
    }
}

fn presented(headers: &HeaderMap) -> Option<Presented> {
    if headers.contains_key(header::AUTHORIZATION) {
        let value = only(headers, &header::AUTHORIZATION)?;
        let (scheme, token) = value.split_once(' ')?;
        return if scheme.eq_ignore_ascii_case("bearer") { parse(token.trim()) } else { None };
    }
    let key = LEGACY_KEY_HEADERS.iter().find_map(|name| only(headers, name))?;
    Some(Presented::ApiKey(shared(key.trim())?))
}

fn parse(token: &str) -> Option<Presented> {
    match inspect(token).ok()?.0 {
        Kind::ApiKey => shared(token).map(Presented::ApiKey),
        Kind::Enrollment => shared(token).map(Presented::Enrollment),
        Kind::Agent => Some(Presented::Agent(Plain::parse(token).ok()?.hashed())),
    }
}

fn shared<K: credential::Kind>(token: &str) -> Option<Arc<Plain<K>>> {
    Plain::parse(token).ok().map(Arc::new)
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { Some(value) }
}

fn presented_by(parts: &Parts) -> Presented {
    parts.extensions.get().cloned().unwrap_or(Presented::Nothing)
}

/// An API key that may read agents.
pub struct Reader {
    /// The key's workspace.
    pub workspace: Workspace,
}

/// An API key that may change agents.
pub struct Writer {
    /// The key's workspace.
    pub workspace: Workspace,
    /// The key, for the audit trail.
    pub actor: Actor,
}

/// An API key that may manage its workspace.
pub struct Admin {
    /// The key's workspace.
    pub workspace: Workspace,
}

/// An agent that beats, by its credential's form. Whether the credential is any good is decided by the
/// statement that stores the beat.
pub struct Beating {
    /// What was presented.
    pub credential: Hashed<Agent>,
}

/// An agent whose credential was good a moment ago. Every write on its behalf checks again, under a lock.
pub struct AgentSelf {
    /// The agent's workspace.
    pub workspace: Workspace,
    /// What was presented.
    pub credential: Hashed<Agent>,
    agent: AgentId,
}

impl AgentSelf {
    /// The agent's id, if the path names the agent itself.
    ///
    /// # Errors
    /// [`Error::AgentNotFound`]: to an agent there is no other.
    pub fn only_itself(&self, path: AgentPath) -> Result<AgentId, Error> {
        path.id().and_then(|id| if id == self.agent { Ok(id) } else { Err(Error::AgentNotFound) })
    }
}

/// An API key that may change agents, or an agent on its own behalf.
pub enum WriterOrSelf {
    /// The API key.
    Writer(Writer),
    /// The agent.
    Agent(AgentSelf),
}

/// What the request presents, as the limits see it.
fn claim<'r>(parts: &'r Parts, app: &App, digest: &Digest, budget: &'r Budget) -> Claim<'r> {
    let RemoteIp(address) = RemoteIp::of(parts, app);
    Claim { address, digest: *digest, purpose: Purpose::Access, request: &parts.extensions, budget }
}

/// The error for a request without a credential of the route's own kind.
fn reject(parts: &Parts, app: &App) -> Error {
    app.limits.reject(RemoteIp::of(parts, app).0)
}

async fn authorise(parts: &Parts, app: &App, needed: Scope) -> Result<Writer, Error> {
    let budget = Budget::default();
    let Presented::ApiKey(key) = presented_by(parts) else { return Err(reject(parts, app)) };
    let (id, stored) = app
        .limits
        .admit(claim(parts, app, key.hashed().as_bytes(), &budget), async |turn| {
            let (id, stored) = app.keyring.open(&app.db, &key, turn, &budget).await?;
            Ok((Owner::Key(id, stored.workspace), (id, stored)))
        })
        .await?;
    AnswerOwner::note(&parts.extensions, &app.responses, id, stored.workspace);
    if !stored.scopes.iter().any(|held| allows(*held, needed)) {
        return Err(Error::InsufficientScope(needed));
    }
    Ok(Writer { workspace: app.db.workspace(stored.workspace, budget), actor: Actor::Key(id) })
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Writer { workspace, .. } = authorise(parts, app, Scope::AgentsRead).await?;
        Ok(Self { workspace })
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(authorise(parts, app, Scope::AgentsWrite).await?)
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Writer { workspace, .. } = authorise(parts, app, Scope::AdminOrganization).await?;
        Ok(Self { workspace })
    }
}

impl FromRequestParts<App> for Beating {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match presented_by(parts) {
            Presented::Agent(credential) => Ok(Self { credential }),
            _ => Err(Error::Unauthenticated.into()),
        }
    }
}

impl FromRequestParts<App> for AgentSelf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let budget = Budget::default();
        let Presented::Agent(credential) = presented_by(parts) else { return Err(reject(parts, app).into()) };
        let (workspace, agent) = app
            .limits
            .admit(claim(parts, app, credential.as_bytes(), &budget), async |turn| {
                let (workspace, agent) = app.db.credential_holder(credential, turn, &budget).await?;
                Ok((Owner::Agent(agent, workspace), (workspace, agent)))
            })
            .await?;
        Ok(Self { workspace: app.db.workspace(workspace, budget), credential, agent })
    }
}

impl FromRequestParts<App> for WriterOrSelf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if matches!(presented_by(parts), Presented::Agent(_)) {
            AgentSelf::from_request_parts(parts, app).await.map(Self::Agent).map_err(Problem::for_agent)
        } else {
            Writer::from_request_parts(parts, app).await.map(Self::Writer)
        }
    }
}
