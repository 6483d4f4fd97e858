//! The contenders, each in a process of its own on the same database. All stand behind the control plane's
//! own accept loop; the first two behind its layers, parsing and validation too.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    http::{HeaderValue, header},
    middleware::{from_fn, from_fn_with_state},
    response::IntoResponse,
    routing::post,
};
use axum_server::Handle;
use planasonix::{
    api_keys::keyring::Keyring,
    cli::output,
    db::{Db, LaneSizes, fleet::BeatRules},
    domain::presence::{Rhythm, Sample},
    enrollment::Lives,
    http::{
        Admission, App, Parts, auth,
        detached::Detached,
        edge,
        error::Problem,
        extract::{HEARTBEAT_BYTES, OptionalBody},
        limits::{self, Limits, Rates},
        readiness::Readiness,
        remote_ip::Proxies,
        response_budget::ResponseBudget,
        server::{self, ConnectionLimits, ListenerConfig},
    },
    installer::{Installers, binaries::in_folder},
    lifecycle::{Service, Settings},
    presence::{FleetSize, Presence},
};
use planasonix_wire::heartbeat::Heartbeat;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, stdin},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, sensitive_headers::SetSensitiveRequestHeadersLayer};

use crate::{Result, statement};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// The control plane as it is.
    GroupCommit,
    /// The same, but one UPDATE a heartbeat.
    OneUpdate,
    /// Parses the body, answers a constant: what the accept loop and the machine can do.
    Bare,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    contender: Contender,
    #[arg(long)]
    database: String,
    #[arg(long, default_value_t = 32)]
    pool: u32,
    #[arg(long, default_value_t = 120)]
    window: u64,
    #[arg(long)]
    agents_dir: Option<PathBuf>,
}

/// Serves until standard input ends, which it does with the process that started this one.
pub async fn serve(args: Args) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    server::limit_buffers(&listener);
    let address = listener.local_addr()?;
    let options = PgConnectOptions::from_str(&args.database)?;
    let mut settings = settings(Duration::from_secs(args.window));
    if let Some(folder) = args.agents_dir {
        settings.installers = Installers::new(Some("https://api.example.com".parse()?));
        settings.installers.stock(&in_folder(&folder)?);
    }
    output::line(&address.to_string())?;
    let over = async { drop(stdin().read_to_end(&mut Vec::new()).await) };
    match args.contender {
        Contender::GroupCommit => Service::start(options, listener, settings).run(over).await?,
        Contender::OneUpdate => {
            let router = one_update(options, settings, args.pool);
            tokio::select! {
                served = server::serve(router, listener, Handle::new(), config()) => served?,
                () = over => {}
            }
        }
        Contender::Bare => {
            let router = Router::new().route("/api/agents/{id}/heartbeat", post(bare));
            tokio::select! {
                served = server::serve(router, listener, Handle::new(), config()) => served?,
                () = over => {}
            }
        }
    }
    Ok(())
}

/// All connections come from one address.
const CONNECTIONS: ConnectionLimits = ConnectionLimits { total: Some(200_000), per_address: Some(0) };

fn config() -> ListenerConfig {
    ListenerConfig { connections: CONNECTIONS, ..ListenerConfig::default() }
}

fn settings(window: Duration) -> Settings {
    Settings {
        lives: Lives { enrollment_token: Duration::from_hours(5), credential: Duration::from_hours(30 * 24) },
        rhythm: Rhythm {
            window,
            interval: Duration::from_secs(30),
            min_interval: Duration::ZERO,
            most_per_second: u32::MAX,
        },
        events_retention: None,
        shutdown_delay: Duration::ZERO,
        lanes: LaneSizes::default(),
        admission: Admission { connections: CONNECTIONS, ..Admission::default() },
        installers: Installers::default(),
    }
}

/// The layers are those of `planasonix::http::router`.
fn one_update(options: PgConnectOptions, settings: Settings, connections: u32) -> Router {
    let db = Db::new(options, settings.lanes);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .connect_lazy_with(db.options().clone());
    let (presence, _) =
        Presence::new(&db, BeatRules { window: settings.rhythm.window, min_interval: Duration::ZERO });
    let app = App::new(Parts {
        readiness: Readiness::new(db.clone()),
        responses: ResponseBudget::default(),
        db,
        presence,
        lives: settings.lives,
        rhythm: settings.rhythm,
        fleet: Arc::new(FleetSize::default()),
        stopping: CancellationToken::new(),
        keyring: Keyring::default(),
        detached: Detached::default(),
        limits: Arc::new(Limits::new(Rates::default())),
        proxies: Proxies::default(),
        origins: Vec::new(),
        installers: settings.installers,
    });
    Router::new()
        .route("/api/agents/{id}/heartbeat", post(statement::heartbeat))
        .layer(
            ServiceBuilder::new()
                .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION]))
                .layer(from_fn_with_state(edge::AgentPaths::default(), edge::edge))
                .layer(from_fn(limits::tell))
                .layer(CatchPanicLayer::custom(edge::panicked))
                .layer(from_fn(edge::note_route))
                .layer(Extension(pool))
                .layer(from_fn(auth::identify)),
        )
        .with_state(app)
}

async fn bare(
    OptionalBody(body): OptionalBody<Heartbeat, HEARTBEAT_BYTES>,
) -> Result<impl IntoResponse, Problem> {
    Sample::check(body, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], r#"{"data":{"status":"active","heartbeat_interval_seconds":30}}"#))
}

/// A contender's process. It is ended when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub async fn start(contender: &str, database: &str, more: &[String]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--contender", contender, "--database", database])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut address = String::new();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        BufReader::new(stdout).read_line(&mut address).await?;
        let address = address.trim().parse()?;
        Ok(Self { child, address })
    }

    pub fn process(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().await?;
        Ok(())
    }
}
