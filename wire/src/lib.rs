//! What the control plane and its agents say to each other.
//!
//! [`id`] holds the prefixed ULIDs, [`token`] the three kinds of bearer token and their check
//! characters, [`json`] the pieces that JSON bodies are made of, and the remaining modules the bodies
//! themselves, field for field as the published API reference has them. [`terminal`] is for what either prints of the
//! other's.
//!
//! The agent links this crate, so it knows neither HTTP nor SQL.

pub mod agent;
pub mod api_key;
pub mod enroll;
pub mod envelope;
pub mod event;
pub mod heartbeat;
pub mod id;
pub mod installer;
pub mod json;
pub mod names;
pub mod terminal;
pub mod token;

pub use id::{AgentId, ApiKeyId, EventId, WorkspaceId};
