//! A Postgres of a test's own, with fsync on, to be killed and frozen.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use planasonix::{
    db::schema,
    dev::postgres::{Cluster, Durability, Settings},
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::database;

const PATIENCE: Duration = Duration::from_mins(1);
const GLANCE: Duration = Duration::from_millis(10);

/// A private server with one migrated database. It stops when dropped.
pub struct Postgres {
    pub url: String,
    pub options: PgConnectOptions,
    cluster: Option<Cluster>,
    folder: PathBuf,
    _temp: TempDir,
}

impl Postgres {
    pub async fn start() -> Self {
        // Open to the user who runs Postgres when the tests run as root.
        let passable = Permissions::from_mode(0o711);
        let temp = tempfile::Builder::new().permissions(passable).tempdir_in(database::base()).unwrap();
        let settings = Settings {
            durability: Durability::Durable,
            max_connections: 100,
            ..database::settings(temp.path().to_owned())
        };
        let major = settings.search.find().unwrap().version.major;
        let cluster = spawn_blocking(move || Cluster::start(&settings).unwrap()).await.unwrap();
        let url = cluster.url("postgres");
        let options = PgConnectOptions::from_str(&url).unwrap();
        schema::migrate(&options).await.unwrap();
        Self {
            url,
            options,
            cluster: Some(cluster),
            folder: temp.path().join(format!("postgres-{major}")),
            _temp: temp,
        }
    }

    /// `kill -9` of the server; its guard starts it again, when the answer is dropped.
    pub fn kill(&self) -> Frozen {
        let guard = first_line_as_pid(&self.folder.join("guard.lock"));
        kill(guard, Signal::SIGSTOP).unwrap();
        kill(self.server(), Signal::SIGKILL).unwrap();
        Frozen(vec![guard])
    }

    /// Stops every process of the server in its tracks, until the answer is dropped.
    pub fn freeze(&self) -> Frozen {
        let server = self.server();
        kill(server, Signal::SIGSTOP).unwrap();
        // From here on there are no new ones.
        let children =
            Command::new("ps").args(["-o", "pid=", "--ppid", &server.to_string()]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let mut frozen = Frozen(vec![server]);
        frozen.0.extend(children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())));
        for process in &frozen.0 {
            // One that has just ended is as still.
            let _ = kill(*process, Signal::SIGSTOP);
        }
        frozen
    }

    /// Waits until it accepts connections.
    pub async fn accepts(&self) {
        let deadline = Instant::now() + PATIENCE;
        let connect = || timeout(Duration::from_secs(1), PgConnection::connect_with(&self.options));
        while !matches!(connect().await, Ok(Ok(_))) {
            assert!(Instant::now() < deadline, "Postgres does not come back");
            sleep(GLANCE).await;
        }
    }

    fn server(&self) -> Pid {
        first_line_as_pid(&self.folder.join("data/postmaster.pid"))
    }

    fn has_guard(&self) -> bool {
        File::open(self.folder.join("guard.lock")).is_ok_and(|lock| lock.try_lock().is_err())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.cluster.take();
        let deadline = Instant::now() + PATIENCE;
        while self.has_guard() && Instant::now() < deadline {
            std::thread::sleep(GLANCE);
        }
    }
}

fn first_line_as_pid(file: &Path) -> Pid {
    let text = fs::read_to_string(file).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
}

/// Processes that stand still. They go on when this is dropped.
#[must_use]
pub struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = kill(*process, Signal::SIGCONT);
        }
    }
}
