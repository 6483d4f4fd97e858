//! The private Postgres of `planasonix dev` and of the tests.
//!
//! [`Cluster::start`] finds the Postgres programs of this machine, makes a cluster once, runs it
//! on a Unix socket that nobody else can reach, and hands out a lease on it. Processes that name
//! the same folder share one server. It stops when the last lease is gone, however its holder died.
//!
//! Three locks on files of the cluster's folder carry all of this; the kernel frees a lock when
//! its holder dies, so no kill leaves one behind:
//!
//! - `users.lock`, shared: each [`Cluster`] holds it. The guard stops the server once it can take
//!   it exclusively.
//! - `start.lock`: one starter at a time.
//! - `guard.lock`: held by the guard, the process that owns Postgres, which notes its server in it.
//!   When it is free there is no guard, and a server that still answers is on its way out.
//!
//! The guard is this same program under a hidden subcommand; it ends in [`guard_main`].

#[cfg(unix)]
mod account;
mod error;
#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod guard;
#[cfg(unix)]
mod initdb;
#[cfg(unix)]
mod leftover;
mod programs;
#[cfg(unix)]
mod starter;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

pub use error::Error;
#[cfg(unix)]
pub use folder::create_dirs;
pub use programs::{Programs, Search, Version};

/// What a user of the private server asks for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clusters live; each major version of Postgres gets a folder of its own below it.
    pub dir: PathBuf,
    /// Whether the data must survive a power cut. A server that already runs keeps its own.
    pub durability: Durability,
    /// Where to look for the Postgres programs.
    pub search: Search,
    /// How to run the guard.
    pub guard: GuardCommand,
    /// Postgres's `max_connections`. A server that already runs keeps its own.
    pub max_connections: u16,
}

/// The command that ends in [`guard_main`].
///
/// [`Cluster::start`] appends `--dir DIR --programs DIR --max-connections N`, and `--fast` for
/// [`Durability::Fast`].
#[derive(Debug, Clone)]
pub struct GuardCommand {
    /// An absolute path, usually that of the running program.
    pub program: PathBuf,
    /// What comes before the appended arguments: the hidden subcommand.
    pub args: Vec<OsString>,
}

/// Whether the data must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// For data that somebody wants to keep.
    Durable,
    /// For tests: no fsync. `synchronous_commit` stays as the client asks, so that code which
    /// depends on it runs the same path.
    Fast,
}

/// What the guard needs to know: the appended arguments, parsed.
#[derive(Debug, Clone)]
pub struct GuardSettings {
    /// `--dir`: the folder of this one cluster.
    pub dir: PathBuf,
    /// `--programs`: the folder of the Postgres programs.
    pub programs: PathBuf,
    /// `--max-connections`.
    pub max_connections: u16,
    /// `--fast`, or its absence.
    pub durability: Durability,
}

/// A lease on a running server, released when dropped or when the process dies.
#[derive(Debug)]
#[must_use = "the server stops when its last lease is dropped"]
pub struct Cluster {
    socket_dir: String,
    programs: PathBuf,
    /// Never read: it is the shared lock.
    _lease: File,
}

impl Cluster {
    /// Joins the server of this folder, starting it first when it does not run.
    ///
    /// Blocks until the server accepts connections. Later, should Postgres die, the guard starts
    /// it again; clients then see broken connections and, for a moment, SQLSTATE 57P03.
    ///
    /// # Errors
    ///
    /// See [`Error`]; each message says what to do.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        starter::start(settings)
    }

    /// The URL of a database of this server, as its superuser `postgres`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let (database, host) = (percent_encode(database), percent_encode(&self.socket_dir));
        format!("postgres://postgres@localhost/{database}?host={host}")
    }

    /// The folder of the programs that run it: `psql` and `pg_dump` are usually there too.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }
}

/// The body of the hidden subcommand: owns Postgres until its last user is gone.
///
/// Call it from the main thread, before any runtime starts: on Linux the kernel stops Postgres
/// when the *thread* that spawned it ends.
///
/// # Errors
///
/// When the cluster cannot be made or Postgres does not stay up. The caller prints the error to
/// standard error, which is the guard's log; the starter shows its last lines.
pub fn guard_main(settings: &GuardSettings) -> Result<(), Error> {
    guard::run(settings)
}

/// Where clusters live by default: `/var/lib/planasonix` for root, since Postgres then runs as a
/// user who cannot enter root's home; else `planasonix` in the user's data folder.
///
/// Takes `XDG_DATA_HOME` and `HOME` as values. `None` when neither gives a folder.
#[must_use]
pub fn default_dir(xdg_data_home: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
    #[cfg(unix)]
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/planasonix"));
    }
    let below_home = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    // The XDG specification tells programs to ignore a relative value.
    let data_home = xdg_data_home.filter(|dir| dir.is_absolute()).map(Path::to_path_buf);
    let data_home = data_home.or_else(|| home.map(|home| home.join(below_home)))?;
    Some(data_home.join("planasonix"))
}

/// Escapes all that is not unreserved in a URL (RFC 3986, section 2.3).
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(not(unix))]
mod starter {
    pub(super) fn start(_: &super::Settings) -> Result<super::Cluster, super::Error> {
        Err(super::Error::Unsupported)
    }
}

#[cfg(not(unix))]
mod guard {
    pub(super) fn run(_: &super::GuardSettings) -> Result<(), super::Error> {
        Err(super::Error::Unsupported)
    }
}
