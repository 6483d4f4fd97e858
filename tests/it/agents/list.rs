//! `GET /api/agents`.

use insta::assert_snapshot;
use planasonix::domain::Scope;
use serde_json::json;

use crate::support::{App, actors::Workspace};

#[tokio::test]
async fn the_list_is_the_reference_s_in_creation_order() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("prod-etl-01.us-west.internal").await;
    acme.registered(r#"{"label":"staging-windows-runner","platform":"windows","tags":["x"]}"#).await;
    agent.heartbeat(&json!({"version": "2.14.3"})).await.data(200);
    acme.detail_when(agent.id, |detail| detail["version"] == "2.14.3").await;
    assert_snapshot!(acme.operator.get("/api/agents").await.show(), @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": [
        {
          "id": "[agent id]",
          "label": "prod-etl-01.us-west.internal",
          "platform": "linux",
          "version": "2.14.3",
          "status": "active",
          "last_seen_at": "[time]",
          "created_at": "[time]"
        },
        {
          "id": "[agent id]",
          "label": "staging-windows-runner",
          "platform": "windows",
          "version": null,
          "status": "pending",
          "last_seen_at": null,
          "created_at": "[time]"
        }
      ],
      "meta": {
        "page": {
          "limit": 50,
          "cursor": null
        }
      }
    }
    "#);
}

#[tokio::test]
async fn a_list_without_rows_is_an_empty_list() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.workspace("other").await.register("not acme's").await;
    let answer = acme.operator.get("/api/agents?limit=7").await;
    assert_eq!(answer.text, r#"{"data":[],"meta":{"page":{"limit":7,"cursor":null}}}"#);
}

#[tokio::test]
async fn the_status_filter_shows_one_state_only() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("pending").await.id;
    let active = acme.agent("active").await.id;
    let revoked = acme.register("revoked").await.id;
    acme.revoke(revoked).await.data(200);
    for (status, id) in [("pending", pending), ("active", active), ("revoked", revoked)] {
        let path = format!("/api/agents?status={status}&label=e&colour=blue");
        assert_eq!(acme.operator.get(&path).await.ids(), [id.to_string()]);
    }
    for bad in ["", "Active", "healthy", "active,pending"] {
        let answer = acme.operator.get(&format!("/api/agents?status={bad}")).await;
        answer.blames_exactly("invalid_request", &[("status", "unsupported")]);
    }
}

async fn found(acme: &Workspace, text: &str) -> Vec<String> {
    let request = acme.operator.request(reqwest::Method::GET, "/api/agents?limit=100");
    let url: String = form_urlencoded::Serializer::new(String::new()).append_pair("label", text).finish();
    let mut request = request.build().unwrap();
    request.url_mut().set_query(Some(&format!("limit=100&{url}")));
    let answer = crate::support::Answer::take(acme.operator.http.execute(request).await.unwrap()).await;
    let rows = answer.data(200);
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["label"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_label_filter_is_a_substring_in_any_case_and_nothing_in_it_is_special() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let labels = ["Prod-ETL", "100%_a\\b", "100xya\\\\b", "ÄRGER straße", "ΟΔΟΣΗΣ", "İzmir 🚀", "a'b\"c"];
    for label in labels {
        acme.register(label).await;
    }
    for (text, expected) in [
        ("", &labels[..]),
        ("etl", &["Prod-ETL"]),
        ("D-E", &["Prod-ETL"]),
        ("x", &["100xya\\\\b"]),
        ("0%", &["100%_a\\b"]),
        ("_", &["100%_a\\b"]),
        ("%", &["100%_a\\b"]),
        ("a\\b", &["100%_a\\b"]),
        ("\\\\", &["100xya\\\\b"]),
        ("\\", &["100%_a\\b", "100xya\\\\b"]),
        ("ärger STRASSE", &[]),
        ("ärger STRaßE", &["ÄRGER straße"]),
        ("ΟΔΟΣ", &["ΟΔΟΣΗΣ"]),
        ("οδοσης", &["ΟΔΟΣΗΣ"]),
        ("ησ", &["ΟΔΟΣΗΣ"]),
        ("İZ", &["İzmir 🚀"]),
        ("🚀", &["İzmir 🚀"]),
        ("a'b\"C", &["a'b\"c"]),
        ("nobody", &[]),
    ] {
        assert_eq!(found(&acme, text).await, expected, "{text}");
    }
}

#[tokio::test]
async fn every_bad_parameter_is_named_at_once() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let long = "x".repeat(256);
    let answer = acme.operator.get(&format!("/api/agents?status=x&limit=0&label={long}%00")).await;
    let mut blamed = answer.blames("invalid_request");
    blamed.sort();
    let blamed: Vec<_> = blamed.iter().map(|(field, issue)| format!("{field} {issue}")).collect();
    assert_eq!(
        blamed,
        ["label invalid_character", "label too_long", "limit out_of_range", "status unsupported"]
    );
    assert_snapshot!(acme.operator.get("/api/agents?limit=101").await.show().replace('\r', ""), @r#"
    400 Bad Request
    content-type: application/json
    x-request-id: [request id]

    {
      "error": {
        "code": "invalid_request",
        "message": "limit must be between 1 and 100",
        "details": [
          {
            "field": "limit",
            "issue": "out_of_range"
          }
        ],
        "request_id": "[request id]"
      }
    }
    "#);
    for bad in ["", "-1", "1.0", "1e1", "99999999999999999999", "ten", "0x10", "%00"] {
        let answer = acme.operator.get(&format!("/api/agents?limit={bad}")).await;
        assert!(answer.blames("invalid_request").contains(&("limit".into(), "out_of_range".into())), "{bad}");
    }
    for repeated in ["limit=1&limit=1", "status=active&status=active", "label=a&label=a", "cursor=a&cursor=a"]
    {
        let answer = acme.operator.get(&format!("/api/agents?{repeated}")).await;
        let field = repeated.split('=').next().unwrap();
        answer.blames_exactly("invalid_request", &[(field, "repeated")]);
    }
    acme.operator.get("/api/agents?label=%EF%BF%BD&x=%00").await.data(200);
}

#[tokio::test]
async fn parameter_that_cannot_be_decoded_is_named() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    acme.register("100\u{fffd}").await;
    let agent = acme.agent("a").await.id;
    let (_, admin) = app.operator(acme.id, &[Scope::AdminOrganization, Scope::AgentsRead]).await;
    for list in [
        "/api/agents".to_owned(),
        "/api/agents/connected".to_owned(),
        "/api/agents/events".to_owned(),
        format!("/api/agents/{agent}/events"),
        "/api/user/api-keys".to_owned(),
    ] {
        for (query, bad) in [
            ("label=%FF", &["label"][..]),
            ("label=100%", &["label"]),
            ("label=%zz&cursor=%4", &["cursor", "label"]),
            ("limit=1&unknown=%C3%28", &["unknown"]),
            ("la%ffbel=a", &["la%ffbel"]),
            ("%=a&tag=%E2%82", &["%", "tag"]),
        ] {
            let answer = admin.get(&format!("{list}?{query}")).await;
            let bad: Vec<_> = bad.iter().map(|name| (*name, "invalid_encoding")).collect();
            answer.blames_exactly("invalid_request", &bad);
        }
    }
}
