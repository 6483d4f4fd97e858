//! Where things are on each platform unless a setting says otherwise.

use std::path::PathBuf;

/// The installer's configuration file.
pub(super) fn config_file(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    if cfg!(any(windows, target_os = "macos")) {
        base(variable).join("agent.conf")
    } else {
        PathBuf::from("/etc/planasonix-agent/agent.conf")
    }
}

/// Where the identity is kept.
pub(super) fn state_dir(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    if cfg!(any(windows, target_os = "macos")) {
        base(variable).join("state")
    } else {
        PathBuf::from("/var/lib/planasonix-agent")
    }
}

/// Where the agent and the pipeline runtimes meet.
pub(super) fn runtime_dir(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    if cfg!(any(windows, target_os = "macos")) {
        base(variable).join("runtime")
    } else {
        PathBuf::from("/run/planasonix-agent")
    }
}

/// The one folder that holds everything on Windows and macOS.
fn base(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    if cfg!(windows) {
        let programs = variable("ProgramData").unwrap_or_else(|| r"C:\ProgramData".to_owned());
        PathBuf::from(programs).join("Planasonix Agent")
    } else {
        PathBuf::from("/Library/Application Support/Planasonix Agent")
    }
}
