//! The audit trail.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{AgentId, EventId, json::Timestamp, names::names};

names!(
    /// What happened.
    EventType {
        /// An operator registered the agent.
        Registered = "registered",
        /// An operator changed the record.
        Updated = "updated",
        /// A pending agent got a fresh enrollment token.
        EnrollmentTokenIssued = "enrollment_token_issued",
        /// The agent traded its token for a credential.
        Enrolled = "enrolled",
        /// Somebody presented a token of the agent that could not enroll it.
        EnrollmentRefused = "enrollment_refused",
        /// A run of heartbeats began.
        Connected = "connected",
        /// A run of heartbeats ended.
        Disconnected = "disconnected",
        /// The agent got its next credential.
        CredentialRotated = "credential_rotated",
        /// The agent was barred.
        Revoked = "revoked",
        /// The agent may come back.
        Enabled = "enabled",
        /// The agent is to take no new work.
        Draining = "draining",
        /// The agent may take work again.
        Resumed = "resumed",
        /// The agent's installer was fetched.
        InstallerDownloaded = "installer_downloaded",
        /// The agent's record was removed.
        Deregistered = "deregistered",
        /// Two hosts or processes sent heartbeats with the agent's credential.
        InstanceConflict = "instance_conflict",
        /// The control plane itself took no heartbeats for a while.
        ControlPlaneGap = "control_plane_gap",
    }
);

/// One entry of the audit trail.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The entry.
    pub id: EventId,
    /// The agent that it is about; `null` where it is about all.
    #[schema(required)]
    pub agent_id: Option<AgentId>,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When. Never later than now: an event that is ahead of the database's clock, which was set back, shows now.
    pub at: Timestamp,
    /// Who caused it: an API key, an agent, or `system`.
    #[schema(example = "key_01jq8x5g2m4n6p8r0s2t4v6w8y")]
    pub actor: String,
    /// Why, where there is something to say.
    #[schema(required, example = "missed_heartbeats")]
    pub reason: Option<String>,
    /// More about it, by type.
    #[schema(required, value_type = Option<Object>)]
    pub detail: Option<Value>,
}
