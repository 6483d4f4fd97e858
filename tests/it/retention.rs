//! What is kept for a while only.

use std::time::Duration;

use planasonix::{db::fleet::prune_events, domain::Scope};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::support::{App, ask::eventually, database::Database, process::Server, rows};

#[tokio::test]
async fn old_events_go_oldest_first_and_no_younger_ones() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    agent.beat().await;
    assert_eq!(app.event_types(agent.id).await, ["registered", "enrolled", "connected"]);
    // An id may be younger than its event by as much as ids within one statement are kept apart.
    sleep(Duration::from_millis(20)).await;

    let mut connection = app.database.connect().await;
    for kept in [Duration::from_hours(1), Duration::from_hours(24 * 36_500)] {
        assert_eq!(prune(&mut connection, kept, 10).await, 0);
    }
    assert_eq!(prune(&mut connection, Duration::ZERO, 2).await, 2);
    assert_eq!(app.event_types(agent.id).await, ["connected"]);
    assert_eq!(prune(&mut connection, Duration::ZERO, 2).await, 1);
    assert!(app.event_types(agent.id).await.is_empty());
}

#[tokio::test]
async fn a_server_that_is_told_to_forget_does_and_no_other() {
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let agent = acme.agent("etl").await;
    sleep(Duration::from_millis(1_500)).await;
    let events = format!("/api/agents/{}/events", agent.id);
    assert_eq!(acme.operator.get(&events).await.ids().len(), 2, "kept for ever unless told otherwise");
    let forgetful = Server::start(&database.url(), &["--events-retention=1"]).await;
    let operator = acme.operator.at(forgetful.address);
    eventually(async || operator.get(&events).await.ids().is_empty().then_some(())).await;
    agent.beat().await;
    assert_eq!(operator.get(&events).await.ids().len(), 1, "what is younger stays");
}

#[tokio::test]
async fn a_deleted_agent_is_unknown_once_its_events_are_gone() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    let events = format!("{}/events", agent.path());
    assert_eq!(acme.operator.delete(&agent.path()).await.status, 204);
    assert_eq!(acme.operator.get(&events).await.ids().len(), 3);
    sleep(Duration::from_millis(20)).await;
    prune(&mut app.database.connect().await, Duration::ZERO, 10).await;
    acme.operator.get(&events).await.error(404, "agent_not_found");
}

#[tokio::test]
async fn idempotency_keys_go_once_they_are_honoured_no_more() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (_, operator) = app.operator(acme.id, &[Scope::AgentsWrite]).await;
    let new = json!({"label": "a", "platform": "linux"});
    operator.post_under("old", "/api/agents", &new).await.data(201);
    app.time_passes(Duration::from_hours(23)).await;
    operator.post_under("young", "/api/agents", &new).await.data(201);
    app.time_passes(Duration::from_mins(61)).await;
    let stored = async || rows::idempotency_keys(&app.database.options).await;
    assert_eq!(stored().await, ["old", "young"]);
    let _server = Server::start(&app.database.url(), &[]).await;
    eventually(async || (stored().await.len() < 2).then_some(())).await;
    assert_eq!(stored().await, ["young"]);
}

async fn prune(connection: &mut PgConnection, age: Duration, most: i64) -> u64 {
    let mut transaction = connection.begin().await.unwrap();
    let pruned = prune_events(&mut transaction, age, most).await.unwrap();
    transaction.commit().await.unwrap();
    pruned
}
