//! Requests that may be sent again: told apart by their key, known by their body.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    agent::NewAgent,
    invalid::{Checks, Invalid},
};

const KEY_CHARS: usize = 255;

/// The header that carries the key.
pub const HEADER: &str = "Idempotency-Key";

/// The SHA-256 of what a request asked for.
pub type BodyHash = [u8; 32];

/// Takes a key.
///
/// # Errors
/// It is empty or longer than 255 characters.
pub fn key(text: &str) -> Result<&str, Invalid> {
    let mut checks = Checks::default();
    checks.text(HEADER, text, 1..=KEY_CHARS);
    checks.finish()?;
    Ok(text)
}

impl NewAgent {
    /// Known again when the same is asked for.
    pub fn hash(&self) -> BodyHash {
        #[derive(Serialize)]
        struct Asked<'a>(&'a str, &'a str, &'a [String], Option<&'a str>);
        let metadata = self.metadata.as_ref().map(|metadata| metadata.raw().get());
        let asked = Asked(&self.label, self.platform.as_str(), &self.tags, metadata);
        // A text made of texts always serialises.
        Sha256::digest(serde_json::to_vec(&asked).unwrap_or_default()).into()
    }
}
