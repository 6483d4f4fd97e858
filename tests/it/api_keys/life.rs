//! How keys are used, age, and end.

use std::time::Duration;

use insta::assert_snapshot;
use planasonix::domain::Scope;
use serde_json::{Value, json};

use super::{KEYS, administered, create, holder};
use crate::support::{App, actors::Caller, ask::eventually, process::Server};

async fn works(caller: &Caller) -> bool {
    caller.get("/api/agents").await.status == 200
}

#[tokio::test]
async fn a_use_is_noted_to_the_minute() {
    let app = App::start().await;
    let (_, _, admin) = administered(&app, "acme").await;
    let (key, path) = create(&admin, "agents:read").await;
    let caller = holder(&admin, &key);
    let last_used = async || admin.get(&path).await.data(200)["last_used_at"].clone();
    // A refused request is no use; one that lacks a scope was made by the key's holder.
    admin.with_token(&format!("{}x", key["secret"].as_str().unwrap())).get("/api/agents").await;
    assert_eq!(last_used().await, Value::Null);
    caller.get(KEYS).await.error(403, "insufficient_scope");
    let first = eventually(async || Some(last_used().await).filter(Value::is_string)).await;
    assert!(first.as_str().unwrap() >= key["created_at"].as_str().unwrap(), "{first}");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(works(&caller).await);
    assert_eq!(last_used().await, first, "not with every request");

    app.time_passes(Duration::from_secs(61)).await;
    let before = last_used().await;
    // Another replica, which has not seen it used lately.
    let other = Server::start(&app.database.url(), &[]).await;
    assert!(works(&caller.at(other.address)).await);
    eventually(async || Some(last_used().await).filter(|used| *used != before)).await;
    let moved = last_used().await;
    assert!(moved.as_str() > first.as_str(), "{first}, then {moved}");
}

#[tokio::test]
async fn a_key_ends_when_its_days_are_over() {
    let app = App::start().await;
    let (_, _, admin) = administered(&app, "acme").await;
    let lasting = create(&admin, "admin:organization").await.0;
    let new = json!({"name": "n", "scopes": ["agents:read"], "expires_in_days": 2});
    let created = admin.post(KEYS, &new).await.data(201);
    let (from, until) = (created["created_at"].as_str().unwrap(), created["expires_at"].as_str().unwrap());
    let time = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap();
    assert_eq!((time(until) - time(from)).num_hours(), 48);
    let caller = holder(&admin, &created);
    app.time_passes(Duration::from_mins(2 * 24 * 60 - 1)).await;
    assert!(works(&caller).await);
    app.time_passes(Duration::from_mins(1)).await;
    caller.get("/api/agents").await.error(401, "api_key_expired");
    let lasting = holder(&admin, &lasting);
    assert!(works(&lasting).await);
    let path = format!("{KEYS}/{}", created["id"].as_str().unwrap());
    assert!(lasting.get(&path).await.data(200)["expires_at"].is_string(), "it is still listed");
    assert_eq!(lasting.delete(&path).await.status, 204);
    caller.get("/api/agents").await.error(401, "api_key_revoked");
}

#[tokio::test]
async fn the_very_next_request_with_a_deleted_key_is_refused() {
    let app = App::start().await;
    let (_, _, admin) = administered(&app, "acme").await;
    let (key, path) = create(&admin, "agents:read").await;
    let caller = holder(&admin, &key);
    assert!(works(&caller).await);
    let gone = admin.delete(&path).await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    caller.get("/api/agents").await.error(401, "api_key_revoked");
    admin.delete(&path).await.error(404, "api_key_not_found");
    admin.get(&path).await.error(404, "api_key_not_found");
    admin.post_nothing(&format!("{path}/regenerate")).await.error(404, "api_key_not_found");
    assert!(!admin.get(KEYS).await.text.contains(key["id"].as_str().unwrap()));
}

#[tokio::test]
async fn a_regenerated_key_is_the_same_key_with_another_secret() {
    let app = App::start().await;
    let (_, own, admin) = administered(&app, "acme").await;
    let (key, path) = create(&admin, "agents:read").await;
    let old = holder(&admin, &key);
    assert!(works(&old).await);
    let before = admin.get(&path).await.data(200);
    let answer = admin.post_nothing(&format!("{path}/regenerate")).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    cache-control: no-store
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "id": "[key id]",
        "secret": "[key secret]",
        "prefix": "[key prefix]",
        "rotated_at": "[time]"
      }
    }
    "#);
    let regenerated = answer.data(200);
    assert_eq!((&regenerated["id"], &regenerated["prefix"]), (&key["id"], &key["prefix"]));
    old.get("/api/agents").await.error(401, "unauthenticated");
    assert!(works(&holder(&admin, &regenerated)).await);
    assert_eq!(admin.get(&path).await.data(200), before);
    // Also its own.
    let own = admin.post_nothing(&format!("{KEYS}/{own}/regenerate")).await.data(200);
    admin.get(KEYS).await.error(401, "unauthenticated");
    holder(&admin, &own).get(KEYS).await.data(200);
}

#[tokio::test]
async fn the_last_administrator_cannot_be_deleted() {
    let app = App::start().await;
    let (acme, own, admin) = administered(&app, "acme").await;
    let (_, other_own, _) = administered(&app, "other").await;
    let own = format!("{KEYS}/{own}");
    admin.delete(&own).await.error(409, "last_admin_key");
    let (expired, _) = app.operator(acme, &[Scope::AdminOrganization]).await;
    app.expire_key(expired).await;
    admin.delete(&own).await.error(409, "last_admin_key");
    admin.delete(&format!("{KEYS}/{other_own}")).await.error(404, "api_key_not_found");

    let (second, path) = create(&admin, "admin:organization").await;
    let second = holder(&admin, &second);
    assert_eq!(admin.delete(&own).await.status, 204, "an administrator may delete its own key");
    admin.get(KEYS).await.error(401, "api_key_revoked");
    second.delete(&path).await.error(409, "last_admin_key");
    second.get(KEYS).await.data(200);
}

#[tokio::test]
async fn of_two_administrators_who_delete_each_other_at_once_one_is_left() {
    let app = App::start().await;
    for round in 0..10 {
        let (acme, one, by_one) = administered(&app, &format!("w{round}")).await;
        let (two, by_two) = app.operator(acme, &[Scope::AdminOrganization]).await;
        for caller in [&by_one, &by_two] {
            caller.get(KEYS).await.data(200);
        }
        let (one, two) = (format!("{KEYS}/{one}"), format!("{KEYS}/{two}"));
        let (first, second) = tokio::join!(by_one.delete(&two), by_two.delete(&one));
        let (won, lost): (Vec<_>, Vec<_>) =
            [first, second].into_iter().partition(|answer| answer.status == 204);
        assert_eq!((won.len(), lost.len()), (1, 1), "{won:?} {lost:?}");
        match lost[0].status.as_u16() {
            401 => lost[0].error(401, "api_key_revoked"),
            _ => lost[0].error(409, "last_admin_key"),
        };
        let left = [by_one.get(KEYS).await.status, by_two.get(KEYS).await.status];
        assert_eq!(left.iter().filter(|status| **status == 200).count(), 1);
    }
}
