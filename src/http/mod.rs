//! HTTP: the route table, and the layers around it. Start reading here.

pub mod agents;
pub mod answer;
pub mod api_keys;
pub mod auth;
pub mod conditional;
pub mod cors;
pub mod cursor;
pub mod detached;
pub mod docs;
pub mod edge;
pub mod error;
pub mod extract;
pub mod health;
pub mod json;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod partial;
pub mod query;
pub mod readiness;
pub mod remote_ip;
pub mod response_budget;
pub mod server;
pub mod startup;

use std::{collections::BTreeSet, ops::Deref, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header},
    middleware::{from_fn, from_fn_with_state},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, sensitive_headers::SetSensitiveRequestHeadersLayer};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    cors::Origin,
    detached::Detached,
    edge::AgentPaths,
    error::Problem,
    limits::{Limits, Rates},
    openapi::Document,
    readiness::Readiness,
    remote_ip::Proxies,
    response_budget::ResponseBudget,
    server::{ConnectionLimits, Timeouts},
};
use crate::{
    api_keys::keyring::Keyring,
    db::Db,
    domain::presence::Rhythm,
    enrollment::Lives,
    installer::Installers,
    presence::{FleetSize, Presence},
};

/// Whom the service believes and serves, and how often. Nobody's word, everybody and always, unless said
/// otherwise; but only pages of its own origin.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Whose word on a client's address counts.
    pub proxies: Proxies,
    /// How often callers may ask.
    pub rates: Rates,
    /// Which pages of other origins may ask.
    pub origins: Vec<Origin>,
    /// The most connections.
    pub connections: ConnectionLimits,
    /// How long connections may take.
    pub timeouts: Timeouts,
}

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// The database.
    pub db: Db,
    /// Where heartbeats go.
    pub presence: Presence,
    /// How long secrets live.
    pub lives: Lives,
    /// How often agents beat.
    pub rhythm: Rhythm,
    /// How large the fleet is.
    pub fleet: Arc<FleetSize>,
    /// Cancelled when the process is about to stop.
    pub stopping: CancellationToken,
    /// Memory of large answers that were not read yet.
    pub responses: ResponseBudget,
    /// Whether the database can be used.
    pub readiness: Readiness,
    /// What is remembered of API keys.
    pub keyring: Keyring,
    /// The tasks that requests run on.
    pub detached: Detached,
    /// What callers have left of their allowances.
    pub limits: Arc<Limits>,
    /// Whose word on a client's address counts.
    pub proxies: Proxies,
    /// Which pages of other origins may ask.
    pub origins: Vec<Origin>,
    /// What agents are installed from.
    pub installers: Installers,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The routes that agents alone call. Every error there tells the agent what to do.
fn agent_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(agents::enroll::enroll))
        .routes(routes!(agents::heartbeat::heartbeat))
        .routes(routes!(agents::rotate::rotate))
        .routes(routes!(agents::disconnect::disconnect))
}

/// The routes whose requests stay on their connection's task; see [`detached`]. All others wait for something that a
/// caller who hangs up must not cut.
fn attached_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(agents::heartbeat::heartbeat))
        .routes(routes!(health::livez))
        .routes(routes!(openapi::json))
        .routes(routes!(openapi::yaml))
}

fn paths<S: Clone + Send + Sync + 'static>(routes: &OpenApiRouter<S>) -> BTreeSet<String> {
    routes.get_openapi().paths.paths.keys().cloned().collect()
}

/// Every route of the service, with the document that describes them.
fn routes() -> OpenApiRouter<App> {
    let operators = OpenApiRouter::new()
        .routes(routes!(agents::list::list, agents::register::register))
        .routes(routes!(agents::connected::connected))
        .routes(routes!(agents::events::list))
        .routes(routes!(agents::events::list_of_agent))
        .routes(routes!(agents::get::get, agents::update::update, agents::delete::delete))
        .routes(routes!(agents::health::health))
        .routes(routes!(agents::revoke::revoke))
        .routes(routes!(agents::enable::enable))
        .routes(routes!(agents::drain::drain))
        .routes(routes!(agents::drain::resume))
        .routes(routes!(agents::enrollment_token::issue))
        .routes(routes!(agents::installer::download))
        .routes(routes!(agents::manual_install::instructions));

    let administrators = OpenApiRouter::new()
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::get, api_keys::delete))
        .routes(routes!(api_keys::regenerate));

    let public = OpenApiRouter::new()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(openapi::json))
        .routes(routes!(openapi::yaml));

    OpenApiRouter::with_openapi(openapi::preamble())
        .merge(operators)
        .merge(administrators)
        .merge(agent_routes())
        .merge(public)
}

/// The document that describes every route.
pub fn document() -> Document {
    Document::new(routes().into_openapi())
}

/// The whole service: what [`server::serve`] serves, and what the tests call.
pub fn router(app: App) -> Router {
    let (router, openapi) = routes().split_for_parts();
    let router = router.merge(docs::routes());
    let sensitive = [vec![header::AUTHORIZATION], auth::LEGACY_KEY_HEADERS.to_vec()].concat();
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(
            ServiceBuilder::new()
                .layer(SetSensitiveRequestHeadersLayer::new(sensitive))
                .layer(app.detached.layer(paths(&attached_routes())))
                .layer(from_fn_with_state(AgentPaths::of(&agent_routes()), edge::edge))
                .option_layer(cors::layer(&app.origins))
                .layer(from_fn(limits::tell))
                .layer(CatchPanicLayer::custom(edge::panicked))
                .layer(from_fn(edge::note_route))
                .layer(axum::Extension(Arc::new(Document::new(openapi))))
                .layer(from_fn(auth::identify)),
        )
        .with_state(app)
}

async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is no such path; /api/openapi.json lists those that are",
    )
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not take this method; the Allow header lists those that it takes",
    )
}
