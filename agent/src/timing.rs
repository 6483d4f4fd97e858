//! How long the agent waits for what.

use std::time::Duration;

/// Every span of time that the agent goes by. [`Timing::default`] is the real one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// What the control plane counts its intervals in.
    pub second: Duration,
    /// Between heartbeats, until the control plane has said.
    pub interval: Duration,
    /// For a connection to stand.
    pub connect: Duration,
    /// For a whole request.
    pub request: Duration,
    /// The least pause between the end of an attempt and the next one.
    pub gap: Duration,
    /// The least pause between the starts of attempts that fail one after the other.
    pub least_backoff: Duration,
    /// What the pause between failing attempts grows to, unless the interval is longer.
    pub most_backoff: Duration,
    /// Longest heartbeat interval that is obeyed: the largest that a control plane can be set to, 3,600 s, with its
    /// jitter of 10 %.
    pub most_interval: Duration,
    /// Longest time after a rotation in which another one is not done, whatever is asked for.
    pub rotation_pause: Duration,
    /// The longest `Retry-After` that is honoured.
    pub most_retry_after: Duration,
    /// The longest pause of an agent that was refused.
    pub quiet: Duration,
    /// Between looks at the identity's file.
    pub watch: Duration,
    /// The longest that the pipeline runtimes are told nothing.
    pub republish: Duration,
    /// For taking leave, all in all.
    pub farewell: Duration,
    /// How long `enroll` goes on trying.
    pub enroll: Duration,
    /// Longest time after which authorities and the system's proxies are read anew.
    pub renew: Duration,
    /// After a disk did not take a trial, the least time until a new credential is asked for; it doubles each time.
    pub disk_retry: Duration,
}

impl Timing {
    /// All spans in proportion to `second`.
    pub fn scaled(second: Duration) -> Self {
        Self {
            second,
            interval: second * 30,
            connect: second * 5,
            request: second * 10,
            gap: second,
            least_backoff: second * 5,
            most_backoff: second * 30,
            most_interval: second * 3_960,
            rotation_pause: second * 3_600,
            most_retry_after: second * 3_600,
            quiet: second * 900,
            watch: second * 2,
            republish: second * 60,
            farewell: second * 5,
            enroll: second * 120,
            renew: second * 3_600,
            disk_retry: second * 60,
        }
    }
}

impl Timing {
    /// The longest wait between two attempts, whatever asked for it: `Retry-After` is lengthened by up to 10 %.
    pub fn longest_wait(&self) -> Duration {
        self.most_interval.max(self.most_retry_after.mul_f64(1.1)).max(self.quiet)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::scaled(Duration::from_secs(1))
    }
}
