//! More heartbeats than a slow database stores: what it stores does not fall, and the rest is turned away at once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use planasonix::{
    db::{
        Db, LaneSizes,
        fleet::{Beat, BeatRules, store_beats},
    },
    domain::{Error, presence::Sample},
    presence::{self, Presence},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    database::Database,
    faults::{self, Burden},
    rows, turn,
};

const RULES: BeatRules = BeatRules { window: Duration::from_mins(2), min_interval: Duration::ZERO };
const AGENTS: usize = 1_500;
/// Of each agent, between two heartbeats: together about three times what the database takes.
const PAUSE: Duration = Duration::from_secs(1);
const OVERLOAD: Duration = Duration::from_secs(10);
/// At its end, with the limit found.
const MEASURED: Duration = Duration::from_secs(4);

/// When a heartbeat was answered, how long that took, and whether it was stored.
type Answer = (Instant, Duration, bool);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_on_slow_rows_keeps_storing_and_sheds_at_once() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let agents = rows::connected_agents(&database.options, AGENTS).await;
    faults::burden_liveness(&database.options, Burden::Slow(Duration::from_millis(2))).await;
    let capacity = capacity(&database, &agents[..200]).await;

    let db = Db::new(database.options.clone(), LaneSizes { reads: 1, writes: 1 });
    let (presence, flusher) = Presence::new(&db, RULES);
    let stop = CancellationToken::new();
    let flusher = tokio::spawn(flusher.run(stop.clone()));
    let (answers, end) = (Arc::new(Mutex::new(Vec::new())), Instant::now() + OVERLOAD);
    let (mut senders, mut rng) = (JoinSet::new(), StdRng::seed_from_u64(2));
    for (agent, credential) in agents {
        let (presence, answers) = (presence.clone(), Arc::clone(&answers));
        let first = Instant::now() + PAUSE.mul_f64(rng.random());
        senders.spawn(async move {
            sleep_until(first).await;
            while Instant::now() < end {
                let (sent, sample) = (Instant::now(), Sample::default());
                let beat = presence::Beat { agent, credential, remote_ip: [127, 0, 0, 1].into(), sample };
                let stored = match presence.record(beat).await {
                    Ok(_) => true,
                    Err(Error::Unavailable(_)) => false,
                    Err(error) => panic!("{error}"),
                };
                answers.lock().unwrap().push((Instant::now(), sent.elapsed(), stored));
                sleep(PAUSE).await;
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    stop.cancel();
    flusher.await.unwrap();
    let answers = std::mem::take(&mut *answers.lock().unwrap());
    assert_steady(&answers, end, capacity);
}

/// Heartbeats a second that one statement of a few stores.
async fn capacity(database: &Database, agents: &[rows::Known]) -> f64 {
    let sample = Sample::default();
    let beats: Vec<_> = agents
        .iter()
        .map(|(agent, credential)| Beat {
            agent: *agent,
            credential: *credential,
            remote_ip: [127, 0, 0, 1].into(),
            sample: &sample,
            resent: false,
        })
        .collect();
    let mut connection = database.connect().await;
    let started = Instant::now();
    assert_eq!(store_beats(&mut connection, &beats, RULES).await.unwrap().len(), beats.len());
    200.0 / started.elapsed().as_secs_f64()
}

fn assert_steady(answers: &[Answer], end: Instant, capacity: f64) {
    let measured = |at: Instant| at > end - MEASURED && at <= end;
    let (stored, shed): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().filter(|(at, ..)| measured(*at)).partition(|(.., stored)| *stored);
    let goodput = f64::from(u32::try_from(stored.len()).unwrap()) / MEASURED.as_secs_f64();
    let mut waits: Vec<_> = shed.iter().map(|(_, took, _)| *took).collect();
    waits.sort_unstable();
    println!("{goodput} of {capacity} a second stored; {} turned away", waits.len());
    assert!(goodput > 0.5 * capacity, "{goodput} of {capacity} heartbeats a second");
    assert!(waits.len() > stored.len() / 5, "{} turned away is no overload", waits.len());
    let p95 = waits[waits.len() * 95 / 100];
    assert!(p95 < Duration::from_millis(500), "turned away after {p95:?}");
    let slowest = stored.iter().map(|(_, took, _)| *took).max().unwrap();
    assert!(slowest < Duration::from_millis(2_100), "{slowest:?}");
}

/// The statement timeout does not cover the commit, so the client gives up first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_whose_commit_hangs_do_not_pile_up() {
    let database = Database::create().await;
    let (agent, credential) = rows::connected_agents(&database.options, 1).await[0];
    faults::hang_commits(&database.options, Duration::from_secs(20)).await;
    let db = Db::new(database.options.clone(), LaneSizes { reads: 1, writes: 1 });
    let (presence, flusher) = Presence::new(&db, RULES);
    let stop = CancellationToken::new();
    let flusher = tokio::spawn(flusher.run(stop.clone()));
    let mut most = 0;
    for _ in 0..5 {
        let sample = Sample::default();
        let beat = presence::Beat { agent, credential, remote_ip: [127, 0, 0, 1].into(), sample };
        assert!(presence.record(beat).await.is_err());
        most = most.max(faults::running_flushes(&database.options).await);
    }
    assert_eq!(most, 1);
    faults::release_commits(&database.options).await;
    let sample = Sample::default();
    let beat = presence::Beat { agent, credential, remote_ip: [127, 0, 0, 1].into(), sample };
    presence.record(beat).await.unwrap();
    stop.cancel();
    flusher.await.unwrap();
}
