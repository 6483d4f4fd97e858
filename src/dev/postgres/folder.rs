//! The folder of one cluster: what is in it, its locks, and whether its server answers.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, Uid, geteuid};

use super::Error;
use super::account::{Account, user_name};

/// The port exists in the socket's name only.
pub(super) const PORT: &str = "5432";

/// The longest socket path that the kernel takes.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

const GUARD_LOCK: &str = "guard.lock";

/// The lock files; the module's doc says who holds which.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lock {
    Users,
    Start,
    Guard,
}

/// The folder of one cluster.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    socket_dir: String,
}

impl Folder {
    /// Makes the folder where it is missing; refuses one that belongs to somebody else.
    pub(super) fn create(root: &Path, account: &Account) -> Result<Self, Error> {
        account.check_reach(root)?;
        create_dirs(root)?;
        check_owner(root, geteuid())?;
        Self::open(root)
    }

    /// A folder that exists.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let socket_dir = match root.join("socket").into_os_string().into_string() {
            Ok(dir) if is_usable(&dir) => dir,
            _ => short_socket_dir(root)?,
        };
        Ok(Self { root: root.to_path_buf(), socket_dir })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn guard_log(&self) -> PathBuf {
        self.root.join("guard.log")
    }

    pub(super) fn server_log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    pub(super) fn socket_dir(&self) -> &str {
        &self.socket_dir
    }

    fn socket(&self) -> PathBuf {
        Path::new(&self.socket_dir).join(format!(".s.PGSQL.{PORT}"))
    }

    /// Opens a lock file, without taking the lock.
    pub(super) fn lock_file(&self, lock: Lock) -> Result<File, Error> {
        let path = self.root.join(match lock {
            Lock::Users => "users.lock",
            Lock::Start => "start.lock",
            Lock::Guard => GUARD_LOCK,
        });
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        options.open(&path).map_err(Error::file("open", &path))
    }

    /// Makes the socket's folder, which nobody but the server's user (and root) can enter: that is
    /// all the authentication there is.
    pub(super) fn prepare_socket_dir(&self, account: &Account) -> Result<(), Error> {
        let dir = Path::new(&self.socket_dir);
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // In the shared temporary folder somebody else could have put one there. One of
                // our own is left by a guard that died before it handed it over.
                check_owner(dir, account.uid()).or_else(|_| check_owner(dir, geteuid()))?;
                let private = Permissions::from_mode(0o700);
                fs::set_permissions(dir, private).map_err(Error::file("protect", dir))?;
            }
            Err(error) => return Err(Error::file("create", dir)(error)),
        }
        account.own(dir)
    }

    /// Tidies up: of a short socket folder nothing should stay in the shared temporary folder.
    pub(super) fn remove_short_socket_dir(&self) {
        if !Path::new(&self.socket_dir).starts_with(&self.root) {
            // Best effort; the next guard takes over what is left.
            let _ = fs::remove_dir(&self.socket_dir);
        }
    }

    /// Whether the guard's server accepts connections, and not merely has a socket.
    ///
    /// A killed server leaves its last status behind, and its successor's socket appears before
    /// that one is ready: hence both questions, and the first one twice.
    pub(super) fn accepts_connections(&self) -> bool {
        self.says_ready() && UnixStream::connect(self.socket()).is_ok() && self.says_ready()
    }

    /// The eighth line of the pid file is where `pg_ctl --wait` looks too. A server that the
    /// guard does not know has lost its own guard and is on its way out, ready or not.
    fn says_ready(&self) -> bool {
        let Some(pid_file) = self.pid_file() else {
            return false;
        };
        let is_ready = pid_file.lines().nth(7).is_some_and(|status| status.trim() == "ready");
        is_ready && first_pid(&pid_file).is_some_and(|pid| self.guarded_server() == Some(pid))
    }

    /// The server's process, as it was noted when it started.
    pub(super) fn server_pid(&self) -> Option<Pid> {
        first_pid(&self.pid_file()?)
    }

    /// The server that the guard has noted, in the second line of its lock file.
    fn guarded_server(&self) -> Option<Pid> {
        let note = fs::read_to_string(self.root.join(GUARD_LOCK)).ok()?;
        first_pid(note.split_once('\n')?.1)
    }

    fn pid_file(&self) -> Option<String> {
        fs::read_to_string(self.data().join("postmaster.pid")).ok()
    }

    /// Forgets a server that is known to be gone, where Postgres itself could not tell.
    pub(super) fn remove_pid_files(&self) -> Result<(), Error> {
        let lock = self.socket().with_extension(format!("{PORT}.lock"));
        for path in [self.data().join("postmaster.pid"), lock] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn first_pid(text: &str) -> Option<Pid> {
    // A server that runs without a postmaster notes a negative number.
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    pid.checked_abs().filter(|pid| *pid > 1).map(Pid::from_raw)
}

/// Takes a lock exclusively if it is free.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The last lines of a log, or nothing.
pub(super) fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A log is appended to, so that it can be emptied while somebody writes it.
pub(super) fn open_log(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map_err(Error::file("open", path))
}

/// An empty log: none grows beyond one run.
pub(super) fn new_log(path: &Path) -> Result<File, Error> {
    let log = open_log(path)?;
    log.set_len(0).map_err(Error::file("empty", path))?;
    Ok(log)
}

/// Like `create_dir_all`, but what root makes lets Postgres's user through whatever root's umask.
///
/// # Errors
/// A folder cannot be made.
pub fn create_dirs(dir: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Ok(()) if geteuid().is_root() => {
                let passable = Permissions::from_mode(0o711);
                fs::set_permissions(dir, passable).map_err(Error::file("open up", dir))?;
            }
            Ok(()) => {}
            // Another starter was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file("create", dir)(error)),
        }
    }
    Ok(())
}

fn check_owner(dir: &Path, owner: Uid) -> Result<(), Error> {
    let found = fs::symlink_metadata(dir).map_err(Error::file("look at", dir))?;
    if found.is_dir() && found.uid() == owner.as_raw() {
        return Ok(());
    }
    Err(Error::NotOurs { dir: dir.to_path_buf(), owner: user_name(Uid::from_raw(found.uid())) })
}

/// Postgres reads a list of socket folders and clients a list of hosts: a comma would split one.
fn is_usable(socket_dir: &str) -> bool {
    let path_length = socket_dir.len() + "/.s.PGSQL.".len() + PORT.len();
    path_length <= SOCKET_PATH_MAX && !socket_dir.contains([',', '"'])
}

/// A stand-in for a socket folder whose path will not do. Device and inode name the cluster's
/// folder uniquely, for each of its users and whatever path they reached it by; `TMPDIR` could
/// differ between them, so it is not asked.
fn short_socket_dir(root: &Path) -> Result<String, Error> {
    let root = fs::metadata(root).map_err(Error::file("look at", root))?;
    Ok(format!("/tmp/planasonix-{:x}-{:x}", root.dev(), root.ino()))
}
