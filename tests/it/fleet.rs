//! A thousand agents whose server restarts: they come back spread over time.
//!
//! They keep the default rhythm of 30 seconds, three times as fast.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::sleep};

use crate::support::{
    actors::Workspace,
    ask::for_each,
    database::Database,
    fleet::Fleet,
    process::Server,
    relay::{Passed, Relay},
    turn,
};

const AGENTS: usize = 1_000;
const SECOND: Duration = Duration::from_millis(333);
const INTERVAL: Duration = Duration::from_secs(10);
/// Requests a second of a fleet that is left alone, by its interval.
const STEADY: f64 = 100.0;
/// All retries, and the beats that follow them, lie within.
const WATCHED: usize = 20;
const GLANCE: Duration = Duration::from_millis(20);
const A_STALL: Duration = Duration::from_millis(50);

/// How late this process got to what it had to do, and when: so long it stood still, and what it held up
/// meanwhile came in one piece.
struct Stalls {
    seen: Arc<Mutex<Vec<(Instant, Duration)>>>,
    looking: JoinHandle<()>,
}

impl Stalls {
    fn watch() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            loop {
                let start = Instant::now();
                sleep(GLANCE).await;
                let late = start.elapsed().saturating_sub(GLANCE);
                record.lock().unwrap().push((Instant::now(), late));
            }
        });
        Self { seen, looking }
    }

    /// All that ended within these times, or up to a second before.
    fn sum(&self, from: Instant, to: Instant) -> Duration {
        let seen = self.seen.lock().unwrap();
        let ended = |at: Instant| at + Duration::from_secs(1) >= from && at < to;
        let within = seen.iter().filter(|(at, late)| ended(*at) && *late >= A_STALL);
        within.map(|(_, late)| *late).sum()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// Requests in each second from `start` on, and for how long this process stood still in it or in the one before:
/// what was held up then went out now.
fn seconds(passed: &[Passed], start: Instant, stalls: &Stalls) -> Vec<(usize, Duration)> {
    let second = |number: u64| {
        let (from, to) = (start + Duration::from_secs(number), start + Duration::from_secs(number + 1));
        let count = passed.iter().filter(|(at, _)| (from..to).contains(at)).count();
        (count, stalls.sum(from, to))
    };
    (0..WATCHED as u64).map(second).collect()
}

/// A fleet that has come to its rhythm loses its server for so long.
async fn loses_its_server_for(away: Duration) {
    let database = Database::create().await;
    let mut server = Server::start(&database.url(), &["--shutdown-delay=0"]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agents = for_each(0..AGENTS, 16, async |number| acme.agent(&format!("agent {number}")).await).await;
    let (mut relay, stalls) = (Relay::to(server.address).await, Stalls::watch());
    let _fleet = Fleet::start(&agents, relay.address, SECOND, INTERVAL);
    sleep(INTERVAL).await;

    relay.close().await;
    let (address, lost) = (server.address, Instant::now());
    server.terminate();
    server.ended().await;
    let back = Server::start_at(address, &database.url(), &["--shutdown-delay=0"]).await;
    sleep(away.saturating_sub(lost.elapsed())).await;
    let start = Instant::now();
    relay.open().await;
    sleep(Duration::from_secs(WATCHED as u64)).await;

    judge(&relay.passed_since(start), start, &stalls);
    assert_eq!(
        Workspace { operator: acme.operator.at(back.address), ..acme }.connected().await.len(),
        AGENTS
    );
}

fn judge(passed: &[Passed], start: Instant, stalls: &Stalls) {
    let agents: HashSet<_> = passed.iter().map(|(_, agent)| agent).collect();
    assert_eq!(agents.len(), AGENTS, "not all came back");
    let seconds = seconds(passed, start, stalls);
    for (count, stalled) in &seconds[1..] {
        let most = 2.0 * STEADY * (1.0 + stalled.as_secs_f64());
        let count = f64::from(u32::try_from(*count).unwrap());
        assert!(count <= most, "more than twice the steady rate: {seconds:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_lost_its_server_for_an_interval_comes_back_spread() {
    let _alone = turn::alone();
    loses_its_server_for(INTERVAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_lost_its_server_for_long_comes_back_spread() {
    let _alone = turn::alone();
    loses_its_server_for(INTERVAL * 2).await;
}
