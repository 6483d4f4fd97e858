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
//! All of them write to the folder, so what lies there is read as [`plain_file`] does.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, TimeDelta, Utc};
use planasonix_wire::{AgentId, json::Timestamp};
use serde::{Deserialize, Serialize};

use crate::plain_file;

const AGENT_FILE: &str = "agent.json";
const SUFFIX: &str = ".status.json";
/// Who said nothing for so long is gone: a runtime, and its jobs with it, or the agent.
const SILENCE: TimeDelta = TimeDelta::minutes(5);
/// What the API takes of an error.
const MOST_CHARS: usize = 2_000;

/// What a runtime says of itself.
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    active_jobs: u32,
    #[serde(default)]
    queue_depth: u32,
    #[serde(default)]
    last_error: Option<String>,
}

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
    /// `starting`, `not_enrolled`, `active`, `unreachable` (the control plane is), `stopped` (the control
    /// plane barred the agent), `needs_enrollment`, or `down` (the agent was stopped on this host).
    pub status: String,
    /// Whether new work may be taken.
    pub accepts_work: bool,
    /// Whether the last beat was accepted.
    pub connected: bool,
    /// When this was written.
    pub updated_at: Timestamp,
}

/// The folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files already complained of: once is enough.
    bad: HashSet<PathBuf>,
    unwritable: bool,
}

impl Folder {
    /// The folder at `path`. It need not exist.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), bad: HashSet::new(), unwritable: false }
    }

    /// Reads what the runtimes say; `now` is this host's time. A bad file is logged once and left out.
    pub fn totals(&mut self, now: SystemTime) -> Totals {
        let mut totals = Totals::default();
        for path in status_files(&self.path).unwrap_or_default() {
            match read_status(&path, now) {
                Ok(Some(status)) => {
                    self.bad.remove(&path);
                    add(&mut totals, &name_of(&path), status);
                }
                Err(why) if self.bad.insert(path.clone()) => {
                    tracing::warn!(file = %path.display(), why, "a runtime's status is left out");
                }
                Ok(None) | Err(_) => {}
            }
        }
        totals
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

/// The names of the runtimes that have a status in `folder`, sorted.
pub fn reporting(folder: &Path) -> io::Result<Vec<String>> {
    Ok(status_files(folder)?.iter().map(|path| name_of(path)).collect())
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

fn status_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)));
    paths.sort();
    Ok(paths)
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

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned()
}

/// A status; none when it is stale. An error tells where reading stopped, never what the file holds.
fn read_status(path: &Path, now: SystemTime) -> Result<Option<Status>, String> {
    let content = plain_file::read(path).map_err(|error| error.to_string())?;
    if !is_recent(content.modified.into(), now.into()) {
        return Ok(None);
    }
    serde_json::from_slice(&content.bytes)
        .map(Some)
        .map_err(|error| format!("not a status, see line {} column {}", error.line(), error.column()))
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
        let (now, minute) = (clock::file_time(), std::time::Duration::from_mins(1));
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
            updated_at: clock::now().into(),
        };
        Folder::new(folder.path()).publish(&told);
        let read = read_agent_file(folder.path()).unwrap();
        assert_eq!((read.status, read.accepts_work), (told.status, false));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }
}
