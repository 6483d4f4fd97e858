//! How the agent stands with the control plane.

/// How the agent stands with the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing was asked yet.
    Starting,
    /// There is no identity.
    NotEnrolled,
    /// The last beat was accepted.
    Active,
    /// The last attempt got no usable answer.
    Unreachable,
    /// Heartbeats are refused as too frequent, and none that was accepted keeps the agent connected.
    Throttled,
    /// Revoked: it asks again every 8 to 15 minutes.
    Stopped,
    /// Its credential is dead, and there is no token: it asks again seldom.
    NeedsEnrollment,
    /// The agent was stopped on this host.
    Down,
}

impl Standing {
    /// As `agent.json` and systemd have it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NotEnrolled => "not_enrolled",
            Self::Active => "active",
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
            Self::Stopped => "stopped",
            Self::NeedsEnrollment => "needs_enrollment",
            Self::Down => "down",
        }
    }

    /// Whether the agent sends almost nothing until an operator acts.
    pub(super) const fn is_quiet(self) -> bool {
        matches!(self, Self::NotEnrolled | Self::Stopped | Self::NeedsEnrollment)
    }

    /// Whether a token would help.
    pub(super) const fn wants_token(self) -> bool {
        matches!(self, Self::NotEnrolled | Self::NeedsEnrollment)
    }
}
