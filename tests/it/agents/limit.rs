//! How many agents a workspace may have.

use planasonix::db::workspace::Rows;
use serde_json::{Value, json};

use crate::support::{App, ask::for_each, database::Database, reads, rows};

#[tokio::test]
async fn at_the_limit_no_further_agent_is_registered() {
    let app = App::start().await;
    let (acme, other) = (app.workspace("acme").await, app.workspace("other").await);
    let new = json!({"label": "a", "platform": "linux"});
    let first = acme.operator.post_under("k", "/api/agents", &new).await.data(201);
    let second = acme.agent("b").await;
    app.limit_agents("acme", 2).await;
    acme.revoke(second.id).await.data(200);
    let refused = acme.operator.post("/api/agents", &new).await.error(403, "agent_limit_reached");
    assert!(refused["message"].as_str().unwrap().contains('2'), "{refused}");
    other.register("not acme's").await;
    // A repeated request makes no agent, so the limit is none of its business.
    let again = acme.operator.post_under("k", "/api/agents", &new).await.data(201);
    assert_eq!(again["id"], first["id"]);
    acme.operator.post_under("l", "/api/agents", &new).await.error(403, "agent_limit_reached");
    assert_eq!(acme.operator.delete(&second.path()).await.status, 204);
    acme.operator.post_under("l", "/api/agents", &new).await.data(201);
    acme.operator.post("/api/agents", &new).await.error(403, "agent_limit_reached");
    app.limit_agents("acme", 0).await;
    acme.operator.post("/api/agents", &new).await.error(403, "agent_limit_reached");
    acme.operator.get("/api/agents").await.data(200);
}

#[tokio::test]
async fn many_at_once_do_not_pass_the_limit() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.limit_agents("acme", 5).await;
    let new = json!({"label": "a", "platform": "linux"});
    let answers = for_each(0..30, 30, |_| acme.operator.post("/api/agents", &new)).await;
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        match answer.status.as_u16() {
            503 => answer.error(503, "unavailable"),
            _ => answer.error(403, "agent_limit_reached"),
        };
    }
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(acme.operator.get("/api/agents").await.ids().len(), 5);
    assert!(made <= 5, "an answer that was lost may have been a registration");
}

#[tokio::test]
async fn agent_count_follows_every_change() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let first = acme.agent("a").await;
    acme.agent("b").await;
    // Not counted so far: there was no limit.
    assert_eq!(app.agent_count("acme").await, (0, 2));
    app.limit_agents("acme", 100).await;
    assert_eq!(app.agent_count("acme").await, (2, 2));
    let third = acme.agent("c").await;
    acme.register("d").await;
    assert_eq!(app.agent_count("acme").await, (4, 4));
    acme.revoke(first.id).await.data(200);
    assert_eq!(app.agent_count("acme").await, (4, 4), "a revoked agent still takes a place");
    assert_eq!(acme.operator.delete(&first.path()).await.status, 204);
    assert_eq!(third.me.delete(&third.path()).await.status, 204);
    assert_eq!(app.agent_count("acme").await, (2, 2));
    app.limit_agents("acme", 7).await;
    assert_eq!(app.agent_count("acme").await, (2, 2));
    rows::delete_agents(&app.database.options, acme.id).await;
    assert_eq!(app.agent_count("acme").await, (0, 0), "many at once");
}

/// Registrations and deletions in flight while the limit is set saw none, and count all the same.
#[tokio::test]
async fn agent_count_is_right_when_the_limit_is_set_meanwhile() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agents: Vec<_> = for_each(0..10, 2, |_| acme.agent("a")).await;
    let deletions = for_each(agents, 2, async |agent| acme.operator.delete(&agent.path()).await);
    let registrations = for_each(0..10, 2, async |_| acme.operator.post("/api/agents", &new_agent()).await);
    let limits = for_each(0..10, 1, |_| app.limit_agents("acme", 100));
    tokio::join!(deletions, registrations, limits);
    let (kept, counted) = app.agent_count("acme").await;
    assert_eq!(kept, counted);
    assert!(counted >= 10, "{counted}");
}

#[tokio::test]
async fn limit_holds_while_registrations_and_deletions_race() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.limit_agents("acme", 5).await;
    let register = async |_| {
        let made = acme.operator.post("/api/agents", &new_agent()).await;
        assert!(acme.operator.get("/api/agents").await.ids().len() <= 5);
        if made.status == 201 {
            let id = made.data(201)["id"].as_str().unwrap().to_owned();
            acme.operator.delete(&format!("/api/agents/{id}")).await;
        }
    };
    for_each(0..40, 8, register).await;
    let (kept, counted) = app.agent_count("acme").await;
    assert_eq!(kept, counted);
    // Whatever the races left behind, the rest of the places can be taken, and no more.
    for _ in counted..5 {
        acme.register("a").await;
    }
    acme.operator.post("/api/agents", &new_agent()).await.error(403, "agent_limit_reached");
}

/// A registration reads as many rows in a workspace of thousands as in an empty one.
#[tokio::test]
async fn registration_under_a_limit_counts_no_rows() {
    let database = Database::create().await;
    let filled = reads::fill(&mut database.connect().await, "many", 3_000).await;
    rows::limit_agents(&database.options, "many", 5_000).await;
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let (result, read) = database
            .reads_of(filled.workspace, mode, async |workspace| {
                let check = |mut rows: Rows| async move { rows.agents().check_limit().await };
                workspace.write("check_limit", check).await
            })
            .await;
        result.unwrap();
        let rows: i64 = read.values().sum();
        assert!(rows < 20, "{mode}: {read:?}");
    }
}

fn new_agent() -> Value {
    json!({"label": "a", "platform": "linux"})
}
