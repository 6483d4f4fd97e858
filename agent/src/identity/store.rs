//! Where the identity is kept: `identity.json` in the state folder.
//!
//! The file is readable by its user alone, and always whole: a change is written to a second file,
//! flushed to the disk, and renamed over the first. Changes are made under a lock, so that a running
//! agent and an operator's `enroll` never undo each other's.
//!
//! The folder belongs to the service's user. Commands of root become that user before they come here, see
//! [`privileges`](crate::privileges); where that is impossible, nothing that lies there is taken for what it should
//! be: the second file is always a new one, and a link is never followed.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::Identity;
use crate::plain_file;

const FILE: &str = "identity.json";
const LOCK: &str = "identity.lock";
/// How long a change waits for another one. The folder's owner can hold the lock for ever.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts to get the lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// What a running agent locks on Windows.
#[cfg(windows)]
pub(super) const RUN_LOCK: &str = "agent.lock";
/// More bytes than a new credential adds to the file.
const ROOM: usize = 1_024;
/// What a change is written to before it takes the place of the file.
const CHANGE: &str = "identity.json.new";

/// Why the identity cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not an identity. What it holds is not repeated: it may be a secret.
    #[error("{}: not an identity (line {line}); restore it, or remove it and enroll again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where reading stopped, from 1.
        line: usize,
    },
}

impl IdentityError {
    /// Whether another user, such as root, could go on.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Tells whether the file was changed.
pub type Stamp = Option<(SystemTime, u64)>;

/// The state folder.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) folder: PathBuf,
}

impl Store {
    /// A store in `folder`, which is made when something is first written.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The identity's file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What tells this state of the file from a later one; none when there is no file.
    pub fn stamp(&self) -> Stamp {
        let about = fs::metadata(self.path()).ok()?;
        Some((about.modified().ok()?, about.len()))
    }

    /// The identity, if there is one.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let path = self.path();
        let text = match plain_file::read(&path) {
            Ok(content) => content.bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::Io { path, error }),
        };
        let identity = serde_json::from_slice(&text)
            .map_err(|error| IdentityError::Malformed { path, line: error.line() })?;
        Ok(Some(identity))
    }

    /// Changes the identity under the lock and answers what it is now; it is on the disk by then. Where
    /// there was none, `change` is given a fresh one.
    pub fn update(&self, change: impl FnOnce(&mut Identity)) -> Result<Identity, IdentityError> {
        self.make_folder().map_err(|error| self.io(error))?;
        let _lock = self.lock().map_err(|error| IdentityError::Io { path: self.folder.join(LOCK), error })?;
        let before = self.load()?;
        let mut after = before.clone().unwrap_or_else(Identity::fresh);
        change(&mut after);
        if before.as_ref() != Some(&after) {
            self.write(&after, 0).map_err(|error| self.io(error))?;
        }
        Ok(after)
    }

    /// Proves that the disk takes a new credential: writes the identity as it is once more, with as much room as a new
    /// credential needs. Whoever asks for a credential that cannot be kept has wasted it, and a token with it.
    pub fn prove_writable(&self) -> Result<(), IdentityError> {
        self.make_folder().map_err(|error| self.io(error))?;
        let _lock = self.lock().map_err(|error| IdentityError::Io { path: self.folder.join(LOCK), error })?;
        let identity = self.load()?.unwrap_or_else(Identity::fresh);
        self.write(&identity, ROOM).map_err(|error| self.io(error))
    }

    /// Takes the identity away.
    pub fn remove(&self) -> Result<(), IdentityError> {
        for name in [
            FILE,
            CHANGE,
            LOCK,
            #[cfg(windows)]
            RUN_LOCK,
        ] {
            self.take_away(name).map_err(|error| self.io(error))?;
        }
        Ok(())
    }

    fn io(&self, error: io::Error) -> IdentityError {
        IdentityError::Io { path: self.path(), error }
    }

    pub(super) fn make_folder(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.folder)
    }

    fn take_away(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the identity, and `room` blanks after it.
    fn write(&self, identity: &Identity, room: usize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(identity)?;
        text.resize(text.len() + room, b' ');
        text.push(b'\n');
        // One that was left behind may be anything, and anybody's to read.
        self.take_away(CHANGE)?;
        let written = self.create(CHANGE).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(self.folder.join(CHANGE), self.path())) {
            // On a full disk a part of it would take the last room.
            let _ = self.take_away(CHANGE);
            return Err(error);
        }
        // A rename is safe once its folder is on the disk; Windows keeps no such promise to wait for.
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    /// Takes the lock, which is held as long as the file is open.
    fn lock(&self) -> io::Result<File> {
        let file = match self.create(LOCK) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.open_lock()?,
            created => created?,
        };
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock"));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY),
            }
        }
    }

    fn open_lock(&self) -> io::Result<File> {
        let (file, about) = plain_file::open(&self.folder.join(LOCK), OpenOptions::new().write(true))?;
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&about) != 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this file has other names: remove it"));
        }
        #[cfg(not(unix))]
        let _ = about;
        Ok(file)
    }

    /// Makes a file that only the folder's owner can read: root may enroll for the service. Whatever bears
    /// the name already is left alone, and an error.
    fn create(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.folder.join(name))?;
        #[cfg(unix)]
        give_to_owner_of(&self.folder, &file)?;
        Ok(file)
    }
}

#[cfg(unix)]
fn give_to_owner_of(folder: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};

    let owner = fs::metadata(folder)?;
    if file.metadata()?.uid() == owner.uid() {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests;
