//! A clock that is wrong is named in the log, with its size and direction: once, and again when it changes.

use chrono::TimeDelta;

/// Beyond this the control plane calls the agent degraded.
pub const TOLERATED: TimeDelta = TimeDelta::seconds(60);

/// In words, by how much and in which direction this host's clock is off.
pub fn describe(ahead: TimeDelta) -> String {
    let direction = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
    format!("{} s {direction} the control plane's", ahead.num_seconds().abs())
}

/// Remembers what was said of the clock.
#[derive(Debug, Default)]
pub(super) struct SkewWatch {
    told: Option<TimeDelta>,
}

impl SkewWatch {
    /// Takes a measurement: by how much this host's clock is ahead. Answers what is new about it.
    fn news(&mut self, ahead: TimeDelta) -> Option<String> {
        if ahead.abs() <= TOLERATED {
            return self.told.take().map(|_| "this host's clock is right again".to_owned());
        }
        if self.told.is_some_and(|told| (ahead - told).abs() <= TOLERATED) {
            return None;
        }
        self.told = Some(ahead);
        Some(format!("this host's clock is {}: set it, or run NTP", describe(ahead)))
    }

    /// Takes a measurement and logs what is new about it.
    pub(super) fn measure(&mut self, ahead: TimeDelta) {
        if let Some(news) = self.news(ahead) {
            tracing::warn!("{news}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_once_and_again_when_it_changes() {
        let mut watch = SkewWatch::default();
        let mut news = |seconds| watch.news(TimeDelta::seconds(seconds)).unwrap_or_default();
        assert_eq!(news(59), "");
        assert!(news(3_600).contains("3600 s ahead of"));
        assert_eq!(news(3_602), "");
        assert!(news(-3_600).contains("3600 s behind"));
        assert!(news(1).contains("right again"));
        assert_eq!(news(2), "");
    }
}
