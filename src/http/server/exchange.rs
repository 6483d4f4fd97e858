//! What a connection's stream and its service tell each other: where the current request and its answer are.
//!
//! The service side also decides whether the connection goes on: an answer given before the whole request was
//! read says `Connection: close`, as the HTTP library closes the connection then.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, header},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::Service;

/// The most bytes of an unread body that are thrown away so that the connection can be kept.
const MAX_DISCARDED_BYTES: usize = 64 * 1024;

/// No answer is under way, or its body is not yet at its end.
const OPEN: u8 = 0;
/// The HTTP library has taken the whole answer; it may not have written all of it.
const TAKEN: u8 = 1;
/// The same, of an answer that it took in more than one piece.
const TAKEN_IN_PIECES: u8 = 2;

/// How an answer was taken.
pub(super) enum Taken {
    AtOnce,
    /// The HTTP library may have ended its turn without looking for the next request.
    InPieces,
}

/// The state that both sides of a connection share. `B` is the type of request bodies.
pub(super) struct Exchange<B> {
    answer: AtomicU8,
    last: AtomicBool,
    unread: Mutex<Option<B>>,
}

impl<B> Default for Exchange<B> {
    fn default() -> Self {
        Self { answer: AtomicU8::new(OPEN), last: AtomicBool::new(false), unread: Mutex::new(None) }
    }
}

impl<B> Exchange<B> {
    /// Makes the current request the connection's last.
    pub(super) fn make_last(&self) {
        self.last.store(true, Ordering::Relaxed);
    }

    /// How an answer was taken since the last call, if one was.
    pub(super) fn take_answered(&self) -> Option<Taken> {
        let taken = match self.answer.load(Ordering::Relaxed) {
            TAKEN => Taken::AtOnce,
            TAKEN_IN_PIECES => Taken::InPieces,
            _ => return None,
        };
        self.answer.store(OPEN, Ordering::Relaxed);
        Some(taken)
    }

    fn unread(&self) -> Option<B> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request's body. Dropped before its end, it is left to the connection.
pub(super) struct RequestBody<B: HttpBody> {
    inner: Option<B>,
    exchange: Arc<Exchange<B>>,
}

impl<B: HttpBody + Unpin> HttpBody for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.exchange.make_last(),
            Some(Ok(_)) if !inner.is_end_stream() => {}
            _ => self.inner = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody> Drop for RequestBody<B> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            *self.exchange.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(inner);
        }
    }
}

/// An answer's body. Dropping it says that the HTTP library needs nothing more of the answer.
pub(super) struct ResponseBody<B> {
    inner: Body,
    polls: usize,
    exchange: Arc<Exchange<B>>,
}

impl<B: Send> HttpBody for ResponseBody<B> {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.polls += 1;
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for ResponseBody<B> {
    fn drop(&mut self) {
        let taken = if self.polls > 1 { TAKEN_IN_PIECES } else { TAKEN };
        self.exchange.answer.store(taken, Ordering::Relaxed);
    }
}

/// A connection's service.
pub(super) struct Exchanging<S, B> {
    service: S,
    exchange: Arc<Exchange<B>>,
}

impl<S, B> Exchanging<S, B> {
    pub(super) fn new(service: S, exchange: Arc<Exchange<B>>) -> Self {
        Self { service, exchange }
    }
}

impl<S: Clone, B> Clone for Exchanging<S, B> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), exchange: Arc::clone(&self.exchange) }
    }
}

impl<S, B> Service<Request<B>> for Exchanging<S, B>
where
    S: Service<Request<RequestBody<B>>, Response = Response<Body>>,
    S::Future: Unpin,
    B: HttpBody + Unpin,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = Answering<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let exchange = Arc::clone(&self.exchange);
        // Reading such a body would ask the client to send it.
        let may_read = !request.headers().contains_key(header::EXPECT);
        let request = request.map(|body| RequestBody {
            inner: Some(body).filter(|body| !body.is_end_stream()),
            exchange: Arc::clone(&exchange),
        });
        Answering { stage: Stage::Serving(self.service.call(request)), exchange, may_read }
    }
}

/// An answer in the making.
pub(super) struct Answering<F, B> {
    stage: Stage<F, B>,
    exchange: Arc<Exchange<B>>,
    may_read: bool,
}

enum Stage<F, B> {
    Serving(F),
    Discarding(Box<Discarding<B>>),
    Done,
}

struct Discarding<B> {
    response: Response<Body>,
    body: B,
    left: usize,
}

impl<F, B, E> Future for Answering<F, B>
where
    F: Future<Output = Result<Response<Body>, E>> + Unpin,
    B: HttpBody + Unpin,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Stage::Serving(answer) = &mut this.stage {
            let response = match ready!(Pin::new(answer).poll(cx)) {
                Ok(response) => response,
                Err(error) => return Poll::Ready(Err(error)),
            };
            // The service may hold the rest of the request as long as its future is there.
            this.stage = Stage::Done;
            match this.exchange.unread() {
                None => return Poll::Ready(Ok(this.finish(response, true))),
                Some(_) if !this.may_read => return Poll::Ready(Ok(this.finish(response, false))),
                Some(body) => {
                    let discarding = Discarding { response, body, left: MAX_DISCARDED_BYTES };
                    this.stage = Stage::Discarding(Box::new(discarding));
                }
            }
        }
        let Stage::Discarding(discarding) = &mut this.stage else { return Poll::Pending };
        let whole = ready!(discarding.poll(cx));
        match mem::replace(&mut this.stage, Stage::Done) {
            Stage::Discarding(discarding) => Poll::Ready(Ok(this.finish(discarding.response, whole))),
            Stage::Serving(_) | Stage::Done => Poll::Pending,
        }
    }
}

impl<F, B> Answering<F, B> {
    fn finish(&self, mut response: Response<Body>, whole: bool) -> Response<ResponseBody<B>> {
        if !whole || self.exchange.last.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|inner| ResponseBody { inner, polls: 0, exchange: Arc::clone(&self.exchange) })
    }
}

impl<B: HttpBody + Unpin> Discarding<B> {
    /// Throws away what has arrived of the body; tells whether that was all of it. Waits for nothing but for
    /// the HTTP library to hand over what the system has received.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut moved = false;
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, bytes::Buf::remaining);
                    let Some(left) = self.left.checked_sub(bytes) else { return Poll::Ready(false) };
                    self.left = left;
                    moved = true;
                }
                Poll::Pending if moved => {
                    // Asks to be polled again after the library has read once more.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(self.body.is_end_stream()),
            }
        }
    }
}
