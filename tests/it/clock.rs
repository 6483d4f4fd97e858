//! A stored time that is ahead of the database's clock, which was set back, counts as never.

mod answers;
mod background;
mod heartbeats;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::support::{App, time};

/// How far ahead: a correction, and a failover to a host that is wrong.
const AHEAD: [Duration; 2] = [Duration::from_mins(10), Duration::from_hours(24)];

impl App {
    /// Puts these times of every agent's heartbeats ahead of the clock.
    async fn heartbeats_ahead(&self, columns: &[&str], ahead: Duration) {
        time::set_ahead(&mut self.database.connect().await, "agent_liveness", columns, ahead).await;
    }
}

/// Whether an answer holds a time, and none that is later than now.
#[track_caller]
fn assert_past(at: &Value) {
    let at: DateTime<Utc> = at.as_str().unwrap_or_else(|| panic!("{at} is no time")).parse().unwrap();
    assert!(at <= Utc::now() + TimeDelta::seconds(1), "{at}");
}
