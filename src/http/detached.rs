//! Requests go on when their caller hangs up.
//!
//! The HTTP library drops a request's future when its connection closes. Whatever that future waited for would be cut:
//! a statement, and its connection to the database with it; an allowance not yet charged. So each request runs on a
//! task of its own, which the connection only waits for. Everything that such a task waits for ends by itself: the
//! database and the hash pool within the request's budget, the body when the connection has gone.
//!
//! Two kinds of routes stay on the connection's own task: heartbeats, whose entries in the queue may be abandoned at
//! any time, and routes that wait for nothing.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    extract::{MatchedPath, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::future::Either;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tower::{Layer, Service};

/// Requests whose caller has hung up and that still run. More than a few callers can cause, since the queues that
/// they wait in are shorter; beyond it new requests are refused.
const MAX_ABANDONED: usize = 8_192;

/// The tasks that requests run on. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub struct Detached {
    tasks: TaskTracker,
    abandoned: Arc<AtomicUsize>,
}

/// Marks a request that is to be refused, since too many abandoned ones still run.
#[derive(Clone, Copy)]
pub struct Overloaded;

impl Detached {
    /// Waits until every request has ended. Only those that the server still sends come after it was called.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The layer that runs requests on these tasks, but those to the paths in `attached`.
    pub fn layer(&self, attached: BTreeSet<String>) -> DetachLayer {
        DetachLayer { detached: self.clone(), attached: Arc::new(attached) }
    }

    fn run<F>(&self, answering: F) -> Attached<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let end = Arc::new(End { passed: AtomicBool::new(false), abandoned: Arc::clone(&self.abandoned) });
        let ended = Ended(Arc::clone(&end));
        let task = self.tasks.spawn(async move {
            let _ended = ended;
            answering.await
        });
        Attached { task, end }
    }
}

/// The end of a request, or of its caller: whichever comes first passes here first.
struct End {
    passed: AtomicBool,
    abandoned: Arc<AtomicUsize>,
}

/// Dropped when the request has ended.
struct Ended(Arc<End>);

impl Drop for Ended {
    fn drop(&mut self) {
        if self.0.passed.swap(true, Ordering::AcqRel) {
            self.0.abandoned.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The connection's side of a request.
pub struct Attached<T> {
    task: JoinHandle<T>,
    end: Arc<End>,
}

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        // Before it can be subtracted.
        self.end.abandoned.fetch_add(1, Ordering::Relaxed);
        if self.end.passed.swap(true, Ordering::AcqRel) {
            self.end.abandoned.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Future for Attached<Result<Response, Infallible>> {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.task).poll(cx)).unwrap_or_else(|error| {
            match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // Only the end of the runtime cancels a task.
                Err(_) => Ok(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            }
        }))
    }
}

/// See [`Detached::layer`].
#[derive(Clone)]
pub struct DetachLayer {
    detached: Detached,
    attached: Arc<BTreeSet<String>>,
}

impl<S> Layer<S> for DetachLayer {
    type Service = Detach<S>;

    fn layer(&self, service: S) -> Detach<S> {
        Detach { service, layer: self.clone() }
    }
}

/// A service whose requests run on tasks of their own.
#[derive(Clone)]
pub struct Detach<S> {
    service: S,
    layer: DetachLayer,
}

impl<S> Service<Request> for Detach<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Attached<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let path = request.extensions().get::<MatchedPath>();
        // A path that does not exist waits for nothing.
        if path.is_none_or(|path| self.layer.attached.contains(path.as_str())) {
            return Either::Left(self.service.call(request));
        }
        if self.layer.detached.abandoned.load(Ordering::Relaxed) >= MAX_ABANDONED {
            request.extensions_mut().insert(Overloaded);
            return Either::Left(self.service.call(request));
        }
        Either::Right(self.layer.detached.run(self.service.call(request)))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{
        sync::oneshot,
        time::{sleep, timeout},
    };

    use super::*;

    fn abandoned(detached: &Detached) -> usize {
        detached.abandoned.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn request_goes_on_after_its_caller_and_is_counted_until_it_ends() {
        let detached = Detached::default();
        let (go, wait) = oneshot::channel();
        let (done, mut ended) = oneshot::channel();
        let attached = detached.run(async move {
            let _ = wait.await;
            let _ = done.send(());
        });
        sleep(Duration::from_millis(5)).await;
        assert_eq!(abandoned(&detached), 0);
        drop(attached);
        assert_eq!(abandoned(&detached), 1);
        assert!(timeout(Duration::from_millis(20), detached.finished()).await.is_err());
        go.send(()).unwrap();
        detached.finished().await;
        assert!(ended.try_recv().is_ok());
        assert_eq!(abandoned(&detached), 0);
    }

    #[tokio::test]
    async fn answered_request_and_panicked_one_are_not_abandoned() {
        let detached = Detached::default();
        let answer = detached.run(async { Ok(StatusCode::NO_CONTENT.into_response()) }).await.unwrap();
        assert_eq!((answer.status(), abandoned(&detached)), (StatusCode::NO_CONTENT, 0));
        let panicking = detached.run(async { panic!("on purpose") });
        drop(panicking);
        detached.finished().await;
        assert_eq!(abandoned(&detached), 0);
        drop(detached.run(pending::<()>()));
        assert_eq!(abandoned(&detached), 1);
    }
}
