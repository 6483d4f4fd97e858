//! The accept loop: limits on time and number that the framework has no setting for.
//!
//! A client has ten seconds to send a request's head once it has begun, and may keep an idle connection
//! for 75. Connections beyond the cap are closed at once. HTTP/1.1 alone is spoken: HTTP/2 is for what
//! terminates TLS in front of us.

use std::{
    future::{Ready, ready},
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{ServiceExt, body::Body, http::Request, response::Response};
use axum_server::{Handle, accept::Accept};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tower::Service;

use super::startup::StartupGate;

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(75);
const KEEPALIVE: Duration = Duration::from_mins(1);
const MOST_CONNECTIONS: usize = 200_000;
const BUFFER_BYTES: usize = 64 * 1024;

/// Serves until the handle says stop.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    service: impl Into<StartupGate>,
    listener: TcpListener,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?
        .handle(handle)
        .acceptor(Acceptor(Arc::new(Semaphore::new(MOST_CONNECTIONS))))
        .http1_only();
    server.http_builder().http1().max_buf_size(BUFFER_BYTES);
    let gate: StartupGate = service.into();
    server.serve(ServiceExt::<Request<Body>>::into_make_service_with_connect_info::<SocketAddr>(gate)).await
}

/// Takes a connection if there is room, and watches over it.
#[derive(Clone)]
struct Acceptor(Arc<Semaphore>);

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Watched;
    type Service = Watching<S>;
    type Future = Ready<io::Result<(Watched, Watching<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            return ready(Err(io::Error::other("too many connections")));
        };
        // Both only help; a connection without them still works.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        let phase = Arc::new(AtomicU8::new(Phase::IDLE));
        let watched = Watched {
            stream,
            phase: Arc::clone(&phase),
            seen: Phase::IDLE,
            timer: Box::pin(sleep(HEAD)),
            _permit: permit,
        };
        ready(Ok((watched, Watching { service, phase })))
    }
}

/// What a connection is doing.
struct Phase;

impl Phase {
    /// Waiting for a request to begin.
    const IDLE: u8 = 0;
    /// A request's head is arriving.
    const HEAD: u8 = 1;
    /// A request is being served.
    const BUSY: u8 = 2;
    /// None of them: whichever comes next begins.
    const UNSEEN: u8 = 3;
}

/// A connection that ends when nothing happens on it for too long.
struct Watched {
    stream: TcpStream,
    phase: Arc<AtomicU8>,
    seen: u8,
    timer: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Watched {
    /// Starts the phase's time when the phase has changed, and tells whether it is over.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase != self.seen {
            self.seen = phase;
            let time = if phase == Phase::HEAD { HEAD } else { IDLE };
            self.timer.as_mut().reset(Instant::now() + time);
        }
        phase != Phase::BUSY && self.timer.as_mut().poll(cx).is_ready()
    }

    /// Starts the phase's time again: an answer may take longer than any of them, while it moves.
    fn note_progress(&mut self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(_))) {
            self.seen = Phase::UNSEEN;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    // Fails where a request is under way already, whose phase then stands.
                    let _ = self.phase.compare_exchange(
                        Phase::IDLE,
                        Phase::HEAD,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                Poll::Ready(result)
            }
            Poll::Pending if self.is_over(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_progress(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_progress(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection's service, which notes when it is busy.
#[derive(Clone)]
struct Watching<S> {
    service: S,
    phase: Arc<AtomicU8>,
}

impl<S: Service<Request<B>, Response = Response>, B> Service<Request<B>> for Watching<S>
where
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let phase = Arc::clone(&self.phase);
        phase.store(Phase::BUSY, Ordering::Relaxed);
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            phase.store(Phase::IDLE, Ordering::Relaxed);
            answer
        })
    }
}
