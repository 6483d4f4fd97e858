//! Bounds the memory of answers that their callers do not read.
//!
//! An answer stays in memory until the kernel has taken its last byte, and how soon that is the caller decides.
//! So each answer to an API key of more than `FREE_BYTES` counts against the key, its workspace and the process
//! until then. Answers to agents are small, the documents are shared by all connections, and an installer is a
//! mapped file: none of them is counted.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::Extensions,
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use planasonix_wire::{ApiKeyId, WorkspaceId};

use super::error::Problem;

/// Answers of up to 16 KiB are free: a connection costs more than that anyway.
const FREE_BYTES: u64 = 16 * 1024;
/// What a stream counts, which no `Content-Length` says: 8 streams fill a key's budget, 16 a workspace's, 64 the
/// process's. One that is not read holds three chunks of 64 KiB (one made, two queued for the socket), and the
/// rest is for the kernel's send buffer.
const STREAM_BYTES: u64 = 1024 * 1024;
/// Room for four of the largest page (1,000 rows with labels of 255 escaped characters: 1.7 MB).
const KEY_BYTES: u64 = 8 * 1024 * 1024;
/// An administrator makes any number of keys, so a workspace has a budget of its own.
const WORKSPACE_BYTES: u64 = 16 * 1024 * 1024;
/// An eighth of the smallest memory that the program is run with (512 MiB).
const PROCESS_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of answers that were not taken yet. Cheap to clone.
#[derive(Clone, Default)]
pub struct ResponseBudget(Arc<Mutex<Usage>>);

#[derive(Default)]
struct Usage {
    keys: HashMap<ApiKeyId, u64>,
    workspaces: HashMap<WorkspaceId, u64>,
    process: u64,
}

impl ResponseBudget {
    /// Reserves `bytes` until the permit is dropped. Whoever holds nothing is not refused for the size of one
    /// answer alone.
    ///
    /// # Errors
    /// 429 where the key or its workspace must read first, 503 where the process has no room.
    fn reserve(&self, key: ApiKeyId, workspace: WorkspaceId, bytes: u64) -> Result<Permit, Problem> {
        let mut usage = self.usage();
        let of_key = usage.keys.get(&key).copied().unwrap_or_default();
        let of_workspace = usage.workspaces.get(&workspace).copied().unwrap_or_default();
        if !fits(of_key, bytes, KEY_BYTES) || !fits(of_workspace, bytes, WORKSPACE_BYTES) {
            return Err(Problem::rate_limited(
                "this API key or its workspace has too many large answers that were not read to their end; read \
                 or close them, then try again",
            ));
        }
        if !fits(usage.process, bytes, PROCESS_BYTES) {
            return Err(Problem::unavailable(
                "too many large answers wait for their callers to read them; try again",
            ));
        }
        usage.process += bytes;
        *usage.keys.entry(key).or_default() += bytes;
        *usage.workspaces.entry(workspace).or_default() += bytes;
        drop(usage);
        Ok(Permit { budget: self.clone(), key, workspace, bytes })
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fits(used: u64, more: u64, limit: u64) -> bool {
    used == 0 || used.saturating_add(more) <= limit
}

/// A part of the budget, given back when dropped.
struct Permit {
    budget: ResponseBudget,
    key: ApiKeyId,
    workspace: WorkspaceId,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut usage = self.budget.usage();
        usage.process = usage.process.saturating_sub(self.bytes);
        give_back(&mut usage.keys, &self.key, self.bytes);
        give_back(&mut usage.workspaces, &self.workspace, self.bytes);
    }
}

/// An entry without bytes goes, so that the map does not grow with the keys ever seen.
fn give_back<K: Eq + Hash>(used: &mut HashMap<K, u64>, key: &K, bytes: u64) {
    if let Some(of_key) = used.get_mut(key) {
        *of_key = of_key.saturating_sub(bytes);
        if *of_key == 0 {
            used.remove(key);
        }
    }
}

/// Marks a response as a stream: its length is unknown, and it counts `STREAM_BYTES`.
#[derive(Clone, Copy)]
pub struct Streamed;

/// From the extractor that verifies a key to the middleware that sees the answer.
#[derive(Clone, Default)]
pub struct AnswerOwner(Arc<OnceLock<(ResponseBudget, ApiKeyId, WorkspaceId)>>);

impl AnswerOwner {
    /// Prepares a request that presents an API key.
    pub fn attach(request: &mut Request) -> Self {
        let owner = Self::default();
        request.extensions_mut().insert(owner.clone());
        owner
    }

    /// Notes the verified key of a request that was prepared.
    pub fn note(request: &Extensions, budget: &ResponseBudget, key: ApiKeyId, workspace: WorkspaceId) {
        if let Some(Self(owner)) = request.get() {
            // A request has one key, so this is the first.
            let _ = owner.set((budget.clone(), key, workspace));
        }
    }

    /// Counts an answer until it was taken, or refuses it where the budget is used up.
    pub fn count(&self, response: Response) -> Response {
        let Some((budget, key, workspace)) = self.0.get() else { return response };
        let streamed = response.extensions().get::<Streamed>().map(|_| STREAM_BYTES);
        let bytes = streamed.or(response.body().size_hint().exact()).unwrap_or_default();
        if bytes <= FREE_BYTES {
            return response;
        }
        match budget.reserve(*key, *workspace, bytes) {
            Ok(permit) => response.map(|body| Body::new(CountedBody { body, permit: Arc::new(permit) })),
            Err(problem) => problem.into_response(),
        }
    }
}

/// A body whose permit lasts as long as any of its bytes: the HTTP library drops a body once its last frame is
/// queued, and the frame once it is written.
struct CountedBody {
    body: Body,
    permit: Arc<Permit>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let count = |bytes| Bytes::from_owner(CountedBytes { bytes, _permit: Arc::clone(&self.permit) });
        frame.map_ok(|frame| frame.map_data(count))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct CountedBytes {
    bytes: Bytes,
    _permit: Arc<Permit>,
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
