//! A private Postgres with fsync on, for one run. It and its folder are gone afterwards.

use std::{
    env, fs,
    path::{Path, PathBuf},
    str::FromStr,
    thread::sleep,
    time::Duration,
};

use planasonix::{
    db::schema,
    dev::postgres::{Cluster, Durability, GuardCommand, Search, Settings},
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions, query_as, query_scalar, raw_sql};

use crate::{Result, process};

const STATISTICS: Duration = Duration::from_secs(2);

/// Where the run's Postgres comes from.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the private Postgres keeps its data; on the disk whose fsync shall count
    #[arg(long, default_value_os_t = env::temp_dir())]
    data_dir: PathBuf,
    #[arg(long, env = "PATH", hide = true, hide_env_values = true)]
    path: Option<std::ffi::OsString>,
    /// Also print each row as a line of JSON
    #[arg(long)]
    pub json: bool,
}

/// A running Postgres with an empty database that has the schema.
pub struct Database {
    cluster: Option<Cluster>,
    /// Also holds the log of a server under test; removed at the end.
    pub folder: PathBuf,
    /// For child processes.
    pub url: String,
    pub options: PgConnectOptions,
    postmaster: u32,
}

/// What Postgres counts of the table that heartbeats change.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Table {
    pub updates: i64,
    pub hot: i64,
    pub heap_bytes: i64,
    pub index_bytes: i64,
}

impl Database {
    /// Starts Postgres with an empty database and applies the schema of the library that this program links.
    pub async fn start(args: &Args) -> Result<Self> {
        let database = Self::start_empty(args).await?;
        schema::migrate(&database.options).await?;
        Ok(database)
    }

    /// Starts Postgres with a database that has no schema.
    pub async fn start_empty(args: &Args) -> Result<Self> {
        let folder = args.data_dir.join(format!("planasonix-bench-{}", std::process::id()));
        let settings = Settings {
            dir: folder.clone(),
            durability: Durability::Durable,
            search: Search { override_dir: None, path: args.path.clone() },
            guard: GuardCommand { program: env::current_exe()?, args: vec!["postgres-guard".into()] },
            max_connections: 150,
        };
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&settings)).await??;
        let mut admin = PgConnection::connect(&cluster.url("postgres")).await?;
        raw_sql("CREATE DATABASE bench").execute(&mut admin).await?;
        let backend: i32 = query_scalar("SELECT pg_backend_pid()").fetch_one(&mut admin).await?;
        let postmaster = process::parent(backend.unsigned_abs()).unwrap_or_default();
        admin.close().await?;
        let url = cluster.url("bench");
        let options = PgConnectOptions::from_str(&url)?;
        Ok(Self { cluster: Some(cluster), folder, url, options, postmaster })
    }

    pub async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Processor time of all of Postgres so far, where the system tells.
    pub fn cpu_seconds(&self) -> f64 {
        process::family_cpu_seconds(self.postmaster)
    }

    /// How many bytes of write-ahead log there were so far.
    pub async fn wal_bytes(&self, connection: &mut PgConnection) -> Result<i64> {
        let bytes = "SELECT (pg_current_wal_lsn() - '0/0')::int8";
        Ok(query_scalar(bytes).fetch_one(connection).await?)
    }

    pub async fn table(&self, connection: &mut PgConnection) -> Result<Table> {
        settle().await;
        Ok(query_as(
            "SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot,
                    pg_table_size(relid) AS heap_bytes, pg_indexes_size(relid) AS index_bytes
             FROM pg_stat_user_tables WHERE relname = 'agent_liveness'",
        )
        .fetch_one(connection)
        .await?)
    }
}

/// Lets Postgres's counters come: a session reports a second after it last did, or soon after it has gone
/// idle.
pub async fn settle() {
    tokio::time::sleep(STATISTICS).await;
}

impl Drop for Database {
    /// Lets go of the server, waits until it has ended, and removes its data.
    fn drop(&mut self) {
        drop(self.cluster.take());
        let server = Path::new("/proc").join(self.postmaster.to_string());
        for _ in 0..200 {
            if !server.exists() {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        sleep(Duration::from_millis(200));
        // What is left lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
