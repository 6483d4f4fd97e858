//! What was acknowledged is kept, whoever is killed; what cannot be answered now is told so, in time.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use chrono::SubsecRound;
use planasonix_wire::AgentId;
use sqlx::postgres::PgConnectOptions;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{
    bystander::{Bystander, Deeds},
    database::Database,
    http,
    postgres::Postgres,
    process::Server,
    rows,
    storm::{self, Beat, Outcome, Storm},
    turn,
};

const PAUSE: Duration = Duration::from_millis(50);
/// The contract's two seconds, and what a busy machine takes.
const PATIENCE: Duration = Duration::from_millis(2_500);
const AWAY: Duration = Duration::from_secs(4);
const RECOVERY: Duration = Duration::from_secs(3);

#[tokio::test]
async fn what_a_server_acknowledged_survives_its_kill() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let mut server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agents = storm::agents(&acme, 100).await;
    let (mut deeds, mut acknowledged) = (Deeds::default(), 0);
    for round in 0..10 {
        let storm = Storm::start(&agents, server.address, PAUSE, round * 10_000);
        let bystanders = ["one", "two", "three", "four"]
            .map(|name| Bystander::start(server.address, &acme, &format!("{name} {round}")));
        // Another point of whatever goes on, every time.
        sleep(Duration::from_millis(700 + 37 * u64::try_from(round).unwrap())).await;
        server.kill();
        let beats = storm.stop().await;
        acknowledged += assert_kept(&database.options, &beats).await;
        for bystander in bystanders {
            deeds.append(bystander.stop().await);
        }
        server = Server::start(&database.url(), &[]).await;
    }
    deeds.assert_kept(server.address, &acme).await;
    println!("10 kills, {acknowledged} beats acknowledged; {}", deeds.summary());
}

#[tokio::test]
async fn while_postgres_is_away_callers_are_told_to_come_again_and_nothing_acknowledged_is_lost() {
    let _alone = turn::alone();
    outage(|postgres| async {
        let away = postgres.kill();
        sleep(AWAY).await;
        drop(away);
        postgres.accepts().await;
        postgres
    })
    .await;
}

#[tokio::test]
async fn while_postgres_is_frozen_callers_are_told_to_come_again_and_nothing_acknowledged_is_lost() {
    let _alone = turn::alone();
    outage(|postgres| async {
        let frozen = postgres.freeze();
        sleep(AWAY).await;
        drop(frozen);
        postgres
    })
    .await;
}

/// Something happens to Postgres in mid-storm.
async fn outage<F: Future<Output = Postgres>>(misfortune: impl FnOnce(Postgres) -> F) {
    let postgres = Postgres::start().await;
    let server = Server::start(&postgres.url, &[]).await;
    let acme = server.workspace(&postgres.options, "acme").await;
    let agents = storm::agents(&acme, 100).await;
    let storm = Storm::start(&agents, server.address, PAUSE, 0);
    let bystanders = ["one", "two", "three"].map(|name| Bystander::start(server.address, &acme, name));
    sleep(Duration::from_secs(1)).await;
    let readiness = Readiness::watch(server.address);
    let postgres = misfortune(postgres).await;
    let up = Instant::now();
    sleep(RECOVERY + Duration::from_secs(1)).await;

    let beats = storm.stop().await;
    assert_in_time(&beats, up);
    assert_kept(&postgres.options, &beats).await;
    assert_eq!(readiness.ended().await, (true, 200), "/readyz says no, and yes again");
    for bystander in bystanders {
        let deeds = bystander.stop().await;
        println!("{}", deeds.summary());
        deeds.assert_in_time(PATIENCE, up + RECOVERY);
        deeds.assert_kept(server.address, &acme).await;
    }
}

/// Every beat was answered in time, with yes or with "come again", and with yes once the database had
/// been back for a while.
fn assert_in_time(beats: &[Beat], up: Instant) {
    let postponed = beats.iter().filter(|beat| beat.was_postponed()).count();
    let slowest = beats.iter().map(|beat| beat.took).max().unwrap();
    let back = beats
        .iter()
        .filter(|beat| !matches!(beat.outcome, Outcome::Accepted(_)))
        .map(|beat| (beat.started + beat.took).saturating_duration_since(up))
        .max();
    println!(
        "{} beats, {postponed} postponed, slowest {slowest:?}, the last postponed one {back:?} after it was back",
        beats.len()
    );
    assert!(postponed > 0, "it was not away");
    for beat in beats {
        assert!(beat.accepted_at().is_some() || beat.was_postponed(), "{beat:?}");
        assert!(beat.took < PATIENCE, "{beat:?}");
        if beat.started > up + RECOVERY {
            assert!(beat.accepted_at().is_some(), "{beat:?}");
        }
    }
}

/// Every acknowledged beat, or a later one of that agent, is stored. Tells how many there were.
async fn assert_kept(database: &PgConnectOptions, beats: &[Beat]) -> usize {
    let mut acknowledged: HashMap<AgentId, &Beat> = HashMap::new();
    let accepted = beats.iter().filter(|beat| beat.accepted_at().is_some());
    let count = accepted.clone().count();
    acknowledged.extend(accepted.map(|beat| (beat.agent, beat)));
    assert!(!acknowledged.is_empty());
    let stored = rows::last_beats(database).await;
    for (agent, beat) in acknowledged {
        let (at, jobs) = stored[&agent];
        assert!(Some(at.trunc_subsecs(0)) >= beat.accepted_at(), "{at} {beat:?}");
        assert!(jobs >= Some(beat.jobs), "{jobs:?} {beat:?}");
    }
    count
}

/// Watches what `/readyz` says.
struct Readiness(CancellationToken, JoinHandle<(bool, u16)>);

impl Readiness {
    fn watch(at: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let watching = tokio::spawn(async move {
            let (http, mut said_no, mut last) = (http::client(), false, 0);
            while !stopped.is_cancelled() {
                last = http.get(format!("http://{at}/readyz")).send().await.unwrap().status().as_u16();
                said_no |= last == 503;
                sleep(PAUSE).await;
            }
            (said_no, last)
        });
        Self(stop, watching)
    }

    /// Whether it ever said no, and what it said last.
    async fn ended(self) -> (bool, u16) {
        self.0.cancel();
        self.1.await.unwrap()
    }
}
