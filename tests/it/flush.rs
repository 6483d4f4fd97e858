//! The heartbeat's one statement, with as many beats as a flush may hold.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use planasonix::{
    db::{
        Db, LaneSizes,
        fleet::{Beat, BeatRules, Search, close_silent_runs, store_beats},
    },
    domain::presence::Sample,
    presence::{self, Presence},
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{
    ask::eventually,
    database::Database,
    faults::{self, Burden},
    rows, turn,
};

const WINDOW: Duration = Duration::from_mins(2);
const RULES: BeatRules = BeatRules { window: WINDOW, min_interval: Duration::ZERO };
const BEATS: usize = 4_000;
/// Agents that all send at once, over and over.
const CROWD: usize = 60;
const MARK_INTERVAL: Duration = Duration::from_secs(5);
/// The whole table in one pass.
const EVERYWHERE: Search = Search { page: 0, pages: 1_000_000, most: 1_000 };

/// Prepared statements get another plan after their fifth run, so a few runs prove nothing. What comes
/// back from silence may meet the task that records it: the trail still reads in order.
#[tokio::test]
async fn a_full_flush_fits_its_time_again_and_again_and_its_events_read_in_order() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let agents = rows::connected_agents(&database.options, BEATS).await;
    let last = agents.iter().map(|(agent, _)| *agent).max().unwrap();
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
    let (mut flusher, mut ageing) = (database.connect().await, database.connect().await);
    rows::limit_statements(&mut flusher).await;
    for round in 0..10 {
        rows::fall_silent(&mut flusher, last).await;
        let (stored, recorded) = tokio::join!(store_beats(&mut flusher, &beats, RULES), async {
            sleep(Duration::from_millis(3 * round)).await;
            close_silent_runs(&mut ageing, WINDOW, &EVERYWHERE).await
        });
        recorded.unwrap();
        if stored.unwrap().len() < BEATS {
            // The task held the one row that it wanted; the flusher tries such a beat again.
            let stored = store_beats(&mut flusher, &beats, RULES).await.unwrap();
            assert_eq!(stored.len(), BEATS);
        }
    }
    let trail = &rows::trails(&database.options).await[&last];
    assert_eq!(trail.len(), 20);
    for (place, (kind, _)) in trail.iter().enumerate() {
        let expected = ["disconnected", "connected"][place % 2];
        assert_eq!(kind, expected, "{trail:?}");
    }
}

/// Under an overload that turns most heartbeats away, agents may fall silent through no fault of theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_left_out_while_most_heartbeats_are_turned_away() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let agents = rows::connected_agents(&database.options, CROWD).await;
    let db = Db::new(database.options.clone(), LaneSizes { reads: 1, writes: 1 });
    let (presence, flusher) = Presence::new(&db, RULES);
    let stop = CancellationToken::new();
    let flusher = tokio::spawn(flusher.run(stop.clone()));
    let marked = |after: DateTime<Utc>| {
        let options = &database.options;
        eventually(async move || Some(rows::alive_at(options).await).filter(|at| *at > after))
    };
    let first = marked(rows::alive_at(&database.options).await).await;

    faults::burden_liveness(&database.options, Burden::Slow(Duration::from_millis(100))).await;
    let end = Instant::now() + 2 * MARK_INTERVAL + Duration::from_secs(1);
    let mut crowd = JoinSet::new();
    for (agent, credential) in agents {
        let presence = presence.clone();
        crowd.spawn(async move {
            let mut stored = 0;
            while Instant::now() < end {
                let sample = Sample::default();
                let beat = presence::Beat { agent, credential, remote_ip: [127, 0, 0, 1].into(), sample };
                stored += u32::from(presence.record(beat).await.is_ok());
                sleep(Duration::from_millis(50)).await;
            }
            stored
        });
    }
    let stored: u32 = crowd.join_all().await.iter().sum();
    assert!(stored > 0, "it went on storing");
    assert_eq!(rows::alive_at(&database.options).await, first);
    faults::unburden_liveness(&database.options).await;
    marked(first).await;
    stop.cancel();
    flusher.await.unwrap();
}
