//! A connection's stream, between the socket and the HTTP library.
//!
//! Requests reach the library whole heads at a time, each judged before ([`super::head`]), and never a byte
//! beyond the current request: what a client sends ahead stays in the socket until the answer is written. So a
//! request that is refused is refused in turn, by an answer of this module's own, and the socket's buffer bounds
//! what a client can make the process hold.
//!
//! Time is limited in each phase: until a request begins, until its head is complete, while the peer takes
//! nothing of an answer, and while a closing connection waits for the peer. Bodies have a limit of their own
//! where they are read.

mod inbound;
mod outbound;

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use self::outbound::{Lingering, Refusal};
use super::{
    Timeouts,
    connections::Admitted,
    exchange::{Exchange, Taken},
    framing::Framing,
    head::Scanner,
    memory::unsent_bytes,
    timer::Timer,
    writes::Writes,
};
use crate::meter::{self, CloseReason};

/// The most bytes that are read at once: one less than the HTTP library's initial buffer, which therefore never
/// grows while it reads a body.
const MAX_READ_BYTES: usize = 8 * 1024 - 1;
/// The most bytes that are written at once. More at once are queued as one piece by the system, far beyond
/// `SO_SNDBUF`, and then sent in fits and starts.
const MAX_WRITE_BYTES: usize = 16 * 1024;

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) timeouts: Timeouts,
    /// One for each connection that holds a long, incomplete head.
    pub(super) long_heads: Arc<Semaphore>,
    /// One for each connection whose peer takes no bytes.
    pub(super) blocked_writes: Arc<Semaphore>,
}

/// Where in a request the next byte from the peer belongs.
enum Inbound {
    Head(Scanner),
    Body(Framing),
    /// The request is complete; the next one begins when the answer to it is written.
    Answer,
    /// The request was refused; nothing more is read for the library.
    Refused(Refusal),
}

/// A connection that ends when it misbehaves or when nothing happens on it for too long.
pub(super) struct Guarded<B> {
    stream: TcpStream,
    exchange: Arc<Exchange<B>>,
    shared: Arc<Shared>,
    inbound: Inbound,
    /// Bytes that were read and not handed over; the first `judged` of them may be.
    held: Vec<u8>,
    judged: usize,
    long_head: Option<OwnedSemaphorePermit>,
    /// When the current phase began, and how long it may last.
    phase: (Instant, Duration),
    answered: bool,
    /// Whether the peer has sent more or has ended while a request is served. The system does not say so again.
    more: bool,
    timer: Timer,
    writes: Writes,
    lingering: Option<Lingering>,
    is_cut: bool,
    _admitted: Admitted,
}

impl<B> Guarded<B> {
    pub(super) fn new(
        stream: TcpStream,
        exchange: Arc<Exchange<B>>,
        shared: Arc<Shared>,
        admitted: Admitted,
    ) -> Self {
        let phase = (Instant::now(), shared.timeouts.head);
        Self {
            stream,
            exchange,
            shared,
            inbound: Inbound::Head(Scanner::default()),
            held: Vec::new(),
            judged: 0,
            long_head: None,
            phase,
            answered: false,
            more: false,
            timer: Timer::new(phase.0 + phase.1),
            writes: Writes::default(),
            lingering: None,
            is_cut: false,
            _admitted: admitted,
        }
    }

    /// The error that ends the connection. What the peer has not taken is discarded when it is dropped.
    fn cut(&mut self, reason: CloseReason) -> io::Error {
        self.is_cut = true;
        meter::connection_cut(reason);
        tracing::debug!(reason = reason.as_str(), "connection closed by the server");
        io::ErrorKind::TimedOut.into()
    }
}

/// What the peer has not taken by now is discarded, and the peer gets a reset: unsent bytes must not outlive the
/// connection, which is counted.
impl<B> Drop for Guarded<B> {
    fn drop(&mut self) {
        if unsent_bytes(self.stream.as_fd()) > 0 {
            // Without it the system keeps them for a while.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl<B> AsyncRead for Guarded<B> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_inbound(cx, buffer)
    }
}

impl<B> AsyncWrite for Guarded<B> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = bytes.get(..MAX_WRITE_BYTES).unwrap_or(bytes);
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (mut few, mut bytes) = (0, 0);
        for slice in slices {
            if bytes + slice.len() > MAX_WRITE_BYTES {
                break;
            }
            (few, bytes) = (few + 1, bytes + slice.len());
        }
        if bytes == 0 {
            return self.poll_write(cx, slices.get(few).map_or(&[], |slice| slice));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices.get(..few).unwrap_or(slices));
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready()
            && let Some(taken) = self.exchange.take_answered()
        {
            self.answered = true;
            self.phase = (Instant::now(), self.shared.timeouts.idle);
            let more = std::mem::take(&mut self.more);
            if matches!(taken, Taken::InPieces) || !self.held.is_empty() || more {
                // The next request may be here already, or the time for it must be watched.
                cx.waker().wake_by_ref();
            }
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx)
    }
}
