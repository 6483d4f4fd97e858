//! HTTP before the application can serve: `/livez` answers, everything else is a 503 that says what the process
//! waits for.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::{
    BoxError, Router,
    body::{Bytes, HttpBody},
    extract::{Request, State},
    http::{self, HeaderMap, header},
    middleware::{from_fn, from_fn_with_state},
    response::Response,
    routing::{any, future::RouteFuture, get},
};
use planasonix_wire::token::{Kind, inspect};
use tokio::sync::watch;
use tower::{Service, ServiceBuilder};

use super::{
    agent_routes,
    cors::{self, Origin},
    edge::{self, AgentPaths},
    error::Problem,
    health, method_not_allowed,
};

/// What a process that starts is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Settings, workspaces, keys: nothing that takes long.
    Preparing,
    /// `planasonix dev`: its private Postgres is made or recovers.
    StartingPostgres,
    /// No connection to the database, or no answer about its schema yet.
    WaitingForDatabase,
    /// Migrations run, or another process holds their lock.
    Migrating,
}

impl Phase {
    fn reason(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::StartingPostgres => "starting the private Postgres",
            Self::WaitingForDatabase => "waiting for the database",
            Self::Migrating => "migrating the database's schema",
        }
    }
}

/// Serves start-up answers until [`Self::open`], then the application, also on connections that were open before.
/// Cheap to clone.
#[derive(Clone)]
pub struct StartupGate(Arc<Gate>);

struct Gate {
    phase: watch::Sender<Phase>,
    starting: Router,
    application: OnceLock<Router>,
}

impl StartupGate {
    /// Pages of these other origins may read why the service is not ready.
    pub fn new(origins: &[Origin]) -> Self {
        let (phase, current) = watch::channel(Phase::Preparing);
        Self(Arc::new(Gate { phase, starting: starting(current, origins), application: OnceLock::new() }))
    }

    /// Sets the reason that `/readyz` gives.
    pub fn enter(&self, phase: Phase) {
        self.0.phase.send_replace(phase);
    }

    /// Hands all further requests to the application; only the first call has an effect.
    pub fn open(&self, application: Router) {
        let _ = self.0.application.set(application);
    }
}

/// A gate that is open from the start, for what depends on nothing.
impl From<Router> for StartupGate {
    fn from(application: Router) -> Self {
        let phase = watch::Sender::new(Phase::Preparing);
        Self(Arc::new(Gate { phase, starting: Router::new(), application: OnceLock::from(application) }))
    }
}

impl<B> Service<http::Request<B>> for StartupGate
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        // A router's clone is one reference count.
        self.0.application.get().unwrap_or(&self.0.starting).clone().call(request)
    }
}

/// The agents' routes are named so that the 503 there has the agents' `action`.
fn starting(phase: watch::Receiver<Phase>, origins: &[Origin]) -> Router {
    let mut router = Router::new().route("/livez", get(health::livez));
    for path in agent_routes().get_openapi().paths.paths.keys() {
        router = router.route(path, any(not_ready));
    }
    router
        .fallback(not_ready)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(
            ServiceBuilder::new()
                .layer(from_fn_with_state(AgentPaths::of(&agent_routes()), edge::edge))
                .option_layer(cors::layer(origins))
                .layer(from_fn(edge::note_route)),
        )
        .with_state(phase)
}

async fn not_ready(State(phase): State<watch::Receiver<Phase>>, request: Request) -> Problem {
    let reason = phase.borrow().reason();
    let problem = Problem::unavailable(format!("the service is starting: {reason}; try again"));
    if is_from_agent(request.headers()) { problem.for_agent() } else { problem }
}

/// Whether the form of the credential is an agent's or an installer's; its state is not known yet.
fn is_from_agent(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim());
    let kind = token.and_then(|token| inspect(token).ok()).map(|(kind, _)| kind);
    matches!(kind, Some(Kind::Agent | Kind::Enrollment))
}
