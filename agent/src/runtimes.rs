//! The local interface: how the pipeline runtimes of this host and the agent tell each other how they do.
//!
//! It is one folder. Each runtime keeps a file `<name>.status.json` there:
//!
//! ```json
//! {"active_jobs": 2, "queue_depth": 0, "last_error": null}
//! ```
//!
//! It writes the file afresh at least every five minutes, under another name first and then renamed. The
//! agent reports the sums, and the first error by name. In return it keeps `agent.json` there, see
//! [`AgentFile`]: a runtime takes new work only while `accepts_work` is true.
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

use self::status_files::{Status, name_of, read_status, shown, status_files};
use crate::plain_file;

const AGENT_FILE: &str = "agent.json";
/// Who said nothing for so long is gone: a runtime, and its jobs with it, or the agent.
const SILENCE: TimeDelta = TimeDelta::minutes(5);
/// Time between two log lines about files that are left out, whichever they are.
const WARN_INTERVAL: Duration = Duration::from_hours(1);
/// What the API takes of an error.
const MOST_CHARS: usize = 2_000;

/// What all runtimes of this host say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs that run.
    pub active_jobs: i64,
    /// Jobs that wait.
    pub queue_depth: i64,
    /// The first complaint, after the name of the runtime that has it.
    pub last_error: Option<String>,
}

