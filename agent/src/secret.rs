//! Tokens as the agent holds them: well-formed, silent in every print, written out by name alone.

use std::fmt;

use planasonix_wire::{
    AgentId,
    token::{self, Kind},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// Why a text is not a token of an agent. The text is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Mistyped, cut short, or something else altogether.
    #[error(
        "it is not a Planasonix token, or was cut short: copy it whole, from plnx_ to its last character"
    )]
    Malformed,
    /// Good for dashboards, not for agents.
    #[error(
        "it is an API key: an agent needs an enrollment token (plnx_enroll_…) or its credential (plnx_agent_…)"
    )]
    ApiKey,
}

/// An enrollment token or an agent's credential. Its check characters were verified; whether it is any
/// good only the control plane can say.
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    enrollment: bool,
    agent: AgentId,
}

impl Token {
    /// Reads a token; white space around it does not count.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        let (kind, public_id) = token::inspect(text).map_err(|_| BadToken::Malformed)?;
        let enrollment = match kind {
            Kind::ApiKey => return Err(BadToken::ApiKey),
            Kind::Enrollment => true,
            Kind::Agent => false,
        };
        Ok(Self { text: SecretString::from(text), enrollment, agent: AgentId::from_ulid(public_id) })
    }

    /// Whether it is good for an enrollment; otherwise it is a credential.
    pub const fn is_enrollment(&self) -> bool {
        self.enrollment
    }

    /// Whether it is a credential that can take the place of `current`: one of the same agent.
    pub fn replaces(&self, current: &Self) -> bool {
        !self.enrollment && self.agent == current.agent
    }

    /// The agent that it was made for.
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// The secret itself, for the one request or file that needs it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Tells this token from others without telling the token: SHA-256, hex.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.expose()))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.enrollment { Kind::Enrollment } else { Kind::Agent };
        write!(f, "{}…", kind.public_part(self.agent.ulid()))
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.filter_map(|half| char::from_digit(half.into(), 16)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use planasonix_wire::token::SECRET_CHARS;

    use super::*;

    /// A well-formed token; the same `seed`, the same token, all of the same agent.
    pub(crate) fn token(kind: Kind, seed: u8) -> Token {
        let agent: AgentId = "agt_01jq8x5g2m4n6p8r0s2t4v6w8y".parse().unwrap();
        Token::parse(&token::assemble(kind, agent.ulid(), &[seed; SECRET_CHARS])).unwrap()
    }

    #[test]
    fn a_token_knows_its_agent_and_never_prints_its_secret() {
        let token = token(Kind::Agent, 7);
        assert_eq!(token.agent().to_string(), "agt_01jq8x5g2m4n6p8r0s2t4v6w8y");
        assert_eq!(format!("{token:?}"), "plnx_agent_01jq8x5g2m4n6p8r0s2t4v6w8y…");
        assert_eq!(Token::parse(&format!(" {}\r\n", token.expose())).unwrap(), token);
    }

    #[test]
    fn only_a_credential_of_the_same_agent_replaces_one() {
        let current = token(Kind::Agent, 1);
        let other: AgentId = "agt_01jq8x5g2m4n6p8r0s2t4v6w8z".parse().unwrap();
        let other = token::assemble(Kind::Agent, other.ulid(), &[1; SECRET_CHARS]);
        assert!(token(Kind::Agent, 2).replaces(&current));
        assert!(!token(Kind::Enrollment, 2).replaces(&current));
        assert!(!Token::parse(&other).unwrap().replaces(&current));
    }

    #[test]
    fn an_api_key_is_refused_by_name() {
        let agent: AgentId = "agt_01jq8x5g2m4n6p8r0s2t4v6w8y".parse().unwrap();
        let key = token::assemble(Kind::ApiKey, agent.ulid(), &[1; SECRET_CHARS]);
        assert_eq!(Token::parse(&key).unwrap_err(), BadToken::ApiKey);
        assert_eq!(Token::parse("plnx_agent_short").unwrap_err(), BadToken::Malformed);
    }
}
