//! From what came back to what it means for the agent.

use std::{error::Error, fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use planasonix_wire::envelope::{self, Action, Data, ErrorBody};
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap},
};
use serde::de::DeserializeOwned;

use crate::{certificates, clock};

/// Our answers are far smaller; what is larger comes from somebody else.
const MOST_BYTES: usize = 64 * 1_024;
/// A message from the other side is cut to this many characters before it is logged.
const MOST_CHARS: usize = 300;

/// Of so many bad fields the log speaks.
const MOST_DETAILS: usize = 8;

/// What came of a request.
#[derive(Debug)]
pub struct Answer<T> {
    /// What it means.
    pub outcome: Outcome<T>,
    /// By how much this host's clock is ahead of the control plane's, as far as `Date` tells.
    pub skew: Option<TimeDelta>,
    /// This host's time halfway between the question and its answer.
    pub midpoint: DateTime<Utc>,
    /// Whether there was not even a connection: no way there, or a handshake that failed.
    pub no_connection: bool,
}

impl<T> Answer<T> {
    fn to(midpoint: DateTime<Utc>, outcome: Outcome<T>, skew: Option<TimeDelta>) -> Self {
        Self { outcome, skew, midpoint, no_connection: false }
    }
}

/// What an answer means.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was done.
    Accepted(T),
    /// It was not, and asking again soon will not help.
    Refused(Refusal),
    /// It was not, or nobody knows: ask again later.
    Retry(Retry),
}

/// A refusal by the control plane itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the agent does now.
    pub remedy: Remedy,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// What the agent does about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Stay up, take no work, ask again seldom.
    Stop,
    /// Enroll with a fresh token.
    ReEnroll,
}

/// A reason to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// For the log.
    pub why: String,
    /// The API's code, when the control plane itself answered.
    pub code: Option<String>,
    /// How long it asked to be left alone.
    pub after: Option<Duration>,
}

impl Retry {
    /// Nothing but a reason.
    pub fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: None, after: None }
    }

    /// Of a heartbeat: it came too soon after another of the same agent. The control plane limits the
    /// heartbeats of a credential only after it was found to be good.
    pub fn is_too_soon(&self) -> bool {
        self.code.as_deref() == Some("rate_limited")
    }
}

/// Sends; a success is 200 with a resource.
pub(super) async fn data<T: DeserializeOwned>(request: RequestBuilder, second: Duration) -> Answer<T> {
    send(request, second, |status, body| {
        let body = (status == StatusCode::OK).then(|| serde_json::from_slice::<Data<T>>(body));
        Some(body?.ok()?.data)
    })
    .await
}

/// Sends; a success is 204.
pub(super) async fn nothing(request: RequestBuilder, second: Duration) -> Answer<()> {
    send(request, second, |status, _| (status == StatusCode::NO_CONTENT).then_some(())).await
}

async fn send<T>(
    request: RequestBuilder,
    second: Duration,
    read: impl Fn(StatusCode, &[u8]) -> Option<T>,
) -> Answer<T> {
    let asked = clock::now();
    let response = request.send().await;
    let answered = clock::now();
    let midpoint = asked + (answered - asked) / 2;
    let retry = |why| Outcome::Retry(Retry::because(why));
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            let no_connection = error.is_connect();
            return Answer { no_connection, ..Answer::to(midpoint, retry(causes(&error)), None) };
        }
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match collect(response).await {
        Ok(body) => body,
        Err(why) => return Answer::to(midpoint, retry(why), None),
    };
    if let Some(accepted) = read(status, &body) {
        return Answer::to(midpoint, Outcome::Accepted(accepted), skew(&headers, midpoint));
    }
    let after = retry_after(&headers, answered, second);
    match serde_json::from_slice::<ErrorBody>(&body) {
        // A success is never wrapped like an error.
        Ok(body) if !status.is_success() => {
            Answer::to(midpoint, refusal_or_retry(body.error, after), skew(&headers, midpoint))
        }
        _ => {
            let why = format!("{status}, and not from the control plane: probably a proxy's page");
            Answer::to(midpoint, Outcome::Retry(Retry { why, code: None, after }), None)
        }
    }
}

fn refusal_or_retry<T>(error: envelope::Error, after: Option<Duration>) -> Outcome<T> {
    let (code, message) = (cut(&error.code), cut(&error.message));
    let remedy = match error.action {
        Some(Action::Stop) => Remedy::Stop,
        Some(Action::ReEnroll) => Remedy::ReEnroll,
        Some(Action::Retry) | None => {
            let fields = error
                .details
                .iter()
                .take(MOST_DETAILS)
                .map(|bad| format!("; {}: {}", cut(&bad.field), cut(&bad.issue)));
            let why = format!("{message} ({code}){}", fields.collect::<String>());
            return Outcome::Retry(Retry { why, code: Some(code), after });
        }
    };
    Outcome::Refused(Refusal { remedy, code, message })
}

/// A text of the other side, fit for a line of the log.
fn cut(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MOST_CHARS).collect()
}

async fn collect(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error))? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(format!("{}, with more than the control plane ever says", response.status()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// `Retry-After` as seconds or as a date. A date is counted from the answer's own `Date`, since this
/// host's clock may be wrong.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>, second: Duration) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if let Ok(seconds) = text.parse::<u32>() {
        seconds
    } else {
        let wait = date(text)? - date_of(headers).unwrap_or(now);
        u32::try_from(wait.num_seconds().max(0)).ok()?
    };
    Some(second.saturating_mul(seconds))
}

fn skew(headers: &HeaderMap, midpoint: DateTime<Utc>) -> Option<TimeDelta> {
    Some(midpoint - date_of(headers)?)
}

fn date_of(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    date(headers.get(header::DATE)?.to_str().ok()?)
}

fn date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|at| at.to_utc())
}

/// An error with all its causes, on one line and without the address, which the log knows.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "the exchange broke off".to_owned()
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&cut(&error.to_string()));
        cause = error.source();
    }
    match certificates::brief(error) {
        Some(problem) => format!("{text} ({problem}: `planasonix-agent diagnose` says what mends it)"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn headers(retry_after: &str) -> HeaderMap {
        let lines = [(header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT"), (header::RETRY_AFTER, retry_after)];
        lines.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let wrong_clock = DateTime::<Utc>::UNIX_EPOCH;
        for (text, wait) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let wait = wait.map(Duration::from_secs);
            assert_eq!(retry_after(&headers(text), wrong_clock, SECOND), wait, "{text}");
        }
    }

    #[test]
    fn only_stop_and_re_enroll_are_refusals() {
        let outcome = |action| {
            let error = envelope::Error {
                code: "agent_revoked".to_owned(),
                message: "revoked\nby an operator".to_owned(),
                details: Vec::new(),
                action,
                request_id: String::new(),
            };
            refusal_or_retry::<()>(error, Some(SECOND))
        };
        let Outcome::Refused(refusal) = outcome(Some(Action::Stop)) else { panic!("not refused") };
        assert_eq!((refusal.remedy, refusal.message.as_str()), (Remedy::Stop, "revokedby an operator"));
        for action in [Some(Action::Retry), None] {
            let Outcome::Retry(retry) = outcome(action) else { panic!("refused") };
            assert_eq!((retry.code.as_deref(), retry.after), (Some("agent_revoked"), Some(SECOND)));
        }
    }
}
