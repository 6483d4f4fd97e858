//! The commands about the agent, against listeners that behave as control planes and proxies do, and as they
//! should not.

#[cfg(test)]
#[cfg(unix)]
mod certificates;
#[cfg(test)]
mod diagnose;
#[cfg(test)]
#[cfg(unix)]
mod hidden;
#[cfg(test)]
mod host;
#[cfg(test)]
mod listeners;
#[cfg(test)]
mod proxied;
#[cfg(test)]
mod uninstall;
