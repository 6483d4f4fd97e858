//! Outages of the control plane: what the marks prove, and that agents which kept trying are not lost.

use std::{collections::HashMap, time::Duration};

use chrono::TimeDelta;
use planasonix::db::{
    Db, LaneSizes,
    fleet::{Search, announce_outage, close_silent_runs, record_control_plane_alive},
};
use planasonix_wire::AgentId;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::sleep;

use crate::support::{
    App,
    actors::{Agent, Workspace},
    ask::eventually,
    database::Database,
    faults::{self, Burden},
    process::Server,
    rows::{self, Held},
    storm::{self, Storm},
    turn,
};

const WINDOW: Duration = Duration::from_secs(6);
const FLAGS: [&str; 6] = ["--connected-window", "6", "--heartbeat-interval", "1", "--shutdown-delay", "0"];
/// Three windows, and more than the fifteen seconds that are no outage yet.
const OUTAGE: Duration = Duration::from_secs(18);
const LONG_WINDOW: Duration = Duration::from_mins(2);
const HOUR: Duration = Duration::from_hours(1);

/// A server with agents that beat all the time.
struct Fleet {
    database: Database,
    _server: Server,
    acme: Workspace,
    agents: Vec<Agent>,
    storm: Storm,
}

impl Fleet {
    async fn start() -> Self {
        let database = Database::create().await;
        let server = Server::start(&database.url(), &FLAGS).await;
        let acme = server.workspace(&database.options, "acme").await;
        let agents = storm::agents(&acme, 8).await;
        let storm = Storm::start(&agents, server.address, Duration::from_millis(500), 0);
        sleep(Duration::from_secs(3)).await;
        Self { database, _server: server, acme, agents, storm }
    }

    /// Asserts that no agent was lost, also once the amnesty is over; returns the number of outages announced.
    async fn end(self) -> usize {
        sleep(2 * WINDOW).await;
        self.storm.stop().await;
        let trails = trails(&self.database.options).await;
        for agent in &self.agents {
            assert_eq!(trails[&agent.id], ["registered", "enrolled", "connected"]);
        }
        self.acme.operator.get("/api/agents/events?type=control_plane_gap").await.ids().len()
    }
}

async fn trails(database: &PgConnectOptions) -> HashMap<AgentId, Vec<String>> {
    let trails = rows::trails(database).await.into_iter();
    trails.map(|(agent, trail)| (agent, trail.into_iter().map(|(kind, _)| kind).collect())).collect()
}

async fn outage_with_locked_table(fleet: Fleet) {
    let held = Held::flushes(&fleet.database.options).await;
    sleep(OUTAGE).await;
    held.let_go().await;
    assert_eq!(fleet.end().await, 1, "one outage");
}

async fn outage_with_failing_rows(fleet: Fleet, burden: Burden) {
    faults::burden_liveness(&fleet.database.options, burden).await;
    sleep(OUTAGE).await;
    faults::unburden_liveness(&fleet.database.options).await;
    assert_eq!(fleet.end().await, 1, "one outage");
}

async fn locked_mark(fleet: Fleet) {
    let before = rows::alive_at(&fleet.database.options).await;
    let held = Held::marks(&fleet.database.options).await;
    sleep(OUTAGE).await;
    assert!(rows::alive_at(&fleet.database.options).await - before < TimeDelta::seconds(6), "it was held");
    held.let_go().await;
    assert_eq!(fleet.end().await, 0, "heartbeats were stored all the time");
}

/// The same, each on a server and a database of its own, at the same time.
#[tokio::test]
async fn agents_that_kept_trying_while_flushes_failed_are_not_lost() {
    let _alone = turn::alone();
    let fleets = [Fleet::start().await, Fleet::start().await, Fleet::start().await, Fleet::start().await];
    let [locked, failing, slow, unmarked] = fleets;
    tokio::join!(
        outage_with_locked_table(locked),
        outage_with_failing_rows(failing, Burden::Fails),
        outage_with_failing_rows(slow, Burden::Slow(Duration::from_secs(2))),
        locked_mark(unmarked),
    );
}

/// A database with connected agents in a workspace, whose newest mark is of a minute ago.
async fn marked_a_minute_ago() -> (Database, PgConnection) {
    let database = Database::create().await;
    rows::connected_agents(&database.options, 1).await;
    rows::were_away(&database.options, Duration::from_mins(1)).await;
    let connection = database.connect().await;
    (database, connection)
}

fn assert_about(seconds: f64, expected: f64) {
    assert!((seconds - expected).abs() < 10.0, "{seconds} s, not {expected} s");
}

#[tokio::test]
async fn hole_in_the_marks_is_no_outage_while_flushes_succeeded() {
    let (database, mut connection) = marked_a_minute_ago().await;
    record_control_plane_alive(&mut connection, HOUR, None, LONG_WINDOW).await.unwrap();
    assert_eq!(rows::last_outage(&database.options).await, None);
    assert_eq!(announce_outage(&mut connection, 10).await.unwrap(), 0);
}

