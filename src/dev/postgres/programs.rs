//! Finding the newest Postgres programs of this machine.

use std::collections::HashSet;
use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs};

use super::Error;

/// The oldest major version whose SQL the product is tested on.
pub(super) const OLDEST_MAJOR: u32 = 15;

/// Where packages put versions side by side: a parent, how an entry begins, the rest.
///
/// Debian keeps the server's programs off `PATH`, Homebrew those of versions with an `@`.
const INSTALLED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("C:\\Program Files\\PostgreSQL", "", "bin"),
];

/// Where to look. The caller reads the environment; this module does not.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// When given, the only folder looked at.
    pub override_dir: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
}

/// Programs that were found.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The folder that holds `postgres` and `initdb`.
    pub dir: PathBuf,
    /// What `postgres --version` said.
    pub version: Version,
}

/// A version of Postgres; compared by number, so that 9.6 is older than 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Clusters of different major versions cannot read each other's data.
    pub major: u32,
    /// Zero for betas and the like, which have none.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Search {
    /// The newest programs in the places to look; the first place wins a tie.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] or [`Error::TooOld`].
    pub fn find(&self) -> Result<Programs, Error> {
        let mut newest: Option<Programs> = None;
        for found in self.candidates().into_iter().filter_map(Programs::in_folder) {
            if newest.as_ref().is_none_or(|best| found.version > best.version) {
                newest = Some(found);
            }
        }
        match newest {
            None => Err(Error::NotFound { looked_in: self.places() }),
            Some(Programs { dir, version }) if version.major < OLDEST_MAJOR => {
                Err(Error::TooOld { version, dir })
            }
            Some(programs) => Ok(programs),
        }
    }

    /// The folders to look at, each once: `PATH` often names one that [`INSTALLED`] does too, and
    /// asking for a version costs a process.
    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(dir) = &self.override_dir {
            return vec![dir.clone()];
        }
        let on_path = self.path.iter().flat_map(env::split_paths);
        let mut seen = HashSet::new();
        on_path
            .chain(installed())
            .filter(|dir| dir.is_absolute())
            .filter(|dir| fs::canonicalize(program(dir, "postgres")).is_ok_and(|p| seen.insert(p)))
            .collect()
    }

    fn places(&self) -> String {
        if let Some(dir) = &self.override_dir {
            return dir.display().to_string();
        }
        let patterns = INSTALLED.map(|(parent, prefix, rest)| format!("{parent}/{prefix}*/{rest}"));
        format!("PATH, {}", patterns.join(", "))
    }
}

impl Programs {
    /// `None` for a folder without both programs, or whose `postgres` does not run.
    ///
    /// A folder on `PATH` may hold links to these two and nothing else; where they lead are the
    /// other programs too.
    fn in_folder(dir: PathBuf) -> Option<Self> {
        let has_initdb = |dir: &PathBuf| program(dir, "initdb").is_file();
        let resolved = fs::canonicalize(program(&dir, "postgres")).ok()?;
        let home = resolved.parent().map(Path::to_path_buf);
        let dir = [home, Some(dir)].into_iter().flatten().find(has_initdb)?;
        let output = Command::new(program(&dir, "postgres")).arg("--version").output().ok()?;
        let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { dir, version })
    }
}

fn program(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}{EXE_SUFFIX}"))
}

fn installed() -> impl Iterator<Item = PathBuf> {
    INSTALLED.into_iter().flat_map(|(parent, prefix, rest)| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(move |entry| entry.path().join(rest))
    })
}

/// Reads `postgres (PostgreSQL) 15.14 (Debian …)`, and `18beta1` or `19devel` in the number's place.
fn parse_version(line: &str) -> Option<Version> {
    let (_, number) = line.split_once("(PostgreSQL) ")?;
    let (major, rest) = leading_number(number)?;
    let minor = rest.strip_prefix('.').and_then(leading_number).map_or(0, |(minor, _)| minor);
    Some(Version { major, minor })
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}
