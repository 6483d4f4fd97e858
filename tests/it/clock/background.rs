//! Ageing, the marks of the control plane, and retention.

use std::time::Duration;

use planasonix::db::{
    Budget, Db, LaneSizes,
    fleet::{
        Search, announce_outage, close_silent_runs, prune_events, prune_idempotency_keys,
        record_control_plane_alive,
    },
};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::AHEAD;
use crate::support::{
    App,
    actors::Agent,
    database::Database,
    rows,
    time::{self, set_ahead},
};

const WINDOW: Duration = Duration::from_mins(2);
const EVERYWHERE: Search = Search { page: 0, pages: 1_000, most: 10 };

async fn mark(connection: &mut PgConnection) {
    record_control_plane_alive(connection, Duration::from_hours(1), None, WINDOW).await.unwrap();
}

#[tokio::test]
async fn agent_whose_heartbeat_is_ahead_is_recorded_as_disconnected() {
    for ahead in AHEAD {
        let database = Database::create().await;
        let [(agent, _)] = rows::connected_agents(&database.options, 1).await[..] else { panic!("not one") };
        let mut connection = database.connect().await;
        // As far as a clock may step back without an outage: these come of age by themselves.
        for tolerated in [Duration::from_secs(10), Duration::from_secs(28)] {
            set_ahead(&mut connection, "agent_liveness", &["last_seen_at"], tolerated).await;
            assert_eq!(close_silent_runs(&mut connection, WINDOW, &EVERYWHERE).await.unwrap().closed, 0);
        }
        set_ahead(&mut connection, "agent_liveness", &["last_seen_at"], ahead).await;
        assert_eq!(close_silent_runs(&mut connection, WINDOW, &EVERYWHERE).await.unwrap().closed, 1);
        assert_eq!(rows::open_runs(&database.options).await, 0);
        let detail: Value =
            sqlx::query_scalar("SELECT detail FROM events WHERE agent_id = $1 AND type = 'disconnected'")
                .bind(agent.uuid())
                .fetch_one(&mut connection)
                .await
                .unwrap();
        assert_eq!(detail, json!({"last_seen_at": null}));
    }
}

/// A step of the clock is an outage that ends now: nobody is lost for it, and whoever stays silent is, a window later.
#[tokio::test]
async fn nobody_is_lost_by_a_step_of_the_clock() {
    for step in AHEAD {
        let database = Database::create().await;
        rows::connected_agents(&database.options, 1).await;
        let mut connection = database.connect().await;
        time::clock_steps_back(&mut connection, step).await;
        assert!(
            !close_silent_runs(&mut connection, WINDOW, &EVERYWHERE).await.unwrap().ours,
            "before it is marked"
        );
        mark(&mut connection).await;
        while announce_outage(&mut connection, 10).await.unwrap() > 0 {}
        assert!(!close_silent_runs(&mut connection, WINDOW, &EVERYWHERE).await.unwrap().ours, "amnesty");
        sqlx::query(
            "UPDATE control_plane SET gap_started_at = gap_started_at - $1, gap_ended_at = gap_ended_at - $1",
        )
        .bind(WINDOW)
        .execute(&mut connection)
        .await
        .unwrap();
        assert_eq!(close_silent_runs(&mut connection, WINDOW, &EVERYWHERE).await.unwrap().closed, 1);
    }
}

#[tokio::test]
async fn outage_that_ended_ahead_excuses_nobody() {
    for ahead in AHEAD {
        let app = App::start().await;
        let acme = app.workspace("acme").await;
        let agent = acme.agent("silent").await;
        agent.beat().await;
        app.time_passes(Duration::from_mins(3)).await;
        let mut connection = app.database.connect().await;
        sqlx::query(
            "UPDATE control_plane
             SET alive_at = now(), gap_started_at = now() - interval '1 hour', gap_ended_at = now() + $1",
        )
        .bind(ahead)
        .execute(&mut connection)
        .await
        .unwrap();
        assert_eq!(acme.health(agent.id).await["status"], "offline");
        // Also not beside an outage that goes on, and not once the clock has caught up.
        mark(&mut connection).await;
        assert_eq!(rows::last_outage(&app.database.options).await, None);
    }
}

#[tokio::test]
async fn small_step_leaves_no_mark_ahead_of_the_clock() {
    let database = Database::create().await;
    rows::connected_agents(&database.options, 1).await;
    rows::set_mark_age(&database.options, -14.0).await;
    let mut connection = database.connect().await;
    let at = record_control_plane_alive(&mut connection, WINDOW, None, WINDOW).await.unwrap();
    assert_eq!(rows::alive_at(&database.options).await, at);
    assert_eq!(rows::last_outage(&database.options).await, None);
}

#[tokio::test]
async fn events_ahead_are_kept_and_older_ones_go() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (old, ahead) = (acme.register("old").await, async |ahead| {
        time::events_get_ahead(&mut app.database.connect().await, ahead).await;
    });
    app.events_age(Duration::from_hours(48)).await;
    let new = acme.register("new").await;
    for step in AHEAD {
        ahead(step).await;
        let mut transaction = app.database.connect().await;
        let mut transaction = transaction.begin().await.unwrap();
        prune_events(&mut transaction, Duration::from_mins(1), 10).await.unwrap();
        transaction.commit().await.unwrap();
    }
    assert!(app.event_types(old.id).await.is_empty());
    assert_eq!(app.event_types(new.id).await, ["registered"]);
}

#[tokio::test]
async fn idempotency_key_ahead_is_honoured_for_a_day_from_now() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let new = json!({"label": "a", "platform": "linux"});
    let register = async || acme.operator.post_under("k", "/api/agents", &new).await.data(201)["id"].clone();
    let first = register().await;
    for ahead in AHEAD {
        let mut connection = app.database.connect().await;
        set_ahead(&mut connection, "idempotency_keys", &["created_at"], ahead).await;
        assert_eq!(register().await, first, "never a second agent");
        assert_eq!(prune_idempotency_keys(&mut connection, 10).await.unwrap(), 0);
        app.time_passes(Duration::from_hours(23)).await;
        assert_eq!(prune_idempotency_keys(&mut connection, 10).await.unwrap(), 0);
    }
    app.time_passes(Duration::from_mins(61)).await;
    assert_eq!(prune_idempotency_keys(&mut app.database.connect().await, 10).await.unwrap(), 1);
}

#[tokio::test]
async fn key_that_was_last_used_ahead_is_noted_again() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (key, _) = app.operator(acme.id, &[planasonix::domain::Scope::AgentsRead]).await;
    let db = Db::new(app.database.options.clone(), LaneSizes { reads: 1, writes: 1 });
    for ahead in AHEAD {
        let mut connection = app.database.connect().await;
        set_ahead(&mut connection, "api_keys", &["last_used_at"], ahead).await;
        db.note_key_use(key, &Budget::default()).await.unwrap();
        let past: bool = sqlx::query_scalar("SELECT last_used_at <= now() FROM api_keys WHERE id = $1")
            .bind(key.uuid())
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert!(past);
    }
    db.close().await;
}

#[tokio::test]
async fn enrollment_that_happened_ahead_is_not_repeated() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for ahead in AHEAD {
        let pending = acme.register("a").await;
        let enroll = async || pending.token.post_under("k", "/api/agents/enroll", &json!({})).await;
        let agent = Agent { id: pending.id, me: pending.token.clone() }.with(&enroll().await.data(200));
        set_ahead(&mut app.database.connect().await, "enrollment_tokens", &["used_at"], ahead).await;
        enroll().await.error(401, "enrollment_token_used");
        agent.beat().await;
    }
}