#[tokio::test]
async fn hole_in_the_marks_is_an_outage_until_flushes_succeeded() {
    let (database, mut connection) = marked_a_minute_ago().await;
    let storing_for = Duration::from_secs(30);
    let at = record_control_plane_alive(&mut connection, storing_for, None, LONG_WINDOW).await.unwrap();
    let (started, ended) = rows::last_outage(&database.options).await.unwrap();
    assert_about(started, 60.0);
    assert_about(ended, 30.0);
    assert_eq!(rows::alive_at(&database.options).await, at);
    assert_eq!(announce_outage(&mut connection, 10).await.unwrap(), 1);
    assert_eq!(rows::workspaces_with(&database.options, "control_plane_gap").await.len(), 1);
}

#[tokio::test]
async fn clock_that_was_set_forward_is_an_outage() {
    let (database, mut connection) = marked_a_minute_ago().await;
    let expected = rows::alive_at(&database.options).await + TimeDelta::seconds(5);
    record_control_plane_alive(&mut connection, HOUR, Some(expected), LONG_WINDOW).await.unwrap();
    let (started, ended) = rows::last_outage(&database.options).await.unwrap();
    assert_about(started, 60.0);
    assert_about(ended, 0.0);
}

#[tokio::test]
async fn mark_ahead_of_the_clock_is_an_outage_that_ends_now() {
    let (database, mut connection) = marked_a_minute_ago().await;
    let lost = async |connection: &mut PgConnection| {
        let everywhere = Search { page: 0, pages: 1_000, most: 10 };
        close_silent_runs(connection, Duration::ZERO, &everywhere).await.unwrap().ours
    };
    rows::set_mark_age(&database.options, -14.0).await;
    record_control_plane_alive(&mut connection, HOUR, None, LONG_WINDOW).await.unwrap();
    assert_eq!(rows::last_outage(&database.options).await, None, "as far ahead as clocks may be");
    rows::set_mark_age(&database.options, -600.0).await;
    assert!(!lost(&mut connection).await, "not before it is recorded");
    let at = record_control_plane_alive(&mut connection, HOUR, None, LONG_WINDOW).await.unwrap();
    assert_eq!(rows::alive_at(&database.options).await, at);
    let (started, ended) = rows::last_outage(&database.options).await.unwrap();
    assert_about(started, 0.0);
    assert_about(ended, 0.0);
    assert_eq!(announce_outage(&mut connection, 10).await.unwrap(), 1);
    assert_eq!(rows::workspaces_with(&database.options, "control_plane_gap").await.len(), 1);
    assert!(lost(&mut connection).await, "with a window of nothing the amnesty is over");
}

#[tokio::test]
async fn mark_whose_row_is_held_is_skipped_at_once() {
    let (database, mut connection) = marked_a_minute_ago().await;
    let before = rows::alive_at(&database.options).await;
    let held = Held::marks(&database.options).await;
    let mark = record_control_plane_alive(&mut connection, Duration::ZERO, None, LONG_WINDOW);
    let at = tokio::time::timeout(Duration::from_secs(5), mark).await.unwrap().unwrap();
    assert!(at > before);
    held.let_go().await;
    assert_eq!(rows::alive_at(&database.options).await, before);
    assert_eq!(rows::last_outage(&database.options).await, None);
}

/// A batch that was rolled back is written again, and two replicas never write the same.
#[tokio::test]
async fn outage_is_announced_once_to_each_workspace_that_had_agents() {
    let (database, mut connection) = marked_a_minute_ago().await;
    let db = Db::new(database.options.clone(), LaneSizes { reads: 1, writes: 1 });
    for number in 0..7 {
        db.create_workspace(&format!("idle-{number}"), "Idle").await.unwrap().unwrap();
    }
    let mut announcing = database.connect().await;
    for _ in 0..2 {
        rows::set_mark_age(&database.options, 60.0).await;
        record_control_plane_alive(&mut connection, Duration::ZERO, None, LONG_WINDOW).await.unwrap();
    }
    let mut rolled_back = announcing.begin().await.unwrap();
    assert_eq!(announce_outage(&mut rolled_back, 3).await.unwrap(), 3);
    assert_eq!(announce_outage(&mut connection, 3).await.unwrap(), 3, "the other outage");
    rolled_back.rollback().await.unwrap();
    let everywhere = Search { page: 0, pages: 1_000, most: 10 };
    let look = close_silent_runs(&mut connection, LONG_WINDOW, &everywhere).await.unwrap();
    assert!(look.outage_pending && !look.ours, "ageing waits for the events");
    while announce_outage(&mut connection, 3).await.unwrap()
        + announce_outage(&mut announcing, 3).await.unwrap()
        > 0
    {}
    assert_eq!(rows::workspaces_with(&database.options, "control_plane_gap").await.len(), 2, "one an outage");
    let look = close_silent_runs(&mut connection, LONG_WINDOW, &everywhere).await.unwrap();
    assert!(!look.outage_pending);
}

#[tokio::test]
async fn silent_agents_on_a_slow_database_are_recorded_all_the_same() {
    let app = App::with(|settings| settings.rhythm.window = Duration::from_secs(20)).await;
    faults::burden_liveness(&app.database.options, Burden::Slow(Duration::from_millis(2))).await;
    rows::silent_agents(&app.database.options, 2_000).await;
    assert!(rows::open_runs(&app.database.options).await > 0);
    eventually(async || (rows::open_runs(&app.database.options).await == 0).then_some(())).await;
    let trails = rows::trails(&app.database.options).await;
    assert_eq!(trails.len(), 2_000);
    assert!(trails.values().all(|trail| trail.len() == 1 && trail[0].0 == "disconnected"));
}
