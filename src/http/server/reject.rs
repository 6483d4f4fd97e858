//! Answers to requests that are refused before the HTTP library sees them.

use std::{fmt::Write, time::SystemTime};

use axum::http::StatusCode;

use super::head::Rejection;
use crate::http::{edge, error::Problem};

/// The whole answer, after which the connection closes.
pub(super) fn answer(rejection: Rejection) -> Vec<u8> {
    let problem = match rejection {
        Rejection::Malformed(message) => Problem::new(StatusCode::BAD_REQUEST, "invalid_request", message),
        Rejection::UriTooLong => Problem::new(
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            "a request's first line may have at most 16384 bytes",
        ),
        Rejection::HeadersTooLarge => edge::headers_too_large(),
        Rejection::Busy => Problem::unavailable("too many requests with long headers are arriving"),
    };
    let (id, body) = edge::refuse_early(&problem);
    let mut head = format!("HTTP/1.1 {}\r\ncontent-type: application/json\r\n", problem.status);
    if let Some(seconds) = problem.retry_after() {
        // Writing to a string cannot fail.
        let _ = write!(head, "retry-after: {seconds}\r\n");
    }
    #[expect(clippy::disallowed_methods, reason = "a header for caches; it decides nothing")]
    let date = httpdate::fmt_http_date(SystemTime::now());
    let length = body.len();
    let _ = write!(
        head,
        "x-request-id: {id}\r\nconnection: close\r\ncontent-length: {length}\r\ndate: {date}\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}
