//! Where an enrollment token, or a credential handed out by a re-enable, comes from.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::ConfigError;
use crate::{secret::Token, text};

/// The flags of the commands that may enroll. The variable `PLANASONIX_ENROLLMENT_TOKEN` does as well.
#[derive(Debug, Clone, Default, Args)]
pub struct TokenArgs {
    /// Read the enrollment token, or a credential handed out by a re-enable, from a file; - is standard
    /// input. Wins over --token and over the variable `PLANASONIX_ENROLLMENT_TOKEN`.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The token itself. Other users of this host can see a command line: prefer the variable
    /// `PLANASONIX_ENROLLMENT_TOKEN`, or --token-file.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<SecretString>,
}

impl TokenArgs {
    /// The source that the flags name; `otherwise` when they name none.
    pub fn or(self, otherwise: TokenSource) -> TokenSource {
        match (self.token_file, self.token) {
            (Some(path), _) if path == Path::new("-") => TokenSource::Input,
            (Some(path), _) => TokenSource::File(path),
            (None, Some(token)) => TokenSource::Given(token),
            (None, None) => otherwise,
        }
    }
}

/// Where a token comes from.
#[derive(Debug, Clone, Default)]
pub enum TokenSource {
    /// None was given.
    #[default]
    None,
    /// It was given as it is.
    Given(SecretString),
    /// It stands in a file, which may get another one while the agent runs.
    File(PathBuf),
    /// It comes on standard input, once.
    Input,
}

impl TokenSource {
    pub(super) fn given(text: String) -> Self {
        Self::Given(text.into())
    }

    /// Turns standard input, which can be read only once, into what it held.
    pub fn settled(self) -> Result<Self, ConfigError> {
        if !matches!(self, Self::Input) {
            return Ok(self);
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map_err(|error| unreadable(Path::new("-"), error))?;
        Ok(Self::Given(text::decode(&bytes).into()))
    }

    /// The token; none when none was given, or its file is absent or empty.
    pub fn read(&self) -> Result<Option<Token>, ConfigError> {
        let text = match self {
            Self::None | Self::Input => return Ok(None),
            Self::Given(text) => text.clone(),
            Self::File(path) => match fs::read(path) {
                Ok(bytes) => text::decode(&bytes).into(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(unreadable(path, error)),
            },
        };
        // Windows PowerShell begins a file, and what it hands to a program in a UTF-8 console, with this mark.
        let text = text.expose_secret().trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(None);
        }
        Token::parse(text)
            .map(Some)
            .map_err(|bad| ConfigError::Value { name: "the enrollment token", issue: bad.to_string() })
    }
}

fn unreadable(path: &Path, error: io::Error) -> ConfigError {
    ConfigError::Unreadable { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use planasonix_wire::token::Kind;

    use super::*;
    use crate::secret::tests::token;

    #[test]
    fn a_file_wins_and_is_read_afresh_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let args = TokenArgs { token_file: Some(path.clone()), token: Some("plnx_enroll_x".into()) };
        assert!(!format!("{args:?}").contains("plnx"), "silent in Debug");
        let source = args.or(TokenSource::None);
        assert_eq!(source.read().unwrap(), None);
        let token = token(Kind::Enrollment, 3);
        fs::write(&path, format!("{}\n", token.expose())).unwrap();
        assert_eq!(source.read().unwrap().as_ref(), Some(&token));
        for (name, bytes) in text::tests::encodings(&format!("{}\r\n", token.expose())) {
            fs::write(&path, bytes).unwrap();
            assert_eq!(
                source.read().unwrap().as_ref(),
                Some(&token),
                "{name}, as Windows PowerShell may write it"
            );
        }
    }

    #[test]
    fn a_mistyped_token_is_refused_and_not_repeated() {
        let source = TokenSource::given("plnx_enroll_mistyped".to_owned());
        let error = source.read().unwrap_err().to_string();
        assert!(error.starts_with("the enrollment token: ") && !error.contains("mistyped_"), "{error}");
        assert!(!error.contains("plnx_enroll_mistyped"), "{error}");
    }
}
