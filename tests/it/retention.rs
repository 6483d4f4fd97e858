//! What is kept for a while only.

use std::time::Duration;

use planasonix::db::fleet::prune_events;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::support::{App, ask::eventually, database::Database, process::Server};

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

async fn prune(connection: &mut PgConnection, age: Duration, most: i64) -> u64 {
    let mut transaction = connection.begin().await.unwrap();
    let pruned = prune_events(&mut transaction, age, most).await.unwrap();
    transaction.commit().await.unwrap();
    pruned
}
