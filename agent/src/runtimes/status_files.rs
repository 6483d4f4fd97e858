//! Status files: which of them are read, and how.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Deserialize;

use super::is_recent;
use crate::plain_file;

const SUFFIX: &str = ".status.json";
/// Status files that are read, the first by name.
const MAX_FILES: usize = 64;
/// Entries of the folder that are looked at, in the order of the file system.
const MAX_ENTRIES: usize = 4_096;
/// Characters of a file's name in the log.
const MAX_NAME_CHARS: usize = 80;

/// What a runtime says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) active_jobs: u32,
    #[serde(default)]
    pub(super) queue_depth: u32,
    #[serde(default)]
    pub(super) last_error: Option<String>,
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

/// Finds the status files. What is no plain file (a link, a pipe, a device) is passed over and never opened.
pub(super) fn status_files(folder: &Path) -> io::Result<Found> {
    let mut entries = fs::read_dir(folder)?;
    let mut paths = Vec::new();
    for entry in entries.by_ref().take(MAX_ENTRIES).filter_map(Result::ok) {
        let is_status = entry.file_name().as_encoded_bytes().ends_with(SUFFIX.as_bytes());
        if is_status && entry.file_type().is_ok_and(|kind| kind.is_file()) {
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

/// A status; none when it is stale. An error tells where reading stopped, never what the file holds.
pub(super) fn read_status(path: &Path, now: SystemTime) -> Result<Option<Status>, String> {
    let content = plain_file::read(path).map_err(|error| error.to_string())?;
    if !is_recent(content.modified.into(), now.into()) {
        return Ok(None);
    }
    serde_json::from_slice(&content.bytes)
        .map(Some)
        .map_err(|error| format!("not a status, see line {} column {}", error.line(), error.column()))
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
}
