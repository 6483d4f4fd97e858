//! `GET /api/agents/connected`.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{App, ask::for_each};

#[tokio::test]
async fn a_connected_agent_shows_as_in_the_reference() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    acme.agent("prod-etl-01.us-west.internal").await.beat().await;
    let whole = acme.operator.get("/api/agents/connected").await.show();
    assert_snapshot!(whole, @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": [
        {
          "id": "[agent id]",
          "label": "prod-etl-01.us-west.internal",
          "connected_since": "[time]",
          "remote_ip": "127.0.0.1"
        }
      ],
      "meta": {
        "page": {
          "limit": null,
          "cursor": null
        }
      }
    }
    "#);
    let page = acme.operator.get("/api/agents/connected?limit=1000").await.show();
    assert_eq!(page, whole.replace("\"limit\": null", "\"limit\": 1000"));
}

#[tokio::test]
async fn nobody_connected_is_an_empty_list() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    acme.agent("silent").await;
    app.workspace("other").await.agent("not acme's").await.beat().await;
    let whole = acme.operator.get("/api/agents/connected").await;
    assert_eq!(whole.text, r#"{"data":[],"meta":{"page":{"limit":null,"cursor":null}}}"#);
    let page = acme.operator.get("/api/agents/connected?limit=3&status=x").await;
    assert_eq!(page.text, r#"{"data":[],"meta":{"page":{"limit":3,"cursor":null}}}"#);
}

#[tokio::test]
async fn only_a_beat_opens_a_run_and_revoking_enrolling_and_silence_close_it() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    let id = agent.id.to_string();
    let since =
        async || acme.operator.get("/api/agents/connected").await.data(200)[0]["connected_since"].clone();
    agent.beat().await;
    assert_eq!(acme.connected().await, std::slice::from_ref(&id));
    app.time_passes(Duration::from_secs(100)).await;
    let start = since().await;
    agent.beat().await;
    assert_eq!(since().await, start, "the run is unbroken");
    app.time_passes(Duration::from_secs(121)).await;
    assert!(acme.connected().await.is_empty(), "silent for longer than the window");
    agent.beat().await;
    assert_ne!(since().await, start, "a new run");
    acme.revoke(agent.id).await.data(200);
    assert!(acme.connected().await.is_empty());
    let pending = acme.enable(agent.id).await;
    assert!(acme.connected().await.is_empty());
    let agent = pending.enroll().await;
    assert!(acme.connected().await.is_empty(), "enrolled, and not heard of");
    agent.beat().await;
    assert_eq!(acme.connected().await, [id]);
}

#[tokio::test]
async fn an_agent_that_comes_back_has_its_silence_and_its_return_on_record_in_that_order() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    agent.beat().await;
    for _ in 0..3 {
        app.time_passes(Duration::from_secs(130)).await;
        agent.beat().await;
        agent.beat().await;
    }
    let events = app.events(agent.id).await;
    let gone = ("disconnected".to_owned(), Some("missed_heartbeats".to_owned()));
    let here = ("connected".to_owned(), None);
    let runs = [&here, &gone, &here, &gone, &here, &gone, &here].map(Clone::clone);
    assert_eq!(events[2..], runs, "after `registered` and `enrolled`");
}

#[tokio::test]
async fn more_than_a_thousand_stream_whole_and_page_alike() {
    const AGENTS: usize = 1_010;
    // As many as the app has connections for: more would only queue.
    const AT_ONCE: usize = 4;
    // Nobody falls silent before the last one has come.
    let app = App::with(|settings| settings.rhythm.window = Duration::from_hours(1)).await;
    let acme = app.workspace("acme").await;
    for_each(0..AGENTS, AT_ONCE, |i| {
        let acme = &acme;
        async move { acme.agent(&format!("a{i},]}}")).await.beat().await }
    })
    .await;
    let whole = acme.operator.get("/api/agents/connected").await;
    let rows = whole.data(200);
    assert_eq!(rows.as_array().unwrap().len(), AGENTS);
    assert_eq!(whole.json()["meta"], json!({"page": {"limit": null, "cursor": null}}));
    assert!(whole.ids().is_sorted());

    let first = acme.operator.get("/api/agents/connected?limit=1000").await;
    let path = format!("/api/agents/connected?limit=9&cursor={}", first.cursor().unwrap());
    let second = acme.operator.get(&path).await;
    let path = format!("/api/agents/connected?cursor={}", second.cursor().unwrap());
    let third = acme.operator.get(&path).await;
    assert_eq!(third.json()["meta"], json!({"page": {"limit": 50, "cursor": null}}));
    let pages = [&first, &second, &third].map(|page| page.data(200).as_array().unwrap().clone());
    assert_eq!(pages.each_ref().map(Vec::len), [1_000, 9, 1]);
    assert_eq!(pages.concat(), *rows.as_array().unwrap());

    // Exactly as many as are fetched at once.
    for gone in &whole.ids()[1_000..] {
        acme.operator.delete(&format!("/api/agents/{gone}")).await;
    }
    let whole = acme.operator.get("/api/agents/connected").await;
    assert_eq!(whole.ids(), first.ids());
    assert_eq!(acme.operator.get("/api/agents?limit=100").await.ids(), whole.ids()[..100]);
}

#[tokio::test]
async fn a_bad_limit_or_cursor_is_refused() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for bad in ["0", "1001", "", "x", "-1"] {
        let answer = acme.operator.get(&format!("/api/agents/connected?limit={bad}")).await;
        answer.blames_exactly("invalid_request", &[("limit", "out_of_range")]);
    }
    let answer = acme.operator.get("/api/agents/connected?limit=1&limit=2").await;
    answer.blames_exactly("invalid_request", &[("limit", "repeated")]);
    acme.operator.get("/api/agents/connected?cursor=").await.error(400, "invalid_cursor");
    acme.operator.get("/api/agents/connected?cursor=e30").await.error(400, "invalid_cursor");
}
