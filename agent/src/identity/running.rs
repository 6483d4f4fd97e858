//! At most one running agent for each state folder.

use std::{
    fs::{File, TryLockError},
    io,
    path::PathBuf,
};

use super::Store;

/// Another agent runs on the state folder.
#[derive(Debug, thiserror::Error)]
#[error(
    "another agent runs on the state folder {}: stop it first, or give this one a folder of its own (--state-dir)",
    folder.display()
)]
pub struct AlreadyRunning {
    folder: PathBuf,
}

/// Held for as long as the agent runs. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Store {
    /// Takes the lock of the state folder. None where the folder cannot be locked: an agent that cannot write goes on
    /// with what it has.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn lock_for_run(&self) -> Result<Option<RunLock>, AlreadyRunning> {
        let locked = self.make_folder().map_err(TryLockError::Error).and_then(|()| {
            let file = self.lockable().map_err(TryLockError::Error)?;
            file.try_lock().map(|()| RunLock { _file: file })
        });
        match locked {
            Ok(lock) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Err(AlreadyRunning { folder: self.folder.clone() }),
            Err(TryLockError::Error(error)) => {
                let folder = self.folder.display();
                tracing::warn!(%folder, %error, "state folder cannot be locked against a second agent");
                Ok(None)
            }
        }
    }

    /// The folder itself, which needs no room on the disk and no right to write.
    #[cfg(unix)]
    fn lockable(&self) -> io::Result<File> {
        File::open(&self.folder)
    }

    /// Windows locks files only.
    #[cfg(windows)]
    fn lockable(&self) -> io::Result<File> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.folder.join(super::store::RUN_LOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_has_one_agent_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("state"));
        let first = store.lock_for_run().unwrap();
        assert!(first.is_some());
        let refused = store.lock_for_run().unwrap_err().to_string();
        assert!(refused.starts_with("another agent runs on the state folder"), "{refused}");
        store.update(|_| {}).unwrap();
        drop(first);
        assert!(store.lock_for_run().unwrap().is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_made_stops_no_agent() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(Store::new(&folder.path().join("file/state")).lock_for_run().unwrap().is_none());
    }
}
