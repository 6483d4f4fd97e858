//! What is kept for a while only.

use std::time::Duration;

use planasonix::db::fleet::prune_events;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::support::App;

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

async fn prune(connection: &mut PgConnection, age: Duration, most: i64) -> u64 {
    let mut transaction = connection.begin().await.unwrap();
    let pruned = prune_events(&mut transaction, age, most).await.unwrap();
    transaction.commit().await.unwrap();
    pruned
}
