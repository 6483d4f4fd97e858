//! Walking a list page by page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{App, actors::Workspace};

async fn page(acme: &Workspace, query: &str, cursor: Option<&str>) -> (Vec<String>, Option<String>) {
    let cursor = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
    let answer = acme.operator.get(&format!("/api/agents?{query}{cursor}")).await;
    (answer.ids(), answer.cursor())
}

#[tokio::test]
async fn a_walk_sees_each_survivor_exactly_once_whatever_comes_and_goes() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let mut survivors = Vec::new();
    let (mut doomed, mut late) = (Vec::new(), Vec::new());
    for i in 0..24 {
        let id = acme.register(&format!("agent {i}")).await.id.to_string();
        if i % 3 == 0 {
            doomed.push(id);
        } else {
            survivors.push(id);
        }
    }
    let (mut seen, mut cursor, mut size) = (Vec::new(), None, 1);
    loop {
        let (ids, next) = page(&acme, &format!("limit={size}&label=agent"), cursor.as_deref()).await;
        assert!(ids.len() == size || next.is_none());
        // The row that the cursor names goes as well, and so does one that was not seen yet.
        let last = ids.last().cloned();
        for gone in [last.filter(|id| doomed.contains(id)), doomed.pop()].into_iter().flatten() {
            acme.operator.delete(&format!("/api/agents/{gone}")).await;
        }
        if size < 6 {
            late.push(acme.register("agent that came late").await.id.to_string());
        }
        seen.extend(ids);
        size = size % 6 + 1;
        let Some(next) = next else { break };
        cursor = Some(next);
    }
    assert!(seen.is_sorted(), "creation order");
    for survivor in &survivors {
        assert_eq!(seen.iter().filter(|id| *id == survivor).count(), 1, "{survivor} in {seen:?}");
    }
    assert!(late.iter().any(|late| seen.contains(late)), "some came before the walk's end");
}

#[tokio::test]
async fn the_last_page_has_no_cursor_even_when_it_is_full() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for i in 0..4 {
        acme.register(&format!("{i}")).await;
    }
    let (first, cursor) = page(&acme, "limit=2", None).await;
    let (second, end) = page(&acme, "limit=2", cursor.as_deref()).await;
    assert_eq!((first.len(), second.len(), end), (2, 2, None));
    let (rest, end) = page(&acme, "limit=100", cursor.as_deref()).await;
    assert_eq!((rest, end), (second, None));
}

#[tokio::test]
async fn a_cursor_holds_for_its_own_list_and_filters_only() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for _ in 0..3 {
        acme.agent("a").await.beat().await;
    }
    let (_, cursor) = page(&acme, "limit=1&status=active&label=a", None).await;
    let cursor = cursor.unwrap();
    let (ids, _) = page(&acme, "label=a&limit=9&status=active", Some(&cursor)).await;
    assert_eq!(ids.len(), 2);
    let position: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&cursor).unwrap()).unwrap();
    assert_eq!(position.as_object().unwrap().keys().collect::<Vec<_>>(), ["f", "id"]);

    let forged = |position: &str| URL_SAFE_NO_PAD.encode(position);
    let other = acme.operator.get("/api/agents/connected?limit=1").await.cursor().unwrap();
    for (query, cursor) in [
        ("limit=1", cursor.clone()),
        ("status=active", cursor.clone()),
        ("status=pending&label=a", cursor.clone()),
        ("status=active&label=b", cursor.clone()),
        ("status=active&label=", cursor.clone()),
        ("status=active&label=a", other),
        ("status=active&label=a", String::new()),
        ("status=active&label=a", "not%20base64".to_owned()),
        ("status=active&label=a", cursor.chars().skip(2).collect()),
        ("status=active&label=a", forged("null")),
        ("status=active&label=a", forged("[]")),
        ("status=active&label=a", forged(&json!({"id": "agt_1", "f": position["f"]}).to_string())),
        ("status=active&label=a", forged(&json!({"id": position["id"]}).to_string())),
        ("status=active&label=a", "A".repeat(10_000)),
    ] {
        let answer = acme.operator.get(&format!("/api/agents?{query}&cursor={cursor}")).await;
        assert_eq!(answer.error(400, "invalid_cursor").get("details"), None);
    }
    let answer = acme.operator.get(&format!("/api/agents/connected?cursor={cursor}")).await;
    answer.error(400, "invalid_cursor");
}

#[tokio::test]
async fn a_cursor_carries_no_rights() {
    let app = App::start().await;
    let (acme, other) = (app.workspace("acme").await, app.workspace("other").await);
    acme.register("a").await;
    let theirs = acme.register("b").await.id.to_string();
    let ours = other.register("c").await.id.to_string();
    let (_, cursor) = page(&acme, "limit=1", None).await;
    let (ids, _) = page(&other, "limit=1", cursor.as_deref()).await;
    assert_eq!(ids, [ours]);
    assert_ne!(ids, [theirs]);
}
