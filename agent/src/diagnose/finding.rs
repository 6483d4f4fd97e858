//! What one probe found, for people and for programs.

use std::fmt::{self, Display};

use planasonix_wire::terminal;
use serde::{Serialize, Serializer};

use crate::privileges;

/// How a probe went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something is to be done.
    Problem,
    /// Not tried: what it needs was missing.
    Skipped,
    /// This user may not know.
    Unknown,
}

/// The block that one probe adds to the report. No secret is in it.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The probe's name, stable for programs.
    pub probe: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    #[serde(serialize_with = "as_object")]
    facts: Vec<(String, String)>,
}

impl Finding {
    /// All is well, so far.
    pub const fn new(probe: &'static str) -> Self {
        Self { probe, verdict: Verdict::Ok, problem: None, advice: None, facts: Vec::new() }
    }

    /// A probe that was not tried.
    pub fn skipped(probe: &'static str, why: &str) -> Self {
        Self { verdict: Verdict::Skipped, problem: Some(why.to_owned()), ..Self::new(probe) }
    }

    /// The same finding, of which this user may not know more.
    #[must_use]
    pub fn unknown(mut self, why: impl Display) -> Self {
        if self.problem.is_none() {
            self.verdict = Verdict::Unknown;
            self.problem = Some(why.to_string());
            self.advice = Some(privileges::RUN_AS_ROOT.to_owned());
        }
        self
    }

    /// Adds what was seen; `name` is unique within the probe.
    pub fn fact(&mut self, name: impl Into<String>, value: impl Display) {
        self.facts.push((name.into(), value.to_string()));
    }

    /// Something is wrong. The first problem of a probe stays: later ones follow from it.
    pub fn problem(&mut self, problem: impl Into<String>, advice: impl Into<String>) {
        if self.problem.is_none() {
            self.verdict = Verdict::Problem;
            self.problem = Some(problem.into());
            self.advice = Some(advice.into());
        }
    }

    /// The same finding with a problem.
    #[must_use]
    pub fn with_problem(mut self, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        self.problem(problem, advice);
        self
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Problem => "PROBLEM",
            Verdict::Skipped => "not tried",
            Verdict::Unknown => "unknown",
        };
        write!(f, "{}: {verdict}", self.probe)?;
        if let Some(problem) = &self.problem {
            write!(f, ": {}", terminal::value(problem))?;
        }
        let width = self.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.facts {
            write!(f, "\n  {name:width$}  {}", terminal::value(value))?;
        }
        match &self.advice {
            Some(advice) => write!(f, "\n  what to do: {}", terminal::value(advice)),
            None => Ok(()),
        }
    }
}

fn as_object<S: Serializer>(facts: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(facts.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_shows_what_a_terminal_would_obey() {
        let mut finding = Finding::new("tls");
        finding.fact("subject", "CN=a\u{1b}[2J\nb");
        finding.problem("reset\u{9b}1m", "ask \u{202e}them");
        let escaped = concat!(r"tls: PROBLEM: reset\u{9b}1m", "\n", r"  subject  CN=a\u{1b}[2J\nb");
        assert_eq!(finding.to_string(), format!("{escaped}\n  what to do: ask {}them", r"\u{202e}"));
        assert_eq!(serde_json::to_value(&finding).unwrap()["facts"]["subject"], "CN=a\u{1b}[2J\nb");
    }

    #[test]
    fn a_finding_reads_as_a_block_and_as_an_object() {
        let mut finding = Finding::new("tcp");
        finding.fact("address", "192.0.2.1:443");
        finding.problem("refused", "open the port");
        finding.problem("a consequence", "none");
        assert_eq!(
            finding.to_string(),
            "tcp: PROBLEM: refused\n  address  192.0.2.1:443\n  what to do: open the port"
        );
        let object = serde_json::json!({
            "probe": "tcp", "verdict": "problem", "problem": "refused", "advice": "open the port",
            "facts": {"address": "192.0.2.1:443"},
        });
        assert_eq!(serde_json::to_value(&finding).unwrap(), object);
        assert_eq!(Finding::skipped("tls", "no connection").to_string(), "tls: not tried: no connection");
    }
}
