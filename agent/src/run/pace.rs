//! When the next attempt is made. Pure: chance is an argument, drawn evenly from 0 (included) to 1 (excluded).

use std::time::Duration;

use tokio::time::Instant;

use crate::timing::Timing;

/// An attempt that is over.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// When it began.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
}

/// From the start of one beat to the start of the next. The control plane's number holds its jitter
/// already; the agent only ever shortens it, so that the number of beats in a window is kept.
pub fn beat(interval: Duration, chance: f64) -> Duration {
    between(interval.mul_f64(0.9), interval, chance)
}

/// Largest interval that a control plane can mean, in seconds: three heartbeats fit the largest connected window
/// (86,400 s) less 10 s.
const MAX_MEANT: u32 = 28_796;

/// The interval that the control plane asks for, in its seconds. None where no setting of a control plane leads to the
/// number: it says nothing, and the interval before it stays. A long one is cut to `most_interval`.
pub fn interval(asked: u32, timing: &Timing) -> Option<Duration> {
    let meant = (1..=MAX_MEANT).contains(&asked);
    meant.then(|| (timing.second * asked).min(timing.most_interval))
}

/// How long an accepted heartbeat keeps the agent connected at least: the control plane's interval is at most a third
/// of its window less 10 s, or a quarter of a window under 40 s.
pub fn connected_for(interval: Duration, timing: &Timing) -> Duration {
    if interval < timing.second * 10 { interval * 4 } else { interval * 3 + timing.second * 10 }
}

/// How long after a rotation the next request for one is ignored, for a credential that lives for `life` seconds. A
/// control plane asks in the last third of the life, so half of it is never too long.
pub fn rotation(life: i64, timing: &Timing) -> Duration {
    let half = match u32::try_from(life / 2) {
        Ok(half) if half > 0 => timing.second.saturating_mul(half),
        // No life at all, or one beyond counting.
        _ => timing.rotation_pause,
    };
    half.clamp(timing.least_backoff, timing.rotation_pause)
}

/// How long after the disk's `refusals`-th refusal in a row, from 1, it is tried again.
pub fn disk_retry(refusals: u32, timing: &Timing) -> Duration {
    let doubled = timing.disk_retry.saturating_mul(2_u32.saturating_pow(refusals.saturating_sub(1)));
    doubled.min(timing.rotation_pause)
}

/// The pause of an agent that was refused.
pub fn quiet(most: Duration, chance: f64) -> Duration {
    between(most / 2, most, chance)
}

/// From the start of the attempt that failed to the start of the next: the `failures`-th in a row, from 1.
///
/// The first retry is drawn from the whole interval, so that a fleet that lost its server spreads as it
/// beat before. Every later pause is drawn from the upper half of its limit, not from the whole of it: a
/// fleet that draws from the whole asks twice as often as it beats, and a server that comes back has to
/// carry a fleet at under twice its steady rate.
pub fn backoff(failures: u32, interval: Duration, timing: &Timing, chance: f64) -> Duration {
    if failures <= 1 {
        return between(Duration::ZERO, interval, chance);
    }
    let doubled = interval.saturating_mul(2_u32.saturating_pow(failures - 1));
    let most = doubled.min(timing.most_backoff.max(interval));
    between((most / 2).max(timing.least_backoff), most.max(timing.least_backoff * 2), chance)
}

/// When the attempt after a failed one starts: after its backoff, not right upon it, and not before the
/// control plane asked for it.
pub fn retry_at(
    attempt: Span,
    backoff: Duration,
    retry_after: Option<Duration>,
    timing: &Timing,
    chance: f64,
) -> Instant {
    let asked = retry_after.unwrap_or_default().min(timing.most_retry_after);
    let asked = between(asked, asked.mul_f64(1.1), chance);
    (attempt.started + backoff).max(attempt.ended + timing.gap.max(asked))
}

