//! What one caller can take of the service, and what is left for a neighbour.

mod fairness;
mod hang_ups;
mod hashes;
mod lookups;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use planasonix::domain::credential::{ApiKey, Plain};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;
use ulid::Ulid;

use crate::support::actors::Caller;

/// What a loaded machine and a debug build may add to a neighbour's answer. The benchmark holds the numbers.
const NOISE: Duration = Duration::from_millis(1_500);

/// A neighbour who reads his list, one request after another.
struct Neighbour {
    stop: Arc<AtomicBool>,
    answers: JoinHandle<Vec<(u16, Duration)>>,
}

impl Neighbour {
    fn start(caller: &Caller) -> Self {
        let (stop, caller) = (Arc::new(AtomicBool::new(false)), caller.clone());
        let stopped = Arc::clone(&stop);
        let answers = tokio::spawn(async move {
            let mut answers = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let started = Instant::now();
                let status = caller.get("/api/agents").await.status.as_u16();
                answers.push((status, started.elapsed()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            answers
        });
        Self { stop, answers }
    }

    /// The 99th percentile of the time that an answer took. Every answer must have been a 200.
    async fn p99(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.answers.await.unwrap();
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        let mut took: Vec<_> = answers.into_iter().map(|(_, took)| took).collect();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    /// The same while nothing else happens.
    async fn quiet(caller: &Caller) -> Duration {
        let neighbour = Self::start(caller);
        tokio::time::sleep(Duration::from_secs(1)).await;
        neighbour.p99().await
    }
}

/// Well-formed API keys that were never issued.
fn forged_keys(seed: u64, many: usize) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let forge = |_| {
        let public_id = Ulid(rng.random());
        Plain::<ApiKey>::generate(&mut rng, public_id).reveal()
    };
    (0..many).map(forge).collect()
}
