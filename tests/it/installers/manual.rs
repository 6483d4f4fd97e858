//! The commands that install an agent by hand.

use insta::assert_snapshot;
use planasonix_wire::token;
use serde_json::{Value, json};

use super::path;
use crate::support::{
    App,
    actors::{Caller, PendingAgent, Workspace},
    agents::PUBLIC_URL,
};

async fn register(acme: &Workspace, platform: &str) -> PendingAgent {
    let new = json!({"label": "a", "platform": platform});
    let registered = acme.operator.post("/api/agents", &new).await.data(201);
    let token = registered["enrollment_token"].as_str().unwrap();
    PendingAgent {
        id: registered["id"].as_str().unwrap().parse().unwrap(),
        token: acme.operator.with_token(token),
    }
}

/// The commands of a fresh agent of this platform, with its own id and checksum left out.
async fn commands(caller: &Caller, agent: &PendingAgent, platform: &str) -> String {
    let manual = caller.manual(agent.id).await.data(200);
    let sha256 = caller.bundle(agent.id, platform).await.sha256();
    let steps = manual["steps"].as_array().unwrap();
    let orders: Vec<_> = steps.iter().map(|step| step["order"].as_u64().unwrap()).collect();
    assert_eq!(orders, [1, 2]);
    assert!(steps[1]["command"].as_str().unwrap().contains(&sha256), "the checksum is the bundle's");
    let text = |step: &Value| {
        format!("# {}\n{}", step["title"].as_str().unwrap(), step["command"].as_str().unwrap())
    };
    let text = steps.iter().map(text).collect::<Vec<_>>().join("\n");
    text.replace(&sha256, "[sha256]").replace(&agent.id.to_string(), "[agent id]")
}

#[tokio::test]
async fn the_commands_are_those_of_the_agent_s_platform() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (linux, macos) = (register(&acme, "linux").await, register(&acme, "macos").await);
    let windows = register(&acme, "windows").await;
    assert_snapshot!("linux", commands(&acme.operator, &linux, "linux").await);
    assert_snapshot!("macos", commands(&acme.operator, &macos, "macos").await);
    assert_snapshot!("windows", commands(&acme.operator, &windows, "windows").await);
}

#[tokio::test]
async fn the_answer_has_the_page_s_shape() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await;
    let manual = acme.operator.manual(agent.id).await.data(200);
    let fields: Vec<_> = manual.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["agent_id", "environment_variables", "steps"]);
    assert_eq!(manual["agent_id"], json!(agent.id));
    let variables = json!({"PLANASONIX_API_HOST": PUBLIC_URL, "PLANASONIX_AGENT_ID": agent.id});
    assert_eq!(manual["environment_variables"], variables);
    let first = manual["steps"][0].as_object().unwrap();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["command", "order", "title"]);
}

#[tokio::test]
async fn whoever_asks_gets_the_same_and_no_secret() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await;
    let (by_key, by_token) = (acme.operator.manual(agent.id).await, agent.token.manual(agent.id).await);
    assert_eq!(by_key.text, by_token.text);
    for secret in [&acme.operator, &agent.token].map(|caller| caller.token.clone().unwrap()) {
        assert!(!by_key.text.contains(&secret) && token::inspect(&secret).is_ok());
    }
    assert!(!by_key.text.contains("plnx_"), "{}", by_key.text);
}

#[tokio::test]
async fn the_platform_that_the_agent_reports_counts() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = register(&acme, "windows").await;
    agent.token.post("/api/agents/enroll", &json!({"platform": "linux"})).await.data(200);
    let manual = acme.operator.manual(agent.id).await.data(200);
    assert!(manual["steps"][0]["command"].as_str().unwrap().contains("/linux\""), "{manual}");
}

/// What a request says of where it was sent changes neither commands nor bundles.
#[tokio::test]
async fn a_forged_host_is_not_believed() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await;
    let honest = [path(agent.id, "linux"), format!("/api/agents/manual-install/{}", agent.id)];
    for path in &honest {
        let expected = acme.operator.fetch(path, &[]).await;
        for name in
            ["host", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-original-host", "x-host"]
        {
            let value = if name == "forwarded" { "host=evil.example;proto=http" } else { "evil.example" };
            let answer = acme.operator.fetch(path, &[(name, value)]).await;
            assert_eq!(answer.status, 200, "{name}");
            assert!(answer.bytes == expected.bytes, "{name} is believed");
        }
    }
}
