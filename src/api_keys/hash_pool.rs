//! Where Argon2 runs: verifications and new hashes of API keys share one bounded pool.
//!
//! A hash takes tens of milliseconds of a core and 19 MiB. So at most one runs per core, at most `MAX_WAITING` wait,
//! and a place is free again only when the hash has ended, whether or not its caller still waits. Workspaces take
//! turns, and new hashes, which anyone with an administrator's key can ask for at will, have turns of their own and
//! at most half of the queue.

use std::{num::NonZeroUsize, thread::available_parallelism};

use planasonix_wire::WorkspaceId;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    db::fair_semaphore::{FairSemaphore, Priority, QueueFull},
    domain::{Error, Result},
};

/// Hashes at once on a machine of many cores, of 19 MiB each.
const MAX_AT_ONCE: usize = 8;
/// Waiters in all; the next one gets a 503 at once.
const MAX_WAITING: usize = 64;
const MAX_WAITING_VERIFICATIONS_PER_WORKSPACE: usize = 32;
const MAX_WAITING_NEW: usize = MAX_WAITING / 2;
const MAX_WAITING_NEW_PER_WORKSPACE: usize = 16;

/// What a hash is computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashWork {
    /// To verify a key that was presented.
    Verify,
    /// For a key that is created or regenerated.
    New,
}

/// Runs memory-hard hashes, few at a time.
pub struct HashPool {
    turns: FairSemaphore<(HashWork, WorkspaceId)>,
    new_waiting: Semaphore,
}

impl Default for HashPool {
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_AT_ONCE))
    }
}

impl HashPool {
    fn new(at_once: usize) -> Self {
        Self { turns: FairSemaphore::new(at_once, MAX_WAITING), new_waiting: Semaphore::new(MAX_WAITING_NEW) }
    }

    /// Runs `hash` on a thread of its own when it is the workspace's turn. The caller bounds the wait; `hash` runs to
    /// its end once it has begun.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the queue is full.
    pub async fn run<T: Send + 'static>(
        &self,
        work: HashWork,
        workspace: WorkspaceId,
        hash: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let full = || Error::Unavailable(QueueFull.into());
        let (waiting, most) = match work {
            HashWork::Verify => (None, MAX_WAITING_VERIFICATIONS_PER_WORKSPACE),
            HashWork::New => {
                let place = self.new_waiting.try_acquire().map_err(|_| full())?;
                (Some(place), MAX_WAITING_NEW_PER_WORKSPACE)
            }
        };
        let turn = self.turns.acquire((work, workspace), Priority::Normal, most).await.map_err(|_| full())?;
        drop(waiting);
        let running = spawn_blocking(move || {
            let done = hash();
            drop(turn);
            done
        });
        running.await.map_err(|error| Error::Internal(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::{Duration, Instant},
    };

    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    const HASH: Duration = Duration::from_millis(20);

    /// Hashes that only take time, and how many ran at once at most.
    #[derive(Clone, Default)]
    struct Slow {
        running: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        ended: Arc<AtomicUsize>,
    }

    impl Slow {
        fn hash(&self) -> impl FnOnce() + Send + 'static {
            let slow = self.clone();
            move || {
                slow.most.fetch_max(slow.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(HASH);
                slow.running.fetch_sub(1, Ordering::SeqCst);
                slow.ended.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn workspace(number: u128) -> WorkspaceId {
        WorkspaceId::from_uuid(uuid::Uuid::from_u128(number))
    }

    /// Asks for many new hashes at once; gives the results as they come.
    fn flood(pool: &Arc<HashPool>, slow: &Slow, workspaces: u128, many: u128) -> JoinSet<Result<()>> {
        let mut asked = JoinSet::new();
        for number in 0..many {
            let (pool, slow) = (Arc::clone(pool), slow.clone());
            let workspace = workspace(number % workspaces);
            asked.spawn(async move { pool.run(HashWork::New, workspace, slow.hash()).await });
        }
        asked
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn new_hashes_run_few_at_once_and_the_rest_is_refused() {
        let (pool, slow) = (Arc::new(HashPool::new(4)), Slow::default());
        let results = flood(&pool, &slow, 10, 200).join_all().await;
        let done = results.iter().filter(|result| result.is_ok()).count();
        assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Error::Unavailable(_)))));
        assert_eq!(slow.most.load(Ordering::SeqCst), 4);
        assert!((MAX_WAITING_NEW..=MAX_WAITING_NEW + 12).contains(&done), "{done}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn verification_does_not_wait_behind_new_hashes() {
        let (pool, slow) = (Arc::new(HashPool::new(2)), Slow::default());
        let flooding = flood(&pool, &slow, 1, 200);
        tokio::time::sleep(HASH / 2).await;
        let started = Instant::now();
        pool.run(HashWork::Verify, workspace(7), slow.hash()).await.unwrap();
        pool.run(HashWork::Verify, workspace(0), slow.hash()).await.unwrap();
        assert!(started.elapsed() < HASH * 7, "{:?} for two", started.elapsed());
        drop(flooding);
    }

    #[tokio::test]
    async fn caller_that_gives_up_frees_no_place_of_a_running_hash() {
        let (pool, slow) = (Arc::new(HashPool::new(1)), Slow::default());
        for _ in 0..10 {
            let _ = timeout(HASH / 10, pool.run(HashWork::Verify, workspace(1), slow.hash())).await;
        }
        pool.run(HashWork::Verify, workspace(1), slow.hash()).await.unwrap();
        assert_eq!(slow.most.load(Ordering::SeqCst), 1);
        assert!(slow.ended.load(Ordering::SeqCst) < 10, "those that gave up while they waited never ran");
    }
}
