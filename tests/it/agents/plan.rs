//! Each filter of the list has an index that serves it.

use planasonix::{
    db::agents::Filter,
    domain::agent::{Platform, Status},
};

use crate::support::App;

#[tokio::test]
async fn list_with_each_filter_is_served_by_an_index() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let mut workspaces = vec![acme.id];
    for nth in 1..8 {
        workspaces.push(app.workspace(&format!("other-{nth}")).await.id);
    }
    app.populate(&workspaces).await;
    let ids = acme.operator.get("/api/agents?limit=100").await.ids();
    let after = Some(ids[99].parse().unwrap());
    let status = |status| Filter { status: Some(status), ..Filter::default() };
    let label = |label: &str| Filter { label: Some(label.to_owned()), ..Filter::default() };
    let platform = |platform| Filter { platform: Some(platform), ..Filter::default() };
    let tags =
        |tags: &[&str]| Filter { tags: tags.iter().map(ToString::to_string).collect(), ..Filter::default() };
    for (filter, index) in [
        (Filter::default(), "agents_by_position"),
        (status(Status::Revoked), "agents_by_status_position"),
        (status(Status::Pending), "agents_by_status_position"),
        (platform(Platform::Windows), "agents_by_platform_position"),
        (label("abcdef"), "agents_by_search"),
        (tags(&["canary"]), "agents_by_search"),
        (tags(&["eu", "canary"]), "agents_by_search"),
        (Filter { label: Some("ab".to_owned()), ..tags(&["canary"]) }, "agents_by_search"),
        // What nearly every row matches, and what is too short to search by.
        (status(Status::Active), "agents_by_"),
        (platform(Platform::Linux), "agents_by_"),
        (label("a"), "agents_by_position"),
        (label("ab"), "agents_by_position"),
        (tags(&["production"]), "agents_by_position"),
    ] {
        for after in [None, after] {
            let plan = app.plan(acme.id, &filter, after).await;
            assert!(plan.contains(index), "{filter:?} after {after:?}:\n{plan}");
            assert!(!plan.contains("Seq Scan"), "{filter:?} after {after:?}:\n{plan}");
            assert!(!plan.contains("agents_pkey"), "{filter:?} after {after:?}:\n{plan}");
        }
    }
}
