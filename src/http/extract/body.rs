//! JSON bodies, within their limits of size and time.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use http_body_util::BodyExt;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Semaphore, time::timeout};

use crate::http::{
    error::{Problem, UNSUPPORTED_CONTENT_ENCODING},
    json,
};

/// A body of at most this many bytes is read, unless the route says otherwise.
pub const BODY_BYTES: usize = 64 * 1024;
/// A heartbeat's body.
pub const HEARTBEAT_BYTES: usize = 16 * 1024;
const BODY_TIME: Duration = Duration::from_secs(15);
/// A body beyond this size needs one of [`LARGE_BODIES`]. Bodies of agents and of nearly all operators fit.
const LARGE_BODY_BYTES: usize = 16 * 1024;
/// Bodies beyond [`LARGE_BODY_BYTES`] that are read at once: with some 64 KiB each, 16 MiB in all.
static LARGE_BODIES: Semaphore = Semaphore::const_new(256);
/// So much of a body that is too large is thrown away, so that its sender lives to read the answer.
const DRAINED_BYTES: usize = 16 * 1024 * 1024;

/// A JSON body that must be there.
pub struct JsonBody<T>(pub T);

/// A JSON body that may be left out, or be empty.
pub struct OptionalBody<T, const MOST_BYTES: usize = BODY_BYTES>(pub T);

/// The body of a route that asks for no field.
#[derive(Debug, Default, Deserialize)]
pub struct NoFields {}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !says_json(&parts.headers) {
            return Err(unsupported_media_type());
        }
        check_content_encoding(&parts.headers)?;
        json::parse(&read(body, BODY_BYTES).await?).map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned + Default, const MOST_BYTES: usize> FromRequest<S>
    for OptionalBody<T, MOST_BYTES>
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if http_body::Body::is_end_stream(&body) {
            return Ok(Self(T::default()));
        }
        let said_json = says_json(&parts.headers);
        if !said_json && parts.headers.contains_key(header::CONTENT_TYPE) {
            return Err(unsupported_media_type());
        }
        check_content_encoding(&parts.headers)?;
        let bytes = read(body, MOST_BYTES).await?;
        match (bytes.is_empty(), said_json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => json::parse(&bytes).map(Self),
            (false, false) => Err(unsupported_media_type()),
        }
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unsupported_media_type() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "send the body as JSON, with the header Content-Type: application/json",
    )
}

/// Refuses an encoded body, also where its bytes happen to be JSON as they stand.
fn check_content_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let identity = |value: &HeaderValue| {
        let mut names = value.to_str().unwrap_or("unreadable").split(',').map(str::trim);
        names.all(|name| name.is_empty() || name.eq_ignore_ascii_case("identity"))
    };
    if headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        UNSUPPORTED_CONTENT_ENCODING,
        "send the body as it is, without the header Content-Encoding: no encoding is understood",
    ))
}

async fn read(body: Body, most_bytes: usize) -> Result<Vec<u8>, Problem> {
    timeout(BODY_TIME, collect(body, most_bytes)).await.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
        ))
    })
}

async fn collect(mut body: Body, most_bytes: usize) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut total) = (Vec::new(), 0);
    let mut slot = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::invalid_json(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total <= most_bytes {
            if total > LARGE_BODY_BYTES && slot.is_none() {
                let full = |_| Problem::unavailable("too many large bodies are arriving");
                slot = Some(LARGE_BODIES.try_acquire().map_err(full)?);
            }
            bytes.extend_from_slice(&data);
        } else if total > DRAINED_BYTES {
            break;
        }
    }
    if total <= most_bytes {
        return Ok(bytes);
    }
    Err(Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body may have at most {most_bytes} bytes"),
    ))
}
