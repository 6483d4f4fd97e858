//! The OpenAPI document as a page: `/docs`, with all its files from this program. Public.
//!
//! The page asks nothing of any other host, and its own policy forbids it to.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa_swagger_ui::{Config, serve};

use super::{App, error::Problem, not_found};
use crate::domain::Error;

/// Where the page's files are.
const FOLDER: &str = "/docs/";
/// Scripts, pictures and requests of this origin alone; the page sets styles of its own.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

/// The validator is a service of somebody else's that would be asked for a badge.
static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/api/openapi.json").validator_url("none").use_base_layout()));

/// The page and its files.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/docs", get(async || Redirect::permanent(FOLDER)))
        .route(FOLDER, get(file))
        .route("/docs/{*file}", get(file))
}

async fn file(request: Request) -> Result<Response, Problem> {
    let name = request.uri().path().strip_prefix(FOLDER).unwrap_or_default();
    let served =
        serve(name, Arc::clone(&CONFIG)).map_err(|error| Error::Internal(error.to_string().into()))?;
    let Some(file) = served else { return Err(not_found().await) };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::try_from(file.content_type).map_err(|e| Error::Internal(e.into()))?,
        ),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    let body = match file.bytes {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    };
    Ok((headers, body).into_response())
}
