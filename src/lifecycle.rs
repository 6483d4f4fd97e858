//! A running control plane: in which order it starts, and in which it stops.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum_server::Handle;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api_keys::keyring::Keyring,
    db::{Db, LaneSizes, fleet::BeatRules},
    domain::presence::Rhythm,
    enrollment::Lives,
    http::{
        Admission, App, Parts,
        detached::Detached,
        limits::Limits,
        readiness::Readiness,
        response_budget::ResponseBudget,
        router,
        server::{self, ListenerConfig},
        startup::StartupGate,
    },
    installer::Installers,
    presence::{FleetSize, Presence},
    tasks::{Supervisor, census::Census, prune::Prune, reaper::Reaper, timer::every},
};

/// What is not finished so long after the signal is cut.
const DRAIN: Duration = Duration::from_secs(8);
/// However long the delay, requests that came at its end get this long. None on the database takes longer.
const LAST_REQUESTS: Duration = Duration::from_secs(3);
/// What the tasks behind the requests get after that.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How long callers are remembered who have their whole allowance again.
const FORGET: Duration = Duration::from_secs(10);

/// Settings of a running control plane.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long secrets live.
    pub lives: Lives,
    /// How often agents beat.
    pub rhythm: Rhythm,
    /// After how long events go; `None` is never.
    pub events_retention: Option<Duration>,
    /// How long it still serves while `/readyz` says no.
    pub shutdown_delay: Duration,
    /// How many connections to the database it holds.
    pub lanes: LaneSizes,
    /// Whom it believes and serves, and how often.
    pub admission: Admission,
    /// What agents are installed from.
    pub installers: Installers,
}

/// The HTTP server, from the moment at which the process listens: until a [`Service`] takes it over, `/livez`
/// answers and everything else is a 503 that says why.
pub struct HttpServer {
    gate: StartupGate,
    handle: Handle<SocketAddr>,
    task: JoinHandle<io::Result<()>>,
}

impl HttpServer {
    /// Starts answering.
    pub fn start(listener: TcpListener, settings: &Settings) -> Self {
        let (gate, handle) = (StartupGate::new(&settings.admission.origins), Handle::new());
        let Admission { proxies, connections, timeouts, .. } = &settings.admission;
        let config =
            ListenerConfig { connections: *connections, proxies: proxies.clone(), timeouts: *timeouts };
        let task = tokio::spawn(server::serve(gate.clone(), listener, handle.clone(), config));
        Self { gate, handle, task }
    }

    /// Where the start-up notes what it waits for.
    pub fn gate(&self) -> StartupGate {
        self.gate.clone()
    }

    /// Runs the start-up to its end. `None` when the process is asked to stop first: the start-up is dropped
    /// where it stands, and with it its connections to the database.
    ///
    /// # Errors
    /// The start-up failed, or the listener broke.
    pub async fn prepare<T, E: From<io::Error>>(
        &mut self,
        stop: impl Future<Output = ()>,
        start_up: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, E> {
        tokio::select! {
            () = stop => {
                tracing::info!("stopping before the start-up was complete");
                Ok(None)
            }
            result = start_up => result.map(Some),
            ended = &mut self.task => {
                ended.map_err(join_error)??;
                Err(io::Error::other("the listener ended").into())
            }
        }
    }
}

/// A running control plane.
pub struct Service {
    db: Db,
    http: HttpServer,
    detached: Detached,
    supervisor: Supervisor,
    stopping: CancellationToken,
    tasks_stop: CancellationToken,
    shutdown_delay: Duration,
}

impl Service {
    /// Starts serving on a listener. The schema was checked before.
    pub fn start(options: PgConnectOptions, listener: TcpListener, settings: Settings) -> Self {
        Self::start_on(HttpServer::start(listener, &settings), options, settings)
    }

