//! `planasonix-agent status`: how the agent of this host stands, by its own last word.

use std::{io, process::ExitCode};

use chrono::{DateTime, Utc};
use clap::Args;
use planasonix_wire::{AgentId, json::Timestamp, terminal};
use serde::Serialize;

use crate::{
    clock,
    config::Config,
    identity::{IdentityError, Store},
    output, privileges,
    runtimes::{self, AgentFile},
    secret::Token,
};

/// The flags of `status`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Options {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How the agent stands.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The agent that this host is; `null` before its enrollment.
    pub agent_id: Option<AgentId>,
    /// The word of `agent.json`; `not_running` without a recent one, `unknown` where this user may not read it.
    pub status: String,
    /// Whether its last beat was accepted; `null` when that is unknown.
    pub connected: Option<bool>,
    /// Whether pipelines may be started; `null` when that is unknown.
    pub accepts_work: Option<bool>,
    /// When it last said how it stands, which it does at every beat and change, and every minute.
    pub updated_at: Option<Timestamp>,
    /// Until when its credential works; `null` when that was not told or cannot be read.
    pub credential_expires_at: Option<Timestamp>,
}

/// Prints the standing; 0 when connected, [`privileges::EXIT_UNKNOWN`] when this user may not know, else 1.
pub fn run(config: &Config, options: Options) -> ExitCode {
    let store = Store::new(&config.state_dir);
    let (standing, unreadable) = examine(config, &store, clock::now());
    if options.json {
        output::json(&standing);
    } else {
        for line in standing.lines(unreadable.is_some()) {
            output::line(&line);
        }
    }
    if let Some(error) = unreadable {
        output::complain(&format!("{error} ({})", privileges::RUN_AS_ROOT));
    }
    match standing.connected {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => ExitCode::from(privileges::EXIT_UNKNOWN),
    }
}

/// Prints the agent's id, as the identity has it; 0 when the host has a credential, [`privileges::EXIT_UNKNOWN`] when this user
/// may not know, else 1.
pub fn identity(config: &Config) -> ExitCode {
    let bearer = match Store::new(&config.state_dir).load() {
        Ok(identity) => identity.and_then(|identity| identity.bearer().map(Token::agent)),
        Err(error) if error.is_forbidden() => {
            output::complain(&format!("unknown: {} ({error})", privileges::RUN_AS_ROOT));
            return ExitCode::from(privileges::EXIT_UNKNOWN);
        }
        Err(error) => {
            output::complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let Some(agent) = bearer else {
        output::complain("this host is not enrolled");
        return ExitCode::FAILURE;
    };
    output::line(&agent.to_string());
    ExitCode::SUCCESS
}

fn examine(config: &Config, store: &Store, now: DateTime<Utc>) -> (Standing, Option<IdentityError>) {
    let (identity, unreadable) = match store.load() {
        Ok(identity) => (identity, None),
        Err(error) => (None, Some(error)),
    };
    let agent_id = identity.as_ref().and_then(|identity| identity.agent_id);
    let credential_expires_at = identity.and_then(|identity| identity.credential_expires_at);
    let silent = |status: &str, is: Option<bool>| Standing {
        agent_id,
        status: status.to_owned(),
        connected: is,
        accepts_work: is,
        updated_at: None,
        credential_expires_at,
    };
    let stands = match runtimes::try_read_agent_file(&config.runtime_dir) {
        Ok(said) => standing(said, agent_id, credential_expires_at, now),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => silent("unknown", None),
        Err(_) => silent("not_running", Some(false)),
    };
    (stands, unreadable)
}

fn standing(
    said: AgentFile,
    agent_id: Option<AgentId>,
    credential_expires_at: Option<Timestamp>,
    now: DateTime<Utc>,
) -> Standing {
    let recent = said.is_recent(now);
    Standing {
        agent_id: agent_id.or(said.agent_id),
        status: if recent { said.status } else { "not_running".to_owned() },
        connected: Some(
            recent && said.connected && said.connected_until.is_none_or(|until| now < until.into()),
        ),
        accepts_work: Some(recent && said.accepts_work),
        updated_at: Some(said.updated_at),
        credential_expires_at,
    }
}

impl Standing {
    /// For people; `hidden` says that this user may not see the identity.
    fn lines(&self, hidden: bool) -> [String; 6] {
        let unknown = format!("unknown: {}", privileges::RUN_AS_ROOT);
        let yes = |is: Option<bool>| match is {
            Some(is) => if is { "yes" } else { "no" }.to_owned(),
            None => unknown.clone(),
        };
        let told = |at: Option<Timestamp>| at.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
        let agent = match self.agent_id {
            Some(id) => id.to_string(),
            None if hidden => unknown.clone(),
            None => "not enrolled".to_owned(),
        };
        let status = if self.connected.is_none() { unknown.clone() } else { self.status.clone() };
        [
            ("agent", agent),
            ("status", status),
            ("connected", yes(self.connected)),
            ("accepts work", yes(self.accepts_work)),
            ("last word", told(self.updated_at)),
            ("credential until", told(self.credential_expires_at)),
        ]
        .map(|(name, value)| format!("{name:16}  {}", terminal::value(&value)))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn said(status: &str, connected: bool, at: DateTime<Utc>) -> AgentFile {
        let agent_id = "agt_01jq8x5g2m4n6p8r0s2t4v6w8y".parse().ok();
        AgentFile {
            agent_id,
            status: status.to_owned(),
            accepts_work: true,
            connected,
            connected_until: None,
            updated_at: at.into(),
        }
    }

    #[test]
    fn an_agent_whose_last_heartbeat_is_old_is_not_connected() {
        let now = DateTime::from_timestamp(1_743_087_600, 0).unwrap();
        for (seconds, connected) in [(1, true), (0, false), (-60, false)] {
            let until = Some((now + TimeDelta::seconds(seconds)).into());
            let said = AgentFile { connected_until: until, ..said("active", true, now) };
            let stands = standing(said, None, None, now);
            assert_eq!((stands.connected, stands.accepts_work), (Some(connected), Some(true)), "{seconds}");
        }
    }

    #[test]
    fn an_agent_that_fell_silent_is_not_connected_whatever_it_said_last() {
        let now = DateTime::from_timestamp(1_743_087_600, 0).unwrap();
        let fresh = standing(said("active", true, now - TimeDelta::minutes(1)), None, None, now);
        assert_eq!((fresh.connected, fresh.accepts_work), (Some(true), Some(true)));
        assert_eq!(fresh.agent_id.unwrap().to_string(), "agt_01jq8x5g2m4n6p8r0s2t4v6w8y");
        let killed = standing(said("active", true, now - TimeDelta::minutes(6)), None, None, now);
        assert_eq!(
            (killed.connected, killed.accepts_work, killed.status.as_str()),
            (Some(false), Some(false), "not_running")
        );
        assert!(killed.updated_at.is_some());
    }

    #[test]
    fn status_that_a_terminal_would_obey_is_escaped() {
        let now = DateTime::from_timestamp(1_743_087_600, 0).unwrap();
        let lines =
            standing(said("up\u{1b}[2J\nconnected  yes\u{202e}", false, now), None, None, now).lines(false);
        assert_eq!(lines[1], r"status            up\u{1b}[2J\nconnected  yes\u{202e}");
    }

    #[test]
    fn an_agent_that_says_it_is_down_is_not_connected() {
        let now = DateTime::from_timestamp(1_743_087_600, 0).unwrap();
        let down = standing(said("down", false, now), None, None, now);
        assert_eq!((down.connected, down.status.as_str()), (Some(false), "down"));
    }
}
