//! Agents as operators see them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    AgentId,
    json::{Timestamp, given},
    names::names,
};

names!(
    /// What an agent's host runs.
    Platform {
        /// Any Linux.
        Linux = "linux",
        /// Windows.
        Windows = "windows",
        /// macOS.
        Macos = "macos",
    }
);

names!(
    /// Where an agent stands in its life.
    Status {
        /// Enrolled, and may work.
        Active = "active",
        /// Barred; the record remains.
        Revoked = "revoked",
        /// Waits for its enrollment.
        Pending = "pending",
    }
);

names!(
    /// How an agent is doing.
    HealthStatus {
        /// Connected, nothing to complain of.
        Healthy = "healthy",
        /// Connected, and something named in `reasons` wants a look.
        Degraded = "degraded",
        /// Was heard of, and is not connected now.
        Offline = "offline",
        /// Not heard of since its enrollment.
        Unknown = "unknown",
        /// Barred.
        Revoked = "revoked",
    }
);

/// A row of the list of agents.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentSummary {
    /// The agent.
    pub id: AgentId,
    /// Its name for people; need not be unique.
    #[schema(example = "prod-etl-01.us-west.internal")]
    pub label: String,
    /// What its host runs.
    pub platform: Platform,
    /// The agent's version as it reported it; `null` until known.
    #[schema(required, example = "2.14.3")]
    pub version: Option<String>,
    /// Where it stands in its life.
    pub status: Status,
    /// When it was last heard of; `null` until known.
    #[schema(required)]
    pub last_seen_at: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// One agent in full.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentDetail {
    /// The agent.
    pub id: AgentId,
    /// Its name for people; need not be unique.
    #[schema(example = "prod-etl-01.us-west.internal")]
    pub label: String,
    /// What its host runs.
    pub platform: Platform,
    /// The agent's version as it reported it; `null` until known.
    #[schema(required, example = "2.14.3")]
    pub version: Option<String>,
    /// Where it stands in its life.
    pub status: Status,
    /// Free words for finding it again.
    #[schema(example = json!(["region:us-west-2", "env:production"]))]
    pub tags: Vec<String>,
    /// What it can run, as it reported it.
    #[schema(example = json!(["spark", "python_3_11"]))]
    pub capabilities: Vec<String>,
    /// When it was last heard of; `null` until known.
    #[schema(required)]
    pub last_seen_at: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// What the operator stored with it, as given; the reported host name shows as `hostname` unless
    /// the operator set that key.
    #[schema(value_type = Object, example = json!({"hostname": "etl-prod-01.internal.example.com"}))]
    pub metadata: Box<RawValue>,
    /// Its host's name as it reported it; `null` until known.
    #[schema(required, example = "etl-prod-01.internal.example.com")]
    pub hostname: Option<String>,
    /// Its installation's own name for itself; `null` until known.
    #[schema(required)]
    pub instance_id: Option<String>,
    /// Whether it is being drained: it beats, and takes no new work.
    pub draining: bool,
    /// When it was revoked; absent unless it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked; absent unless a reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_reason: Option<String>,
}

/// What registers an agent.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RegisterAgent {
    /// Its name for people, 1–255 characters; need not be unique.
    #[serde(default, deserialize_with = "given")]
    #[schema(required, value_type = String, min_length = 1, max_length = 255, example = "analytics-k8s-pool-a")]
    pub label: Option<String>,
    /// What its host runs.
    #[serde(default, deserialize_with = "given")]
    #[schema(required, value_type = Platform)]
    pub platform: Option<String>,
    /// Free words for finding it again; duplicates are dropped, the order is kept.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, max_items = 64, example = json!(["region:us-west-2", "env:production"]))]
    pub tags: Option<Vec<String>>,
    /// Anything to store with it: an object of at most 16 KiB.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Object, example = json!({"k8s_namespace": "planasonix-agents"}))]
    pub metadata: Option<Box<RawValue>>,
}

/// What is changed of an agent: a field left out stays, a given one is replaced whole, `null` is refused.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct UpdateAgent {
    /// Its name for people, 1–255 characters; need not be unique.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, min_length = 1, max_length = 255, example = "analytics-k8s-pool-a")]
    pub label: Option<String>,
    /// Free words for finding it again; duplicates are dropped, the order is kept.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, max_items = 64, example = json!(["region:us-west-2", "env:production"]))]
    pub tags: Option<Vec<String>>,
    /// Anything to store with it: an object of at most 16 KiB.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Object, example = json!({"k8s_namespace": "planasonix-agents"}))]
    pub metadata: Option<Box<RawValue>>,
}

