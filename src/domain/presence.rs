//! Heartbeats: what a valid one says, why one is refused, how often they are wanted.

mod runs;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use planasonix_wire::{heartbeat::Heartbeat, json::Patch};
use serde::Serialize;

use super::{
    Error,
    agent::{HOSTNAME_CHARS, INSTANCE_ID_CHARS, MOST_WORDS, VERSION_CHARS, WORD_CHARS},
    invalid::{Checks, Invalid},
};

pub use runs::Runs;

const LAST_ERROR_CHARS: usize = 2_000;
const RUN_ID_CHARS: usize = 128;
const MOST_DISK_GB: f64 = 1e9;
/// The last second of the year 9999: what is later is a broken clock, and far inside what the database takes.
const LATEST_SENT_AT_MS: i64 = 253_402_300_799_000;

/// What a beat says of its host, checked: nothing in it can fail a statement that it shares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The numbers, stored with every beat.
    pub figures: Figures,
    /// The texts, stored only when they change.
    pub slow: SlowFields,
    /// The installations that beat under this credential, as far as they named themselves, and from where.
    pub instances: BTreeMap<String, IpAddr>,
    /// The processes that sent it.
    pub runs: Runs,
}

/// The numbers of a beat.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Percent of the processors in use, 0–100.
    pub cpu_percent: Patch<f64>,
    /// Percent of the memory in use, 0–100.
    pub memory_percent: Patch<f64>,
    /// Gigabytes free.
    pub disk_free_gb: Patch<f64>,
    /// Jobs that run.
    pub active_jobs: Patch<i32>,
    /// Jobs that wait.
    pub queue_depth: Patch<i32>,
    /// The agent's clock, in milliseconds since 1970, if it was sent.
    pub sent_at_ms: Option<i64>,
}

/// The texts of a beat, which seldom change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct SlowFields {
    /// The agent's version.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    pub version: Patch<String>,
    /// What it can run.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    pub capabilities: Patch<Vec<String>>,
    /// Its host's name.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    pub hostname: Patch<String>,
    /// The installation's own name for itself.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    pub instance_id: Patch<String>,
    /// Its latest complaint.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    pub last_error: Patch<String>,
}

impl SlowFields {
    /// Whether the beat named none of them.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Sample {
    /// Takes over, field by field, what a later beat says; what it leaves out stays.
    pub fn merge(&mut self, later: Self) {
        let Figures { cpu_percent, memory_percent, disk_free_gb, active_jobs, queue_depth, sent_at_ms } =
            later.figures;
        self.figures.cpu_percent.merge(cpu_percent);
        self.figures.memory_percent.merge(memory_percent);
        self.figures.disk_free_gb.merge(disk_free_gb);
        self.figures.active_jobs.merge(active_jobs);
        self.figures.queue_depth.merge(queue_depth);
        self.figures.sent_at_ms = sent_at_ms.or(self.figures.sent_at_ms);
        let SlowFields { version, capabilities, hostname, instance_id, last_error } = later.slow;
        self.slow.version.merge(version);
        self.slow.capabilities.merge(capabilities);
        self.slow.hostname.merge(hostname);
        self.slow.instance_id.merge(instance_id);
        self.slow.last_error.merge(last_error);
        self.instances.extend(later.instances);
        self.runs.merge(later.runs);
    }

    /// Takes a beat and where it came from.
    ///
    /// # Errors
    /// [`Invalid`], naming every field that breaks a rule.
    pub fn check(beat: Heartbeat, remote_ip: IpAddr) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        check_texts(&mut checks, &beat);
        let figures = Figures {
            cpu_percent: bounded(&mut checks, "cpu_percent", beat.cpu_percent, 100.0),
            memory_percent: bounded(&mut checks, "memory_percent", beat.memory_percent, 100.0),
            disk_free_gb: bounded(&mut checks, "disk_free_gb", beat.disk_free_gb, MOST_DISK_GB),
            active_jobs: count(&mut checks, "active_jobs", beat.active_jobs),
            queue_depth: count(&mut checks, "queue_depth", beat.queue_depth),
            sent_at_ms: beat.sent_at.set().map(|at| at.timestamp_millis().clamp(0, LATEST_SENT_AT_MS)),
        };
        checks.finish()?;
        let instances = beat.instance_id.set().map(|id| (id.clone(), remote_ip)).into_iter().collect();
        let continues = beat.run_continues.set().copied().unwrap_or_default();
        let runs = Runs::of(beat.run_id.set().map(String::as_str), continues);
        let Heartbeat { version, capabilities, hostname, instance_id, last_error, .. } = beat;
        let slow = SlowFields { version, capabilities, hostname, instance_id, last_error };
        Ok(Self { figures, slow, instances, runs })
    }
}

fn check_texts(checks: &mut Checks, beat: &Heartbeat) {
    for (field, text, most) in [
        ("version", &beat.version, VERSION_CHARS),
        ("hostname", &beat.hostname, HOSTNAME_CHARS),
        ("instance_id", &beat.instance_id, INSTANCE_ID_CHARS),
        ("run_id", &beat.run_id, RUN_ID_CHARS),
        ("last_error", &beat.last_error, LAST_ERROR_CHARS),
    ] {
        checks.text(field, text.set().map_or("", String::as_str), 0..=most);
    }
    let capabilities = beat.capabilities.set().map_or(&[][..], Vec::as_slice);
    checks.words("capabilities", capabilities, MOST_WORDS, WORD_CHARS);
}

