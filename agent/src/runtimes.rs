//! The local interface: how the pipeline runtimes of this host and the agent tell each other how they do.
//!
//! It is one folder. Each runtime keeps a file `<name>.status.json` there:
//!
//! ```json
//! {"active_jobs": 2, "queue_depth": 0, "last_error": null}
//! ```
//!
//! It writes the file afresh at least every five minutes, under another name first and then renamed. The
//! agent reports the sums, and the first error by name. What it cannot read is such an error, and a sum that lacks
//! something is unknown, not smaller. In return it keeps `agent.json` there, see [`AgentFile`]: a runtime takes new work
//! only while `accepts_work` is true.
//!
//! All of them write to the folder, so what lies there is read as [`plain_file`] does, and what one of them can cost
//! the agent is bounded: entries looked at, files read, bytes of each, lines logged.

mod status_files;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use planasonix_wire::{AgentId, json::Timestamp};
use serde::{Deserialize, Serialize};

use self::status_files::{Status, read_status, shown, status_files};
use crate::plain_file;

const AGENT_FILE: &str = "agent.json";
/// Who said nothing for so long is gone: a runtime, and its jobs with it, or the agent.
const SILENCE: TimeDelta = TimeDelta::minutes(5);
/// Time between two log lines about files that are left out, whichever they are.
const WARN_INTERVAL: Duration = Duration::from_hours(1);
/// What the API takes of an error.
const MOST_CHARS: usize = 2_000;

/// What all runtimes of this host say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Jobs that run; none where what one runtime says cannot be read.
    pub active_jobs: Option<i64>,
    /// Jobs that wait; none where what one runtime says cannot be read.
    pub queue_depth: Option<i64>,
    /// The first complaint, after the name of the runtime that has it or whose status cannot be read.
    pub last_error: Option<String>,
}

impl Default for Totals {
    /// Of a host without runtimes.
    fn default() -> Self {
        Self { active_jobs: Some(0), queue_depth: Some(0), last_error: None }
    }
}

/// What the agent says to the runtimes: the file `agent.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFile {
    /// The agent that this host is; `null` before its enrollment.
    pub agent_id: Option<AgentId>,
    /// `starting`, `not_enrolled`, `active`, `unreachable` (the control plane is), `throttled` (it refuses heartbeats as
    /// too frequent, and none keeps the agent connected), `stopped` (an operator revoked the agent), `needs_enrollment`,
    /// or `down` (the agent was stopped on this host).
    pub status: String,
    /// Whether new work may be taken.
    pub accepts_work: bool,
    /// Whether the last heartbeat was accepted, and is recent: see `connected_until`.
    pub connected: bool,
    /// Until when the last accepted heartbeat keeps the agent connected, by this host's clock; `null` when it is
    /// not.
    #[serde(default)]
    pub connected_until: Option<Timestamp>,
    /// When this was written.
    pub updated_at: Timestamp,
}

/// The folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// When files that are left out were last logged.
    warned: Option<SystemTime>,
    unwritable: bool,
}

impl Folder {
    /// The folder at `path`. It need not exist.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), warned: None, unwritable: false }
    }

    /// Reads what the runtimes say; `now` is this host's time. What is wrong with files is also logged, once an hour at
    /// most.
    pub fn totals(&mut self, now: SystemTime) -> Totals {
        let mut totals = Totals::default();
        let statuses = match statuses(&self.path, now) {
            // No runtime has ever been here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => vec![(shown(&self.path), Err(error.to_string()))],
            Ok(statuses) => statuses,
        };
        let mut complaints = 0;
        for (name, status) in statuses {
            complaints += status.as_ref().map_or(1, |status| status.wrong.len());
            match status {
                Ok(status) => totals.add(&name, status),
                Err(why) => totals.unknown(&name, &why),
            }
        }
        if complaints > 0 && self.may_warn(now) {
            let (folder, last_error) =
                (self.path.display(), totals.last_error.as_deref().unwrap_or_default());
            tracing::warn!(%folder, complaints, last_error, "status files of runtimes cannot be read");
        }
        totals
    }

    /// Whether an hour has passed since the last warning. A clock that was set back does not delay the next one.
    fn may_warn(&mut self, now: SystemTime) -> bool {
        let since = self.warned.and_then(|warned| now.duration_since(warned).ok());
        let due = since.is_none_or(|since| since >= WARN_INTERVAL);
        if due {
            self.warned = Some(now);
        }
        due
    }

    /// Tells the runtimes. A folder that cannot be written to is logged once.
    pub fn publish(&mut self, told: &AgentFile) {
        match write(&self.path, told) {
            Ok(()) => self.unwritable = false,
            Err(error) if !self.unwritable => {
                self.unwritable = true;
                let folder = self.path.display();
                tracing::warn!(%folder, %error, "the pipeline runtimes cannot be told: make the folder writable for the agent");
            }
            Err(_) => {}
        }
    }
}

