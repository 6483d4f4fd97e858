//! The agent's programs that this server has, and where they lie: `<folder>/<platform>-<architecture>/`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::domain::agent::Platform;

/// What agents are built for, sorted as bundles hold them.
const TARGETS: [(Platform, &str); 5] = [
    (Platform::Linux, "aarch64"),
    (Platform::Linux, "x86_64"),
    (Platform::Macos, "aarch64"),
    (Platform::Macos, "x86_64"),
    (Platform::Windows, "x86_64"),
];

/// An agent's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// What it runs on.
    pub platform: Platform,
    /// The processor that it runs on, as compilers call it.
    pub architecture: &'static str,
    /// Where it lies.
    pub path: PathBuf,
}

/// The program's name on a platform.
pub fn file_name(platform: Platform) -> &'static str {
    match platform {
        Platform::Windows => "planasonix-agent.exe",
        Platform::Linux | Platform::Macos => "planasonix-agent",
    }
}

/// What this very host runs, if agents are built for it.
pub fn host() -> Option<(Platform, &'static str)> {
    let host = (std::env::consts::OS, std::env::consts::ARCH);
    TARGETS.into_iter().find(|(platform, architecture)| (platform.as_str(), *architecture) == host)
}

/// Every agent's program below a folder. Each is logged; so is each that is there and cannot be one.
///
/// # Errors
/// The folder cannot be read.
pub fn in_folder(folder: &Path) -> io::Result<Vec<Binary>> {
    fs::read_dir(folder)?;
    let mut found = Vec::new();
    for (platform, architecture) in TARGETS {
        let path = folder.join(format!("{platform}-{architecture}")).join(file_name(platform));
        let binary = Binary { platform, architecture, path };
        match binary.check() {
            Ok(()) => {
                tracing::info!(%platform, architecture, file = %binary.path.display(), "agent found");
                found.push(binary);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%platform, architecture, file = %binary.path.display(), %error, "not an agent");
            }
        }
    }
    Ok(found)
}

impl Binary {
    /// Whether a program can be there.
    ///
    /// # Errors
    /// It is not there, or is no file with something in it.
    pub fn check(&self) -> io::Result<()> {
        let file = fs::metadata(&self.path)?;
        if file.is_file() && file.len() > 0 {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file, or empty"))
        }
    }
}
