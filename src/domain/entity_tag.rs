//! Entity tags of agents, by which requests make conditions (RFC 9110, sections 8.8.3 and 13).

use planasonix_wire::{agent::AgentDetail, json::Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::agent::{NewAgent, Platform, Status};

/// Bytes of the digest that a tag holds: two configurations of one agent never share one by chance.
const TAG_BYTES: usize = 16;

/// What operators see and change of an agent. What agents report (their version, host name, health) is no part of it,
/// so a tag holds while heartbeats come in.
#[derive(Debug, Serialize)]
pub struct Configuration<'a> {
    /// Its label.
    pub label: &'a str,
    /// Its platform.
    pub platform: Platform,
    /// Its status.
    pub status: Status,
    /// When it was revoked, if it is: another revocation is another state.
    pub revoked_at: Option<Timestamp>,
    /// The reason of the revocation.
    pub revoke_reason: Option<&'a str>,
    /// Its tags, in their order.
    pub tags: &'a [String],
    /// Its metadata to the letter, without what agents report.
    pub metadata: &'a str,
    /// Whether it takes no new work.
    pub draining: bool,
}

impl<'a> Configuration<'a> {
    /// That of an agent with what is stored of its metadata and of its revocation: `agent` shows the reported host name
    /// among the metadata, and no time ahead of the clock.
    pub fn of(agent: &'a AgentDetail, metadata: &'a str, revoked_at: Option<Timestamp>) -> Self {
        Self {
            label: &agent.label,
            platform: agent.platform,
            status: agent.status,
            revoked_at,
            revoke_reason: agent.revoke_reason.as_deref(),
            tags: &agent.tags,
            metadata,
            draining: agent.draining,
        }
    }

    /// The strong entity tag of this configuration.
    pub fn entity_tag(&self) -> EntityTag {
        // Texts and flags always serialise.
        let digest = Sha256::digest(serde_json::to_vec(self).unwrap_or_default());
        let bytes = digest.iter().take(TAG_BYTES);
        let hex = bytes.fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        EntityTag(format!("\"{hex}\""))
    }
}

impl NewAgent {
    /// The entity tag of the agent that this registration makes.
    pub fn entity_tag(&self) -> EntityTag {
        Configuration {
            label: &self.label,
            platform: self.platform,
            status: Status::Pending,
            revoked_at: None,
            revoke_reason: None,
            tags: &self.tags,
            metadata: self.metadata.as_ref().map_or("{}", |metadata| metadata.raw().get()),
            draining: false,
        }
        .entity_tag()
    }
}

/// A strong entity tag, with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// The tag as a header has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_configuration_changes_its_tag() {
        let configuration = || Configuration {
            label: "a",
            platform: Platform::Linux,
            status: Status::Active,
            revoked_at: None,
            revoke_reason: None,
            tags: &[],
            metadata: "{}",
            draining: false,
        };
        let (one, two) = (["a".to_owned(), "b".to_owned()], ["b".to_owned(), "a".to_owned()]);
        let at = |second| chrono::DateTime::from_timestamp(second, 0).map(Timestamp::from);
        let all = [
            configuration(),
            Configuration { label: "b", ..configuration() },
            Configuration { platform: Platform::Macos, ..configuration() },
            Configuration { status: Status::Revoked, ..configuration() },
            Configuration { status: Status::Revoked, revoked_at: at(1), ..configuration() },
            Configuration { status: Status::Revoked, revoked_at: at(2), ..configuration() },
            Configuration { revoke_reason: Some("r"), ..configuration() },
            Configuration { tags: &one, ..configuration() },
            Configuration { tags: &two, ..configuration() },
            Configuration { metadata: "{ }", ..configuration() },
            Configuration { draining: true, ..configuration() },
        ];
        let tags: std::collections::HashSet<_> = all.iter().map(|one| one.entity_tag().0).collect();
        assert_eq!(tags.len(), all.len());
        assert_eq!(configuration().entity_tag(), configuration().entity_tag());
        assert!(tags.iter().all(|tag| tag.len() == 34 && tag.starts_with('"') && tag.ends_with('"')));
    }
}
