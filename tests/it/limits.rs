//! Rate limits: who is charged, what is told, and that nobody pays for another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use planasonix::{domain::Scope, http::limits::Rates};
use planasonix_wire::token::{Kind, assemble, inspect};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Answer, App,
    actors::{Agent, Caller, Workspace},
    ask::for_each,
    database::Database,
    http,
    program::Program,
};

async fn app(rates: Rates) -> App {
    App::one_process(|settings| settings.admission.rates = rates).await
}

/// Limit and remaining, where they are told; the reset must then be when what was used has come back, with a few
/// seconds for a busy machine.
#[track_caller]
fn told(answer: &Answer) -> Option<(u32, u32)> {
    let number = |name: &str| answer.header(name).map(|text| text.parse::<u64>().unwrap());
    let (limit, remaining) = (number("x-ratelimit-limit")?, number("x-ratelimit-remaining").unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ahead = number("x-ratelimit-reset").unwrap().saturating_sub(now);
    assert!(remaining < limit, "{answer:?}");
    let used = limit - remaining;
    let (least, most) = ((used - 1) * 60 / limit, used * 60 / limit + 2);
    assert!(ahead + 5 >= least && ahead <= most, "{least} to {most}, not {ahead}: {answer:?}");
    Some((limit.try_into().unwrap(), remaining.try_into().unwrap()))
}

/// A key that looks like this one and is not: all that an outsider can know of it is right.
fn lookalike(caller: &Caller) -> Caller {
    let (_, public_id) = inspect(caller.token.as_deref().unwrap()).unwrap();
    caller.with_token(&assemble(Kind::ApiKey, public_id, &[0; 32]))
}

#[tokio::test]
async fn a_key_is_told_what_it_has_left_whatever_the_answer_and_then_to_wait() {
    let app = app(Rates { key: 5, workspace: 100, ..Rates::default() }).await;
    let acme = app.workspace("acme").await;
    let (_, reader) = app.operator(acme.id, &[Scope::AgentsRead]).await;
    let head = reader.request(Method::HEAD, "/api/agents");
    let answers = [
        reader.get("/api/agents").await,
        reader.get("/api/agents?limit=0").await,
        reader.get("/api/agents/nonsense").await,
        reader.post("/api/agents", &json!({})).await,
        reader.send(head).await,
        reader.get("/api/agents/connected").await,
        reader.get("/api/agents").await,
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status.as_u16()), [200, 400, 404, 403, 200, 429, 429]);
    let left = answers.each_ref().map(|answer| told(answer).unwrap());
    assert_eq!(left, [4, 3, 2, 1, 0, 0, 0].map(|left| (5, left)));
    for refused in &answers[5..] {
        let error = refused.error(429, "rate_limited");
        assert_eq!(error["action"], json!(null), "that is for agents");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=12).contains(&wait), "{wait}");
        assert!(error["message"].as_str().unwrap().contains(&format!("{wait} s")), "{error}");
    }
    assert_eq!(told(&acme.operator.get("/api/agents").await), Some((5, 4)), "another key is not concerned");
    assert_eq!(told(&app.anonymous().get("/livez").await), None);
}

#[tokio::test]
async fn the_keys_of_a_workspace_share_its_allowance_and_the_tighter_of_the_two_is_told() {
    let app = app(Rates { key: 4, workspace: 5, ..Rates::default() }).await;
    let (acme, other) = (app.workspace("acme").await, app.workspace("other").await);
    let (_, second) = app.operator(acme.id, &[Scope::AgentsRead]).await;
    let first = &acme.operator;
    let mut seen = Vec::new();
    for caller in [first, first, &second, &second, first, &second, first] {
        let answer = caller.get("/api/agents").await;
        seen.push((answer.status.as_u16(), told(&answer).unwrap()));
    }
    let (good, refused) = (|limit, left| (200, (limit, left)), (429, (5, 0)));
    assert_eq!(seen[..5], [good(4, 3), good(4, 2), good(5, 2), good(5, 1), good(5, 0)]);
    assert_eq!(seen[5..], [refused, refused]);
    assert_eq!(told(&other.operator.get("/api/agents").await), Some((4, 3)));
}

