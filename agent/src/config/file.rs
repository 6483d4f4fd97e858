//! The configuration file: `KEY=value` a line, `#` begins a comment line.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::ConfigError;
use crate::text;

/// What a file may set. An enrollment token is not among them: any user can read the file.
const KEYS: [&str; 16] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "PLANASONIX_AGENT_ID",
    "PLANASONIX_API_HOST",
    "PLANASONIX_CA_FILE",
    "PLANASONIX_DATA_DIR",
    "PLANASONIX_LOG",
    "PLANASONIX_LOG_FILE",
    "PLANASONIX_RUNTIME_DIR",
    "PLANASONIX_STATE_DIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The settings that a configuration file holds.
#[derive(Debug, Default)]
pub struct Lines(BTreeMap<String, String>);

impl Lines {
    /// Reads the file. One that is not there is empty, unless it was asked for by name.
    pub fn read(path: &Path, named: bool) -> Result<Self, ConfigError> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(&text::decode(&bytes), path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => Ok(Self::default()),
            Err(error) => Err(ConfigError::Unreadable { path: path.to_owned(), error }),
        }
    }

    /// Reads a file's text; of a key that stands twice the last line counts.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        // Windows editors begin a file with a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = BTreeMap::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(ConfigError::Line { path: path.to_owned(), line: index + 1 });
            };
            lines.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self(lines))
    }

    /// The value of a key; an empty one counts as not set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The keys that mean nothing here.
    pub fn unknown(&self) -> Vec<String> {
        self.0.keys().filter(|key| !KEYS.contains(&key.as_str())).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_a_byte_order_mark_are_passed_over() {
        let text = "\u{feff}# a comment\r\n\r\nPLANASONIX_LOG = info \r\nHTTPS_PROXY=\r\nPLANASONIX_LGO=x=y";
        let lines = Lines::parse(text, "agent.conf".as_ref()).unwrap();
        assert_eq!(lines.get("PLANASONIX_LOG"), Some("info"));
        assert_eq!(lines.get("HTTPS_PROXY"), None);
        assert_eq!(lines.get("PLANASONIX_LGO"), Some("x=y"));
        assert_eq!(lines.unknown(), ["PLANASONIX_LGO"]);
    }

    #[test]
    fn a_file_is_read_in_every_encoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.conf");
        for (name, bytes) in text::tests::encodings("# the café's host\r\nPLANASONIX_LOG=info\r\n") {
            fs::write(&path, bytes).unwrap();
            assert_eq!(Lines::read(&path, true).unwrap().get("PLANASONIX_LOG"), Some("info"), "{name}");
        }
    }

    #[test]
    fn a_line_that_is_no_setting_is_named() {
        let error = Lines::parse("# fine\nexport X", "agent.conf".as_ref()).unwrap_err();
        assert_eq!(error.to_string(), "agent.conf, line 2: write KEY=value, or begin a comment with #");
    }
}
