//! Every flag and variable of the program, with its default. The only place that reads the environment.
//!
//! A setting is a flag, and a variable `PLANASONIX_…` of the same name; the flag wins.

mod admission;
mod installers;
mod metrics;

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser};
use planasonix_wire::ApiKeyId;

pub use self::{admission::AdmissionArgs, installers::InstallerArgs, metrics::MetricsArgs};
use crate::{
    dev::postgres::{self, Search},
    domain::{Scope, agent::ReenablePolicy, presence::Rhythm},
    enrollment::Lives,
};

/// The control plane of Planasonix's pipeline agents.
#[derive(Debug, Parser)]
#[command(name = "planasonix", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub logs: Logs,
}

/// How to log.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// What to log, to standard error: a level (error, warn, info, debug, trace), or a level for each module.
    #[arg(long, global = true, env = "PLANASONIX_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How a log line looks.
    #[arg(long, global = true, env = "PLANASONIX_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything for a first look or for development: a private Postgres, a workspace, an API key.
    Dev(DevArgs),
    /// Run the control plane.
    Serve(ServeArgs),
    /// Bring the database's schema up to this program's.
    Migrate(Database),
    /// Manage workspaces.
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// Manage API keys.
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Print the OpenAPI document.
    Openapi(OpenapiArgs),
    /// Ask the server on this host whether it is ready; fails if it is not.
    Healthcheck(HealthcheckArgs),
    /// Own a private Postgres; started by `dev` and by the tests.
    #[command(hide = true)]
    PostgresGuard(PostgresGuardArgs),
}

/// Which database.
#[derive(Debug, Clone, Args)]
pub struct Database {
    /// Where the database is: `postgres://user:password@host:port/name`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: String,
}

/// Settings of `planasonix serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Which database.
    #[command(flatten)]
    pub database: Database,
    /// Where to listen.
    #[arg(long, env = "PLANASONIX_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Bring the schema up to this program's first; for small set-ups.
    #[arg(long, env = "PLANASONIX_MIGRATE")]
    pub migrate: bool,
    /// How long a stopping process still serves while `/readyz` says no.
    #[arg(long, env = "PLANASONIX_SHUTDOWN_DELAY", default_value_t = 2, value_name = "SECONDS", value_parser = seconds(0, 300))]
    pub shutdown_delay: u64,
    /// How agents are treated.
    #[command(flatten)]
    pub agents: AgentArgs,
    /// Whom the service believes and serves, and how often.
    #[command(flatten)]
    pub admission: AdmissionArgs,
    /// What agents are installed from.
    #[command(flatten)]
    pub installers: InstallerArgs,
    /// Who may look inside.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

/// Settings of `planasonix dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where to listen.
    #[arg(long, env = "PLANASONIX_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where the private Postgres and the API key are kept [default: /var/lib/planasonix for root, else
    /// `planasonix` in the user's data folder].
    #[arg(long, env = "PLANASONIX_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Use this database instead of a private Postgres.
    #[arg(long, env = "PLANASONIX_DEV_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub dev_database_url: Option<String>,
    /// Where the Postgres programs are, if not in one of the usual places.
    #[arg(long, env = "PLANASONIX_POSTGRES_BIN", value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// How long a stopping process still serves while `/readyz` says no.
    #[arg(long, env = "PLANASONIX_SHUTDOWN_DELAY", default_value_t = 0, value_name = "SECONDS", value_parser = seconds(0, 300))]
    pub shutdown_delay: u64,
    /// How agents are treated.
    #[command(flatten)]
    pub agents: AgentArgs,
    /// Whom the service believes and serves, and how often.
    #[command(flatten)]
    pub admission: AdmissionArgs,
    /// What agents are installed from.
    #[command(flatten)]
    pub installers: InstallerArgs,
    /// Who may look inside.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

/// How agents are treated. All in seconds.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// How long an agent counts as connected after a heartbeat.
    #[arg(long, env = "PLANASONIX_CONNECTED_WINDOW", default_value_t = 120, value_name = "SECONDS", value_parser = seconds(4, 86_400))]
    pub connected_window: u64,
    /// The wanted time between two heartbeats; three always fit the window.
    #[arg(long, env = "PLANASONIX_HEARTBEAT_INTERVAL", default_value_t = 30, value_name = "SECONDS", value_parser = seconds(1, 3_600))]
    pub heartbeat_interval: u64,
    /// How many heartbeats a second the whole fleet should send at most; a larger fleet beats less often, as
    /// far as the window allows.
    #[arg(long, env = "PLANASONIX_HEARTBEAT_RATE", default_value_t = 10_000, value_name = "BEATS", value_parser = clap::value_parser!(u32).range(1..))]
    pub heartbeat_rate: u32,
    /// A heartbeat that follows the last one sooner than this is refused; 0 is off.
    #[arg(long, env = "PLANASONIX_HEARTBEAT_MIN_INTERVAL", default_value_t = 1, value_name = "SECONDS", value_parser = seconds(0, 3_600))]
    pub heartbeat_min_interval: u64,
    /// After how long events are removed; 0 keeps them for ever.
    #[arg(long, env = "PLANASONIX_EVENTS_RETENTION", default_value_t = 0, value_name = "SECONDS", value_parser = seconds(0, 315_360_000))]
    pub events_retention: u64,
    /// How long an enrollment token works.
    #[arg(long, env = "PLANASONIX_ENROLLMENT_TOKEN_TTL", default_value_t = 18_000, value_name = "SECONDS", value_parser = seconds(1, 31_536_000))]
    pub enrollment_token_ttl: u64,
    /// How long an agent's credential works.
    #[arg(long, env = "PLANASONIX_CREDENTIAL_TTL", default_value_t = 2_592_000, value_name = "SECONDS", value_parser = seconds(1, 315_360_000))]
    pub credential_ttl: u64,
}