fn bounded(checks: &mut Checks, field: &str, number: Patch<f64>, most: f64) -> Patch<f64> {
    if let Patch::Set(number) = number {
        checks.range(field, number, 0.0..=most);
    }
    number
}

fn count(checks: &mut Checks, field: &str, number: Patch<i64>) -> Patch<i32> {
    match number {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(number) => {
            checks.range(field, number, 0..=i64::from(i32::MAX));
            Patch::Set(i32::try_from(number).unwrap_or_default())
        }
    }
}

/// Why an agent's credential is not accepted. Decided by the credential's digest alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Never issued, or its agent is deleted.
    NeverIssued,
    /// Its agent is revoked.
    AgentRevoked,
    /// Replaced by a later one.
    Replaced,
    /// Past its expiry.
    Expired,
    /// Good, but another agent's than the path names.
    OtherAgent,
    /// Good, but it follows the last beat sooner than this.
    TooSoon(Duration),
}

impl Refusal {
    /// Why a credential that was issued is refused, the first reason that holds; `None` if it is good.
    pub fn of(agent_revoked: bool, retired: bool, expired: bool) -> Option<Self> {
        match (agent_revoked, retired, expired) {
            (true, ..) => Some(Self::AgentRevoked),
            (_, true, _) => Some(Self::Replaced),
            (.., true) => Some(Self::Expired),
            _ => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NeverIssued => Self::Unauthenticated,
            Refusal::AgentRevoked => Self::AgentRevoked,
            Refusal::Replaced => Self::CredentialRotated,
            Refusal::Expired => Self::CredentialExpired,
            Refusal::OtherAgent => Self::AgentNotFound,
            Refusal::TooSoon(min_interval) => Self::RateLimited { retry_after: min_interval },
        }
    }
}

/// How often agents beat, and how long a silent one still counts as connected.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// An agent that beat within this is connected.
    pub window: Duration,
    /// The wanted time between two beats.
    pub interval: Duration,
    /// A beat that follows sooner than this is refused; nothing is too soon at zero.
    pub min_interval: Duration,
    /// How many beats a second the whole fleet should send at most.
    pub most_per_second: u32,
}

impl Rhythm {
    /// Whole seconds until the next beat, for a `jitter` drawn evenly from 0 to 1: within 10 % of the
    /// interval, which is stretched while a fleet of so many agents would send too much, and never so long
    /// that fewer than three beats fit the window.
    pub fn next_beat(self, fleet: u64, jitter: f64) -> u32 {
        #[expect(clippy::cast_precision_loss, reason = "no fleet is that large")]
        let stretched = fleet as f64 / f64::from(self.most_per_second.max(1));
        let window = self.window.as_secs_f64();
        let longest = if window < 40.0 { window / 4.0 } else { (window - 10.0) / 3.0 };
        let interval = self.interval.as_secs_f64().max(stretched);
        let seconds = (interval * (0.9 + 0.2 * jitter)).min(longest);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the window"
        )]
        let seconds = seconds.floor().clamp(1.0, f64::from(u32::MAX)) as u32;
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rhythm(window: u64) -> Rhythm {
        Rhythm {
            window: Duration::from_secs(window),
            interval: Duration::from_secs(30),
            min_interval: Duration::ZERO,
            most_per_second: 10_000,
        }
    }

    #[test]
    fn three_beats_fit_every_window() {
        for window in [4, 8, 39, 40, 60, 120, 3_600] {
            for (fleet, jitter) in [(0, 0.0), (0, 0.5), (0, 1.0), (1_000_000_000, 1.0)] {
                let beat = u64::from(rhythm(window).next_beat(fleet, jitter));
                assert!(beat >= 1 && 3 * beat <= window, "{beat} s in a window of {window} s");
            }
        }
    }

    #[test]
    fn the_interval_holds_its_jitter() {
        assert_eq!([0.0, 0.5, 1.0].map(|jitter| rhythm(120).next_beat(0, jitter)), [27, 30, 33]);
    }

    #[test]
    fn a_large_fleet_beats_less_often() {
        assert_eq!(rhythm(600).next_beat(300_000, 0.5), 30);
        assert_eq!(rhythm(600).next_beat(1_000_000, 0.5), 100);
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let beat = serde_json::from_str::<Heartbeat>(
            r#"{"cpu_percent":101,"memory_percent":-0.1,"active_jobs":2147483648,"version":"a\u0000","hostname":null}"#,
        );
        let invalid = Sample::check(beat.unwrap(), IpAddr::from([127, 0, 0, 1])).unwrap_err();
        let fields: Vec<_> = invalid.fields().iter().map(|bad| (bad.field.as_str(), bad.issue)).collect();
        assert_eq!(
            fields,
            [
                ("version", "invalid_character"),
                ("cpu_percent", "out_of_range"),
                ("memory_percent", "out_of_range"),
                ("active_jobs", "out_of_range"),
            ]
        );
    }
}
