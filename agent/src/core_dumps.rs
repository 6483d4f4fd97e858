//! Core dumps are forbidden: they would hold the agent's credential.

/// Forbids core dumps of this process; the first thing that the program does.
///
/// Linux: the process is not dumpable, whatever the core file limit and `core_pattern` are. Debuggers of the same user
/// cannot attach either, and the files of `/proc/PID` belong to root. Programs that the agent starts are dumpable again. Other
/// Unix systems: the size limit of core files is 0, which child processes inherit. Windows writes dumps only where an
/// administrator has asked for them.
pub fn forbid() {
    #[cfg(unix)]
    if let Err(error) = forbid_on_unix() {
        crate::output::complain(&format!("core dumps stay possible: {error}"));
    }
}

#[cfg(target_os = "linux")]
fn forbid_on_unix() -> nix::Result<()> {
    nix::sys::prctl::set_dumpable(false)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn forbid_on_unix() -> nix::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};

    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}
