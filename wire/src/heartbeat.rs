//! The heartbeat: a merge patch of the agent's health, and the answer that steers it.

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    AgentId,
    agent::Status,
    json::{Patch, Timestamp, whole_patch},
};

/// One beat. A field left out keeps its stored value, `null` clears it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// The agent's version, at most 64 characters.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>, max_length = 64, example = "2.14.3")]
    pub version: Patch<String>,
    /// What it can run: at most 64 words of at most 128 characters.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64, example = json!(["spark", "python_3_11"]))]
    pub capabilities: Patch<Vec<String>>,
    /// Its host's name, at most 255 characters.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>, max_length = 255, example = "etl-prod-01.internal.example.com")]
    pub hostname: Patch<String>,
    /// The installation's own name for itself, at most 128 characters.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>, max_length = 128)]
    pub instance_id: Patch<String>,
    /// Drawn at random each time the agent's process starts, at most 128 characters. Not stored as such: it tells two
    /// processes apart that have one `instance_id`, because a disk was copied or a volume is shared.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>, max_length = 128)]
    pub run_id: Patch<String>,
    /// Whether an earlier heartbeat with this `run_id` was accepted. If it was, and the agent's last heartbeat had
    /// another `run_id`, two processes send heartbeats: `instance_conflict`. A restarted agent begins with `false`.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<bool>)]
    pub run_continues: Patch<bool>,
    /// Processor load of its host, 0–100; in a container with a limit, of the limit.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 100, example = 34.2)]
    pub cpu_percent: Patch<f64>,
    /// Memory in use on its host, 0–100; in a container with a limit, of the limit.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 100, example = 61.0)]
    pub memory_percent: Patch<f64>,
    /// Free space of the volume that jobs use, in gigabytes (10⁹ bytes). Null while unknown, and on a small volume with room.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1_000_000_000, example = 412.5)]
    pub disk_free_gb: Patch<f64>,
    /// Jobs that it runs. Null while unknown.
    #[serde(default, deserialize_with = "whole_patch", skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<i32>, minimum = 0, example = 2)]
    pub active_jobs: Patch<i64>,
    /// Jobs that wait for it. Null while unknown.
    #[serde(default, deserialize_with = "whole_patch", skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<i32>, minimum = 0, example = 0)]
    pub queue_depth: Patch<i64>,
    /// Its latest complaint, at most 2,000 characters.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>, max_length = 2000)]
    pub last_error: Patch<String>,
    /// The agent's clock when it sent the beat.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<Timestamp>)]
    pub sent_at: Patch<DateTime<FixedOffset>>,
}

/// The answer to a beat, given only after the beat was committed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatAck {
    /// The agent.
    pub agent_id: AgentId,
    /// Always `active`: no other agent's beat is accepted.
    pub status: Status,
    /// Whether it may take new work.
    pub accepts_work: bool,
    /// How many seconds to wait before the next beat; the agent only ever shortens it.
    #[schema(example = 30)]
    pub heartbeat_interval_seconds: u32,
    /// Our clock.
    pub server_time: Timestamp,
    /// Whether it is time for a new credential.
    pub rotate_credential: bool,
}
