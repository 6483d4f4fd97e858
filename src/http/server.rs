//! The listener: limits on connections, time and memory, and strictness about the protocol, that the HTTP library
//! has no settings for.
//!
//! HTTP/1.1 alone is spoken: HTTP/2 is for what terminates TLS in front.

mod capacity;
mod connections;
mod exchange;
mod framing;
mod guard;
mod head;
mod memory;
mod reject;
mod timer;
mod writes;

use std::{
    future::{Ready, ready},
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{ServiceExt, body::Body, http::Request};
use axum_server::{Handle, accept::Accept};
use hyper::body::Incoming;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, sync::Semaphore, task::spawn_blocking, time::sleep};

pub use self::connections::ConnectionLimits;
use self::{
    capacity::Capacity,
    connections::Connections,
    exchange::{Exchange, Exchanging},
    guard::{Guarded, Shared},
};
use super::{remote_ip::Proxies, startup::StartupGate};
use crate::meter;

/// An idle connection is probed after this time.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// Sent bytes that stay unconfirmed for this long end the connection, even one that the process has closed.
/// Longer than [`Timeouts::write_stall`], so that the process notices first.
const USER_TIMEOUT: Duration = Duration::from_secs(35);
/// What the system holds of unread and of unsent bytes of a connection. It doubles both for its bookkeeping.
const SOCKET_BUFFER_BYTES: usize = 16 * 1024;
/// The HTTP library's limit for a head, above the one that is enforced before, and for a written burst.
const LIBRARY_BUFFER_BYTES: usize = 64 * 1024;
/// The most connections that hold a long, incomplete head, each of some 50 KiB.
const MAX_LONG_HEADS: usize = 256;
/// The memory of a connection whose peer takes no bytes, buffers of the system included.
const BYTES_PER_BLOCKED_WRITE: u64 = 96 * 1024;
/// Free memory goes back to the system when this many connections have ended since it last did, looked at this
/// often.
const RELEASE_AFTER: usize = 1_000;
const RELEASE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the first byte of a request's head to its end; and from the connection's start to the first byte.
    pub head: Duration,
    /// From one answer to the next request.
    pub idle: Duration,
    /// In which a peer takes none of the bytes that wait for it.
    pub write_stall: Duration,
    /// The same while as many connections stall as the memory allows.
    pub write_stall_pressed: Duration,
    /// The span of waiting over which a peer must take [`Self::write_rate`] on average.
    pub write_window: Duration,
    /// Bytes per second.
    pub write_rate: u64,
    /// From the end of the last answer to the peer's own end.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            write_stall_pressed: Duration::from_secs(2),
            write_window: Duration::from_mins(1),
            write_rate: 1024,
            linger: Duration::from_secs(5),
        }
    }
}

/// Settings of a listener.
#[derive(Debug, Clone, Default)]
pub struct ListenerConfig {
    /// The most connections.
    pub connections: ConnectionLimits,
    /// Exempt from the limit of connections per address.
    pub proxies: Proxies,
    /// How long connections may take.
    pub timeouts: Timeouts,
}

/// Serves until the handle is used to stop it.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    service: impl Into<StartupGate>,
    listener: TcpListener,
    handle: Handle<SocketAddr>,
    config: ListenerConfig,
) -> io::Result<()> {
    limit_buffers(&listener);
    let capacity = Capacity::of_process();
    let connections = Connections::new(config.connections, &capacity, config.proxies);
    tracing::debug!(max = connections.max(), "limit of connections");
    let acceptor = Acceptor {
        connections: Arc::clone(&connections),
        shared: Arc::new(Shared {
            timeouts: config.timeouts,
            long_heads: Arc::new(Semaphore::new(MAX_LONG_HEADS)),
            blocked_writes: Arc::new(Semaphore::new(blocked_writes(&capacity))),
        }),
    };
    let mut server = axum_server::from_tcp(listener)?.handle(handle).acceptor(acceptor).http1_only();
    server.http_builder().http1().max_buf_size(LIBRARY_BUFFER_BYTES);
    let gate: StartupGate = service.into();
    let service = ServiceExt::<Request<Body>>::into_make_service_with_connect_info::<SocketAddr>(gate);
    tokio::select! {
        ended = server.serve(service) => ended,
        () = release_memory(&connections) => Ok(()),
    }
}

/// Limits what the system holds for each connection to this listener. Connections inherit the limits from the
/// time of their handshake, so this belongs right behind the bind.
pub fn limit_buffers(listener: &TcpListener) {
    let socket = SockRef::from(listener);
    limit_sent(&socket);
    report(socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES));
}

/// The part that can also be limited later. A smaller receive buffer makes the system drop what the peer was
/// already told that it may send.
fn limit_sent(socket: &SockRef<'_>) {
    report(socket.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    report(socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)));
    #[cfg(target_os = "linux")]
    report(socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
}

fn report(set: io::Result<()>) {
    if let Err(error) = set {
        tracing::debug!(%error, "failed to set a socket option");
    }
}

/// A connection from before [`limit_buffers`] has inherited nothing.
fn has_limits(socket: &SockRef<'_>) -> bool {
    socket.send_buffer_size().is_ok_and(|bytes| bytes <= 2 * SOCKET_BUFFER_BYTES)
}

/// An eighth of the memory may wait for peers that take nothing.
fn blocked_writes(capacity: &Capacity) -> usize {
    let slots = capacity.memory_bytes / 8 / BYTES_PER_BLOCKED_WRITE;
    usize::try_from(slots).unwrap_or(Semaphore::MAX_PERMITS).clamp(64, Semaphore::MAX_PERMITS)
}

/// Gives memory back after many connections have ended. The allocator would keep it.
async fn release_memory(connections: &Connections) {
    let mut most = 0;
    loop {
        sleep(RELEASE_INTERVAL).await;
        let open = connections.open();
        if open + RELEASE_AFTER <= most {
            // It fails only if the process is ending.
            let _ = spawn_blocking(memory::release_free).await;
            most = open;
        }
        most = most.max(open);
    }
}

/// Takes a connection if there is room, and guards it.
#[derive(Clone)]
struct Acceptor {
    connections: Arc<Connections>,
    shared: Arc<Shared>,
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Guarded<Incoming>;
    type Service = Exchanging<S, Incoming>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.guard(stream, service))
    }
}

impl Acceptor {
    fn guard<S>(
        &self,
        stream: TcpStream,
        service: S,
    ) -> io::Result<(Guarded<Incoming>, Exchanging<S, Incoming>)> {
        let peer = stream.peer_addr()?.ip();
        let admitted = self.connections.admit(peer).map_err(|reason| {
            meter::connection_cut(reason);
            tracing::debug!(%peer, reason = reason.as_str(), "connection refused");
            io::Error::other(reason.as_str())
        })?;
        // It only helps; a connection without it still works.
        let _ = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        if !has_limits(&socket) {
            limit_sent(&socket);
        }
        let exchange = Arc::new(Exchange::default());
        let guarded = Guarded::new(stream, Arc::clone(&exchange), Arc::clone(&self.shared), admitted);
        Ok((guarded, Exchanging::new(service, exchange)))
    }
}
