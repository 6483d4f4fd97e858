//! The user who runs Postgres, which refuses to run as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::{self, AccessFlags, Uid, User};

use super::Error;

/// The user who runs Postgres: for root a lesser one, for anybody else themselves.
#[derive(Debug)]
pub(super) struct Account {
    stand_in: Option<User>,
}

impl Account {
    /// Finds it.
    pub(super) fn find() -> Result<Self, Error> {
        if !unistd::geteuid().is_root() {
            return Ok(Self { stand_in: None });
        }
        let known = |name: &str| User::from_name(name).ok().flatten();
        let user = known("postgres").or_else(|| known("nobody")).ok_or(Error::NoAccount)?;
        Ok(Self { stand_in: Some(user) })
    }

    pub(super) fn uid(&self) -> Uid {
        self.stand_in.as_ref().map_or_else(unistd::geteuid, |user| user.uid)
    }

    fn name(&self) -> String {
        user_name(self.uid())
    }

    /// Hands a folder over, so that Postgres can write in it.
    pub(super) fn own(&self, dir: &Path) -> Result<(), Error> {
        let Some(user) = &self.stand_in else {
            return Ok(());
        };
        unistd::chown(dir, Some(user.uid), Some(user.gid))
            .map_err(|errno| Error::file("hand over", dir)(errno.into()))
    }

    /// Fails when this user cannot enter a folder that exists, or the part of its path that does.
    pub(super) fn check_reach(&self, dir: &Path) -> Result<(), Error> {
        let mut from_the_root: Vec<&Path> = dir.ancestors().collect();
        from_the_root.reverse();
        match from_the_root.into_iter().find(|step| self.is_refused(step)) {
            None => Ok(()),
            Some(obstacle) => Err(Error::Unreachable {
                account: self.name(),
                obstacle: PathBuf::from(obstacle),
                dir: PathBuf::from(dir),
            }),
        }
    }

    /// For ourselves the kernel answers. For a stand-in only the mode can be read, so an access
    /// control list that lets it in goes unseen.
    fn is_refused(&self, dir: &Path) -> bool {
        let Some(user) = &self.stand_in else {
            return unistd::access(dir, AccessFlags::X_OK) == Err(nix::errno::Errno::EACCES);
        };
        let Ok(folder) = fs::metadata(dir) else {
            return false;
        };
        let enter = if folder.uid() == user.uid.as_raw() {
            0o100
        } else if folder.gid() == user.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        folder.mode() & enter == 0
    }

    /// A command that runs as this user, in a bare environment: `PGPORT`, `LC_ALL` and their like
    /// would change what the server does. Its death is bound to that of the guard.
    pub(super) fn command(&self, program: &Path, on_guard_death: Signal) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(user) = &self.stand_in {
            // The standard library drops root's supplementary groups along with the uid.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        signal_on_parent_death(&mut command, on_guard_death);
        command
    }
}

/// The name of a user, or its id where there is no name.
pub(super) fn user_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Has the kernel signal the child when its parent dies, so that `kill -9` of the guard leaves no
/// server behind. Elsewhere than on Linux, the next guard stops what it finds.
#[cfg(target_os = "linux")]
fn signal_on_parent_death(command: &mut Command, signal: Signal) {
    let parent = unistd::getpid();
    let bind = move || -> std::io::Result<()> {
        nix::sys::prctl::set_pdeathsig(signal)?;
        // The parent may have died before the line above.
        if unistd::getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; `bind` makes two
    // plain system calls and allocates nothing. It runs after the uid has changed, which would
    // have cleared the setting.
    #[expect(unsafe_code, reason = "std has no safe way to run code between fork and exec")]
    unsafe {
        command.pre_exec(bind)
    };
}

#[cfg(not(target_os = "linux"))]
fn signal_on_parent_death(_: &mut Command, _: Signal) {}
