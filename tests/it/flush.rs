//! The heartbeat's one statement, with as many beats as a flush may hold.

use std::time::Duration;

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
    rows::{self, Held},
    turn,
};

const WINDOW: Duration = Duration::from_mins(2);
const RULES: BeatRules = BeatRules { window: WINDOW, min_interval: Duration::ZERO };
const BEATS: usize = 4_000;
const MAY_WAIT: usize = 16_384;
const MORE_THAN_MAY_WAIT: usize = 40_000;
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

/// The marks are five seconds apart, and one that is left out is made up for by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mark_is_left_out_while_most_heartbeats_are_turned_away() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let (agent, credential) = rows::connected_agents(&database.options, 1).await[0];
    let db = Db::new(database.options.clone(), LaneSizes { reads: 1, writes: 1 });
    let (presence, flusher) = Presence::new(&db, RULES);
    let stop = CancellationToken::new();
    let flusher = tokio::spawn(flusher.run(stop.clone()));
    let beat = || {
        let (presence, sample) = (presence.clone(), Sample::default());
        let beat = presence::Beat { agent, credential, remote_ip: [127, 0, 0, 1].into(), sample };
        async move { presence.record(beat).await }
    };
    beat().await.unwrap();
    let marked = rows::alive_at(&database.options).await;

    let held = Held::flushes(&database.options).await;
    let mut crowd: JoinSet<_> = (0..MORE_THAN_MAY_WAIT).map(|_| beat()).collect();
    // While nothing is stored, only who is turned away has an answer: more than may wait.
    for _ in 0..MAY_WAIT {
        assert!(crowd.join_next().await.unwrap().unwrap().is_err());
    }
    held.let_go().await;
    assert!(crowd.join_all().await.iter().any(Result::is_ok), "the others were stored");
    let next =
        eventually(async || Some(rows::alive_at(&database.options).await).filter(|at| *at > marked)).await;
    assert!((next - marked).num_seconds() >= 8, "{marked}, then {next}");
    beat().await.unwrap();
    stop.cancel();
    flusher.await.unwrap();
}
