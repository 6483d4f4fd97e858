//! The routes under `/api/agents`, one verb a file.

#![expect(missing_docs, reason = "a handler's description is its summary in the OpenAPI document")]

pub mod connected;
pub mod delete;
pub mod disconnect;
pub mod drain;
pub mod enable;
pub mod enroll;
pub mod enrollment_token;
pub mod events;
pub mod get;
pub mod health;
pub mod heartbeat;
pub mod installer;
pub mod list;
pub mod manual_install;
pub mod register;
pub mod revoke;
pub mod rotate;
pub mod update;
