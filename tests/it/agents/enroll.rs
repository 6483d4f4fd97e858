//! `POST /api/agents/enroll`.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{App, ask::for_each};

const ENROLL: &str = "/api/agents/enroll";

#[tokio::test]
async fn an_agent_trades_its_token_for_a_credential() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("analytics-k8s-pool-a").await;
    assert_snapshot!(pending.try_enroll().await.show(), @r#"
    200 OK
    cache-control: no-store
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "agent_id": "[agent id]",
        "label": "analytics-k8s-pool-a",
        "status": "active",
        "credential": "[credential]",
        "credential_expires_at": "[time]",
        "heartbeat_interval_seconds": [27 to 33],
        "draining": false
      }
    }
    "#);
    assert_snapshot!(pending.try_enroll().await.show(), @r#"
    401 Unauthorized
    content-type: application/json
    www-authenticate: Bearer
    x-request-id: [request id]

    {
      "error": {
        "code": "enrollment_token_used",
        "message": "this enrollment token was already used; ask for a new one",
        "action": "re_enroll",
        "request_id": "[request id]"
      }
    }
    "#);
}

#[tokio::test]
async fn what_the_agent_reports_is_kept_and_a_reported_platform_replaces_the_registered_one() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let facts = json!({
        "hostname": "ħ", "version": "2.14.3", "platform": "windows", "capabilities": ["b", "a", "b"],
        "instance_id": "i-1", "unknown": {"deep": [1]},
    });
    pending.token.post(ENROLL, &facts).await.data(200);
    let detail = acme.detail(pending.id).await;
    for field in ["hostname", "version", "platform", "capabilities", "instance_id"] {
        assert_eq!(detail[field], facts[field], "{field}");
    }
    acme.revoke(pending.id).await.data(200);
    let again = acme.enable(pending.id).await;
    let body = json!({"hostname": null, "version": "3", "platform": null, "capabilities": []});
    again.token.post(ENROLL, &body).await.data(200);
    let detail = acme.detail(pending.id).await;
    assert_eq!((&detail["hostname"], &detail["platform"]), (&json!("ħ"), &json!("windows")));
    assert_eq!((&detail["version"], &detail["capabilities"]), (&json!("3"), &json!([])));
}

#[tokio::test]
async fn a_token_lives_five_hours() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (early, late) = (acme.register("a").await, acme.register("b").await);
    app.time_passes(Duration::from_mins(5 * 60 - 1)).await;
    early.enroll().await;
    app.time_passes(Duration::from_mins(1)).await;
    let refusal = late.try_enroll().await.error(401, "enrollment_token_expired");
    assert_eq!(refusal["action"], "re_enroll");
    acme.operator.post_nothing(&format!("/api/agents/{}/enrollment-token", late.id)).await.data(200);
    late.try_enroll().await.error(401, "enrollment_token_invalid");
    early.try_enroll().await.error(401, "enrollment_token_used");
}

#[tokio::test]
async fn of_many_racing_calls_exactly_one_wins() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let answers = for_each(0..12, 12, |_| pending.try_enroll()).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(won.len(), 1);
    for answer in lost {
        answer.error(401, "enrollment_token_used");
    }
    assert_eq!(app.event_types(pending.id).await, ["registered", "enrolled", "enrollment_refused"]);
}

#[tokio::test]
async fn a_bad_body_names_every_bad_field_and_leaves_the_token_good() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let body = json!({
        "hostname": "h".repeat(256), "version": "v\0", "platform": "beos", "capabilities": ["\0", "c".repeat(129)],
        "instance_id": "i".repeat(129),
    });
    let answer = pending.token.post(ENROLL, &body).await;
    answer.blames_exactly(
        "invalid_request",
        &[
            ("hostname", "too_long"),
            ("version", "invalid_character"),
            ("instance_id", "too_long"),
            ("platform", "unsupported"),
            ("capabilities[0]", "invalid_character"),
            ("capabilities[1]", "too_long"),
        ],
    );
    assert_eq!(answer.json()["error"]["action"], "retry");
    let many = json!({"capabilities": vec!["c"; 65]});
    pending
        .token
        .post(ENROLL, &many)
        .await
        .blames_exactly("invalid_request", &[("capabilities", "too_many")]);
    let platform = json!({"platform": "LINUX"});
    let answer = pending.token.post(ENROLL, &platform).await;
    answer.blames_exactly("unsupported_platform", &[("platform", "unsupported")]);
    for field in ["hostname", "version", "instance_id"] {
        let answer = pending.token.post(ENROLL, &json!({field: "a\0b"})).await;
        answer.blames_exactly("invalid_request", &[(field, "invalid_character")]);
    }
    for field in ["hostname", "version", "instance_id", "platform", "capabilities"] {
        let answer = pending.token.post(ENROLL, &json!({field: 1})).await;
        answer.blames_exactly("invalid_request", &[(field, "wrong_type")]);
    }
    pending.token.post_text(ENROLL, "{").await.error(400, "invalid_json");
    pending.enroll().await.beat().await;
}

#[tokio::test]
async fn enrolling_again_ends_the_earlier_credential() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let first = acme.agent("a").await;
    first.beat().await;
    acme.revoke(first.id).await.data(200);
    let second = acme.enable(first.id).await.enroll().await;
    second.beat().await;
    let refusal = first.heartbeat(&json!({})).await.error(403, "credential_rotated");
    assert_eq!(refusal["action"], "re_enroll");
    second.beat().await;
}
