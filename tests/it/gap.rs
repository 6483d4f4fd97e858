//! When the control plane itself was away, nobody is called lost for it.

use std::{collections::HashMap, time::Duration};

use planasonix_wire::AgentId;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use tokio::time::sleep;

use crate::support::{
    App,
    actors::{Agent, Workspace},
    ask::eventually,
    database::Database,
    postgres::Postgres,
    process::{Pair, Server},
    rows,
    storm::{self, Storm},
    turn,
};

const WINDOW: Duration = Duration::from_secs(6);
const FLAGS: [&str; 6] = ["--connected-window", "6", "--heartbeat-interval", "1", "--shutdown-delay", "0"];
const AGENTS: usize = 500;
/// More than the window, with all that a busy machine adds.
const A_WHILE: Duration = Duration::from_secs(10);
/// Three windows, and more than the fifteen seconds that are no gap yet.
const AWAY: Duration = Duration::from_secs(18);

fn at(server: &Server, workspace: &Workspace) -> Workspace {
    Workspace { id: workspace.id, operator: workspace.operator.at(server.address) }
}

/// Since when each agent is connected.
async fn runs(acme: &Workspace) -> HashMap<String, Value> {
    let rows = acme.operator.get("/api/agents/connected").await.data(200);
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row["connected_since"].clone())).collect()
}

async fn gaps(acme: &Workspace) -> Vec<Value> {
    let events = acme.operator.get("/api/agents/events?type=control_plane_gap").await.data(200);
    events.as_array().unwrap().clone()
}

async fn beaten(agents: &[Agent], server: &Server, how_long: Duration) {
    let storm = Storm::start(agents, server.address, Duration::from_millis(1_500), 0);
    sleep(how_long).await;
    let beats = storm.stop().await;
    assert!(beats.iter().all(|beat| beat.accepted_at().is_some() || beat.was_postponed()));
}

async fn stopped(mut server: Server) {
    server.terminate();
    assert!(server.ended().await.success());
}

async fn trails(database: &PgConnectOptions) -> HashMap<AgentId, Vec<String>> {
    let trails = rows::trails(database).await.into_iter();
    trails.map(|(agent, trail)| (agent, trail.into_iter().map(|(kind, _)| kind).collect())).collect()
}

const UNBROKEN: [&str; 3] = ["registered", "enrolled", "connected"];

#[tokio::test]
async fn agents_that_beat_on_do_not_notice_that_the_control_plane_was_stopped() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &FLAGS).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agents = storm::agents(&acme, AGENTS).await;
    let idle = server.workspace(&database.options, "idle").await;
    idle.register("pending").await;
    beaten(&agents, &server, Duration::from_secs(3)).await;
    let before = runs(&acme).await;
    assert_eq!(before.len(), AGENTS);

    stopped(server).await;
    sleep(AWAY).await;
    let server = Server::start(&database.url(), &FLAGS).await;
    let (acme, idle) = (at(&server, &acme), at(&server, &idle));
    let (gone, faithful) = agents.split_first().unwrap();
    let health = acme.health_when(gone.id, |health| health["status"] != "offline").await;
    assert_eq!((&health["status"], &health["reasons"]), (&json!("unknown"), &json!(["control_plane_gap"])));
    assert_eq!(health["active_jobs"].as_i64().map(|jobs| jobs >= 0), Some(true), "last known figures");
    assert_eq!(acme.connected().await.len(), 0, "the view itself stays strict");

    // The first of them ends a run by its silence, one window after the gap.
    beaten(faithful, &server, A_WHILE).await;
    let after = runs(&acme).await;
    for agent in faithful {
        assert_eq!(after[&agent.id.to_string()], before[&agent.id.to_string()], "{}", agent.id);
    }
    let lost = async || {
        let trail = trails(&database.options).await.remove(&gone.id).unwrap();
        (trail.len() > UNBROKEN.len()).then_some(trail)
    };
    assert_eq!(eventually(lost).await[UNBROKEN.len()..], ["disconnected"]);
    assert_eq!(acme.health(gone.id).await["status"], "offline");
    let trails = trails(&database.options).await;
    assert!(faithful.iter().all(|agent| trails[&agent.id] == UNBROKEN));
    let [gap] = &gaps(&acme).await[..] else { panic!("not one gap") };
    assert_eq!((&gap["agent_id"], &gap["actor"]), (&Value::Null, &json!("system")));
    assert_eq!(gaps(&idle).await.len(), 0, "nobody was connected there");
}