/// What the agent says to the runtimes: the file `agent.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFile {
    /// The agent that this host is; `null` before its enrollment.
    pub agent_id: Option<AgentId>,
    /// `starting`, `not_enrolled`, `active`, `unreachable` (the control plane is), `throttled` (it refuses heartbeats as
    /// too frequent, and none keeps the agent connected), `stopped` (the control plane barred the agent),
    /// `needs_enrollment`, or `down` (the agent was stopped on this host).
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

    /// Reads what the runtimes say; `now` is this host's time. Bad files, and those beyond the limits, are left out,
    /// which is logged once an hour at most.
    pub fn totals(&mut self, now: SystemTime) -> Totals {
        let mut totals = Totals::default();
        let found = status_files(&self.path).unwrap_or_default();
        let mut left_out = found.more;
        let mut example = None;
        for path in &found.paths {
            match read_status(path, now) {
                Ok(Some(status)) => add(&mut totals, &name_of(path), status),
                Ok(None) => {}
                Err(why) => {
                    left_out += 1;
                    example.get_or_insert_with(|| (shown(path), why));
                }
            }
        }
        if (left_out > 0 || found.crowded) && self.may_warn(now) {
            let (file, why) = example.unwrap_or_default();
            let (folder, crowded) = (self.path.display(), found.crowded);
            tracing::warn!(%folder, left_out, crowded, file, why, "status files of runtimes are left out");
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
    serde_json::from_slice(&plain_file::read(&folder.join(AGENT_FILE)).ok()?.bytes).ok()
}

/// The names of the runtimes whose status in `folder` is read, sorted.
pub fn reporting(folder: &Path) -> io::Result<Vec<String>> {
    Ok(status_files(folder)?.paths.iter().map(|path| name_of(path)).collect())
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

fn add(totals: &mut Totals, name: &str, status: Status) {
    let sum = |total: i64, more: u32| (total + i64::from(more)).min(i64::from(i32::MAX));
    totals.active_jobs = sum(totals.active_jobs, status.active_jobs);
    totals.queue_depth = sum(totals.queue_depth, status.queue_depth);
    let error = status.last_error.filter(|error| !error.trim().is_empty());
    if let (None, Some(error)) = (&totals.last_error, error) {
        // The API takes any character but this one.
        let error = format!("{name}: {error}").replace('\0', " ");
        totals.last_error = Some(error.chars().take(MOST_CHARS).collect());
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
mod tests {
    use super::*;
    use crate::clock;

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_runtimes_figures_are_summed_and_the_first_error_by_name_wins() {
        let folder = folder_with(&[
            ("spark.status.json", r#"{"active_jobs": 2, "queue_depth": 1, "last_error": "later"}"#),
            ("airflow.status.json", r#"{"active_jobs": 1, "last_error": "disk full"}"#),
            ("broken.status.json", r#"{"active_jobs": -1}"#),
            ("notes.json", r#"{"active_jobs": 100}"#),
        ]);
        let totals = Folder::new(folder.path()).totals(clock::file_time());
        let last_error = Some("airflow: disk full".to_owned());
        assert_eq!(totals, Totals { active_jobs: 3, queue_depth: 1, last_error });
    }

    #[test]
    fn a_runtime_that_fell_silent_or_speaks_from_the_future_does_not_count() {
        let folder = folder_with(&[("spark.status.json", r#"{"active_jobs": 2}"#)]);
        let mut watched = Folder::new(folder.path());
        let (now, minute) = (clock::file_time(), Duration::from_mins(1));
        for counts in [now, now + minute * 4, now - minute * 4] {
            assert_eq!(watched.totals(counts).active_jobs, 2);
        }
        for does_not in [now + minute * 6, now - minute * 6] {
            assert_eq!(watched.totals(does_not), Totals::default());
        }
    }

    #[test]
    fn a_sum_stays_within_what_the_api_takes() {
        let much = format!(r#"{{"active_jobs": {}}}"#, u32::MAX);
        let folder = folder_with(&[("a.status.json", &much), ("b.status.json", &much)]);
        let totals = Folder::new(folder.path()).totals(clock::file_time());
        assert_eq!(totals.active_jobs, i64::from(i32::MAX));
    }

    #[test]
    fn a_status_larger_than_64_kib_is_left_out() {
        let large = format!(r#"{{"active_jobs": 1}}{}"#, " ".repeat(65_536));
        let folder = folder_with(&[("large.status.json", &large)]);
        assert_eq!(Folder::new(folder.path()).totals(clock::file_time()), Totals::default());
    }

    #[test]
    fn odd_files_are_logged_once_an_hour_in_all() {
        let (log, _guard) = crate::telemetry::tests::capture();
        let folder = tempfile::tempdir().unwrap();
        let mut watched = Folder::new(folder.path());
        let now = clock::file_time();
        for round in 0..120_u32 {
            fs::write(folder.path().join(format!("{round}\n.status.json")), "odd").unwrap();
            watched.totals(now + Duration::from_mins(1) * round);
        }
        let text = log.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("0\\\\n") || text.contains("0\\n"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_link_or_pipe_is_passed_over_and_a_bad_file_not_repeated() {
        /// A status, and what an agent says, in one.
        const SECRET: &str = r#"{"active_jobs": 7, "status": "active", "accepts_work": true,
            "connected": true, "updated_at": "2030-01-01T00:00:00Z"}"#;

        let folder = folder_with(&[
            ("secret", SECRET),
            ("bad.status.json", r#"{"active_jobs": "plnx_agent_secret"}"#),
        ]);
        let path = |name| folder.path().join(name);
        for (link, pipe) in [("x.status.json", "y.status.json"), (AGENT_FILE, "agent.pipe")] {
            std::os::unix::fs::symlink(path("secret"), path(link)).unwrap();
            nix::unistd::mkfifo(&path(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        assert_eq!(Folder::new(folder.path()).totals(clock::file_time()), Totals::default());
        assert_eq!(read_agent_file(folder.path()), None);
        fs::rename(path("agent.pipe"), path(AGENT_FILE)).unwrap();
        assert_eq!(read_agent_file(folder.path()), None);
        let why = read_status(&path("bad.status.json"), clock::file_time()).unwrap_err();
        assert!(why.starts_with("not a status") && !why.contains("plnx"), "{why}");
    }

    #[test]
    fn what_was_published_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let told = AgentFile {
            agent_id: None,
            status: "starting".to_owned(),
            accepts_work: false,
            connected: false,
            connected_until: None,
            updated_at: clock::now().into(),
        };
        Folder::new(folder.path()).publish(&told);
        let read = read_agent_file(folder.path()).unwrap();
        assert_eq!((read.status, read.accepts_work), (told.status, false));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }
}
