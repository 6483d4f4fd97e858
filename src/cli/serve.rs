//! `planasonix serve`

use std::{
    net::{SocketAddr, TcpListener},
    pin::pin,
    time::Duration,
};

use socket2::SockRef;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};

use super::{agent_programs::for_serve, failure::Failure, migrate::options};
use crate::{
    config::{AdmissionArgs, AgentArgs, MetricsArgs, ServeArgs},
    db::{
        LaneSizes,
        schema::{self, Mismatch},
    },
    domain::Error,
    http::{
        server::limit_buffers,
        startup::{Phase, StartupGate},
    },
    installer::Installers,
    lifecycle::{HttpServer, Service, Settings, raise_open_files, stop_signal},
    telemetry::exporter,
};

/// A database that starts beside us gets so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many may wait to be taken in: a fleet that lost its server comes back all at once.
const BACKLOG: i32 = 4_096;

/// Serves until asked to stop.
///
/// # Errors
/// What stands in the way of a start, or what ended it.
pub async fn run(args: ServeArgs) -> Result<(), Failure> {
    // First, so that it ends the process whatever that waits for, also as process 1, whose signals have no
    // default action.
    let mut stop = pin!(stop_signal()?);
    let options = options(&args.database)?;
    let listener = bind("--listen", args.listen)?;
    let address = listener.local_addr()?;
    serve_metrics(&args.metrics)?;
    let mut settings = settings(&args.agents, args.admission, args.shutdown_delay)?;
    raise_open_files();
    let mut http = HttpServer::start(listener, &settings);
    let schema = prepare_schema(&options, args.migrate, http.gate());
    if http.prepare(stop.as_mut(), schema).await?.is_none() {
        return Ok(());
    }
    settings.installers = for_serve(args.installers)?;
    let service = Service::start_on(http, options, settings);
    tracing::info!(%address, "serving");
    Ok(service.run(stop).await?)
}

/// Waits for the database, and migrates it if asked to.
async fn prepare_schema(options: &PgConnectOptions, migrate: bool, gate: StartupGate) -> Result<(), Failure> {
    gate.enter(Phase::WaitingForDatabase);
    let before = await_schema(options).await?;
    if migrate {
        gate.enter(Phase::Migrating);
        schema::migrate(options).await?;
        schema::check(options).await??;
    } else {
        before?;
    }
    gate.enter(Phase::Preparing);
    Ok(())
}

/// What the flags say of a running control plane, its installers aside.
///
/// # Errors
/// Two of them cannot hold together.
pub fn settings(
    agents: &AgentArgs,
    admission: AdmissionArgs,
    shutdown_delay: u64,
) -> Result<Settings, Failure> {
    Ok(Settings {
        lives: agents.lives(),
        rhythm: agents.rhythm().map_err(Failure::new)?,
        events_retention: agents.events_retention(),
        shutdown_delay: Duration::from_secs(shutdown_delay),
        lanes: LaneSizes::default(),
        admission: admission.into(),
        installers: Installers::default(),
    })
}

/// Takes the address before anything else is done.
///
/// # Errors
/// Somebody else has it, or it is not ours.
pub fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        limit_buffers(&listener);
        SockRef::from(&listener).listen(BACKLOG)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        Failure::new(format!("cannot listen on {address}: {error}; choose another with {flag}"))
    })
}

/// Records and serves metrics until the process ends, if asked to.
///
/// # Errors
/// Somebody else has the address, or it is not ours.
pub fn serve_metrics(args: &MetricsArgs) -> Result<(), Failure> {
    let Some(address) = args.metrics_listen else { return Ok(()) };
    let listener = bind("--metrics-listen", address)?;
    let recorded = exporter::install().map_err(|error| Failure::new(format!("metrics: {error}")))?;
    tracing::info!(address = %listener.local_addr()?, "metrics are on offer");
    tokio::spawn(exporter::serve(recorded, listener));
    Ok(())
}

/// Whether the schema that is there will do, as soon as there is a database to ask.
async fn await_schema(options: &PgConnectOptions) -> Result<Result<(), Mismatch>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut waiting = false;
    loop {
        match schema::check(options).await {
            Err(Error::Unavailable(cause)) if Instant::now() < deadline => {
                if !waiting {
                    tracing::warn!(cause = cause.as_ref(), "waiting for the database");
                }
                waiting = true;
                sleep(Duration::from_millis(250)).await;
            }
            result => return Ok(result?),
        }
    }
}
