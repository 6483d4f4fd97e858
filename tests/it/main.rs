//! The one test binary: real Postgres, a database for each test, a real listener.
//!
//! Files mirror the routes; `support` holds what tests speak with.

#![expect(unreachable_pub, reason = "a test binary exports nothing")]
#![expect(
    clippy::disallowed_methods,
    clippy::string_slice,
    reason = "tests have chance, PATH and tokens of their own to take apart"
)]

#[cfg(test)]
mod support;

#[cfg(test)]
mod ageing;
#[cfg(test)]
mod agents;
#[cfg(test)]
mod any_life;
#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod core_dumps;
#[cfg(test)]
mod cors;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod dev_postgres;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod first_day;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod flush;
#[cfg(test)]
mod gap;
#[cfg(test)]
mod installers;
#[cfg(test)]
mod instance_conflict;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod min_interval;
#[cfg(test)]
mod one_caller;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod races;
#[cfg(test)]
mod readiness;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod revoke_races;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod server;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod tenant_reads;
#[cfg(test)]
mod unread;
#[cfg(test)]
mod whole_system;