/// Whether an agent takes new work.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DrainedAgent {
    /// The agent.
    pub id: AgentId,
    /// Where it stands in its life.
    pub status: Status,
    /// Whether it is being drained: it beats, and takes no new work.
    pub draining: bool,
}

/// An agent just registered. The enrollment token is shown here and never again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RegisteredAgent {
    /// The agent.
    pub id: AgentId,
    /// Its name for people.
    #[schema(example = "analytics-k8s-pool-a")]
    pub label: String,
    /// What its host runs.
    pub platform: Platform,
    /// `pending` until it enrolls.
    pub status: Status,
    /// Enrolls the agent, once. `null` only in the answer to a repeated request, once it has enrolled.
    #[schema(required, example = "plnx_enroll_01jq8x5g2m4n6p8r0s2t4v6w8y_…")]
    pub enrollment_token: Option<String>,
    /// Until when the token works; `null` where there is none.
    #[schema(required)]
    pub token_expires_at: Option<Timestamp>,
    /// When the agent was registered.
    pub created_at: Timestamp,
}

/// An agent that waits for its enrollment with a fresh token, shown here and never again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AwaitingEnrollment {
    /// The agent.
    pub id: AgentId,
    /// Always `pending`.
    pub status: Status,
    /// Enrolls the agent, once; every earlier one is dead.
    #[schema(example = "plnx_enroll_01jq8x5g2m4n6p8r0s2t4v6w8y_…")]
    pub enrollment_token: String,
    /// Until when the token works.
    pub token_expires_at: Timestamp,
}

/// An agent that was let back in, as its workspace's policy has it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EnabledAgent {
    /// Policy `enrollment`, or an agent that never enrolled: it enrolls with a fresh token.
    Enrollment(AwaitingEnrollment),
    /// Policy `rotation`: it keeps its enrollment and goes on with a new credential.
    Rotation(ReactivatedAgent),
}

/// An agent that goes on with a new credential, shown here and never again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReactivatedAgent {
    /// The agent.
    pub id: AgentId,
    /// Always `active`.
    pub status: Status,
    /// What the agent authenticates with from now on.
    #[schema(example = "plnx_agent_01jq8x5g2m4n6p8r0s2t4v6w8y_…")]
    pub credential: String,
    /// Until when the credential works.
    pub credential_expires_at: Timestamp,
}

/// What may be said when an agent is revoked.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct RevokeAgent {
    /// Why, at most 500 characters.
    #[serde(default)]
    #[schema(max_length = 500, example = "compromised_token_suspected")]
    pub reason: Option<String>,
}

/// An agent that is barred.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevokedAgent {
    /// The agent.
    pub id: AgentId,
    /// Always `revoked`.
    pub status: Status,
    /// When it was first revoked.
    pub revoked_at: Timestamp,
}

/// A row of the connected view.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ConnectedAgent {
    /// The agent.
    pub id: AgentId,
    /// Its name for people.
    #[schema(example = "prod-etl-01.us-west.internal")]
    pub label: String,
    /// Start of its unbroken run of heartbeats.
    pub connected_since: Timestamp,
    /// Where its heartbeats come from.
    #[schema(value_type = String, example = "203.0.113.45")]
    pub remote_ip: IpAddr,
}

/// How an agent is doing. Figures are the last known ones, `null` until known.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// The agent.
    pub agent_id: AgentId,
    /// The verdict.
    pub status: HealthStatus,
    /// When it last beat.
    #[schema(required)]
    pub heartbeat_at: Option<Timestamp>,
    /// Processor load of its host, 0–100; in a container with a limit, of the limit.
    #[schema(required, example = 34.2)]
    pub cpu_percent: Option<f64>,
    /// Memory in use on its host, 0–100; in a container with a limit, of the limit.
    #[schema(required, example = 61.0)]
    pub memory_percent: Option<f64>,
    /// Free space of the volume that jobs use, in gigabytes (10⁹ bytes). Null while unknown, and on a small volume with room.
    #[schema(required, example = 412.5)]
    pub disk_free_gb: Option<f64>,
    /// Jobs that it runs. Null while unknown.
    #[schema(required, example = 2)]
    pub active_jobs: Option<i32>,
    /// Jobs that wait for it. Null while unknown.
    #[schema(required, example = 0)]
    pub queue_depth: Option<i32>,
    /// Its latest complaint; `null` when it has none.
    #[schema(required, example = json!(null))]
    pub last_error: Option<String>,
    /// What speaks against `healthy`, a word each; empty when nothing does.
    pub reasons: Vec<String>,
    /// By how many milliseconds its clock is ahead of ours; `null` until it sent its time.
    #[schema(required, example = 12)]
    pub clock_skew_ms: Option<i32>,
}
