//! What the agent authenticates with: whether it is there, safe, and still good.

use chrono::{DateTime, TimeDelta, Utc};
use planasonix_wire::heartbeat::Heartbeat;

use super::finding::Finding;
use crate::{
    client::{Client, Outcome, Remedy},
    clock,
    config::Config,
    identity::{Identity, Store},
    secret::Token,
};

/// The name of the probe that asks the control plane.
pub(super) const ASKED: &str = "credential at the control plane";
const ENROLL: &str = "get an enrollment token for this agent and run: planasonix-agent enroll";
/// By then a running agent has renewed its credential.
const SOON: TimeDelta = TimeDelta::days(1);

/// Looks at the identity's file, and answers the credential in it.
pub(super) fn stored(config: &Config) -> (Finding, Option<Token>) {
    let mut finding = Finding::new("credential");
    let store = Store::new(&config.state_dir);
    finding.fact("file", store.path().display());
    let identity = match store.load() {
        Ok(Some(identity)) => identity,
        Ok(None) => return (finding.with_problem("this host is not enrolled", ENROLL), None),
        Err(error) if error.is_forbidden() => return (finding.unknown(error), None),
        Err(error) => return (finding.with_problem(error.to_string(), "see that the file is whole"), None),
    };
    safe(&mut finding, &store);
    let Some(bearer) = identity.bearer().cloned() else {
        return (finding.with_problem("this host is not enrolled", ENROLL), None);
    };
    described(&mut finding, &identity, config, clock::now());
    (finding, Some(bearer))
}

fn described(finding: &mut Finding, identity: &Identity, config: &Config, now: DateTime<Utc>) {
    if let Some(agent) = identity.agent_id {
        finding.fact("agent", agent);
    }
    let next = if identity.next.is_some() { "waits for its first use" } else { "none" };
    finding.fact("new credential", next);
    if identity.enrollment.is_some() {
        finding.fact("enrollment", "under way");
    }
    if let (Some(meant), Some(is)) = (config.agent_id, identity.agent_id)
        && meant != is
    {
        finding.problem(
            format!("PLANASONIX_AGENT_ID names {meant}, and this host is {is}"),
            "correct PLANASONIX_AGENT_ID, or enroll with a token of the agent that is meant",
        );
    }
    let Some(end) = identity.credential_expires_at else {
        return finding.fact("expires", "not told");
    };
    finding.fact("expires", end);
    let left = DateTime::<Utc>::from(end) - now;
    if left <= TimeDelta::zero() {
        finding.problem("the credential has expired", ENROLL);
    } else if left < SOON {
        let advice = "start the agent: it renews its credential while it is connected";
        finding.problem("the credential ends within a day and was not renewed", advice);
    }
}

#[cfg(unix)]
fn safe(finding: &mut Finding, store: &Store) {
    use std::os::unix::fs::MetadataExt;

    let Ok(about) = std::fs::symlink_metadata(store.path()) else { return };
    finding.fact("permissions", format!("{:o}, user {}", about.mode() & 0o7777, about.uid()));
    if about.mode() & 0o077 != 0 {
        let advice = format!("chmod 600 {}", store.path().display());
        finding.problem("others can read the credential", advice);
    }
}

/// Windows: the folder's access list, which the installer sets, protects the file.
#[cfg(not(unix))]
fn safe(_: &mut Finding, _: &Store) {}

/// Asks the control plane with an empty heartbeat whether the credential is good.
pub(super) async fn asked(client: &Client, credential: &Token) -> Finding {
    let mut finding = Finding::new(ASKED);
    match client.heartbeat(credential, &Heartbeat::default()).await.outcome {
        Outcome::Accepted(ack) => {
            finding.fact("accepted", "yes");
            finding.fact("accepts work", if ack.accepts_work { "yes" } else { "no: it is being drained" });
        }
        // A beat of the running agent came a moment before.
        Outcome::Retry(retry) if retry.is_too_soon() => {
            finding.fact("accepted", "yes, and too soon after another beat");
        }
        Outcome::Retry(retry) => finding.problem(retry.why, "try again in a minute"),
        Outcome::Refused(refusal) => {
            finding.fact("code", &refusal.code);
            let (action, advice) = match refusal.remedy {
                Remedy::ReEnroll => ("re_enroll", ENROLL),
                Remedy::Stop => {
                    ("stop", "have an operator re-enable the agent; the agent stays up and asks again")
                }
            };
            finding.fact("action", action);
            finding.problem(format!("refused: {refusal}"), advice);
        }
    }
    finding
}
