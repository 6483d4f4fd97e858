//! How an agent is doing, judged from what it last said.

pub use planasonix_wire::agent::HealthStatus;

use super::agent::Status;

const BUSY_PERCENT: f64 = 95.0;
const LITTLE_DISK_GB: f64 = 1.0;
const LARGE_SKEW_MS: i32 = 60_000;

/// What is known of an agent when its health is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Percent of the processors in use.
    pub cpu_percent: Option<f64>,
    /// Percent of the memory in use.
    pub memory_percent: Option<f64>,
    /// Gigabytes free.
    pub disk_free_gb: Option<f64>,
    /// Jobs that run.
    pub active_jobs: Option<i32>,
    /// Jobs that wait.
    pub queue_depth: Option<i32>,
    /// Its latest complaint.
    pub last_error: Option<String>,
    /// How far its clock is ahead, in milliseconds.
    pub clock_skew_ms: Option<i32>,
    /// Whether two hosts beat on its credential.
    pub instance_conflict: bool,
}

/// The verdict, with what speaks against `healthy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The word for it.
    pub status: HealthStatus,
    /// A word for each reason.
    pub reasons: Vec<&'static str>,
}

/// What is known of an active agent's heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// None since its enrollment, or none at a past time: the clock was set back.
    Never,
    /// It is connected.
    Connected,
    /// Its silence began when the control plane itself was away, and may not be its own.
    Excused,
    /// It fell silent.
    Silent,
}

impl Heard {
    /// From what is stored.
    pub fn of(ever: bool, connected: bool, excused: bool) -> Self {
        match (ever, connected, excused) {
            (_, true, _) => Self::Connected,
            (.., true) => Self::Excused,
            (false, ..) => Self::Never,
            _ => Self::Silent,
        }
    }
}

/// Judges an agent.
pub fn judge(status: Status, heard: Heard, figures: &Figures) -> Verdict {
    let (status, reasons) = match (status, heard) {
        (Status::Revoked, _) => (HealthStatus::Revoked, vec![]),
        (Status::Pending, _) | (Status::Active, Heard::Never) => (HealthStatus::Unknown, vec![]),
        (Status::Active, Heard::Excused) => (HealthStatus::Unknown, vec!["control_plane_gap"]),
        (Status::Active, Heard::Silent) => (HealthStatus::Offline, vec![]),
        (Status::Active, Heard::Connected) => match complaints(figures) {
            reasons if reasons.is_empty() => (HealthStatus::Healthy, reasons),
            reasons => (HealthStatus::Degraded, reasons),
        },
    };
    Verdict { status, reasons }
}

fn complaints(figures: &Figures) -> Vec<&'static str> {
    [
        ("last_error", figures.last_error.is_some()),
        ("cpu_percent", figures.cpu_percent.is_some_and(|percent| percent >= BUSY_PERCENT)),
        ("memory_percent", figures.memory_percent.is_some_and(|percent| percent >= BUSY_PERCENT)),
        ("disk_free_gb", figures.disk_free_gb.is_some_and(|free| free < LITTLE_DISK_GB)),
        ("clock_skew", figures.clock_skew_ms.is_some_and(|skew| skew.abs() > LARGE_SKEW_MS)),
        ("instance_conflict", figures.instance_conflict),
    ]
    .into_iter()
    .filter_map(|(reason, holds)| holds.then_some(reason))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Figures {
        Figures {
            cpu_percent: Some(94.9),
            memory_percent: Some(0.0),
            disk_free_gb: Some(1.0),
            clock_skew_ms: Some(-60_000),
            ..Figures::default()
        }
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        for (status, heard, verdict) in [
            (Status::Revoked, Heard::Connected, HealthStatus::Revoked),
            (Status::Pending, Heard::Connected, HealthStatus::Unknown),
            (Status::Active, Heard::Never, HealthStatus::Unknown),
            (Status::Active, Heard::Silent, HealthStatus::Offline),
            (Status::Active, Heard::Connected, HealthStatus::Healthy),
        ] {
            let judged = judge(status, heard, &calm());
            assert_eq!(judged, Verdict { status: verdict, reasons: vec![] });
        }
    }

    #[test]
    fn every_complaint_names_itself() {
        let figures = Figures {
            cpu_percent: Some(95.0),
            memory_percent: Some(95.0),
            disk_free_gb: Some(0.99),
            last_error: Some(String::new()),
            clock_skew_ms: Some(60_001),
            instance_conflict: true,
            ..Figures::default()
        };
        let verdict = judge(Status::Active, Heard::Connected, &figures);
        assert_eq!(verdict.status, HealthStatus::Degraded);
        assert_eq!(
            verdict.reasons,
            [
                "last_error",
                "cpu_percent",
                "memory_percent",
                "disk_free_gb",
                "clock_skew",
                "instance_conflict"
            ]
        );
    }
}
