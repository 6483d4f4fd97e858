//! Metrics, on a listener of their own: `GET /metrics`, and nothing else there.

use std::{io, net::TcpListener};

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use axum_server::Handle;

use super::server::{self, ListenerConfig};

/// Serves what `render` says at that moment, until the process ends.
///
/// # Errors
/// The listener broke.
pub async fn serve<R>(listener: TcpListener, render: R) -> io::Result<()>
where
    R: Fn() -> String + Clone + Send + Sync + 'static,
{
    let router = Router::new().route("/metrics", get(answer::<R>)).with_state(render);
    server::serve(router, listener, Handle::new(), ListenerConfig::default()).await
}

async fn answer<R: Fn() -> String>(State(render): State<R>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render()).into_response()
}
