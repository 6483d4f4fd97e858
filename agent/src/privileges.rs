//! Commands that root runs give root's rights up before they touch the agent's folders.
//!
//! The state folder belongs to the service's user, which may have put anything there. What root does in it as that
//! user can harm nobody else.

use std::{
    fs,
    fs::Metadata,
    io,
    path::{Path, PathBuf},
};

/// Exit status of a command whose answer this user may not know; init scripts have the same for an unknown status.
pub const EXIT_UNKNOWN: u8 = 4;
/// What to do about it.
pub const RUN_AS_ROOT: &str = if cfg!(windows) { "run as administrator" } else { "run as root" };

/// Why a command of root does not go on.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Refused {
    path: PathBuf,
    reason: io::Error,
}

/// Makes a process of root a process of the owner of `folder`, for good. Does nothing for other users, and where the
/// folder is absent or root's own. A folder that is a link is refused: it names no owner to trust.
///
/// On Windows an administrator cannot become a service's account: there the folder is looked at, and that is all.
pub fn become_owner_of(folder: &Path) -> Result<(), Refused> {
    let refused = |reason| Refused { path: folder.to_owned(), reason };
    if !is_privileged() {
        return Ok(());
    }
    let about = match fs::symlink_metadata(folder) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    if !about.is_dir() {
        let reason = "not a folder but a link or a file: look at what is there, then move it away";
        return Err(refused(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    become_owner(&about).map_err(refused)
}

#[cfg(unix)]
fn is_privileged() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whoever can write to the folders of a service is an administrator.
#[cfg(not(unix))]
const fn is_privileged() -> bool {
    true
}

#[cfg(unix)]
fn become_owner(about: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    use nix::unistd::{Gid, Uid, setgid, setuid};

    if about.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    // No safe interface changes the other groups on macOS: there they stay.
    #[cfg(not(target_os = "macos"))]
    nix::unistd::setgroups(&[gid])?;
    setgid(gid)?;
    setuid(uid)?;
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix, where it can fail")]
const fn become_owner(_: &Metadata) -> io::Result<()> {
    Ok(())
}
