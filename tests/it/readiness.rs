//! `GET /readyz`: what it costs, and that it takes nothing from other callers.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::sleep};

use crate::support::{
    App,
    ask::eventually,
    rows::{self, Held},
    turn,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn readyz_500_at_once_cost_few_statements() {
    let _alone = turn::alone();
    let app = App::one_process(|_| {}).await;
    let before = rows::transactions(&app.database.options).await;
    let mut probes = JoinSet::new();
    for _ in 0..500 {
        let caller = app.anonymous();
        probes.spawn(async move { caller.get("/readyz").await.status.as_u16() });
    }
    assert!(probes.join_all().await.into_iter().all(|status| status == 200));
    // The background tasks have a few each second.
    let cost = rows::transactions(&app.database.options).await - before;
    assert!(cost < 100, "{cost} transactions");
}

/// A check that waits in the database must hold up the probes alone, and one that hangs up must not hold up the
/// others.
#[tokio::test]
async fn readyz_of_a_stuck_check_leaves_other_callers_alone() {
    let _alone = turn::alone();
    let app = App::one_process(|_| {}).await;
    let acme = app.workspace("acme").await;
    app.anonymous().get("/readyz").await.data(200);
    sleep(SECOND).await;

    let held = Held::schema_version(&app.database.options).await;
    let first = app.anonymous();
    let first = tokio::spawn(async move { first.get("/readyz").await });
    sleep(SECOND / 5).await;
    let mut probes = JoinSet::new();
    for _ in 0..100 {
        let caller = app.anonymous();
        probes.spawn(async move {
            let asked = Instant::now();
            (caller.get("/readyz").await, asked.elapsed())
        });
    }
    sleep(SECOND / 5).await;
    first.abort();
    for _ in 0..10 {
        let asked = Instant::now();
        acme.operator.get("/api/agents").await.data(200);
        assert!(asked.elapsed() < SECOND / 2, "{:?}", asked.elapsed());
    }
    for (answer, took) in probes.join_all().await {
        answer.error(503, "unavailable");
        assert!(took < 3 * SECOND, "{took:?}");
    }
    held.let_go().await;
    eventually(async || (app.anonymous().get("/readyz").await.status == 200).then_some(())).await;
}
