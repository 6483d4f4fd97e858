//! Who may have an agent's installer, and when.

use std::time::Duration;

use planasonix::domain::agent::ReenablePolicy;
use planasonix_wire::AgentId;

use super::path;
use crate::support::{Answer, App, actors::Caller};

fn manual(agent: AgentId) -> String {
    format!("/api/agents/manual-install/{agent}")
}

async fn assert_may(caller: &Caller, agent: AgentId) {
    caller.bundle(agent, "linux").await;
    caller.manual(agent).await.data(200);
}

/// Both routes, and what whoever holds an agent's secret is told to do.
async fn assert_refused(caller: &Caller, agent: AgentId, status: u16, code: &str, action: Option<&str>) {
    for path in [path(agent, "linux"), manual(agent)] {
        let error = caller.get(&path).await.error(status, code);
        assert_eq!(error["action"].as_str(), action, "{path}: {error}");
    }
}

#[tokio::test]
async fn a_token_fetches_its_agent_s_installer_before_and_after_its_use_until_it_expires() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    assert_may(&pending.token, pending.id).await;
    let agent = pending.enroll().await;
    assert_may(&pending.token, pending.id).await;
    agent.beat().await;
    app.time_passes(Duration::from_hours(6)).await;
    assert_refused(&pending.token, pending.id, 401, "enrollment_token_expired", Some("re_enroll")).await;
    let unused = acme.register("unused").await;
    app.time_passes_for(&[unused.id], Duration::from_hours(6)).await;
    assert_refused(&unused.token, unused.id, 401, "enrollment_token_expired", Some("re_enroll")).await;
}

#[tokio::test]
async fn a_replaced_token_fetches_nothing_and_neither_does_one_whose_agent_is_gone() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    acme.operator.post_nothing(&format!("/api/agents/{}/enrollment-token", pending.id)).await.data(200);
    assert_refused(&pending.token, pending.id, 401, "enrollment_token_invalid", Some("re_enroll")).await;
    let gone = acme.register("gone").await;
    assert_eq!(acme.operator.delete(&format!("/api/agents/{}", gone.id)).await.status, 204);
    assert_refused(&gone.token, gone.id, 401, "enrollment_token_invalid", Some("re_enroll")).await;
}

#[tokio::test]
async fn nothing_installs_a_revoked_agent_until_it_is_enabled() {
    let app = App::start().await;
    app.workspace("other").await;
    let acme = app.workspace("acme").await;
    app.reenable_by("acme", ReenablePolicy::Rotation).await;
    let (pending, used) = (acme.register("pending").await, acme.register("used").await);
    let agent = used.enroll().await;
    for id in [pending.id, used.id] {
        acme.revoke(id).await.data(200);
        assert_refused(&acme.operator, id, 409, "agent_is_revoked", None).await;
    }
    for holder in [&pending, &used] {
        assert_refused(&holder.token, holder.id, 403, "agent_revoked", Some("stop")).await;
    }
    let refused = agent.me.get(&path(used.id, "linux")).await.error(403, "agent_revoked");
    assert_eq!(refused["action"], "stop");
    let enabled = acme.operator.post_nothing(&format!("/api/agents/enable/{}", used.id)).await.data(200);
    assert_may(&acme.operator, used.id).await;
    assert_refused(&used.token, used.id, 401, "enrollment_token_invalid", Some("re_enroll")).await;
    agent.with(&enabled).me.bundle(used.id, "linux").await;
    let refused = agent.me.get(&path(used.id, "linux")).await.error(403, "credential_rotated");
    assert_eq!(refused["action"], "re_enroll");
}

#[tokio::test]
async fn an_agent_fetches_its_own_installer_and_not_the_instructions() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    for platform in ["linux", "macos", "windows"] {
        agent.me.bundle(agent.id, platform).await;
    }
    agent.me.manual(agent.id).await.error(401, "unauthenticated");
    let next = agent.rotate().await;
    agent.me.bundle(agent.id, "linux").await;
    next.me.bundle(agent.id, "linux").await;
    assert_eq!(agent.refused("credential_rotated").await, "re_enroll");
}

#[tokio::test]
async fn who_holds_an_agent_s_secret_knows_of_no_other_agent() {
    let app = App::start().await;
    let (acme, rival) = (app.workspace("acme").await, app.workspace("rival").await);
    let (pending, agent) = (acme.register("pending").await, acme.agent("agent").await);
    let absent = AgentId::from_uuid(uuid::Uuid::from_u128(7));
    let neighbours = [acme.register("neighbour").await.id, rival.register("stranger").await.id, absent];
    let mut told: Vec<Answer> = Vec::new();
    for other in neighbours {
        assert_refused(&pending.token, other, 404, "agent_not_found", Some("stop")).await;
        for caller in [&pending.token, &agent.me] {
            let answer = caller.get(&path(other, "linux")).await;
            assert_eq!(answer.error(404, "agent_not_found")["action"], "stop");
            told.push(answer);
        }
    }
    let texts: Vec<_> = told.iter().map(|answer| answer.json()["error"]["message"].clone()).collect();
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert_refused(&rival.operator, pending.id, 404, "agent_not_found", None).await;
}

#[tokio::test]
async fn an_agent_may_ask_so_often_and_no_more() {
    let app = App::one_process(|settings| settings.admission.rates.agent = 3).await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    for _ in 0..3 {
        pending.token.bundle(pending.id, "linux").await;
    }
    let refused = pending.token.get(&path(pending.id, "linux")).await.error(429, "rate_limited");
    assert_eq!(refused["action"], "retry");
    acme.operator.bundle(pending.id, "linux").await;
}
