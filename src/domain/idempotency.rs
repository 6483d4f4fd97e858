//! Requests that may be sent again: told apart by their key, known by their body.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    agent::NewAgent,
    invalid::{Checks, Invalid},
    metadata::Metadata,
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
    /// Equal for registrations of the same meaning: clients that send a request again often serialise it anew, with
    /// other white space, escapes, forms of numbers, or order of keys.
    pub fn hash(&self) -> BodyHash {
        #[derive(Serialize)]
        struct Asked<'a>(&'a str, &'a str, &'a [String], Option<String>);
        let metadata = self.metadata.as_ref().map(Metadata::canonical).filter(|text| text != "{}");
        let asked = Asked(&self.label, self.platform.as_str(), &self.tags, metadata);
        // A text made of texts always serialises.
        Sha256::digest(serde_json::to_vec(&asked).unwrap_or_default()).into()
    }
}
