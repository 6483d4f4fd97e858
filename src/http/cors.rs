//! Which pages of other origins a browser lets talk to us: none, unless the operator names them.
//!
//! A page sends its API key itself, as any client does; cookies are no part of this, so a page that was not
//! named can do no more than a stranger.

use std::{str::FromStr, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::CorsLayer;

use super::{agents::installer::REPR_DIGEST, auth::LEGACY_KEY_HEADERS, edge::REQUEST_ID, limits};

/// How long a browser need not ask again.
const MAX_AGE: Duration = Duration::from_hours(1);

/// Headers that a page may send, beside the legacy ones that carry a key.
const REQUEST_HEADERS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    REQUEST_ID,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::RANGE,
];
/// Headers that a page may read, beside those of rate limits and those that every page may (the safelist of the Fetch
/// standard, with `Content-Type`, `Content-Length` and `Cache-Control`).
const RESPONSE_HEADERS: [HeaderName; 11] = [
    REQUEST_ID,
    header::ACCEPT_ENCODING,
    header::ACCEPT_RANGES,
    header::ALLOW,
    header::CONTENT_DISPOSITION,
    header::CONTENT_RANGE,
    header::ETAG,
    header::LOCATION,
    REPR_DIGEST,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];

/// Where a page comes from, as its browser says it: `https://dashboard.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "must be as https://dashboard.example.com: http or https, host, port, nothing else";
        let (scheme, host) = text.split_once("://").ok_or(FORM)?;
        let default_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(FORM),
        };
        let uri: Uri = text.parse().map_err(|_| FORM)?;
        let whole = uri.authority().is_some_and(|authority| authority.as_str() == host);
        if !whole || uri.host().is_none_or(str::is_empty) || host.contains(['@', '*']) {
            return Err(FORM);
        }
        if host.ends_with(default_port) || host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err("is written by browsers in lower case and without its scheme's own port");
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| FORM)
    }
}

/// Answers browsers that ask whether these origins' pages may talk to us; `None` where there are none.
pub fn layer(origins: &[Origin]) -> Option<CorsLayer> {
    let asked = REQUEST_HEADERS.into_iter().chain(LEGACY_KEY_HEADERS);
    let told = RESPONSE_HEADERS.into_iter().chain(limits::HEADERS);
    let allowed: Vec<_> = origins.iter().map(|Origin(origin)| origin.clone()).collect();
    (!allowed.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(asked.collect::<Vec<_>>())
            .expose_headers(told.collect::<Vec<_>>())
            .max_age(MAX_AGE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends_and_nothing_else() {
        for good in [
            "https://a.example",
            "http://localhost:3000",
            "https://[::1]:8443",
            "http://127.0.0.1",
            "https://my_host.example",
            "https://a.example.",
            "https://a.example.:8443",
        ] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "a.example",
            "//a.example",
            "ftp://a.example",
            "https://",
            "https://:1",
            "https://a.example/",
            "https://a.example/x",
            "https://a.example?x",
            "https://*.example",
            "https://u@a.example",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://a b",
            "https://a.example,https://b.example",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
