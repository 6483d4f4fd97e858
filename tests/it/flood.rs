//! Bogus heartbeats by the thousand, each well-formed: the good ones hardly notice, and the database less.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use planasonix::domain::credential::{Agent as Credential, Plain};
use planasonix_wire::AgentId;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::support::{
    database::Database,
    process::Server,
    rows,
    storm::{self, Beat, Storm},
    turn,
    wire::{Line, request},
};

const LINES: usize = 50;
const A_SECOND: usize = 5_000;
/// A flood ends after so long, however much of it got through.
const SECONDS: usize = 5;
const GOOD: usize = 50;
const PAUSE: Duration = Duration::from_millis(200);
/// Marks of life, looks for the silent, one look at each of the refused.
const MOST_ANYWAY: i64 = 150;
/// Credentials that were never seen gather for 10 ms; then there is one attempt to store them and one look.
const MOST_FOR_STRANGERS: usize = 2 * 100 * SECONDS;
/// What a busy machine and a debug build add.
const NOISE: Duration = Duration::from_millis(300);

/// What a flood came to.
#[derive(Debug, Default)]
struct Flood {
    refused: usize,
    postponed: usize,
}

impl Flood {
    fn sent(&self) -> i64 {
        i64::try_from(self.refused + self.postponed).unwrap()
    }
}

/// Sends these at an even pace, each line one after another; all of them must be turned down.
async fn flood(at: SocketAddr, bogus: &[String], code: &'static str) -> Flood {
    let bogus: Vec<Arc<[String]>> = bogus.chunks(bogus.len() / LINES).map(Into::into).collect();
    let pause = Duration::from_secs(1) * u32::try_from(LINES).unwrap() / u32::try_from(A_SECOND).unwrap();
    let mut lines = JoinSet::new();
    for requests in bogus {
        lines.spawn(async move {
            let (mut line, mut came) = (Line::open(at).await.unwrap(), Flood::default());
            let mut next = Instant::now();
            let end = next + Duration::from_secs(SECONDS as u64);
            for request in requests.iter() {
                sleep_until(next).await;
                if Instant::now() > end {
                    break;
                }
                next += pause;
                let reply = line.ask(request).await.unwrap();
                let told = reply.json()["error"]["code"].as_str().unwrap().to_owned();
                if reply.status == 503 {
                    came.postponed += 1;
                } else {
                    assert_eq!(told, code);
                    came.refused += 1;
                }
            }
            came
        });
    }
    lines.join_all().await.into_iter().fold(Flood::default(), |sum, came| Flood {
        refused: sum.refused + came.refused,
        postponed: sum.postponed + came.postponed,
    })
}

fn bogus(agents: &[AgentId], many: usize) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(5);
    let forged = agents.iter().cycle().take(many);
    forged
        .map(|agent| {
            let token = Plain::<Credential>::generate(&mut rng, agent.ulid()).reveal();
            beat(*agent, &token)
        })
        .collect()
}

fn beat(agent: AgentId, token: &str) -> String {
    request("POST", &format!("/api/agents/{agent}/heartbeat"), Some(token), "")
}

fn p99(beats: &[Beat]) -> Duration {
    let mut took: Vec<_> = beats.iter().map(|beat| beat.took).collect();
    took.sort_unstable();
    assert!(beats.iter().all(|beat| beat.accepted_at().is_some()), "a good one was turned away");
    took[took.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_heartbeats_and_the_database_hardly_notice_a_flood_of_bogus_ones() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agents = storm::agents(&acme, GOOD).await;
    let ids: Vec<_> = agents.iter().map(|agent| agent.id).collect();
    let fresh = bogus(&ids, A_SECOND * SECONDS);

    let storm = Storm::start(&agents, server.address, PAUSE, 0);
    sleep(Duration::from_secs(4)).await;
    let quiet = p99(&storm.stop().await);
    let before = rows::transactions(&database.options).await;
    let storm = Storm::start(&agents, server.address, PAUSE, 1_000);
    let came = flood(server.address, &fresh, "unauthenticated").await;
    let good = storm.stop().await;
    let flooded = p99(&good);
    let queries = rows::transactions(&database.options).await - before;
    println!("{came:?} in {SECONDS} s: p99 of good ones {quiet:?}, then {flooded:?}; {queries} transactions");
    assert!(flooded < quiet * 2 + NOISE, "{quiet:?}, then {flooded:?}");
    // Two of eight beats change a text, which is stored apart.
    let most = MOST_ANYWAY + i64::try_from(MOST_FOR_STRANGERS + good.len() * 5 / 4).unwrap();
    assert!(queries < most, "{queries} transactions, not {most}");
    assert!(most < came.sent() / 2, "{came:?} is no flood");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_credentials_that_were_refused_before_costs_the_database_nothing() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let mut agents = storm::agents(&acme, LINES).await;
    let mut retired = Vec::new();
    for agent in &mut agents {
        let new = agent.rotate().await;
        new.beat().await;
        retired.push(beat(agent.id, agent.me.token.as_deref().unwrap()));
        *agent = new;
    }
    let forged = bogus(&agents.iter().map(|agent| agent.id).collect::<Vec<_>>(), LINES);
    let malformed =
        forged.iter().map(|beat| beat.replace("Bearer plnx_agent_", "Bearer plnx_agent_0")).collect();
    for (refused, code) in
        [(retired, "credential_rotated"), (forged, "unauthenticated"), (malformed, "unauthenticated")]
    {
        // Each line has one of its own.
        let many: Vec<_> =
            refused.iter().flat_map(|beat| vec![beat.clone(); A_SECOND * SECONDS / LINES]).collect();
        let before = rows::transactions(&database.options).await;
        let came = flood(server.address, &many, code).await;
        let queries = rows::transactions(&database.options).await - before;
        println!("{code}: {came:?} in {SECONDS} s; {queries} transactions");
        assert_eq!(came.postponed, 0);
        assert!(queries < MOST_ANYWAY + came.sent() / 50, "{queries} transactions for {came:?}");
    }
    for agent in &agents {
        agent.beat().await;
    }
}
