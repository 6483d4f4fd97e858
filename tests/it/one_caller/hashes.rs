//! Many API keys created at once.

use std::{num::NonZeroUsize, thread::available_parallelism, time::Instant};

use planasonix::domain::Scope;
use serde_json::json;

use super::{NOISE, Neighbour};
use crate::support::{ask::for_each, database::Database, process::Server, turn};

const CREATIONS: usize = 200;
const ARGON2_BYTES: u64 = 19 << 20;
/// What 200 connections and their requests may take besides.
const OTHER_BYTES: u64 = 96 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_creations_at_once_are_bounded_and_spare_a_neighbour() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let neighbour = server.workspace(&database.options, "neighbour").await.operator;
    let (_, admin) = server.operator(&database.options, acme.id, &[Scope::AdminOrganization]).await;
    admin.get("/api/user/api-keys").await.data(200);
    let quiet = Neighbour::quiet(&neighbour).await;
    let before = server.peak_memory();

    let watch = Neighbour::start(&neighbour);
    let new = json!({"name": "one of many", "scopes": ["agents:read"]});
    let answers = for_each(0..CREATIONS, CREATIONS, async |_| {
        let started = Instant::now();
        (admin.post("/api/user/api-keys", &new).await, started.elapsed())
    })
    .await;
    // A key that was never used is verified beside them.
    let (_, fresh) = server.operator(&database.options, acme.id, &[Scope::AgentsRead]).await;
    fresh.get("/api/agents").await.data(200);
    let p99 = watch.p99().await;

    let (mut created, mut refused) = (0, Vec::new());
    for (answer, took) in &answers {
        if answer.status == 201 {
            created += 1;
            continue;
        }
        answer.error(503, "unavailable");
        assert!(answer.header("retry-after").is_some());
        refused.push(*took);
    }
    refused.sort_unstable();
    let (median, refused) = (refused.get(refused.len() / 2).copied().unwrap_or_default(), refused.len());
    let (grew, cores) = (server.peak_memory() - before, available_parallelism().map_or(1, NonZeroUsize::get));
    println!(
        "{created} created, {refused} refused after {median:?}, {} MiB; neighbour {quiet:?}, then {p99:?}",
        grew >> 20
    );
    assert!(created > 0 && refused > 0, "{created} created, {refused} refused");
    assert!(grew < ARGON2_BYTES * cores as u64 + OTHER_BYTES, "{} MiB", grew >> 20);
    assert!(p99 < quiet * 2 + NOISE, "{quiet:?}, then {p99:?}");
}
