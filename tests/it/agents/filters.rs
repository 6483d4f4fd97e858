//! `GET /api/agents?platform=&tag=`.

use crate::support::{App, actors::Workspace};

async fn labels(acme: &Workspace, query: &str) -> Vec<String> {
    let rows = acme.operator.get(&format!("/api/agents?{query}")).await.data(200);
    rows.as_array().unwrap().iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn platform_and_tags_narrow_the_list_and_all_must_match() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for new in [
        r#"{"label":"1","platform":"linux","tags":["env:prod","eu west"]}"#,
        r#"{"label":"2","platform":"linux","tags":["env:prod"]}"#,
        r#"{"label":"3","platform":"macos","tags":["ENV:PROD","env:produ","a&b=c","é%_"]}"#,
        r#"{"label":"4","platform":"windows","tags":[""]}"#,
    ] {
        acme.registered(new).await;
    }
    for (query, expected) in [
        ("platform=linux", &["1", "2"][..]),
        ("platform=macos", &["3"]),
        ("tag=env:prod", &["1", "2"]),
        ("tag=env:prod&tag=eu+west", &["1"]),
        ("tag=eu%20west&tag=env:prod&tag=env:prod", &["1"]),
        ("tag=env:pro", &[]),
        ("tag=ENV:PROD", &["3"]),
        ("tag=a%26b%3Dc&tag=%C3%A9%25_", &["3"]),
        ("tag=%C3%A9%25x", &[]),
        ("tag=", &["4"]),
        ("platform=linux&tag=ENV:PROD", &[]),
        ("platform=linux&tag=env:prod&label=2&status=pending", &["2"]),
        ("platform=linux&status=active", &[]),
    ] {
        assert_eq!(labels(&acme, query).await, expected, "{query}");
    }
    for (bad, field, issue) in [
        ("platform=beos", "platform", "unsupported"),
        ("platform=Linux", "platform", "unsupported"),
        ("platform=linux&platform=linux", "platform", "repeated"),
        ("tag=a%00", "tag", "invalid_character"),
        (&format!("tag={}", "t".repeat(129)), "tag", "too_long"),
    ] {
        let answer = acme.operator.get(&format!("/api/agents?{bad}")).await;
        let code = if issue == "unsupported" { "unsupported_platform" } else { "invalid_request" };
        answer.blames_exactly(code, &[(field, issue)]);
    }
}

#[tokio::test]
async fn a_cursor_goes_on_under_the_same_filters_alone() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for _ in 0..3 {
        acme.registered(r#"{"label":"x","platform":"linux","tags":["a","b"]}"#).await;
    }
    let query = "platform=linux&tag=a&tag=b";
    let first = acme.operator.get(&format!("/api/agents?{query}&limit=2")).await;
    let cursor = first.cursor().unwrap();
    let rest = acme.operator.get(&format!("/api/agents?{query}&limit=1&cursor={cursor}")).await;
    assert_eq!((first.ids().len(), rest.ids().len(), rest.cursor()), (2, 1, None));
    let turned = acme.operator.get(&format!("/api/agents?tag=b&tag=a&platform=linux&cursor={cursor}")).await;
    assert_eq!(turned.ids(), rest.ids(), "the order of filters says nothing");
    for other in [
        "",
        "platform=linux",
        "platform=linux&tag=a",
        "platform=macos&tag=a&tag=b",
        "platform=linux&tag=ab",
        "tag=a&tag=b",
    ] {
        let answer = acme.operator.get(&format!("/api/agents?{other}&cursor={cursor}")).await;
        answer.error(400, "invalid_cursor");
    }
    acme.operator.get(&format!("/api/agents/events?cursor={cursor}")).await.error(400, "invalid_cursor");
}

/// A search reads the beginning of the list first and the search index after it: pages join without a gap, whether
/// the matches are many or few, and wherever they stand.
#[tokio::test]
async fn search_pages_return_each_match_once() {
    let app = App::start().await;
    let (acme, other) = (app.workspace("acme").await, app.workspace("other").await);
    app.populate(&[acme.id, other.id]).await;
    for query in ["label=ab", "label=abc", "label=0a1b", "tag=canary", "tag=eu&tag=canary", "tag=production"]
    {
        let expected = app.search_by_reading_all(acme.id, query).await;
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = acme.operator.get(&format!("/api/agents?{query}&limit=100{cursor}")).await;
            found.extend(page.ids());
            let Some(next) = page.cursor() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn search_for_any_characters_finds_the_label() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for label in ["ÉTÉ-straße", "100%_done", "日本語ラベル", "a  b", "ab"] {
        acme.register(label).await;
    }
    for (query, expected) in [
        ("label=%C3%A9t%C3%A9", &["ÉTÉ-straße"][..]),
        ("label=STRASSE", &[]),
        ("label=%25_d", &["100%_done"]),
        ("label=0%25_DONE", &["100%_done"]),
        ("label=%E6%9C%AC%E8%AA%9E%E3%83%A9", &["日本語ラベル"]),
        ("label=%E6%9C%AC", &["日本語ラベル"]),
        ("label=a++b", &["a  b"]),
        ("label=ab", &["ab"]),
        ("label=abc", &[]),
    ] {
        assert_eq!(labels(&acme, query).await, expected, "{query}");
    }
}
