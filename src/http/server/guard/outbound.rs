//! From the HTTP library to the socket, and the end of a connection.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::{Guarded, Inbound, MAX_READ_BYTES};
use crate::{
    http::server::{Timeouts, head::Rejection, memory::unsent_bytes, reject, timer::Timer, writes::TooSlow},
    meter::CloseReason,
};

/// The most bytes that are read and thrown away at a connection's end.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

impl<B> Guarded<B> {
    /// Limits the time in which the peer takes nothing, or too little.
    pub(super) fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let shared = &self.shared;
        match written {
            Poll::Ready(Ok(bytes)) => self.writes.note_progress(bytes, &shared.timeouts),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let too_slow = ready!(self.writes.poll_blocked(
                    cx,
                    &mut self.timer,
                    &shared.timeouts,
                    &shared.blocked_writes
                ));
                let reason = match too_slow {
                    TooSlow::Stalled => CloseReason::StalledWrite,
                    TooSlow::BelowRate => CloseReason::SlowWrite,
                };
                return Poll::Ready(Err(self.cut(reason)));
            }
        }
        written
    }

    /// Closes the connection. A peer that is still sending, or has not yet taken the answer, gets a moment to
    /// read it: closing at once would discard it.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut || matches!(self.inbound, Inbound::Refused(_)) {
            return Poll::Ready(Ok(()));
        }
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.lingering = Some(Lingering::new(&self.shared.timeouts));
        }
        let whole = matches!(self.inbound, Inbound::Head(_) | Inbound::Answer) && self.held.is_empty();
        let Some(lingering) = &mut self.lingering else { return Poll::Ready(Ok(())) };
        if lingering.poll(cx, &mut self.stream, &mut self.timer).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if whole && unsent_bytes(self.stream.as_fd()) == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// The wait for the peer to close, after everything was sent.
pub(super) struct Lingering {
    deadline: Instant,
    left: usize,
}

impl Lingering {
    fn new(timeouts: &Timeouts) -> Self {
        Self { deadline: Instant::now() + timeouts.linger, left: MAX_DISCARDED_BYTES }
    }

    /// Throws away what the peer sends, until it closes or has sent enough or has had its time.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream, timer: &mut Timer) -> Poll<()> {
        loop {
            let mut bytes = [const { MaybeUninit::uninit() }; MAX_READ_BYTES];
            let mut read = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    match self.left.checked_sub(read.filled().len()) {
                        Some(left) => self.left = left,
                        None => return Poll::Ready(()),
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return timer.poll(cx, self.deadline),
            }
        }
    }
}

/// An answer of our own, and the end of the connection.
pub(super) struct Refusal {
    answer: Vec<u8>,
    written: usize,
    lingering: Lingering,
    is_shut: bool,
}

impl Refusal {
    pub(super) fn new(rejection: Rejection, timeouts: &Timeouts) -> Self {
        Self {
            answer: reject::answer(rejection),
            written: 0,
            lingering: Lingering::new(timeouts),
            is_shut: false,
        }
    }

    /// Answers, and is ready when the connection can be closed. To the HTTP library that is the peer's end.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        timer: &mut Timer,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.answer.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(written) => self.written += written?,
                Poll::Pending => {
                    ready!(timer.poll(cx, self.lingering.deadline));
                    return Poll::Ready(Ok(()));
                }
            }
        }
        if !self.is_shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        self.lingering.poll(cx, stream, timer).map(Ok)
    }
}
