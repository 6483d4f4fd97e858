//! Revisions of an agent's configuration: equal while operators have changed nothing.

use planasonix_wire::{agent::AgentDetail, json::Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::agent::{NewAgent, Platform, Status};

/// Bytes of the digest in a revision: two configurations of one agent do not share one by chance.
const REVISION_BYTES: usize = 16;

/// What operators see and change of an agent. What agents report (their version, host name, health) is no part of it,
/// so heartbeats do not change a revision.
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

    /// A digest of its fields.
    pub fn revision(&self) -> Revision {
        // Texts and flags always serialise.
        let digest = Sha256::digest(serde_json::to_vec(self).unwrap_or_default());
        let bytes = digest.iter().take(REVISION_BYTES);
        Revision(bytes.fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
    }
}

impl NewAgent {
    /// The revision of the agent that this registration makes.
    pub fn revision(&self) -> Revision {
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
        .revision()
    }
}

/// 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_configuration_changes_its_revision() {
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
        let revisions: std::collections::HashSet<_> = all.iter().map(|one| one.revision().0).collect();
        assert_eq!(revisions.len(), all.len());
        assert_eq!(configuration().revision(), configuration().revision());
        let hex =
            |revision: &String| revision.len() == 32 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(revisions.iter().all(hex));
    }
}
