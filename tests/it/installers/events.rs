//! What the audit trail says of downloads.

use reqwest::Method;
use serde_json::{Value, json};

use super::path;
use crate::support::{App, actors::Workspace};

async fn downloads(acme: &Workspace) -> Vec<Value> {
    acme.trail("type=installer_downloaded&limit=100").await
}

#[tokio::test]
async fn a_whole_download_is_noted_once_a_minute_with_its_caller_and_platform() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    for _ in 0..3 {
        pending.token.bundle(pending.id, "linux").await;
    }
    let noted = downloads(&acme).await;
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!(noted[0]["agent_id"], json!(pending.id));
    assert_eq!(noted[0]["actor"], json!(pending.id));
    assert_eq!(noted[0]["detail"], json!({"platform": "linux"}));

    let other = acme.register("another agent").await;
    acme.operator.bundle(other.id, "windows").await;
    let noted = downloads(&acme).await;
    assert_eq!(noted.len(), 2, "{noted:?}");
    assert!(noted[0]["actor"].as_str().unwrap().starts_with("key_"), "{noted:?}");
    assert_eq!(noted[0]["detail"], json!({"platform": "windows"}));
}

#[tokio::test]
async fn a_part_a_look_and_a_refusal_are_no_download() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    let tag = {
        let head = acme.operator.head(&path(pending.id, "linux")).await;
        head.header("etag").unwrap().to_owned()
    };
    for headers in
        [[("range", "bytes=0-")], [("range", "bytes=999999999-")], [("if-none-match", tag.as_str())]]
    {
        for caller in [&acme.operator, &pending.token] {
            let answer = caller.fetch(&path(pending.id, "linux"), &headers).await;
            assert_ne!(answer.status, 200, "{headers:?}");
        }
    }
    acme.operator.send(acme.operator.request(Method::HEAD, &path(pending.id, "linux"))).await;
    acme.operator.get(&path(pending.id, "amiga")).await.error(400, "unsupported_platform");
    acme.operator.manual(pending.id).await.data(200);
    acme.revoke(pending.id).await.data(200);
    acme.operator.get(&path(pending.id, "linux")).await.error(409, "agent_is_revoked");
    assert!(downloads(&acme).await.is_empty());
}
