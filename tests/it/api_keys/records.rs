//! What keys look like, and which may be made.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{KEYS, administered, create, holder};
use crate::support::{App, show::time_of};

#[tokio::test]
async fn a_key_s_secret_is_shown_once() {
    let app = App::start().await;
    let (_, _, admin) = administered(&app, "acme").await;
    let new =
        json!({"name": "größe", "scopes": ["agents:write", "agents:read", "agents:write"], "colour": 1});
    let answer = admin.post(KEYS, &new).await;
    assert_snapshot!(answer.show(), @r#"
    201 Created
    cache-control: no-store
    content-type: application/json
    location: /api/user/api-keys/[key id]
    x-request-id: [request id]

    {
      "data": {
        "id": "[key id]",
        "name": "größe",
        "secret": "[key secret]",
        "prefix": "[key prefix]",
        "scopes": [
          "agents:write",
          "agents:read"
        ],
        "expires_at": null,
        "created_at": "[time]"
      }
    }
    "#);
    let created = answer.data(201);
    let (id, secret) = (created["id"].as_str().unwrap(), created["secret"].as_str().unwrap());
    assert!(secret.starts_with(created["prefix"].as_str().unwrap()));
    assert_eq!(created["created_at"], time_of(id));
    let got = admin.get(&format!("{KEYS}/{id}")).await;
    assert_snapshot!(got.show(), @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "id": "[key id]",
        "name": "größe",
        "prefix": "[key prefix]",
        "scopes": [
          "agents:write",
          "agents:read"
        ],
        "created_at": "[time]",
        "last_used_at": null,
        "expires_at": null
      }
    }
    "#);
    let listed = admin.get(KEYS).await;
    assert!(listed.data(200).as_array().unwrap().contains(&got.data(200)));
    assert!(!listed.text.contains("secret") && !got.text.contains(secret));
}

#[tokio::test]
async fn the_list_is_walked_in_creation_order_and_holds_the_workspace_s_own() {
    let app = App::start().await;
    let (_, _, admin) = administered(&app, "acme").await;
    let (_, _, stranger) = administered(&app, "other").await;
    for _ in 0..3 {
        create(&admin, "agents:read").await;
    }
    let all = admin.get(KEYS).await;
    assert_eq!((all.ids().len(), all.cursor()), (5, None));
    let mut sorted = all.ids();
    sorted.sort();
    assert_eq!(all.ids(), sorted);
    let first = admin.get(&format!("{KEYS}?limit=2")).await;
    let cursor = first.cursor().unwrap();
    let rest = admin.get(&format!("{KEYS}?limit=100&cursor={cursor}")).await;
    assert_eq!([first.ids(), rest.ids()].concat(), all.ids());
    assert_eq!(stranger.get(KEYS).await.ids().len(), 2);
    admin.get(&format!("/api/agents?cursor={cursor}")).await.error(400, "invalid_cursor");
    admin
        .get(&format!("{KEYS}?limit=101"))
        .await
        .blames_exactly("invalid_request", &[("limit", "out_of_range")]);
}

#[tokio::test]
async fn what_no_key_may_be_is_named() {
    let app = App::start().await;
    let (_, _, admin) = administered(&app, "acme").await;
    let before = admin.get(KEYS).await.ids();
    for (bad, blamed) in [
        (json!({}), &["name required", "scopes required"][..]),
        (json!({"name": "", "scopes": []}), &["name too_short", "scopes required"]),
        (
            json!({"name": "n".repeat(256), "scopes": ["agents:read", "agents:all"], "expires_in_days": 0}),
            &["name too_long", "scopes[1] unsupported", "expires_in_days out_of_range"],
        ),
        (json!({"name": "\0", "scopes": ["agents:read"]}), &["name invalid_character"]),
        (
            json!({"name": "n", "scopes": ["agents:read"], "expires_in_days": 36501}),
            &["expires_in_days out_of_range"],
        ),
        (json!({"name": null, "scopes": ["agents:read"]}), &["name wrong_type"]),
        (json!({"name": "n", "scopes": null}), &["scopes wrong_type"]),
        (json!({"name": "n", "scopes": "agents:read"}), &["scopes wrong_type"]),
        (
            json!({"name": "n", "scopes": ["agents:read"], "expires_in_days": "1"}),
            &["expires_in_days wrong_type"],
        ),
    ] {
        let answer = admin.post(KEYS, &bad).await;
        let told: Vec<_> = answer
            .blames("invalid_request")
            .iter()
            .map(|(field, issue)| format!("{field} {issue}"))
            .collect();
        assert_eq!(told, blamed, "{bad}");
    }
    assert_eq!(admin.get(KEYS).await.ids(), before);
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_say_and_an_administrator_everything() {
    let app = App::start().await;
    let (_, _, admin) = administered(&app, "acme").await;
    let new = json!({"label": "a", "platform": "linux"});
    for (scope, read, write, manage) in [
        ("agents:read", 200, 403, 403),
        ("agents:write", 403, 201, 403),
        ("admin:organization", 200, 201, 200),
    ] {
        let caller = holder(&admin, &create(&admin, scope).await.0);
        assert_eq!(caller.get("/api/agents").await.status, read, "{scope}");
        assert_eq!(caller.post("/api/agents", &new).await.status, write, "{scope}");
        assert_eq!(caller.get(KEYS).await.status, manage, "{scope}");
        if manage == 403 {
            let refused = caller.get(KEYS).await.error(403, "insufficient_scope");
            assert_eq!(refused.get("action"), None::<&Value>);
        }
    }
}
