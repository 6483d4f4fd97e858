//! What is wrong with a setting.

use std::{io, path::PathBuf};

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file is there and cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line of the configuration file is neither a setting nor a comment.
    #[error("{}, line {line}: write KEY=value, or begin a comment with #", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A value that does not fit its setting.
    #[error("{name}: {issue}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What is wrong, and what would be right.
        issue: String,
    },
}

impl ConfigError {
    /// Whether another user, such as root, could go on.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Unreadable { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }
}
