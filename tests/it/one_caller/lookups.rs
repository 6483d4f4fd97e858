//! Tokens that are not good any more, and keys over their allowance: what they cost the database.

use planasonix::domain::Scope;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::forged_keys;
use crate::support::{
    actors::Caller,
    database::Database,
    process::Server,
    rows, turn,
    wire::{Line, Reply, request},
};

const LINES: usize = 8;
const REQUESTS: usize = 4_000;
/// Marks of life, background tasks, what tests look with, and each second some look-ups, which the audit trail may
/// note.
const MAX_TRANSACTIONS: i64 = 1_000;

/// Sends requests over a few connections; gives the answers. The number tells a request from the others.
async fn flood(server: &Server, ask: impl Fn(usize) -> String) -> Vec<Reply> {
    let mut lines = JoinSet::new();
    for line in 0..LINES {
        let requests: Vec<_> = (0..REQUESTS / LINES).map(|number| ask(number * LINES + line)).collect();
        let address = server.address;
        lines.spawn(async move {
            let mut line = Line::open(address).await.unwrap();
            let mut replies = Vec::new();
            for request in requests {
                replies.push(line.ask(&request).await.unwrap());
            }
            replies
        });
    }
    lines.join_all().await.into_iter().flatten().collect()
}

/// The same; every answer must have one of these codes, and the database must hardly notice.
#[track_caller]
fn hardly_noticed(replies: &[Reply], codes: &[&str], transactions: i64) {
    for reply in replies {
        let error = reply.json()["error"].clone();
        assert!(codes.contains(&error["code"].as_str().unwrap()), "{reply:?}");
    }
    println!("{codes:?}: {transactions} transactions for {} requests", replies.len());
    assert!(transactions < MAX_TRANSACTIONS, "{transactions} transactions for {} requests", replies.len());
}

async fn costs(
    database: &Database,
    server: &Server,
    codes: &[&str],
    ask: impl Fn(usize) -> String,
) -> Vec<Reply> {
    let before = rows::transactions(&database.options).await;
    let replies = flood(server, ask).await;
    let transactions = rows::transactions(&database.options).await - before;
    hardly_noticed(&replies, codes, transactions);
    replies
}

fn token(caller: &Caller) -> &str {
    caller.token.as_deref().unwrap()
}

/// Without any limit, so that what is remembered alone spares the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_tokens_are_looked_up_seldom() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let (agent, pending) = (acme.agent("revoked").await, acme.register("pending").await);
    for id in [agent.id, pending.id] {
        acme.operator.post(&format!("/api/agents/revoke/{id}"), &json!({})).await.data(200);
    }
    let (admin_id, admin) = server.operator(&database.options, acme.id, &[Scope::AdminOrganization]).await;
    let (id, key) = server.operator(&database.options, acme.id, &[Scope::AgentsRead]).await;
    assert_ne!(admin_id, id);
    key.get("/api/agents").await.data(200);
    assert_eq!(admin.delete(&format!("/api/user/api-keys/{id}")).await.status, 204);

    let rotate = format!("/api/agents/{}/credential", agent.id);
    let credential = request("POST", &rotate, Some(token(&agent.me)), "");
    costs(&database, &server, &["agent_revoked"], |_| credential.clone()).await;
    let enroll = request("POST", "/api/agents/enroll", Some(token(&pending.token)), "");
    costs(&database, &server, &["agent_revoked"], |_| enroll.clone()).await;
    let deleted = request("GET", "/api/agents", Some(token(&key)), "");
    costs(&database, &server, &["api_key_revoked"], |_| deleted.clone()).await;
    let forged = request("GET", "/api/agents", Some(&forged_keys(4, 1)[0]), "");
    costs(&database, &server, &["unauthenticated"], |_| forged.clone()).await;
}

/// A used token is looked up anew for every idempotency key, until its address may fail no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spent_allowances_are_refused_from_memory() {
    let _alone = turn::alone();
    let database = Database::create().await;
    let flags = ["--rate-limit-key=30", "--rate-limit-agent=10", "--rate-limit-failed-auth=20"];
    let server = Server::start(&database.url(), &flags).await;
    let acme = server.workspace(&database.options, "acme").await;
    let (pending, revoked) = (acme.register("used").await, acme.register("revoked").await);
    let agent = pending.enroll().await;
    acme.operator.post(&format!("/api/agents/revoke/{}", revoked.id), &json!({})).await.data(200);

    let before = rows::transactions(&database.options).await;
    let list = request("GET", "/api/agents", Some(token(&acme.operator)), "");
    // Some come back meanwhile.
    let (_, refused): (Vec<_>, Vec<_>) =
        flood(&server, |_| list.clone()).await.into_iter().partition(|reply| reply.status == 200);
    assert!(refused.len() > REQUESTS * 9 / 10, "{}", refused.len());
    for reply in &refused {
        assert_eq!((reply.status, reply.header("x-ratelimit-limit")), (429, Some("30")), "{reply:?}");
        assert!(reply.header("retry-after").is_some());
    }
    hardly_noticed(&refused, &["rate_limited"], rows::transactions(&database.options).await - before);
    let with_key = |token: &str, number: usize| {
        let request = request("POST", "/api/agents/enroll", Some(token), "");
        request.replace("Host: test\r\n", &format!("Host: test\r\nIdempotency-Key: {number}\r\n"))
    };
    let revoked = token(&revoked.token).to_owned();
    costs(&database, &server, &["agent_revoked", "rate_limited"], |number| with_key(&revoked, number)).await;
    let used = token(&pending.token).to_owned();
    costs(&database, &server, &["enrollment_token_used", "rate_limited"], |number| with_key(&used, number))
        .await;

    // None of it was charged to the agent.
    agent.beat().await;
    let rotated =
        agent.me.send(agent.me.request(Method::POST, &format!("{}/credential", agent.path()))).await;
    assert!([200, 429].contains(&rotated.status.as_u16()), "{rotated:?}");
}
