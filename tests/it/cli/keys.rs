//! `planasonix api-key …`, against a server that runs.

use std::iter;

use serde_json::{Value, json};

use super::{on, serve};
use crate::support::{Answer, actors::Caller, ask::eventually, database::Database, http};

async fn call(base: &str, key: &str, path: &str) -> Answer {
    let caller = Caller { http: http::client(), base: base.to_owned(), token: Some(key.to_owned()) };
    caller.get(path).await
}

async fn with_acme() -> Database {
    let database = Database::create().await;
    let create = ["workspace", "create", "--slug=acme", "--name=Acme"];
    on(&database, &create).run().answer();
    database
}

fn create(database: &Database, arguments: &[&str]) -> Value {
    let command = ["api-key", "create", "--workspace", "acme", "--json"];
    on(database, &[&command[..], arguments].concat()).run().json()
}

#[tokio::test]
async fn a_key_works_until_it_is_revoked() {
    let database = with_acme().await;
    let server = serve(&database, &[]).start();
    let base = format!("http://{}", server.address());

    let scopes = ["--scope=agents:read", "--scope=agents:write"];
    let created = create(&database, &[&["--name=ci"], &scopes[..]].concat());
    let (id, secret) = (created["id"].as_str().unwrap(), created["secret"].as_str().unwrap());
    let expected = json!({"id": id, "name": "ci", "secret": secret, "prefix": created["prefix"], "expires_at": null,
        "scopes": ["agents:read", "agents:write"], "created_at": created["created_at"]});
    assert_eq!(created, expected);
    assert!(id.starts_with("key_") && secret.starts_with(created["prefix"].as_str().unwrap()));
    call(&base, secret, "/api/agents").await.data(200);

    let list = ["api-key", "list", "--workspace=acme", "--json"];
    let listed = eventually(async || {
        let listed = on(&database, &list).run().json();
        listed["last_used_at"].is_string().then_some(listed)
    })
    .await;
    let expected = json!({"id": id, "name": "ci", "prefix": created["prefix"], "scopes": ["agents:read", "agents:write"],
        "last_used_at": listed["last_used_at"], "expires_at": null});
    assert_eq!(listed, expected);
    assert!(listed["last_used_at"].as_str().unwrap() >= created["created_at"].as_str().unwrap(), "{listed}");

    for again in 0..2 {
        let told = on(&database, &["api-key", "revoke", id]).run().answer();
        assert_eq!(told, format!("revoked {id}\n"), "time {again}");
        call(&base, secret, "/api/agents").await.error(401, "api_key_revoked");
    }
    assert_eq!(on(&database, &list).run().answer(), "", "a revoked key is listed no longer");
    assert!(server.stop().status.success());
}

#[tokio::test]
async fn a_key_without_json_is_shown_once_on_a_line_of_its_own() {
    let database = with_acme().await;
    let command = ["api-key", "create", "--workspace=acme", "--name=ci", "--scope=agents:read"];
    let told = on(&database, &command).run().answer();
    let secret = told.lines().last().unwrap();
    assert!(secret.starts_with("plnx_live_"), "{told}");

    let ending = create(&database, &["--name=short", "--scope=admin:organization", "--expires-in-days=7"]);
    let expires_at = ending["expires_at"].as_str().unwrap();
    assert!(expires_at > ending["created_at"].as_str().unwrap());
    let list = ["api-key", "list", "--workspace=acme"];
    for arguments in [&list[..], &[&list[..], &["--json"]].concat()] {
        let listed = on(&database, arguments).run().answer();
        for word in ["ci", "short", "admin:organization", expires_at] {
            assert!(listed.contains(word), "{word}: {listed}");
        }
        assert!(!listed.contains(&secret[secret.len() - 32..]), "a list shows no secret");
    }
}

/// Any API key's name was once a request's body.
#[tokio::test]
async fn names_that_a_terminal_would_obey_are_escaped() {
    let database = with_acme().await;
    let hostile = "ci\u{1b}]0;x\u{7}\u{9b}2J\nkey_forged\u{202e}\u{7f}";
    let escaped = r"ci\u{1b}]0;x\u{7}\u{9b}2J\nkey_forged\u{202e}\u{7f}";
    let named = format!("--name={hostile}");
    assert_eq!(create(&database, &[&named, "--scope=agents:read"])["name"], hostile);
    let command = ["api-key", "create", "--workspace=acme", &named, "--scope=agents:read"];
    let created = on(&database, &command).run().answer();
    assert!(created.contains(escaped) && created.lines().count() == 2, "{created:?}");
    let workspace = ["workspace", "create", "--slug=other", &named];
    on(&database, &workspace).run().answer();
    for list in [&["api-key", "list", "--workspace=acme"][..], &["workspace", "list"]] {
        let listed = on(&database, list).run().answer();
        assert!(listed.contains(escaped), "{listed:?}");
        let rows = on(&database, &[list, &["--json"]].concat()).run().answer();
        let names: Vec<Value> =
            rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["name"].clone()).collect();
        assert!(names.contains(&hostile.into()), "{names:?}");
        let obeyed = |character: char| character.is_control() && character != '\n' || character == '\u{202e}';
        assert!(!listed.contains(obeyed) && !rows.contains(obeyed), "{listed:?} {rows:?}");
    }
    let refused = on(&database, &["api-key", "list", &format!("--workspace={hostile}")]).run().complaint();
    assert!(!refused.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{refused:?}");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_line() {
    let database = with_acme().await;
    let absent = "key_01jq8x5g2m4n6p8r0s2t4v6w8y";
    for (arguments, blamed) in [
        ("create --name=x --scope=agents:read --workspace=nobody", "nobody"),
        ("create --name=x --scope=agents:all --workspace=acme", "agents:all"),
        ("create --name=x --workspace=acme", "--scope"),
        ("create --name=x --workspace=acme --scope=agents:read --expires-in-days=0", "--expires-in-days"),
        ("list --workspace=nobody", "nobody"),
        (&format!("revoke {absent}"), absent),
        ("revoke nonsense", "nonsense"),
    ] {
        let arguments: Vec<_> = iter::once("api-key").chain(arguments.split(' ')).collect();
        let told = on(&database, &arguments).run().complaint();
        assert!(told.contains(blamed), "{told}");
    }
    let list = ["api-key", "list", "--workspace=acme", "--json"];
    assert_eq!(on(&database, &list).run().answer(), "");
}
