//! Status files: which of them are read, and how.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::{Map, Value};

use super::is_recent;
use crate::{plain_file, text};

const SUFFIX: &str = ".status.json";
/// Status files that are read, the first by name.
const MAX_FILES: usize = 64;
/// Entries of the folder that are looked at, in the order of the file system.
const MAX_ENTRIES: usize = 4_096;
/// Characters of a file's name in the log.
const MAX_NAME_CHARS: usize = 80;

/// What a runtime says of itself. What it leaves out, or says to be null, is 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// None where a number stands that cannot be one of jobs.
    pub(super) active_jobs: Option<u32>,
    /// None where a number stands that cannot be one of jobs.
    pub(super) queue_depth: Option<u32>,
    pub(super) last_error: Option<String>,
    /// What is wrong with the file, a sentence for each field.
    pub(super) wrong: Vec<String>,
}

/// The status files of one look at the folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// At most [`MAX_FILES`], sorted.
    pub(super) paths: Vec<PathBuf>,
    /// How many there are beyond that.
    pub(super) more: usize,
    /// Whether the folder has more entries than are looked at.
    pub(super) crowded: bool,
}

/// Finds the status files.
pub(super) fn status_files(folder: &Path) -> io::Result<Found> {
    let mut entries = fs::read_dir(folder)?;
    let mut paths = Vec::new();
    for entry in entries.by_ref().take(MAX_ENTRIES) {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
            paths.push(entry.path());
        }
    }
    let crowded = entries.next().is_some();
    paths.sort();
    let more = paths.len().saturating_sub(MAX_FILES);
    paths.truncate(MAX_FILES);
    Ok(Found { paths, more, crowded })
}

/// A file's name for the log: escaped and cut, since any member of the group may have chosen it.
pub(super) fn shown(path: &Path) -> String {
    name_of(path).escape_debug().take(MAX_NAME_CHARS).collect()
}

pub(super) fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned()
}

/// A status; none when the runtime is gone: the file is stale, or was just removed. A link, a pipe or a device is never
/// opened, and an error, and so is a file that the owner of `folder`, the agent, may not read. An error tells where
/// reading stopped, never what the file holds.
pub(super) fn read_status(path: &Path, folder: &Path, now: SystemTime) -> Result<Option<Status>, String> {
    match read_recent(path, folder, now) {
        Ok(Some(bytes)) => parse(&bytes).map(Some),
        Ok(None) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err("the agent may not read it (chmod 640)".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn read_recent(path: &Path, folder: &Path, now: SystemTime) -> io::Result<Option<Vec<u8>>> {
    let about = fs::symlink_metadata(path)?;
    if about.is_file() {
        if !is_recent(about.modified()?.into(), now.into()) {
            return Ok(None);
        }
        owner_may_read(&fs::metadata(folder)?, &about)?;
    }
    Ok(Some(plain_file::read(path)?.bytes))
}

#[cfg(unix)]
fn owner_may_read(folder: &fs::Metadata, file: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    let bit = match (file.uid() == folder.uid(), file.gid() == folder.gid()) {
        (true, _) => 0o400,
        (_, true) => 0o040,
        _ => 0o004,
    };
    // The agent itself simply tries. Root, who may read everything, has to ask for the agent.
    let asks_for_another = nix::unistd::geteuid().is_root() && folder.uid() != 0;
    let may = !asks_for_another || file.mode() & bit != 0;
    if may { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix, where it can fail")]
fn owner_may_read(_: &fs::Metadata, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Status, String> {
    let fields: Map<String, Value> = serde_json::from_str(&text::decode(bytes))
        .map_err(|error| format!("not a status, see line {} column {}", error.line(), error.column()))?;
    let mut status = Status::default();
    let mut number = |name: &str| {
        let read = count(fields.get(name));
        if read.is_none() {
            status.wrong.push(format!("{name} is not a whole number of at least 0"));
        }
        read
    };
    (status.active_jobs, status.queue_depth) = (number("active_jobs"), number("queue_depth"));
    match fields.get("last_error") {
        None | Some(Value::Null) => {}
        Some(Value::String(error)) => status.last_error = Some(error.clone()),
        Some(_) => status.wrong.push("last_error is not a text".to_owned()),
    }
    Ok(status)
}

/// A number of jobs, however it is written: to JSON, `3.0` is one like `3`.
fn count(value: Option<&Value>) -> Option<u32> {
    match value {
        None | Some(Value::Null) => Some(0),
        Some(Value::Number(number)) => {
            number.as_u64().map_or_else(|| whole(number.as_f64()?), |n| n.try_into().ok())
        }
        Some(_) => None,
    }
}

fn whole(number: f64) -> Option<u32> {
    let counts = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a whole number in range"
    )]
    counts.then_some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_files_beyond_the_limit_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..200 {
            fs::write(folder.path().join(format!("{number:03}.status.json")), "{}").unwrap();
        }
        let found = status_files(folder.path()).unwrap();
        assert_eq!((found.paths.len(), found.more, found.crowded), (64, 136, false));
        assert_eq!(name_of(&found.paths[63]), "063");
    }

    #[test]
    fn a_folder_with_many_entries_is_looked_at_in_part() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MAX_ENTRIES + 10 {
            fs::write(folder.path().join(format!("{number}.other")), "").unwrap();
        }
        let found = status_files(folder.path()).unwrap();
        assert!(found.crowded && found.paths.is_empty());
    }

    #[test]
    fn what_can_be_read_is_read() {
        let read = |active, queue, error: Option<&str>| Status {
            active_jobs: Some(active),
            queue_depth: Some(queue),
            last_error: error.map(str::to_owned),
            wrong: Vec::new(),
        };
        for (text, status) in [
            (r#"{"active_jobs": 3.0, "queue_depth": 1e1}"#, read(3, 10, None)),
            (r#"{"active_jobs": -0.0, "queue_depth": 4294967295}"#, read(0, u32::MAX, None)),
            (r#"{"active_jobs": null, "queue_depth": null, "last_error": null}"#, read(0, 0, None)),
            (r#"{"active_jobs": 1, "active_jobs": 2, "other": [-1]}"#, read(2, 0, None)),
            ("{}", read(0, 0, None)),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(status), "{text}");
        }
        let text = r#"{"active_jobs": 2, "last_error": "défaut"}"#;
        for (name, bytes) in text::tests::encodings(text) {
            assert_eq!(parse(&bytes), Ok(read(2, 0, Some("défaut"))), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_its_number_is_unknown() {
        for number in ["-1", "1.5", "4294967296", "1e99", "\"3\"", "true", "[3]"] {
            let status =
                parse(format!(r#"{{"active_jobs": {number}, "queue_depth": 2}}"#).as_bytes()).unwrap();
            assert_eq!((status.active_jobs, status.queue_depth), (None, Some(2)), "{number}");
            assert_eq!(status.wrong, ["active_jobs is not a whole number of at least 0"], "{number}");
        }
        let status = parse(br#"{"active_jobs": 2, "last_error": {"code": 5}}"#).unwrap();
        assert_eq!((status.active_jobs, status.wrong.len()), (Some(2), 1));
        for text in
            ["", " ", "null", "[]", "3", "\0\0\0\0", "{\"active_jobs\": NaN}", "{'active_jobs': 1}", "{} {}"]
        {
            let why = parse(text.as_bytes()).unwrap_err();
            assert!(why.starts_with("not a status, see line "), "{text}: {why}");
        }
    }
}
