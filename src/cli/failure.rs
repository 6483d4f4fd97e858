//! What a command says when it cannot do what it was asked.

use std::{error::Error as StdError, fmt, io};

use crate::{db::schema::Mismatch, dev::postgres, domain::Error};

/// A text for whoever typed the command.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure in our own words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    /// On the command line the cause is for the same eyes as the error.
    fn from(error: Error) -> Self {
        let mut text = match &error {
            Error::Unavailable(_) => "the database does not answer".to_owned(),
            Error::Internal(_) => "the database refused".to_owned(),
            told => told.to_string(),
        };
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self(text)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Mismatch> for Failure {
    fn from(mismatch: Mismatch) -> Self {
        Self(mismatch.to_string())
    }
}
