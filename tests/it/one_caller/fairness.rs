//! One workspace that wants all connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{NOISE, Neighbour};
use crate::support::{
    Answer,
    ask::for_each,
    database::Database,
    process::Server,
    rows::{self, Held},
    turn,
};

const BURST: usize = 600;
const SEARCHES: usize = 120;

fn only_answers_or_refusals(answers: &[Answer]) -> usize {
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        refused.error(503, "unavailable");
        assert!(refused.header("retry-after").is_some());
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

/// Counts turns and not time, which a loaded machine stretches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_of_one_workspace_is_not_served_before_a_neighbour() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let neighbour = server.workspace(&database.options, "neighbour").await.operator;
    acme.operator.get("/api/agents").await.data(200);
    neighbour.get("/api/agents").await.data(200);
    let served = Arc::new(AtomicUsize::new(0));
    // The lane's connections are made before.
    for_each(0..64, 16, |_| acme.operator.get("/api/agents")).await;
    let (operator, counted) = (acme.operator.clone(), Arc::clone(&served));
    let burst = tokio::spawn(async move {
        for_each(0..BURST, BURST, async |_| {
            let answer = operator.get("/api/agents").await;
            counted.fetch_add(usize::from(answer.status == 200), Ordering::Relaxed);
            answer
        })
        .await
    });
    let mut overtaken = Vec::new();
    while !burst.is_finished() {
        let before = served.load(Ordering::Relaxed);
        neighbour.get("/api/agents").await.data(200);
        overtaken.push(served.load(Ordering::Relaxed) - before);
    }
    let answers = burst.await.unwrap();
    let served = only_answers_or_refusals(&answers);
    println!("{served} of {BURST} served; meanwhile, for each of the neighbour's: {overtaken:?}");
    assert!(served > 0 && overtaken.iter().all(|others| *others < BURST / 4), "{overtaken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_searches_of_one_workspace_spare_a_neighbour() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let neighbour = server.workspace(&database.options, "neighbour").await.operator;
    acme.register("one").await;
    acme.register("two").await;
    rows::slow_down_reads(&database.options, acme.id, Duration::from_millis(400)).await;
    let quiet = Neighbour::quiet(&neighbour).await;
    let watch = Neighbour::start(&neighbour);
    let started = Instant::now();
    let answers = for_each(0..SEARCHES, SEARCHES, |_| acme.operator.get("/api/agents?label=o")).await;
    let took = started.elapsed();
    let p99 = watch.p99().await;
    let served = only_answers_or_refusals(&answers);
    println!("{served} of {SEARCHES} served in {took:?}; neighbour {quiet:?}, then {p99:?}");
    assert!(took > Duration::from_millis(700), "they are not slow: {took:?}");
    assert!(p99 < quiet * 2 + NOISE, "{quiet:?}, then {p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_writes_of_one_workspace_spare_a_neighbour() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let neighbour = server.workspace(&database.options, "neighbour").await;
    let agent = acme.agent("held").await;
    let held = Held::agent(&database.options, agent.id).await;
    let (operator, drain) = (acme.operator.clone(), format!("/api/agents/drain/{}", agent.id));
    let blocked =
        tokio::spawn(async move { for_each(0..SEARCHES, SEARCHES, |_| operator.post_nothing(&drain)).await });
    sleep(Duration::from_millis(300)).await;
    for number in 0..20 {
        let started = Instant::now();
        neighbour.register(&format!("agent {number}")).await;
        assert!(started.elapsed() < NOISE * 2, "{:?}", started.elapsed());
    }
    held.let_go().await;
    only_answers_or_refusals(&blocked.await.unwrap());
}