fn between(least: Duration, most: Duration, chance: f64) -> Duration {
    least + most.saturating_sub(least).mul_f64(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The shortest and the longest that chance can make it; the longest is never quite reached.
    fn range(draw: impl Fn(f64) -> Duration) -> (Duration, Duration) {
        (draw(0.0), draw(1.0))
    }

    #[test]
    fn a_beat_is_only_ever_early() {
        assert_eq!(range(|chance| beat(seconds(30), chance)), (seconds(27), seconds(30)));
    }

    #[test]
    fn intervals_beyond_the_contract_are_refused_and_long_ones_cut() {
        let timing = Timing::default();
        for (asked, obeyed) in [
            (0, None),
            (1, Some(1)),
            (33, Some(33)),
            (3_960, Some(3_960)),
            (28_796, Some(3_960)),
            (28_797, None),
            (u32::MAX, None),
        ] {
            assert_eq!(interval(asked, &timing), obeyed.map(seconds), "{asked}");
        }
        assert_eq!(timing.longest_wait(), seconds(3_960));
    }

    #[test]
    fn connected_ends_within_every_window_that_allows_the_interval() {
        let timing = Timing::default();
        for window in [4, 8, 39, 40, 60, 120, 3_600, 11_890] {
            let interval = if window < 40 { window / 4 } else { (window - 10) / 3 };
            assert!(connected_for(seconds(interval), &timing) <= seconds(window), "{window}");
            assert!(connected_for(seconds(interval), &timing) > seconds(interval), "{window}");
        }
    }

    #[test]
    fn the_next_rotation_waits_for_half_a_life_or_an_hour() {
        let timing = Timing::default();
        for (life, pause) in [
            (2_592_000, 3_600),
            (600, 300),
            (18, 9),
            (2, 5),
            (1, 3_600),
            (0, 3_600),
            (-1, 3_600),
            (i64::MAX, 3_600),
            (i64::MIN, 3_600),
        ] {
            assert_eq!(rotation(life, &timing), seconds(pause), "{life}");
        }
    }

    #[test]
    fn a_disk_that_refuses_is_tried_less_and_less() {
        let timing = Timing::default();
        let pauses = [1, 2, 3, 7, 50, u32::MAX].map(|refusals| disk_retry(refusals, &timing));
        assert_eq!(pauses, [60, 120, 240, 3_600, 3_600, 3_600].map(seconds));
    }

    #[test]
    fn the_first_retry_is_drawn_from_the_whole_interval() {
        let timing = Timing::default();
        assert_eq!(range(|chance| backoff(1, seconds(30), &timing, chance)), (seconds(0), seconds(30)));
    }

    #[test]
    fn later_retries_back_off_to_a_limit() {
        let timing = Timing::default();
        for (interval, failures, least, most) in [
            (30, 2, 15, 30),
            (30, 50, 15, 30),
            (5, 2, 5, 10),
            (5, 3, 10, 20),
            (5, 4, 15, 30),
            (5, u32::MAX, 15, 30),
            (60, 2, 30, 60),
            (1, 2, 5, 10),
        ] {
            let range = range(|chance| backoff(failures, seconds(interval), &timing, chance));
            assert_eq!(range, (seconds(least), seconds(most)), "{interval} s, {failures} failures");
        }
    }

    #[test]
    fn a_refused_agent_asks_again_within_a_quarter_of_an_hour() {
        let quiet = range(|chance| quiet(Timing::default().quiet, chance));
        assert_eq!(quiet, (seconds(450), seconds(900)));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_the_least_wait_and_has_a_limit() {
        let timing = Timing::default();
        let started = Instant::now();
        let attempt = Span { started, ended: started + seconds(10) };
        let at = |backoff, asked: Option<u64>, chance| {
            retry_at(attempt, backoff, asked.map(seconds), &timing, chance) - started
        };
        assert_eq!(at(seconds(15), None, 0.5), seconds(15));
        assert_eq!(at(seconds(3), None, 0.5), seconds(11), "not right upon the one before");
        assert_eq!(at(seconds(15), Some(20), 0.0), seconds(30));
        assert_eq!(at(seconds(15), Some(20), 1.0), seconds(32));
        assert_eq!(at(seconds(15), Some(1), 1.0), seconds(15));
        assert_eq!(at(seconds(15), Some(100_000), 0.0), seconds(3_610));
    }

    #[test]
    fn a_fleet_that_retries_stays_under_twice_its_steady_rate() {
        let timing = Timing::default();
        for interval in [10, 20, 30, 60, 300].map(seconds) {
            let (least, most) = range(|chance| backoff(9, interval, &timing, chance));
            assert!((least + most) / 2 > interval / 2, "{interval:?}");
        }
    }
}
