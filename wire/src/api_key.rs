//! API keys as their administrators see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ApiKeyId,
    json::{Timestamp, given, optional_whole},
    names::names,
};

names!(
    /// What an API key may do in its workspace.
    Scope {
        /// Read everything about agents.
        #[serde(rename = "agents:read")]
        AgentsRead = "agents:read",
        /// Change agents.
        #[serde(rename = "agents:write")]
        AgentsWrite = "agents:write",
        /// Manage keys and the workspace's policy; implies the other two.
        #[serde(rename = "admin:organization")]
        AdminOrganization = "admin:organization",
    }
);

/// An API key without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// The key.
    pub id: ApiKeyId,
    /// Its name for people; need not be unique.
    #[schema(example = "dashboard")]
    pub name: String,
    /// The beginning of its secret, which tells it from others.
    #[schema(example = "plnx_live_01jq8x5g2m4n6p8r0s2t4v6w8y")]
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the minute; `null` if never.
    #[schema(required)]
    pub last_used_at: Option<Timestamp>,
    /// Until when it works; `null` is for ever.
    #[schema(required)]
    pub expires_at: Option<Timestamp>,
}

/// What creates an API key.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateApiKey {
    /// Its name for people, 1–255 characters; need not be unique.
    #[serde(default, deserialize_with = "given")]
    #[schema(required, value_type = String, min_length = 1, max_length = 255, example = "dashboard")]
    pub name: Option<String>,
    /// What it may do, at least one.
    #[serde(default, deserialize_with = "given")]
    #[schema(required, value_type = Vec<Scope>, min_items = 1)]
    pub scopes: Option<Vec<String>>,
    /// In how many days it ends; never unless given.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 36500)]
    pub expires_in_days: Option<i64>,
}

/// An API key just made. The secret is shown here and never again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiKey {
    /// The key.
    pub id: ApiKeyId,
    /// Its name for people.
    #[schema(example = "dashboard")]
    pub name: String,
    /// What authenticates.
    #[schema(example = "plnx_live_01jq8x5g2m4n6p8r0s2t4v6w8y_…")]
    pub secret: String,
    /// The beginning of the secret, which may be shown.
    #[schema(example = "plnx_live_01jq8x5g2m4n6p8r0s2t4v6w8y")]
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Until when it works; `null` is for ever.
    #[schema(required)]
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An API key with a new secret, shown here and never again. The old one is dead.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RegeneratedApiKey {
    /// The key.
    pub id: ApiKeyId,
    /// What authenticates from now on.
    #[schema(example = "plnx_live_01jq8x5g2m4n6p8r0s2t4v6w8y_…")]
    pub secret: String,
    /// The beginning of the secret, which may be shown.
    #[schema(example = "plnx_live_01jq8x5g2m4n6p8r0s2t4v6w8y")]
    pub prefix: String,
    /// When it got the new secret.
    pub rotated_at: Timestamp,
}