#[tokio::test]
async fn an_allowance_comes_back() {
    let app = app(Rates { key: 60, ..Rates::default() }).await;
    let acme = app.workspace("acme").await;
    let asked = for_each(0..70, 8, |_| acme.operator.get("/api/agents")).await;
    let refused = asked.iter().rfind(|answer| answer.status == 429).unwrap();
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    acme.operator.get("/api/agents").await.data(200);
}

#[tokio::test]
async fn who_only_knows_a_key_s_id_cannot_use_its_allowance_up() {
    let app = app(Rates { key: 10, workspace: 10, ..Rates::default() }).await;
    let acme = app.workspace("acme").await;
    let stranger = lookalike(&acme.operator);
    for _ in 0..20 {
        let refused = stranger.get("/api/agents").await;
        refused.error(401, "unauthenticated");
        assert_eq!(told(&refused), None);
    }
    assert_eq!(told(&acme.operator.get("/api/agents").await), Some((10, 9)));
}

#[tokio::test]
async fn failed_authentication_is_limited_by_address_and_spares_who_was_good_before() {
    let app = App::one_process(|settings| {
        settings.admission.rates.failed_auth = 3;
        settings.admission.proxies.trusted = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let acme = app.workspace("acme").await;
    let (_, unseen) = app.operator(acme.id, &[Scope::AgentsRead]).await;
    let (agent, pending) = (acme.agent("known").await, acme.register("new").await);
    let path = format!("/api/agents/{}/credential", agent.id);
    let stranger = lookalike(&acme.operator);
    stranger.get("/api/agents").await.error(401, "unauthenticated");
    app.anonymous().get("/api/agents").await.error(401, "unauthenticated");
    let refused = stranger.post_nothing(&path).await.error(401, "unauthenticated");
    assert_eq!(refused["action"], "re_enroll");

    for caller in [&stranger, &unseen, &app.anonymous(), &app.bearer("nonsense")] {
        let refused = caller.get("/api/agents").await;
        refused.error(429, "rate_limited");
        assert_eq!(told(&refused), None, "that is for API keys");
    }
    for caller in [&stranger, &pending.token] {
        assert_eq!(
            caller.post_nothing("/api/agents/enroll").await.error(429, "rate_limited")["action"],
            "retry"
        );
    }
    acme.operator.get("/api/agents").await.data(200);
    agent.beat().await;

    let elsewhere = stranger.request(Method::GET, "/api/agents").header("x-forwarded-for", "192.0.2.9");
    stranger.send(elsewhere).await.error(401, "unauthenticated");
}

#[tokio::test]
async fn a_revoked_key_fails_even_if_it_was_good_before() {
    let app = app(Rates { failed_auth: 2, ..Rates::default() }).await;
    let acme = app.workspace("acme").await;
    let (id, key) = app.operator(acme.id, &[Scope::AgentsRead]).await;
    key.get("/api/agents").await.data(200);
    app.revoke_key(id).await;
    key.get("/api/agents").await.error(401, "api_key_revoked");
    key.get("/api/agents").await.error(401, "api_key_revoked");
    key.get("/api/agents").await.error(429, "rate_limited");
}

async fn disconnect(agent: &Agent) -> Answer {
    agent.me.post_nothing(&format!("/api/agents/{}/disconnect", agent.id)).await
}

#[tokio::test]
async fn an_agent_that_asks_too_often_is_told_to_retry_and_its_heartbeats_go_on() {
    let app = app(Rates { agent: 3, ..Rates::default() }).await;
    let acme = app.workspace("acme").await;
    let (agent, other) = (acme.agent("busy").await, acme.agent("other").await);
    let itself = format!("/api/agents/{}", agent.id);
    // Its enrollment was the first.
    assert_eq!(disconnect(&agent).await.status, 204);
    agent.me.post_nothing(&format!("{itself}/credential")).await.data(200);
    for refused in [
        disconnect(&agent).await,
        agent.me.post_nothing(&format!("{itself}/credential")).await,
        agent.me.delete(&itself).await,
    ] {
        assert_eq!(refused.error(429, "rate_limited")["action"], "retry");
    }
    for _ in 0..10 {
        agent.beat().await;
    }
    assert_eq!(disconnect(&other).await.status, 204);
    acme.operator.delete(&itself).await;
}

/// What loses a race has no good token, and who has none is not charged.
#[tokio::test]
async fn a_race_for_one_token_ends_as_ever_and_its_replays_are_limited() {
    let app = app(Rates { agent: 5, ..Rates::default() }).await;
    let pending = app.workspace("acme").await.register("etl").await;
    let enroll = || {
        let request = pending.token.request(Method::POST, "/api/agents/enroll");
        pending.token.send(request.header("idempotency-key", "k"))
    };
    for _ in 0..5 {
        enroll().await.data(200);
    }
    assert_eq!(enroll().await.error(429, "rate_limited")["action"], "retry");

    let pending = app.workspace("other").await.register("etl").await;
    let answers = for_each(0..20, 20, |_| pending.try_enroll()).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 401).count(), 19);
}