    /// Starts serving on a server that answered probes meanwhile.
    pub fn start_on(http: HttpServer, options: PgConnectOptions, settings: Settings) -> Self {
        let db = Db::new(options, settings.lanes);
        let Rhythm { window, min_interval, .. } = settings.rhythm;
        let rules = BeatRules { window, min_interval };
        let (presence, flusher) = Presence::new(&db, rules);
        let (supervisor, tasks_stop) = (Supervisor::default(), CancellationToken::new());
        supervisor.spawn("flusher", tasks_stop.clone(), flusher.run(tasks_stop.clone()));
        supervisor.spawn(
            "reaper",
            tasks_stop.clone(),
            Reaper::new(db.clone(), window).run(tasks_stop.clone()),
        );
        let fleet = Arc::new(FleetSize::default());
        let census = Census::new(db.clone(), Arc::clone(&fleet));
        supervisor.spawn("census", tasks_stop.clone(), census.run(tasks_stop.clone()));
        let prune = Prune::new(db.clone(), settings.events_retention);
        supervisor.spawn("prune", tasks_stop.clone(), prune.run(tasks_stop.clone()));
        let Admission { proxies, rates, origins, .. } = settings.admission;
        let limits = Arc::new(Limits::new(rates));
        let forget = Arc::clone(&limits);
        let forgetful = every(FORGET, tasks_stop.clone(), move || forget.forget());
        supervisor.spawn("limits", tasks_stop.clone(), forgetful);
        let (stopping, detached) = (CancellationToken::new(), Detached::default());
        let app = App::new(Parts {
            db: db.clone(),
            presence,
            lives: settings.lives,
            rhythm: settings.rhythm,
            fleet,
            stopping: stopping.clone(),
            responses: ResponseBudget::default(),
            readiness: Readiness::new(db.clone()),
            keyring: Keyring::default(),
            detached: detached.clone(),
            limits,
            proxies,
            origins,
            installers: settings.installers,
        });
        http.gate.open(router(app));
        Self { db, http, detached, supervisor, stopping, tasks_stop, shutdown_delay: settings.shutdown_delay }
    }

    /// Serves until asked to stop or until something it cannot do without has died; then drains.
    ///
    /// # Errors
    /// The listener broke or a background task died.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> io::Result<()> {
        tokio::select! {
            () = stop => self.drain().await,
            () = self.supervisor.death() => {
                self.drain().await?;
                Err(io::Error::other("a background task died; the log says which"))
            }
            ended = &mut self.http.task => ended.map_err(join_error)?,
        }
    }

    /// Stops in order: `/readyz` says no while requests are still served, then no new connections, the
    /// requests under way finish, the heartbeats that wait are committed.
    async fn drain(self) -> io::Result<()> {
        let deadline = Instant::now() + DRAIN.max(self.shutdown_delay + LAST_REQUESTS);
        tracing::info!("stopping");
        self.stopping.cancel();
        sleep(self.shutdown_delay).await;
        self.http.handle.graceful_shutdown(Some(deadline.saturating_duration_since(Instant::now())));
        let served = timeout_at(deadline + SETTLE, self.http.task).await;
        // Requests whose callers have hung up; those that wait for a body are cut with their connections.
        let _ = timeout_at(deadline + SETTLE, self.detached.finished()).await;
        self.tasks_stop.cancel();
        if timeout(SETTLE, self.supervisor.join()).await.is_err() {
            tracing::warn!("what was still under way was cut");
        }
        // Connections that do not close in time are closed by the end of the process.
        let _ = timeout(SETTLE / 4, self.db.close()).await;
        match served {
            Ok(ended) => ended.map_err(join_error)?,
            Err(_) => Ok(()),
        }
    }
}

/// Lets the process hold as many connections as the system allows it to.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most));
    match raised {
        Ok(files) => tracing::debug!(files, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

fn join_error(error: JoinError) -> io::Error {
    io::Error::other(error)
}

/// Ends when the process is asked to stop: SIGTERM, or Ctrl-C.
///
/// # Errors
/// The system takes no signal handlers.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
