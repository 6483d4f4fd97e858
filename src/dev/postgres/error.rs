//! What can go wrong on the way to a private Postgres, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::programs::{OLDEST_MAJOR, Version};

/// How to get a Postgres, or do without one of our own.
const INSTALL: &str = "Install it:
  Debian, Ubuntu   apt-get install postgresql postgresql-contrib
  Fedora           dnf install postgresql-server postgresql-contrib
  macOS            brew install postgresql@17
  Windows          winget install PostgreSQL.PostgreSQL.17, then use the variable below
or set PLANASONIX_DEV_DATABASE_URL to a database of a server that you run.";

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No folder holds both `postgres` and `initdb`.
    #[error("no Postgres programs (postgres, initdb) found in {looked_in}.\n{}", INSTALL)]
    NotFound {
        /// The places, as a list to read.
        looked_in: String,
    },
    /// The newest Postgres found is older than the product supports.
    #[error(
        "the newest Postgres found is {version}, in {}; at least {} is needed.\n{}",
        dir.display(), OLDEST_MAJOR, INSTALL
    )]
    TooOld {
        /// The newest version found.
        version: Version,
        /// Where it is.
        dir: PathBuf,
    },
    /// Root, on a machine with no user to run Postgres as.
    #[error(
        "Postgres refuses to run as root, and neither user 'postgres' nor 'nobody' exists: \
         create one, run this as another user, or set PLANASONIX_DEV_DATABASE_URL"
    )]
    NoAccount,
    /// The user who runs Postgres cannot get to a folder that it needs.
    #[error(
        "user '{account}', who runs Postgres, may not enter {}, which is on the way to {}: \
         choose another folder, or allow it with: chmod o+x {}",
        obstacle.display(), dir.display(), obstacle.display()
    )]
    Unreachable {
        /// The user's name.
        account: String,
        /// The folder that refuses.
        obstacle: PathBuf,
        /// The folder that is needed.
        dir: PathBuf,
    },
    /// The cluster was made by somebody else.
    #[error(
        "{} belongs to user '{owner}' and only that user can run it: choose another folder",
        dir.display()
    )]
    NotOurs {
        /// The cluster's folder, or that of its socket.
        dir: PathBuf,
        /// Its owner's name, or id where there is no name.
        owner: String,
    },
    /// A file or folder could not be made, opened or changed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The verb, as in "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended when it should not have.
    #[error("{program} failed ({status}), its last words:\n{log}")]
    Failed {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The guard ended, or took too long, before the server accepted connections.
    #[error("the private Postgres in {} {what}; the end of its log:\n{log}", dir.display())]
    NotStarted {
        /// The cluster's folder.
        dir: PathBuf,
        /// What happened.
        what: &'static str,
        /// The end of the guard's log, or of Postgres's where the guard had nothing to say.
        log: String,
    },
    /// The guard was started by hand.
    #[error("this command is started by planasonix itself, with guard.lock as standard input")]
    NotAStarter,
    /// No private server on this platform.
    #[error(
        "the private Postgres needs a Unix system: \
         set PLANASONIX_DEV_DATABASE_URL to a database of a server that you run"
    )]
    Unsupported,
}

impl Error {
    /// For `map_err`: names the file that an [`io::Error`] does not.
    #[cfg(unix)]
    pub(super) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}
