//! The outermost layer: gives the request its id, logs how it ended, and puts every error into the
//! envelope, whoever raised it.

use std::{
    any::Any,
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rand::RngExt;
use tracing::Instrument;
use utoipa_axum::router::OpenApiRouter;

use super::{auth::LEGACY_KEY_HEADERS, error::Problem};
use crate::{domain::Error, entropy, meter};

/// The header that carries the request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MOST_HEADER_BYTES: usize = 32 * 1024;
const MOST_HEADERS: usize = 100;
const MOST_ID_CHARS: usize = 128;

/// The paths, as patterns, that agents alone call.
#[derive(Clone, Default)]
pub struct AgentPaths(Arc<BTreeSet<String>>);

impl AgentPaths {
    /// Those of these routes.
    pub fn of<S: Clone + Send + Sync + 'static>(routes: &OpenApiRouter<S>) -> Self {
        Self(Arc::new(routes.get_openapi().paths.paths.keys().cloned().collect()))
    }

    fn hold(&self, request: &Request) -> bool {
        request.extensions().get::<MatchedPath>().is_some_and(|path| self.0.contains(path.as_str()))
    }
}

/// Wraps everything else.
pub async fn edge(State(agents): State<AgentPaths>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", id = %id.to_str().unwrap_or_default());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    async move {
        let started = Instant::now();
        let (method, by_agent) = (request.method().clone(), agents.hold(&request));
        let by_legacy_key = LEGACY_KEY_HEADERS.iter().any(|name| request.headers().contains_key(name));
        let response = match too_large(request.headers()) {
            Some(problem) => problem.into_response(),
            None => next.run(request).await,
        };
        let route = response.extensions().get::<Route>().map(|route| route.0.as_str());
        let (status, elapsed) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(%method, route, status, ?elapsed, "answered");
        meter::request(known(&method), route, status, elapsed);
        let mut response = envelope(response, by_agent, id.to_str().unwrap_or_default());
        response.headers_mut().insert(REQUEST_ID, id);
        if by_legacy_key {
            keep_private(response.headers_mut());
        }
        response
    }
    .instrument(span)
    .await
}

/// Which route answered, by its pattern: a raw path may hold anything.
#[derive(Clone)]
struct Route(MatchedPath);

/// A method as a label: a caller can make up any number of others.
fn known(method: &Method) -> &'static str {
    const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];
    METHODS.into_iter().find(|known| method == known).unwrap_or("other")
}

/// Notes the matched route for the log and the metrics.
pub async fn note_route(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(path) = path {
        response.extensions_mut().insert(Route(path));
    }
    response
}

/// Answers a panic as any other fault of ours.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text");
    Problem::from(Error::Internal(text.into())).into_response()
}

/// Keeps a sane inbound id and replaces anything else.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let inbound = headers.get(REQUEST_ID).filter(|id| {
        let id = id.as_bytes();
        (1..=MOST_ID_CHARS).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
    });
    inbound.cloned().unwrap_or_else(fresh_id)
}

fn fresh_id() -> HeaderValue {
    let id = format!("req_{:032x}", entropy::rng().random::<u128>());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("req_unknown"))
}

fn too_large(headers: &HeaderMap) -> Option<Problem> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (bytes > MOST_HEADER_BYTES || headers.len() > MOST_HEADERS).then(headers_too_large)
}

/// The refusal of too many headers, or too long ones.
pub fn headers_too_large() -> Problem {
    Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers_too_large",
        format!("a request may have at most {MOST_HEADERS} headers of {MOST_HEADER_BYTES} bytes together"),
    )
}

/// Logs and counts a request that is refused before it is one, and gives the answer's id and body.
pub fn refuse_early(problem: &Problem) -> (String, Vec<u8>) {
    let id = fresh_id();
    let id = id.to_str().unwrap_or_default();
    let status = problem.status.as_u16();
    tracing::debug!(id, status, code = problem.code, "request refused before it reached a route");
    meter::request("other", None, status, Duration::ZERO);
    meter::refusal(problem.code);
    (id.to_owned(), problem.body(id))
}

/// Says that an answer to a credential in a legacy header is for its caller alone. Caches know that of
/// `Authorization` by themselves.
fn keep_private(headers: &mut HeaderMap) {
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private"));
    for name in LEGACY_KEY_HEADERS {
        headers.append(header::VARY, HeaderValue::from(name));
    }
}

/// Logs what is ours. What passes by itself is a warning: a database that is away for a minute is thousands of
/// them.
fn log(problem: &Problem) {
    let cause = problem.cause().map(|cause| cause.as_ref() as &(dyn std::error::Error + 'static));
    match problem.status {
        StatusCode::SERVICE_UNAVAILABLE => tracing::warn!(code = problem.code, cause, "failed"),
        status if status.is_server_error() => tracing::error!(code = problem.code, cause, "failed"),
        _ => {}
    }
}

/// Renders a problem; to an agent also with what it does next, whoever raised the problem.
fn envelope(mut response: Response, by_agent: bool, request_id: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>().and_then(Arc::into_inner) else {
        return response;
    };
    let problem = if by_agent { problem.for_agent() } else { problem };
    meter::refusal(problem.code);
    log(&problem);
    let mut rendered = problem.render(request_id);
    for (name, value) in response.headers() {
        if *name != header::CONTENT_LENGTH {
            rendered.headers_mut().insert(name, value.clone());
        }
    }
    rendered
}
