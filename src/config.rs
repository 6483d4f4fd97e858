//! Every flag and variable of the program, with its default. The only place that reads the environment.
//!
//! A setting is a flag, and a variable `PLANASONIX_…` of the same name; the flag wins.

mod admission;
mod agents;
mod commands;
mod installers;
mod metrics;

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};

use self::agents::seconds;
pub use self::{
    admission::AdmissionArgs,
    agents::AgentArgs,
    commands::{ApiKeyCommand, WorkspaceCommand},
    installers::InstallerArgs,
    metrics::MetricsArgs,
};
use crate::dev::postgres::{self, Search};

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
    #[arg(long, env = "PLANASONIX_MIGRATE", value_parser = BoolishValueParser::new())]
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
