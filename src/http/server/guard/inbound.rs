//! From the socket to the HTTP library.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use super::{Guarded, Inbound, MAX_READ_BYTES, Refusal};
use crate::{
    http::server::head::{self, Rejection, Scanner},
    meter::CloseReason,
};

/// An incomplete head beyond this size needs one of a limited number of slots, and a complete one beyond the
/// size of a read makes its request the connection's last: the HTTP library's buffer for it never shrinks.
const LONG_HEAD_BYTES: usize = 4 * 1024;

const MALFORMED_CHUNKS: &str = "the chunks of the body are malformed";

impl<B> Guarded<B> {
    pub(super) fn poll_inbound(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.hand_over(buffer) {
                return Poll::Ready(Ok(()));
            }
            match &mut self.inbound {
                Inbound::Refused(refusal) => return refusal.poll(cx, &mut self.stream, &mut self.timer),
                Inbound::Answer if self.answered => {
                    self.inbound = Inbound::Head(Scanner::default());
                    if !self.held.is_empty() {
                        self.begin_head();
                        self.judge_held(0)?;
                    }
                }
                Inbound::Answer => return self.poll_hang_up(cx),
                Inbound::Head(_) | Inbound::Body(_) => {
                    if ready!(self.poll_socket(cx, buffer))? {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Hands over judged bytes that are held; tells whether there were any.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let bytes = self.judged.min(buffer.remaining()).min(MAX_READ_BYTES);
        if bytes == 0 {
            return false;
        }
        buffer.put_slice(self.held.get(..bytes).unwrap_or_default());
        self.held.drain(..bytes);
        self.judged -= bytes;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        true
    }

    /// Reads once. True when the buffer has got something, or when the peer has ended.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let mut bytes = [const { MaybeUninit::uninit() }; MAX_READ_BYTES];
        let mut read = ReadBuf::uninit(&mut bytes);
        if Pin::new(&mut self.stream).poll_read(cx, &mut read)?.is_pending() {
            return self.poll_phase(cx).map(Err);
        }
        let bytes = read.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let held = self.held.len();
        if held == 0 {
            let judged = self.judge(bytes)?;
            if matches!(self.inbound, Inbound::Head(_)) {
                self.begin_head();
            }
            if judged <= buffer.remaining() {
                buffer.put_slice(bytes.get(..judged).unwrap_or_default());
                self.hold(bytes.get(judged..).unwrap_or_default());
                return Poll::Ready(Ok(judged > 0));
            }
            self.judged = judged;
            self.hold(bytes);
        } else {
            self.held.extend_from_slice(bytes);
            self.judge_held(held)?;
        }
        Poll::Ready(Ok(false))
    }

    fn begin_head(&mut self) {
        self.phase = (Instant::now(), self.shared.timeouts.head);
    }

    /// Judges what is held, of which the first `known` bytes were there before.
    fn judge_held(&mut self, known: usize) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        let judged = match &self.inbound {
            Inbound::Head(_) => self.judge(&held)?,
            _ => known + self.judge(held.get(known..).unwrap_or_default())?,
        };
        if !matches!(self.inbound, Inbound::Refused(_)) {
            self.judged = judged;
            self.held = held;
            self.limit_held();
        }
        Ok(())
    }

    /// Keeps bytes for later, unless the request was refused.
    fn hold(&mut self, bytes: &[u8]) {
        if !matches!(self.inbound, Inbound::Refused(_)) {
            self.held.extend_from_slice(bytes);
            self.limit_held();
        }
    }

    /// How many of these bytes may be handed over. They follow what was handed over last.
    fn judge(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inbound {
            Inbound::Head(_) => Ok(self.judge_head(bytes).unwrap_or_else(|rejection| {
                self.refuse(rejection);
                0
            })),
            Inbound::Body(framing) => {
                let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, MALFORMED_CHUNKS);
                let body = framing.advance(bytes).map_err(malformed)?;
                self.end_body();
                Ok(body)
            }
            Inbound::Answer | Inbound::Refused(_) => Ok(0),
        }
    }

    fn judge_head(&mut self, bytes: &[u8]) -> Result<usize, Rejection> {
        let Inbound::Head(scanner) = &mut self.inbound else { return Ok(0) };
        let Some(end) = scanner.scan(bytes)? else {
            if scanner.has_grown() {
                head::check_partial(bytes)?;
            }
            return Ok(0);
        };
        let (head, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let mut framing = head::check(head)?;
        let body = framing.advance(rest).map_err(|_| Rejection::Malformed(MALFORMED_CHUNKS))?;
        self.begin_request(end);
        self.inbound = Inbound::Body(framing);
        self.end_body();
        Ok(end + body)
    }

    fn end_body(&mut self) {
        if matches!(&self.inbound, Inbound::Body(framing) if framing.is_complete()) {
            self.inbound = Inbound::Answer;
        }
    }

    fn begin_request(&mut self, head: usize) {
        self.answered = false;
        if head > MAX_READ_BYTES {
            self.exchange.make_last();
        } else {
            self.long_head = None;
        }
    }

    /// An incomplete head that is long must get a slot.
    fn limit_held(&mut self) {
        let is_long = self.held.len() - self.judged > LONG_HEAD_BYTES;
        if is_long && matches!(self.inbound, Inbound::Head(_)) && self.long_head.is_none() {
            match Arc::clone(&self.shared.long_heads).try_acquire_owned() {
                Ok(slot) => self.long_head = Some(slot),
                Err(_) => self.refuse(Rejection::Busy),
            }
        }
    }

    fn refuse(&mut self, rejection: Rejection) {
        self.held = Vec::new();
        self.judged = 0;
        self.long_head = None;
        self.inbound = Inbound::Refused(Refusal::new(rejection, &self.shared.timeouts));
    }

    /// Ready when the phase has lasted too long. A body's time is limited by who reads it.
    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !matches!(self.inbound, Inbound::Head(_)) {
            return Poll::Pending;
        }
        ready!(self.timer.poll(cx, self.phase.0 + self.phase.1));
        let reason = if self.held.is_empty() { CloseReason::Idle } else { CloseReason::SlowHead };
        Poll::Ready(self.cut(reason))
    }

    /// Notices while a request is served that the connection is broken, and leaves what the peer sent ahead where it is.
    ///
    /// The end of the peer's stream is not passed on: a peer that has sent its whole request may close its half of the
    /// connection and still read the answer, and cannot be told from one that has closed both. The HTTP library
    /// would drop the request. It reads on when the answer is written.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            // The library reads again when the answer is written.
            return Poll::Pending;
        }
        let mut byte = [MaybeUninit::uninit()];
        match ready!(self.stream.poll_peek(cx, &mut ReadBuf::uninit(&mut byte))) {
            Ok(_) => {
                self.more = true;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
