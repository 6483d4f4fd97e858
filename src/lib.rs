//! The control plane of Planasonix's pipeline agents.
//!
//! Where things live, from the bottom up; each module may use those above it in this list:
//!
//! - [`domain`]: the rules. No HTTP, no SQL, no runtime.
//! - [`db`]: all SQL, and the door to one workspace's rows.
//! - [`enrollment`], [`api_keys`]: how an agent comes to its credential, and an API key to its secret.
//! - [`presence`]: heartbeats, taken in groups.
//! - [`installer`]: bundles of the real agent, and the commands that install them.
//! - [`http`]: the route table, and one verb a file.
//! - [`tasks`]: what runs in the background.
//! - [`dev`]: the private Postgres of development and tests.
//! - [`cli`]: the commands.
//!
//! [`config`], [`telemetry`] and [`lifecycle`] are used by the commands alone, which hand plain values
//! down; [`entropy`] is where chance comes from, [`meter`] what is measured. What agents and server say to
//! each other is in the crate `planasonix-wire`.

pub mod entropy;
pub mod meter;

pub mod domain;

pub mod db;

pub mod api_keys;
pub mod enrollment;
pub mod installer;
pub mod presence;

pub mod dev;
pub mod http;
pub mod tasks;

pub mod config;
pub mod lifecycle;
pub mod telemetry;

pub mod cli;