#[tokio::test]
async fn while_one_of_two_replicas_goes_on_there_is_no_gap() {
    let _alone = turn::alone();
    let Pair { servers: [stays, stops], database, acme } = Pair::start(&FLAGS).await;
    let agents = storm::agents(&acme, 20).await;
    beaten(&agents, &stops, Duration::from_secs(2)).await;
    stopped(stops).await;
    let storm = Storm::start(&agents[1..], stays.address, Duration::from_secs(1), 0);
    sleep(Duration::from_secs(17)).await;
    let again = Server::start(&database.url(), &FLAGS).await;
    sleep(Duration::from_secs(1)).await;
    storm.stop().await;
    assert_eq!(gaps(&at(&again, &acme)).await, [] as [Value; 0]);
    let trails = trails(&database.options).await;
    assert_eq!(trails[&agents[0].id][UNBROKEN.len()..], ["disconnected"], "it was silent by itself");
    assert!(agents[1..].iter().all(|agent| trails[&agent.id] == UNBROKEN));
}

/// The beats that come in are not counted before the gap is known that excuses their silence.
#[tokio::test]
async fn an_outage_of_the_database_is_a_gap_too() {
    let _alone = turn::alone();
    let postgres = Postgres::start().await;
    let server = Server::start(&postgres.url, &FLAGS).await;
    let acme = server.workspace(&postgres.options, "acme").await;
    let agents = storm::agents(&acme, 50).await;
    beaten(&agents, &server, Duration::from_secs(2)).await;
    let before = runs(&acme).await;
    let storm = Storm::start(&agents, server.address, Duration::from_millis(200), 0);
    let away = postgres.kill();
    sleep(AWAY).await;
    drop(away);
    postgres.accepts().await;
    sleep(WINDOW / 2).await;
    storm.stop().await;
    // A connection that broke meanwhile is told from a good one by its first use.
    eventually(async || {
        let answer = acme.operator.get("/api/agents/connected").await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(runs(&acme).await, before);
    let trails = trails(&postgres.options).await;
    for agent in &agents {
        assert_eq!(trails[&agent.id], UNBROKEN);
    }
    assert_eq!(gaps(&acme).await.len(), 1);
}

#[tokio::test]
async fn health_knows_of_a_gap_before_it_is_marked() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (silent, alive) = (acme.agent("silent").await, acme.agent("alive").await);
    for _ in 0..5 {
        for agent in [&silent, &alive] {
            agent.beat().await;
        }
        let before = gaps(&acme).await.len();
        rows::were_away(&app.database.options, Duration::from_mins(3)).await;
        alive.beat().await;
        let health = acme.health(silent.id).await;
        assert_eq!(
            (&health["status"], &health["reasons"]),
            (&json!("unknown"), &json!(["control_plane_gap"]))
        );
        assert_eq!(acme.health(alive.id).await["status"], "healthy");
        if gaps(&acme).await.len() == before {
            return;
        }
    }
    panic!("each time it was marked meanwhile");
}

#[tokio::test]
async fn a_gap_that_follows_another_excuses_from_the_first_one_on() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let silent = acme.agent("silent").await;
    silent.beat().await;
    rows::were_away(&app.database.options, Duration::from_secs(200)).await;
    eventually(async || (gaps(&acme).await.len() == 1).then_some(())).await;
    // Heartbeats were taken for less than a window, and the first gap's own amnesty is over.
    app.time_passes(Duration::from_mins(1)).await;
    rows::were_away(&app.database.options, Duration::from_secs(70)).await;
    let health = acme.health(silent.id).await;
    assert_eq!((&health["status"], &health["reasons"]), (&json!("unknown"), &json!(["control_plane_gap"])));
}
