//! How an agent is installed by hand.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::AgentId;

/// The commands that install one agent on a host of its platform, and what they say to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManualInstall {
    /// The agent.
    pub agent_id: AgentId,
    /// What to do, in this order. The commands read the enrollment token from the variable
    /// `PLANASONIX_ENROLLMENT_TOKEN`; none holds a secret.
    pub steps: Vec<Step>,
    /// What the bundle's configuration says already.
    pub environment_variables: EnvironmentVariables,
}

/// One step of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Its place, from 1 on.
    #[schema(example = 1)]
    pub order: u32,
    /// What it does and what it needs, for people.
    #[schema(example = "Download bundle (needs curl, tar, CA certificates, and root or sudo)")]
    pub title: String,
    /// To be run as it stands.
    pub command: String,
}

/// The agent's settings, as variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct EnvironmentVariables {
    /// Where the agent finds the control plane.
    #[schema(example = "https://api.planasonix.com")]
    pub planasonix_api_host: String,
    /// Which agent it is.
    pub planasonix_agent_id: AgentId,
}

/// A bundle: a tar.gz for Linux and macOS, a zip for Windows.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Archive(());