fn seconds(least: u64, most: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(least..=most)
}

impl AgentArgs {
    /// How long secrets live.
    pub fn lives(&self) -> Lives {
        Lives {
            enrollment_token: Duration::from_secs(self.enrollment_token_ttl),
            credential: Duration::from_secs(self.credential_ttl),
        }
    }

    /// After how long events go; `None` is never.
    pub fn events_retention(&self) -> Option<Duration> {
        (self.events_retention > 0).then(|| Duration::from_secs(self.events_retention))
    }

    /// How often agents beat. The default of one second between two heartbeats at least gives way to a short
    /// window; any other must leave room for what agents are told.
    ///
    /// # Errors
    /// A text that names the settings which cannot hold together.
    pub fn rhythm(&self) -> Result<Rhythm, String> {
        let rhythm = Rhythm {
            window: Duration::from_secs(self.connected_window),
            interval: Duration::from_secs(self.heartbeat_interval),
            min_interval: Duration::from_secs(self.heartbeat_min_interval),
            most_per_second: self.heartbeat_rate,
        };
        let told = Duration::from_secs(rhythm.next_beat(0, 0.0).into());
        if rhythm.min_interval * 2 <= told {
            Ok(rhythm)
        } else if self.heartbeat_min_interval <= 1 {
            Ok(Rhythm { min_interval: told / 2, ..rhythm })
        } else {
            Err(format!(
                "--heartbeat-min-interval {} is more than half of the {} s that agents are told to wait under \
                 --heartbeat-interval {} and --connected-window {}",
                self.heartbeat_min_interval,
                told.as_secs(),
                self.heartbeat_interval,
                self.connected_window
            ))
        }
    }
}

/// What to do with workspaces.
#[derive(Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// Create a workspace.
    Create {
        /// Its short name, unique: lower-case letters, digits and hyphens.
        #[arg(long, value_parser = slug)]
        slug: String,
        /// Its name for people.
        #[arg(long)]
        name: String,
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List workspaces.
    List {
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Change a workspace's settings.
    Set {
        /// The workspace.
        #[arg(long)]
        slug: String,
        /// How many agents it may have.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..), required_unless_present = "reenable_policy")]
        max_agents: Option<i32>,
        /// What enabling a revoked agent asks of it: enrollment (it enrolls anew) or rotation (it is handed a
        /// new credential).
        #[arg(long, value_name = "POLICY")]
        reenable_policy: Option<ReenablePolicy>,
        /// Which database.
        #[command(flatten)]
        database: Database,
    },
}

fn slug(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 lower-case letters, digits and hyphens".to_owned())
    }
}

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Create an API key. Its secret is shown once.
    Create {
        /// The workspace's slug.
        #[arg(long)]
        workspace: String,
        /// Its name for people.
        #[arg(long)]
        name: String,
        /// What it may do; repeat for more.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// In how many days it ends; never unless given.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=36_500))]
        expires_in_days: Option<i32>,
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List a workspace's API keys.
    List {
        /// The workspace's slug.
        #[arg(long)]
        workspace: String,
        /// Which database.
        #[command(flatten)]
        database: Database,
        /// Answer with one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API key; the very next request with it is refused.
    Revoke {
        /// The key: `key_…`.
        id: ApiKeyId,
        /// Which database.
        #[command(flatten)]
        database: Database,
    },
}

/// Whom to ask.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Where the server listens.
    #[arg(long, env = "PLANASONIX_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
}

/// How to print the OpenAPI document.
#[derive(Debug, Args)]
pub struct OpenapiArgs {
    /// As YAML instead of JSON.
    #[arg(long)]
    pub yaml: bool,
}

/// What `dev::postgres` appends to the guard's command.
#[derive(Debug, Args)]
pub struct PostgresGuardArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    programs: PathBuf,
    #[arg(long)]
    max_connections: u16,
    #[arg(long)]
    fast: bool,
}

impl From<PostgresGuardArgs> for postgres::GuardSettings {
    fn from(args: PostgresGuardArgs) -> Self {
        let durability = if args.fast { postgres::Durability::Fast } else { postgres::Durability::Durable };
        Self { dir: args.dir, programs: args.programs, max_connections: args.max_connections, durability }
    }
}

impl DevArgs {
    /// The folder for the private Postgres and the API key; `None` if the user has no home.
    pub fn data_dir(&self) -> Option<PathBuf> {
        let (data_home, home) = (variable("XDG_DATA_HOME"), variable("HOME"));
        self.data_dir.clone().or_else(|| {
            postgres::default_dir(data_home.as_deref().map(Path::new), home.as_deref().map(Path::new))
        })
    }

    /// Where to look for the Postgres programs.
    pub fn search(&self) -> Search {
        Search { override_dir: self.postgres_bin.clone(), path: variable("PATH") }
    }
}

fn variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    env::var_os(name)
}
