//! The rules, and nothing but: no HTTP, no SQL, no runtime, no clock and no chance of its own.

pub mod access;
pub mod agent;
pub mod api_key;
pub mod canonical_json;
pub mod credential;
pub mod error;
pub mod health;
pub mod idempotency;
pub mod invalid;
pub mod metadata;
pub mod page;
pub mod presence;
pub mod revision;

pub use access::{Actor, Scope};
pub use error::{Error, Result};
