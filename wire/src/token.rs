//! The three kinds of bearer token, as text.
//!
//! `plnx_<kind>_<public id>_<secret><check>`: the public id is a ULID (an API key's own, otherwise its
//! agent's), the secret 32 characters of base 62 (190 bits), the check the CRC-32 of all before it in
//! six characters of base 62. Only `[0-9A-Za-z_]` occurs, so one regular expression finds leaked
//! tokens, and a mistyped one is refused before anybody asks a database.
//!
//! This module knows the form alone. Whether a token is any good only the control plane can say.

use ulid::Ulid;

use crate::id::{parse_ulid, ulid_text};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ULID_CHARS: usize = 26;
const CHECK_CHARS: usize = 6;

/// How many characters of a token are its secret.
pub const SECRET_CHARS: usize = 32;

/// Who holds a token, told by its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Held by dashboards and automation: `plnx_live_…`.
    ApiKey,
    /// Held by an installer, good for one enrollment: `plnx_enroll_…`.
    Enrollment,
    /// Held by one agent: `plnx_agent_…`.
    Agent,
}

impl Kind {
    const ALL: [Self; 3] = [Self::ApiKey, Self::Enrollment, Self::Agent];

    /// What every token of this kind begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "plnx_live_",
            Self::Enrollment => "plnx_enroll_",
            Self::Agent => "plnx_agent_",
        }
    }

    /// The part of a token that may be shown: from its beginning through the public id.
    pub fn public_part(self, public_id: Ulid) -> String {
        format!("{}{}", self.prefix(), ulid_text(public_id))
    }
}

/// A text that is not a token: unknown prefix, wrong length or alphabet, or a check that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token, or mistyped")]
pub struct MalformedToken;

/// Writes a token. Each byte of `secret` gives one character, so draw it evenly below 62.
pub fn assemble(kind: Kind, public_id: Ulid, secret: &[u8; SECRET_CHARS]) -> String {
    let mut token = kind.public_part(public_id);
    token.push('_');
    token.extend(secret.iter().map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])));
    let check = check_characters(&token);
    token.push_str(&check);
    token
}

/// Tells a well-formed token's kind and public id.
///
/// # Errors
/// [`MalformedToken`] for everything else; the text is never repeated.
pub fn inspect(token: &str) -> Result<(Kind, Ulid), MalformedToken> {
    let (kind, rest) = Kind::ALL
        .into_iter()
        .find_map(|kind| Some((kind, token.strip_prefix(kind.prefix())?)))
        .ok_or(MalformedToken)?;
    if rest.len() != ULID_CHARS + 1 + SECRET_CHARS + CHECK_CHARS || !rest.is_ascii() {
        return Err(MalformedToken);
    }
    let (public_id, secret) = rest.split_once('_').ok_or(MalformedToken)?;
    let (checked, check) = token.split_at(token.len() - CHECK_CHARS);
    if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) || check_characters(checked) != check {
        return Err(MalformedToken);
    }
    let public_id = parse_ulid(public_id).map_err(|_| MalformedToken)?;
    Ok((kind, public_id))
}

fn check_characters(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut check = [b'0'; CHECK_CHARS];
    for character in check.iter_mut().rev() {
        *character = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    check.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(kind: Kind) -> String {
        assemble(kind, Ulid::from_parts(1_743_087_600_000, 42), &[7; SECRET_CHARS])
    }

    #[test]
    fn a_token_tells_its_kind_and_public_id() {
        for kind in Kind::ALL {
            let token = token(kind);
            assert_eq!(inspect(&token), Ok((kind, Ulid::from_parts(1_743_087_600_000, 42))));
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        }
    }

    #[test]
    fn no_single_mistake_goes_unnoticed() {
        let token = token(Kind::Agent);
        for at in 0..token.len() {
            for wrong in ["0", "z", "_", "é", ""] {
                let mut mistyped = token.clone();
                mistyped.replace_range(at..=at, wrong);
                assert!(mistyped == token || inspect(&mistyped) == Err(MalformedToken), "{mistyped}");
            }
        }
    }

    #[test]
    fn another_prefix_is_not_a_token() {
        let token = token(Kind::Agent);
        assert_eq!(inspect(&token.replace("plnx_agent_", "plnx_enroll_")), Err(MalformedToken));
        assert_eq!(inspect(&token.replace("plnx_agent_", "ghp_")), Err(MalformedToken));
        assert_eq!(inspect(""), Err(MalformedToken));
    }
}
