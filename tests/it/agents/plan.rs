//! Each filter of the list has an index that serves it.

use planasonix::{
    db::agents::Filter,
    domain::agent::{Platform, Status},
};

use crate::support::App;

#[tokio::test]
async fn each_filter_alone_is_served_by_an_index() {
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
        (Filter::default(), "agents_by_workspace"),
        (status(Status::Revoked), "agents_by_status"),
        (status(Status::Pending), "agents_by_status"),
        (label("abcdef"), "agents_by_label"),
        (platform(Platform::Windows), "agents_by_platform"),
        (tags(&["canary"]), "agents_by_tags"),
        (tags(&["eu", "canary"]), "agents_by_tags"),
    ] {
        for after in [None, after] {
            let plan = app.plan(acme.id, &filter, after).await;
            assert!(plan.contains(index), "{filter:?} after {after:?}:\n{plan}");
            assert!(!plan.contains("Seq Scan"), "{filter:?} after {after:?}:\n{plan}");
        }
    }
    // What nearly every row matches is found at once by walking the list itself.
    for filter in [status(Status::Active), label("a"), platform(Platform::Linux), tags(&["production"])] {
        let plan = app.plan(acme.id, &filter, after).await;
        assert!(!plan.contains("Seq Scan"), "{filter:?}:\n{plan}");
    }
}
