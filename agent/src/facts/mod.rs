//! What an agent tells of its host: who it is, what it can run, how it is doing.
//!
//! Every value is within the bounds of the API, or left out: a beat is never refused for what a host
//! happens to report.

pub mod capabilities;
#[cfg(target_os = "linux")]
mod cgroup;
pub mod load;
pub mod machine;
#[cfg(windows)]
mod windows;

pub use capabilities::capabilities;
pub use load::{Gauge, Load};
pub use machine::{hostname, instance_id, platform};

/// This program's version, as it beats it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
