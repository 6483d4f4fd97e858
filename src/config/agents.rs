//! How agents are treated.

use std::time::Duration;

use clap::{Args, builder::RangedU64ValueParser};

use crate::{domain::presence::Rhythm, enrollment::Lives};

/// How agents are treated. All in seconds.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// How long an agent counts as connected after a heartbeat.
    #[arg(long, env = "PLANASONIX_CONNECTED_WINDOW", default_value_t = 120, value_name = "SECONDS", value_parser = seconds(4, 86_400))]
    pub connected_window: u64,
    /// The wanted time between two heartbeats; three always fit the window.
    #[arg(long, env = "PLANASONIX_HEARTBEAT_INTERVAL", default_value_t = 30, value_name = "SECONDS", value_parser = seconds(1, 3_600))]
    pub heartbeat_interval: u64,
    /// How many heartbeats a second the whole fleet should send at most; a larger fleet beats less often, as
    /// far as the window allows.
    #[arg(long, env = "PLANASONIX_HEARTBEAT_RATE", default_value_t = 10_000, value_name = "BEATS", value_parser = clap::value_parser!(u32).range(1..))]
    pub heartbeat_rate: u32,
    /// A heartbeat that follows the last one sooner than this is refused; 0 is off.
    #[arg(long, env = "PLANASONIX_HEARTBEAT_MIN_INTERVAL", default_value_t = 1, value_name = "SECONDS", value_parser = seconds(0, 3_600))]
    pub heartbeat_min_interval: u64,
    /// After how long events are removed; 0 keeps them for ever.
    #[arg(long, env = "PLANASONIX_EVENTS_RETENTION", default_value_t = 0, value_name = "SECONDS", value_parser = seconds(0, 315_360_000))]
    pub events_retention: u64,
    /// How long an enrollment token works.
    #[arg(long, env = "PLANASONIX_ENROLLMENT_TOKEN_TTL", default_value_t = 18_000, value_name = "SECONDS", value_parser = seconds(1, 31_536_000))]
    pub enrollment_token_ttl: u64,
    /// How long an agent's credential works.
    #[arg(long, env = "PLANASONIX_CREDENTIAL_TTL", default_value_t = 2_592_000, value_name = "SECONDS", value_parser = seconds(1, 315_360_000))]
    pub credential_ttl: u64,
}

pub(super) fn seconds(least: u64, most: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(least..=most)
}

impl AgentArgs {
    /// How long secrets live.
    pub fn lives(&self) -> Lives {
        Lives {
            enrollment_token: Duration::from_secs(self.enrollment_token_ttl),
            credential: Duration::from_secs(self.credential_ttl),
        }
    }

    /// After how long events go; `None` is never.
    pub fn events_retention(&self) -> Option<Duration> {
        (self.events_retention > 0).then(|| Duration::from_secs(self.events_retention))
    }

    /// How often agents beat. The default of one second between two heartbeats at least gives way to a short
    /// window; any other must leave room for what agents are told.
    ///
    /// # Errors
    /// A text that names the settings which cannot hold together.
    pub fn rhythm(&self) -> Result<Rhythm, String> {
        let rhythm = Rhythm {
            window: Duration::from_secs(self.connected_window),
            interval: Duration::from_secs(self.heartbeat_interval),
            min_interval: Duration::from_secs(self.heartbeat_min_interval),
            most_per_second: self.heartbeat_rate,
        };
        let told = Duration::from_secs(rhythm.next_beat(0, 0.0).into());
        if rhythm.min_interval * 2 <= told {
            Ok(rhythm)
        } else if self.heartbeat_min_interval <= 1 {
            Ok(Rhythm { min_interval: told / 2, ..rhythm })
        } else {
            Err(format!(
                "--heartbeat-min-interval {} is more than half of the {} s that agents are told to wait under \
                 --heartbeat-interval {} and --connected-window {}",
                self.heartbeat_min_interval,
                told.as_secs(),
                self.heartbeat_interval,
                self.connected_window
            ))
        }
    }
}
