//! Agents: what a valid one looks like, and which step may follow which.

use std::{collections::HashSet, str::FromStr};

pub use planasonix_wire::agent::{Platform, Status};
use planasonix_wire::{
    agent::{RegisterAgent, RevokeAgent, UpdateAgent},
    enroll::Enroll,
};

use super::{
    Error, Result,
    invalid::{Checks, Invalid},
    metadata::Metadata,
};

/// How many characters a label has at most.
pub const LABEL_CHARS: usize = 255;
/// How many tags or capabilities an agent has at most.
pub const MOST_WORDS: usize = 64;
/// How many characters a tag or a capability has at most.
pub const WORD_CHARS: usize = 128;
/// How many characters a version has at most.
pub const VERSION_CHARS: usize = 64;
/// How many characters a host name has at most.
pub const HOSTNAME_CHARS: usize = 255;
/// How many characters an instance's name has at most.
pub const INSTANCE_ID_CHARS: usize = 128;
const REASON_CHARS: usize = 500;
/// The platforms, for people.
pub const PLATFORMS: &str = "linux, windows, macos";

/// A valid registration.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Its name for people.
    pub label: String,
    /// What its host runs.
    pub platform: Platform,
    /// Without duplicates, in the order given.
    pub tags: Vec<String>,
    /// `None` stands for an empty object.
    pub metadata: Option<Metadata>,
}

impl TryFrom<RegisterAgent> for NewAgent {
    type Error = Invalid;

    fn try_from(body: RegisterAgent) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let label = body.label.unwrap_or_else(|| missing(&mut checks, "label", "a"));
        checks.text("label", &label, 1..=LABEL_CHARS);
        let platform = body.platform.unwrap_or_else(|| missing(&mut checks, "platform", "linux"));
        let platform = checks.name("platform", &platform, PLATFORMS).unwrap_or(Platform::Linux);
        let tags = distinct(body.tags.unwrap_or_default());
        checks.words("tags", &tags, MOST_WORDS, WORD_CHARS);
        let metadata = body.metadata.map(|raw| Metadata::check(&mut checks, "metadata", raw));
        checks.finish()?;
        Ok(Self { label, platform, tags, metadata })
    }
}

/// A valid change; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct AgentChange {
    /// Its name for people.
    pub label: Option<String>,
    /// Without duplicates, in the order given.
    pub tags: Option<Vec<String>>,
    /// What is stored with it.
    pub metadata: Option<Metadata>,
}

impl TryFrom<UpdateAgent> for AgentChange {
    type Error = Invalid;

    fn try_from(body: UpdateAgent) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        if let Some(label) = &body.label {
            checks.text("label", label, 1..=LABEL_CHARS);
        }
        let tags = body.tags.map(distinct);
        checks.words("tags", tags.as_deref().unwrap_or_default(), MOST_WORDS, WORD_CHARS);
        let metadata = body.metadata.map(|raw| Metadata::check(&mut checks, "metadata", raw));
        checks.finish()?;
        Ok(Self { label: body.label, tags, metadata })
    }
}

/// Notes that a required field is missing; the stand-in keeps its other rules quiet.
fn missing(checks: &mut Checks, field: &str, stand_in: &str) -> String {
    checks.fail(field, "required", "is required");
    stand_in.to_owned()
}

fn distinct(words: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    words.into_iter().filter(|word| seen.insert(word.clone())).collect()
}

/// A label as the substring filter compares it: lower case by Unicode, whatever the database's locale.
/// Each character by itself, since a part of a label must become a part of its key: the sigma that ends a
/// word is the same letter as the one within.
pub fn label_key(label: &str) -> String {
    label
        .chars()
        .flat_map(char::to_lowercase)
        .map(|character| if character == 'ς' { 'σ' } else { character })
        .collect()
}

/// What an agent told of itself when it enrolled, checked.
#[derive(Debug, Clone, Default)]
pub struct EnrollmentFacts {
    /// Its host's name.
    pub hostname: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What its host runs.
    pub platform: Option<Platform>,
    /// What it can run.
    pub capabilities: Option<Vec<String>>,
    /// The installation's own name for itself.
    pub instance_id: Option<String>,
}

impl TryFrom<Enroll> for EnrollmentFacts {
    type Error = Invalid;

    fn try_from(body: Enroll) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        for (field, text, most) in [
            ("hostname", &body.hostname, HOSTNAME_CHARS),
            ("version", &body.version, VERSION_CHARS),
            ("instance_id", &body.instance_id, INSTANCE_ID_CHARS),
        ] {
            checks.text(field, text.as_deref().unwrap_or_default(), 0..=most);
        }
        let platform = body.platform.and_then(|name| checks.name("platform", &name, PLATFORMS));
        checks.words(
            "capabilities",
            body.capabilities.as_deref().unwrap_or_default(),
            MOST_WORDS,
            WORD_CHARS,
        );
        checks.finish()?;
        let Enroll { hostname, version, capabilities, instance_id, .. } = body;
        Ok(Self { hostname, version, platform, capabilities, instance_id })
    }
}

/// Takes the reason of a revocation.
///
/// # Errors
/// It is longer than 500 characters or holds U+0000.
pub fn revoke_reason(body: RevokeAgent) -> Result<Option<String>, Invalid> {
    let mut checks = Checks::default();
    checks.text("reason", body.reason.as_deref().unwrap_or_default(), 0..=REASON_CHARS);
    checks.finish()?;
    Ok(body.reason)
}

/// Whether an agent in this state may be drained, be resumed, or have its installer fetched.
///
/// # Errors
/// A revoked one may not.
pub fn may_be_operated(status: Status) -> Result<()> {
    match status {
        Status::Pending | Status::Active => Ok(()),
        Status::Revoked => Err(Error::AgentIsRevoked),
    }
}

/// Whether an agent in this state may be enabled.
///
/// # Errors
/// Only a revoked one may.
pub fn may_enable(status: Status) -> Result<()> {
    match status {
        Status::Revoked => Ok(()),
        Status::Pending | Status::Active => Err(Error::AgentNotRevoked),
    }
}

/// Whether an agent in this state may get a fresh enrollment token.
///
/// # Errors
/// Only a pending one may.
pub fn may_get_enrollment_token(status: Status) -> Result<()> {
    match status {
        Status::Pending => Ok(()),
        Status::Active => Err(Error::AgentNotPending),
        Status::Revoked => Err(Error::AgentIsRevoked),
    }
}

/// What enabling a revoked agent asks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReenablePolicy {
    /// It enrolls anew.
    Enrollment,
    /// It keeps its enrollment and is handed a new credential.
    Rotation,
}

/// A text that names no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of enrollment, rotation")]
pub struct UnknownPolicy;

impl ReenablePolicy {
    /// The policy's name, as the command line and the database write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrollment => "enrollment",
            Self::Rotation => "rotation",
        }
    }
}

impl FromStr for ReenablePolicy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        [Self::Enrollment, Self::Rotation]
            .into_iter()
            .find(|policy| policy.as_str() == name)
            .ok_or(UnknownPolicy)
    }
}
