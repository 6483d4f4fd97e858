//! Cursors: the position in a list, and under which filters. No rights, no workspace.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::domain::Error;

const FINGERPRINT_BYTES: usize = 8;

/// Identifies a list and its filters, so that a cursor of one is not taken by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of a list by its name, and its filters by theirs, in a fixed order.
    pub fn new(list: &str, filters: &[(&str, Option<&str>)]) -> Self {
        let mut hasher = Sha256::new();
        for part in std::iter::once((list, None)).chain(filters.iter().copied()) {
            // Lengths keep two texts from being told as one.
            let (name, value) =
                (part.0, part.1.map_or_else(|| "-".to_owned(), |value| format!("{}:{value}", value.len())));
            hasher.update(format!("{}:{name}={value};", name.len()));
        }
        let digest = hasher.finalize();
        Self(URL_SAFE_NO_PAD.encode(&digest[..FINGERPRINT_BYTES]))
    }
}

#[derive(Serialize, Deserialize)]
struct Position<Id> {
    id: Id,
    f: String,
}

/// The cursor of the page after `last`.
///
/// # Errors
/// None that can happen: a position is always JSON.
pub fn encode<Id: Serialize>(last: Id, fingerprint: &Fingerprint) -> Result<String, Error> {
    let position = Position { id: last, f: fingerprint.0.clone() };
    let json = serde_json::to_vec(&position).map_err(|error| Error::Internal(error.into()))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// The record after which the page starts.
///
/// # Errors
/// [`Error::InvalidCursor`]: broken, or of another list or other filters.
pub fn decode<Id: DeserializeOwned>(cursor: &str, fingerprint: &Fingerprint) -> Result<Id, Error> {
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Error::InvalidCursor)?;
    let position: Position<Id> = serde_json::from_slice(&json).map_err(|_| Error::InvalidCursor)?;
    if position.f == fingerprint.0 { Ok(position.id) } else { Err(Error::InvalidCursor) }
}
