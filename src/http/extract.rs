//! What handlers take apart from the caller: path, query, body, address. Our own, since the framework's
//! answer in their own words when something is wrong.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use http_body_util::BodyExt;
use planasonix_wire::{AgentId, ApiKeyId};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Semaphore, time::timeout};

use super::{App, error::Problem, json, query};
use crate::domain::{
    Error,
    agent::{PLATFORMS, Platform},
    idempotency,
    invalid::{Checks, Invalid},
    page::PageSize,
};

/// A body of at most this many bytes is read, unless the route says otherwise.
pub const BODY_BYTES: usize = 64 * 1024;
/// A heartbeat's body.
pub const HEARTBEAT_BYTES: usize = 16 * 1024;
const BODY_TIME: Duration = Duration::from_secs(15);
/// A body beyond this size needs one of [`LARGE_BODIES`]. Bodies of agents and of nearly all operators fit.
const LARGE_BODY_BYTES: usize = 16 * 1024;
/// Bodies beyond [`LARGE_BODY_BYTES`] that are read at once: with some 64 KiB each, 16 MiB in all.
static LARGE_BODIES: Semaphore = Semaphore::const_new(256);
/// So much of a body that is too large is thrown away, so that its sender lives to read the answer.
const DRAINED_BYTES: usize = 16 * 1024 * 1024;

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

/// A JSON body that must be there.
pub struct JsonBody<T>(pub T);

/// A JSON body that may be left out, or be empty.
pub struct OptionalBody<T, const MOST_BYTES: usize = BODY_BYTES>(pub T);

/// The body of a route that asks for no field.
#[derive(Debug, Default, Deserialize)]
pub struct NoFields {}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !says_json(&parts.headers) {
            return Err(unsupported_media_type());
        }
        json::parse(&read(body, BODY_BYTES).await?).map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned + Default, const MOST_BYTES: usize> FromRequest<S>
    for OptionalBody<T, MOST_BYTES>
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if http_body::Body::is_end_stream(&body) {
            return Ok(Self(T::default()));
        }
        let said_json = says_json(&parts.headers);
        if !said_json && parts.headers.contains_key(header::CONTENT_TYPE) {
            return Err(unsupported_media_type());
        }
        let bytes = read(body, MOST_BYTES).await?;
        match (bytes.is_empty(), said_json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => json::parse(&bytes).map(Self),
            (false, false) => Err(unsupported_media_type()),
        }
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unsupported_media_type() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "send the body as JSON, with the header Content-Type: application/json",
    )
}

async fn read(body: Body, most_bytes: usize) -> Result<Vec<u8>, Problem> {
    timeout(BODY_TIME, collect(body, most_bytes)).await.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
        ))
    })
}

async fn collect(mut body: Body, most_bytes: usize) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut total) = (Vec::new(), 0);
    let mut slot = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::invalid_json(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total <= most_bytes {
            if total > LARGE_BODY_BYTES && slot.is_none() {
                let full = |_| Problem::unavailable("too many large bodies are arriving");
                slot = Some(LARGE_BODIES.try_acquire().map_err(full)?);
            }
            bytes.extend_from_slice(&data);
        } else if total > DRAINED_BYTES {
            break;
        }
    }
    if total <= most_bytes {
        return Ok(bytes);
    }
    Err(Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body may have at most {most_bytes} bytes"),
    ))
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
