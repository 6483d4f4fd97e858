//! `POST /api/agents/enroll` under an `Idempotency-Key`: a lost answer does not brick the host.

use std::time::Duration;

use planasonix::domain::agent::ReenablePolicy;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    Answer, App,
    actors::{Agent, PendingAgent},
    ask::for_each,
    rows::Held,
};

async fn enroll(pending: &PendingAgent, key: &str) -> Answer {
    pending.token.post_under(key, "/api/agents/enroll", &json!({})).await
}

fn holder(pending: &PendingAgent, answer: &Answer) -> Agent {
    Agent { id: pending.id, me: pending.token.clone() }.with(&answer.data(200))
}

#[tokio::test]
async fn a_lost_answer_s_credential_is_replaced_by_a_fresh_one() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let lost = holder(&pending, &enroll(&pending, "k").await);
    app.time_passes(Duration::from_mins(9)).await;
    let found = holder(&pending, &enroll(&pending, "k").await);
    assert_eq!(lost.refused("credential_rotated").await, "re_enroll");
    // Trying the lost one was no use of the found one.
    let last = holder(&pending, &enroll(&pending, "k").await);
    found.refused("credential_rotated").await;
    last.beat().await;
    enroll(&pending, "k").await.error(401, "enrollment_token_used");
    last.beat().await;
}

#[tokio::test]
async fn whatever_the_credential_was_first_used_for_ends_the_right_to_another() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for verb in ["heartbeat", "credential", "disconnect"] {
        let pending = acme.register(verb).await;
        let agent = holder(&pending, &enroll(&pending, "k").await);
        let used = agent.me.post_nothing(&format!("{}/{verb}", agent.path())).await;
        assert!(used.status.is_success(), "{used:?}");
        enroll(&pending, "k").await.error(401, "enrollment_token_used");
        agent.beat().await;
    }
    let pending = acme.register("installer").await;
    let agent = holder(&pending, &enroll(&pending, "k").await);
    let installer = format!("/api/agents/installer/{}/linux", pending.id);
    assert_eq!(agent.me.send(agent.me.request(Method::HEAD, &installer)).await.status, 200);
    enroll(&pending, "k").await.error(401, "enrollment_token_used");
    agent.beat().await;
}

#[tokio::test]
async fn ten_minutes_another_key_and_none_end_it() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (keyed, keyless) = (acme.register("a").await, acme.register("b").await);
    let agent = holder(&keyed, &enroll(&keyed, "k").await);
    keyless.enroll().await;
    for key in ["other", "K", "k2"] {
        enroll(&keyed, key).await.error(401, "enrollment_token_used");
        enroll(&keyless, key).await.error(401, "enrollment_token_used");
    }
    keyed.try_enroll().await.error(401, "enrollment_token_used");
    app.time_passes(Duration::from_mins(10)).await;
    let refusal = enroll(&keyed, "k").await.error(401, "enrollment_token_used");
    assert_eq!(refusal["action"], "re_enroll");
    agent.beat().await;
}

#[tokio::test]
async fn revoke_enable_and_delete_end_it() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for policy in [ReenablePolicy::Enrollment, ReenablePolicy::Rotation] {
        app.reenable_by("acme", policy).await;
        let pending = acme.register("a").await;
        let agent = holder(&pending, &enroll(&pending, "k").await);
        acme.revoke(pending.id).await.data(200);
        let refusal = enroll(&pending, "k").await.error(403, "agent_revoked");
        assert_eq!(refusal["action"], "stop");
        acme.operator.post_nothing(&format!("/api/agents/enable/{}", pending.id)).await.data(200);
        enroll(&pending, "k").await.error(401, "enrollment_token_used");
        agent.refused("credential_rotated").await;
        acme.operator.delete(&agent.path()).await;
        enroll(&pending, "k").await.error(401, "enrollment_token_invalid");
    }
}

/// Nobody waits for it: the enrollment that the row's lock holds up may take as long as it likes.
#[tokio::test]
async fn while_one_call_is_under_way_another_is_told_so() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for number in 0..5 {
        let pending = acme.register(&format!("a{number}")).await;
        let held = Held::agent(&app.database.options, pending.id).await;
        let (first, second) = tokio::join!(enroll(&pending, "k"), async {
            sleep(Duration::from_millis(200)).await;
            let second = enroll(&pending, "k").await;
            held.let_go().await;
            second
        });
        // A busy machine may have been slower than the lock's patience.
        if first.status != 503 && second.status != 503 {
            second.error(409, "request_in_progress");
            return holder(&pending, &first).beat().await;
        }
    }
    panic!("five times 503");
}

#[tokio::test]
async fn of_fifty_at_once_with_one_key_one_credential_is_alive() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let answers = for_each(0..50, 50, |_| enroll(&pending, "k")).await;
    let mut holders = Vec::new();
    for answer in &answers {
        match answer.status.as_u16() {
            200 => holders.push(holder(&pending, answer)),
            503 => drop(answer.error(503, "unavailable")),
            _ => drop(answer.error(409, "request_in_progress")),
        }
    }
    println!("{} of {} answers held a credential", holders.len(), answers.len());
    let beats = for_each(&holders, 8, |agent| {
        let agent = agent.clone();
        async move { agent.heartbeat(&json!({})).await }
    })
    .await;
    assert_eq!(beats.iter().filter(|answer| answer.status == 200).count(), 1);
    for dead in beats.iter().filter(|answer| answer.status != 200) {
        dead.error(403, "credential_rotated");
    }
}
