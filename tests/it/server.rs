//! The listener, on a router of its own where no database is needed: what is accepted, and how long it may take.

mod connections;
mod early;
mod half_closed;
mod heads;
mod peers;

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{any, get},
};
use axum_server::Handle;
use futures_util::stream;
use planasonix::http::server::{ListenerConfig, Timeouts, limit_buffers, serve};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::wire::{Line, Reply};

/// A listener whose routes echo, wait, and answer more than a peer takes at once.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const LARGE_BYTES: usize = 16 * 1024 * 1024;
/// The answer of `/trickle`, a piece at a time.
const PIECES: [&str; 20] = ["piece "; 20];
const PIECE_INTERVAL: Duration = Duration::from_millis(100);

impl Server {
    fn start() -> Self {
        Self::with(ListenerConfig::default())
    }

    fn with_timeouts(change: impl FnOnce(&mut Timeouts)) -> Self {
        let mut config = ListenerConfig::default();
        change(&mut config.timeouts);
        Self::with(config)
    }

    fn with(config: ListenerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let large = Bytes::from(vec![b'x'; LARGE_BYTES]);
        limit_buffers(&listener);
        let router = Router::new()
            .route("/large", get(async || large))
            .route("/wait", get(async || sleep(Duration::from_secs(3)).await))
            .route("/trickle", get(async || trickle()))
            .fallback(any(async |body: Bytes| body));
        let task = tokio::spawn(async move { serve(router, listener, Handle::new(), config).await.unwrap() });
        Self { address, task }
    }

    async fn line(&self) -> Line {
        Line::open(self.address).await.unwrap()
    }
}

fn trickle() -> Body {
    Body::from_stream(stream::unfold(PIECES.into_iter(), async |mut pieces| {
        let piece = pieces.next()?;
        sleep(PIECE_INTERVAL).await;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    }))
}

/// Asserts that it is an answer of the listener's own, whole and in the envelope.
#[track_caller]
fn assert_refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{reply:?}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    let id = reply.header("x-request-id").unwrap();
    assert!(id.starts_with("req_") && error["request_id"] == id, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(reply.header("date").unwrap().ends_with(" GMT"));
}
