//! What answers say, and what is recorded once a minute at most.

use std::time::Duration;

use planasonix::domain::Scope;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{AHEAD, assert_past};
use crate::support::{App, time};

#[tokio::test]
async fn throttled_event_that_is_ahead_holds_up_none() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let downloads = async || acme.trail("type=installer_downloaded&limit=100").await.len();
    pending.token.bundle(pending.id, "linux").await;
    for (ahead, noted) in AHEAD.into_iter().zip(1..) {
        assert_eq!(downloads().await, noted);
        time::events_get_ahead(&mut app.database.connect().await, ahead).await;
        pending.token.bundle(pending.id, "linux").await;
        pending.token.bundle(pending.id, "linux").await;
        assert_eq!(downloads().await, noted + 1);
    }
}

#[tokio::test]
async fn no_answer_shows_a_time_that_is_ahead() {
    for ahead in AHEAD {
        let app = App::start().await;
        let acme = app.workspace("acme").await;
        let agent = acme.agent("etl").await;
        acme.revoke(agent.id).await.data(200);
        let (key, _) = app.operator(acme.id, &[Scope::AgentsRead]).await;
        let (_, admin) = app.operator(acme.id, &[Scope::AdminOrganization]).await;
        let mut connection = app.database.connect().await;
        time::events_get_ahead(&mut connection, ahead).await;
        time::set_ahead(&mut connection, "agents", &["revoked_at"], ahead).await;
        time::set_ahead(&mut connection, "api_keys", &["last_used_at"], ahead).await;
        for event in acme.trail("limit=100").await {
            assert_past(&event["at"]);
        }
        assert_past(&acme.detail(agent.id).await["revoked_at"]);
        let tag = async || {
            let answer = acme.operator.get(&agent.path()).await;
            answer.header("etag").unwrap().to_owned()
        };
        let before = tag().await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(tag().await, before, "nothing was changed");
        assert_past(&acme.revoke(agent.id).await.data(200)["revoked_at"]);
        let shown = admin.get(&format!("/api/user/api-keys/{key}")).await.data(200);
        assert_eq!(shown["last_used_at"], Value::Null);
    }
}

/// An id's own time is that of the clock before it was set back.
#[tokio::test]
async fn record_made_ahead_is_shown_as_made_now() {
    for ahead in AHEAD {
        let app = App::start().await;
        let acme = app.workspace("acme").await;
        let make = "WITH agent AS (
                INSERT INTO agents (id, workspace_id, label, label_key, platform)
                VALUES (new_ulid(now() + $2), $1, 'ahead', 'ahead', 'linux') RETURNING id, workspace_id
            )
            INSERT INTO agent_liveness (agent_id, workspace_id) SELECT id, workspace_id FROM agent RETURNING agent_id";
        let make = sqlx::query_scalar::<_, Uuid>(make).bind(acme.id.uuid()).bind(ahead);
        let agent = make.fetch_one(&mut app.database.connect().await).await.unwrap();
        let agent = planasonix_wire::AgentId::from_uuid(agent);
        assert_past(&acme.detail(agent).await["created_at"]);
        let listed = acme.operator.get("/api/agents").await.data(200)[0].clone();
        assert_eq!(listed["id"], json!(agent));
        assert_past(&listed["created_at"]);
    }
}
