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

/// Tells whether the file was changed.
pub type Stamp = Option<(SystemTime, u64)>;

/// The state folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
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
            self.write(&after).map_err(|error| self.io(error))?;
        }
        Ok(after)
    }

    /// Takes the identity away.
    pub fn remove(&self) -> Result<(), IdentityError> {
        for name in [FILE, CHANGE, LOCK] {
            self.take_away(name).map_err(|error| self.io(error))?;
        }
        Ok(())
    }

    fn io(&self, error: io::Error) -> IdentityError {
        IdentityError::Io { path: self.path(), error }
    }

    fn make_folder(&self) -> io::Result<()> {
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

    fn write(&self, identity: &Identity) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(identity)?;
        text.push(b'\n');
        // One that was left behind may be anything, and anybody's to read.
        self.take_away(CHANGE)?;
        let mut file = self.create(CHANGE)?;
        file.write_all(&text)?;
        file.sync_all()?;
        drop(file);
        fs::rename(self.folder.join(CHANGE), self.path())?;
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
mod tests {
    use planasonix_wire::token::Kind;

    use super::*;
    use crate::secret::tests::token;

    #[test]
    fn an_identity_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("state"));
        assert_eq!(store.load().unwrap(), None);
        let written = store.update(|identity| identity.settle(token(Kind::Agent, 1), None)).unwrap();
        assert_eq!(store.load().unwrap(), Some(written.clone()));
        let stamp = store.stamp();
        assert_eq!(store.update(|_| {}).unwrap(), written);
        assert_eq!(store.stamp(), stamp, "nothing changed, nothing is written");
        store.remove().unwrap();
        assert_eq!(store.stamp(), None);
    }

    #[cfg(unix)]
    #[test]
    fn only_its_user_can_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("state"));
        store.update(|_| {}).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path()), 0o600);
        assert_eq!(mode(&store.folder), 0o700);
        assert!(!store.folder.join(CHANGE).exists());
    }

    #[test]
    fn a_broken_file_is_named_and_its_content_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        fs::write(store.path(), r#"{"seed": "s", "credential": "plnx_agent_secret"}"#).unwrap();
        let error = store.update(|_| {}).unwrap_err().to_string();
        assert!(error.contains("identity.json") && !error.contains("plnx_agent"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_lock_is_refused_and_where_it_leads_stays_as_it_is() {
        let (_folder, store, target) = planted();
        let lock = store.folder.join(LOCK);
        std::os::unix::fs::symlink(&target, &lock).unwrap();
        let error = store.update(|_| {}).unwrap_err().to_string();
        assert!(error.contains("identity.lock: not a plain file"), "{error}");
        fs::remove_file(&lock).unwrap();
        fs::hard_link(&target, &lock).unwrap();
        let error = store.update(|_| {}).unwrap_err().to_string();
        assert!(error.contains("identity.lock: this file has other names"), "{error}");
        untouched(&target);
        assert!(!store.path().exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_link_in_place_of_the_new_file_is_not_written_through() {
        use std::os::unix::fs::MetadataExt;

        let (_folder, store, target) = planted();
        std::os::unix::fs::symlink(&target, store.folder.join(CHANGE)).unwrap();
        store.update(|_| {}).unwrap();
        untouched(&target);
        let owner = fs::metadata(&store.folder).unwrap().uid();
        for name in [FILE, LOCK] {
            let about = fs::symlink_metadata(store.folder.join(name)).unwrap();
            assert!(about.is_file());
            assert_eq!((about.uid(), about.mode() & 0o777), (owner, 0o600), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_that_was_left_behind_lends_no_looser_mode() {
        use std::os::unix::fs::PermissionsExt;

        let (_folder, store, _) = planted();
        let left = store.folder.join(CHANGE);
        fs::write(&left, "cut short").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        store.update(|_| {}).unwrap();
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// A state folder, which root gives to another user, and a file beside it that no store may touch.
    #[cfg(unix)]
    fn planted() -> (tempfile::TempDir, Store, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (state, target) = (folder.path().join("state"), folder.path().join("target"));
        fs::write(&target, "precious").unwrap();
        fs::create_dir(&state).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&state, Some(65_534), Some(65_534)).unwrap();
        }
        (folder, Store::new(&state), target)
    }

    #[cfg(unix)]
    fn untouched(target: &Path) {
        use std::os::unix::fs::MetadataExt;

        assert_eq!(fs::read(target).unwrap(), b"precious");
        assert_eq!(fs::metadata(target).unwrap().uid(), nix::unistd::geteuid().as_raw());
    }
}
