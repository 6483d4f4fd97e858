//! What every answer is wrapped in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One resource: `{"data": {…}}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Data<T> {
    /// The resource.
    pub data: T,
}

/// One page of a collection: `{"data": […], "meta": {"page": {…}}}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The page's rows.
    pub data: Vec<T>,
    /// Where the page stands in the collection.
    pub meta: Meta,
}

/// What is said about a page.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    /// Size and position.
    pub page: PageMeta,
}

/// Size of a page and the way to the next one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PageMeta {
    /// How many rows the page holds at most; `null` when the whole collection was asked for.
    #[schema(required, example = 50)]
    pub limit: Option<u32>,
    /// Opaque; give it back as `cursor` to get the next page. `null` on the last one.
    #[schema(required, example = json!(null))]
    pub cursor: Option<String>,
}

/// Every 4xx and 5xx: `{"error": {…}}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: Error,
}

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Error {
    /// Stable, for programs; each code has one status.
    #[schema(example = "invalid_request")]
    pub code: String,
    /// For people; may change.
    #[schema(example = "limit must be between 1 and 100")]
    pub message: String,
    /// Every bad field; absent when no field is to blame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// On agent routes: what the agent does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The same as the `X-Request-Id` header; our logs know it.
    #[schema(example = "req_7f3c2a9e41d84b6f8e0a5c1d9b7e3f20")]
    pub request_id: String,
}

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// The field's name in the body, the query or the headers.
    #[schema(example = "limit")]
    pub field: String,
    /// What is wrong with it, for programs.
    #[schema(example = "out_of_range")]
    pub issue: String,
}

/// What an agent does after a refusal, so that it never loops on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Get a new enrollment token and enroll.
    ReEnroll,
    /// Take no work, stay quiet, ask again seldom.
    Stop,
    /// Again later, with what is named put right.
    Retry,
}
