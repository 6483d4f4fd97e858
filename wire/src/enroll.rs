//! Enrollment: an agent trades its token for a credential.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    AgentId,
    agent::{Platform, Status},
    json::Timestamp,
};

/// What an agent may tell of itself when it enrolls; everything is optional.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Enroll {
    /// Its host's name, at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 255, example = "etl-prod-01.internal.example.com")]
    pub hostname: Option<String>,
    /// Its version, at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, example = "2.14.3")]
    pub version: Option<String>,
    /// What its host runs; replaces what was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Platform>)]
    pub platform: Option<String>,
    /// What it can run: at most 64 words of at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 64, example = json!(["spark", "python_3_11"]))]
    pub capabilities: Option<Vec<String>>,
    /// The installation's own name for itself, at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub instance_id: Option<String>,
}

/// An agent just enrolled. The credential is shown here and never again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// The agent that the token stood for.
    pub agent_id: AgentId,
    /// Its name for people.
    #[schema(example = "analytics-k8s-pool-a")]
    pub label: String,
    /// Always `active`.
    pub status: Status,
    /// What the agent authenticates with from now on.
    #[schema(example = "plnx_agent_01jq8x5g2m4n6p8r0s2t4v6w8y_…")]
    pub credential: String,
    /// Until when the credential works.
    pub credential_expires_at: Timestamp,
    /// How many seconds to wait between heartbeats.
    #[schema(example = 30)]
    pub heartbeat_interval_seconds: u32,
    /// Whether the agent is being drained.
    pub draining: bool,
}

/// An agent's next credential, shown here and never again. The current one works until this is first used.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RotatedCredential {
    /// The agent.
    pub agent_id: AgentId,
    /// What the agent authenticates with from its next request on.
    #[schema(example = "plnx_agent_01jq8x5g2m4n6p8r0s2t4v6w8y_…")]
    pub credential: String,
    /// Until when the credential works.
    pub credential_expires_at: Timestamp,
}