#[tokio::test]
async fn the_program_s_limits_are_the_promised_ones() {
    let database = Database::create().await;
    let program = |arguments: &[&str]| Program::new(arguments).variable("DATABASE_URL", &database.url());
    let server = program(&["serve", "--listen", "127.0.0.1:0"]).start().until_serving();
    let acme = program(&["workspace", "create", "--slug", "acme", "--name", "Acme", "--json"]).run().json();
    let key = [
        "api-key",
        "create",
        "--workspace",
        "acme",
        "--name",
        "x",
        "--scope",
        "agents:read",
        "--scope",
        "agents:write",
        "--json",
    ];
    let key = program(&key).run().json()["secret"].as_str().unwrap().to_owned();
    let caller =
        Caller { http: http::client(), base: format!("http://{}", server.address()), token: Some(key) };
    assert_eq!(told(&caller.get("/api/agents").await), Some((1_200, 1_199)));
    drop(server);

    let server = program(&["serve", "--listen", "127.0.0.1:0", "--rate-limit-key=0"]).start().until_serving();
    let caller = Caller { base: format!("http://{}", server.address()), ..caller };
    assert_eq!(told(&caller.get("/api/agents").await), Some((6_000, 5_999)));
    let acme = Workspace { operator: caller, id: acme["id"].as_str().unwrap().parse().unwrap() };
    let agent = acme.agent("busy").await;
    // Half of one comes back each second.
    let asked = for_each(0..60, 4, |_| disconnect(&agent)).await;
    let admitted = asked.iter().filter(|answer| answer.status == 204).count();
    assert!((29..45).contains(&admitted), "{admitted}, after one for its enrollment");
    let stranger = Caller { token: None, ..acme.operator };
    // Ten of them come back each second.
    let asked = for_each(0..900, 8, |_| stranger.get("/api/agents")).await;
    let failed = asked.iter().filter(|answer| answer.status == 401).count();
    assert!((600..850).contains(&failed), "{failed}");
    assert!(asked.iter().any(|answer| answer.status == 429));
}

#[tokio::test]
async fn an_enrollment_that_comes_too_often_may_still_come_later() {
    let app = app(Rates { agent: 20, ..Rates::default() }).await;
    let pending = app.workspace("acme").await.register("etl").await;
    let commands = format!("/api/agents/manual-install/{}", pending.id);
    for_each(0..25, 4, |_| pending.token.get(&commands)).await;
    let refused = pending.try_enroll().await;
    assert_eq!(refused.error(429, "rate_limited")["action"], "retry");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    pending.enroll().await.beat().await;
}

/// All that an outsider can know of an agent's credential is right.
#[tokio::test]
async fn who_only_knows_an_agent_s_id_cannot_use_its_allowance_up() {
    let app = app(Rates { agent: 3, ..Rates::default() }).await;
    let agent = app.workspace("acme").await.agent("etl").await;
    let (_, public_id) = inspect(agent.me.token.as_deref().unwrap()).unwrap();
    let forged = agent.me.with_token(&assemble(Kind::Agent, public_id, &[0; 32]));
    for _ in 0..20 {
        for path in ["credential", "disconnect"] {
            let refused = forged.post_nothing(&format!("{}/{path}", agent.path())).await;
            assert_eq!(refused.error(401, "unauthenticated")["action"], "re_enroll");
        }
    }
    agent.rotate().await.beat().await;
}
