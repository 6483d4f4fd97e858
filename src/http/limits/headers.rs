//! The headers that tell an API key what is left of its allowance.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::Request,
    http::{Extensions, HeaderName},
    middleware::Next,
    response::Response,
};

use super::rate::Allowance;

/// The headers that tell an API key what it has left: a minute's requests, those it may make now, and the
/// unix second in which it may make all of them.
pub const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];

/// From the extractor that charges a key to the headers of the answer.
#[derive(Clone, Default)]
struct Tally(Arc<OnceLock<Allowance>>);

/// Notes what the answer's headers shall say. A request has one key, so the first note is the only one.
pub(super) fn note(request: &Extensions, allowance: Allowance) {
    if let Some(Tally(tally)) = request.get() {
        let _ = tally.set(allowance);
    }
}

/// Tells an API key what it has left, whatever the answer.
pub async fn tell(mut request: Request, next: Next) -> Response {
    let tally = Tally::default();
    request.extensions_mut().insert(tally.clone());
    let mut response = next.run(request).await;
    if let Some(allowance) = tally.0.get() {
        let reset = seconds(since_epoch() + allowance.full_in);
        let values = [allowance.limit.into(), allowance.remaining.into(), reset.into()];
        response.headers_mut().extend(HEADERS.into_iter().zip(values));
    }
    response
}

fn since_epoch() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a header for the caller's own clock; it decides nothing")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// In whole seconds, never too few.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