/// What the agent last said in `folder`.
pub fn read_agent_file(folder: &Path) -> Option<AgentFile> {
    try_read_agent_file(folder).ok()
}

/// What the agent last said in `folder`; `PermissionDenied` says that this user may not know.
pub fn try_read_agent_file(folder: &Path) -> io::Result<AgentFile> {
    Ok(serde_json::from_slice(&plain_file::read(&folder.join(AGENT_FILE))?.bytes)?)
}

/// What a runtime is said to do, or what is wrong with what it says.
pub type Described = Result<String, String>;

/// What each runtime in `folder` that is not gone says, by name. Root also sees which files the agent, as the folder's
/// owner, may not read.
pub fn described(folder: &Path, now: SystemTime) -> io::Result<Vec<(String, Described)>> {
    let line = |status: Status| match status {
        Status { active_jobs: Some(active), queue_depth: Some(queued), wrong, .. } if wrong.is_empty() => {
            Ok(format!("{active} jobs run, {queued} wait"))
        }
        status => Err(status.wrong.join("; ")),
    };
    Ok(statuses(folder, now)?.into_iter().map(|(name, status)| (name, status.and_then(line))).collect())
}

/// The status of each runtime by name. Whatever keeps one from being seen stands there as an error.
fn statuses(folder: &Path, now: SystemTime) -> io::Result<Vec<(String, Result<Status, String>)>> {
    let found = status_files(folder)?;
    let read = |path: &PathBuf| Some((shown(path), read_status(path, folder, now).transpose()?));
    let mut statuses: Vec<_> = found.paths.iter().filter_map(read).collect();
    if found.more > 0 || found.crowded {
        statuses.push((
            shown(folder),
            Err("the folder holds more files than are read: remove old ones".to_owned()),
        ));
    }
    Ok(statuses)
}

/// Takes the agent's file out of `folder`, if it is there.
pub fn withdraw(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(AGENT_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl AgentFile {
    /// Whether the agent that said this is still there: it says so every minute.
    pub fn is_recent(&self, now: DateTime<Utc>) -> bool {
        is_recent(self.updated_at.into(), now)
    }
}

/// What is dated later than now is no better than what is old: nobody knows when it was said.
fn is_recent(said: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - said).abs() <= SILENCE
}

impl Totals {
    fn add(&mut self, name: &str, status: Status) {
        let sum = |total: Option<i64>, more: Option<u32>| {
            Some((total? + i64::from(more?)).min(i64::from(i32::MAX)))
        };
        self.active_jobs = sum(self.active_jobs, status.active_jobs);
        self.queue_depth = sum(self.queue_depth, status.queue_depth);
        for error in status.last_error.iter().filter(|error| !error.trim().is_empty()).chain(&status.wrong) {
            self.complain(name, error);
        }
    }

    /// What this runtime does is not known.
    fn unknown(&mut self, name: &str, why: &str) {
        (self.active_jobs, self.queue_depth) = (None, None);
        self.complain(name, &format!("its status cannot be read: {why}"));
    }

    fn complain(&mut self, name: &str, error: &str) {
        if self.last_error.is_none() {
            // The API takes any character but this one.
            let error = format!("{name}: {error}").replace('\0', " ");
            self.last_error = Some(error.chars().take(MOST_CHARS).collect());
        }
    }
}

/// Whoever reads finds the old file or the new one, whole.
fn write(folder: &Path, told: &AgentFile) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".agent").tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec(told)?)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    file.persist(folder.join(AGENT_FILE))?;
    Ok(())
}

#[cfg(test)]
mod tests;
