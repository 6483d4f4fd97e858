//! Another workspace's agent does not exist: byte for byte.

use planasonix_wire::{AgentId, ApiKeyId};
use reqwest::header::HeaderMap;

use super::{Route, operator_routes, routes, workspace};
use crate::support::{
    Answer, App,
    actors::{Caller, Workspace},
};

/// Ids that no agent can have, as a path may hold them.
const MALFORMED: [&str; 9] = [
    "agt_01jq8new01",
    "nonsense",
    "agt_",
    "agt_01jq8x5g2m4n6p8r0s2t4v6w8y0",
    "key_01jq8x5g2m4n6p8r0s2t4v6w8y",
    "agt_01jq8x5g2m4n6p8r0s2t4v6w8y%00",
    "%FF%FE",
    "%F0%9F%A6%80",
    "'%20OR%201=1--",
];

/// The whole answer to a request of this id, but for the date.
async fn told(route: &Route, caller: &Caller, id: &str) -> (Answer, HeaderMap) {
    let request = route.request(caller, id).header("x-request-id", "the-same-for-all");
    let answer = caller.send(request).await;
    let mut headers = answer.headers.clone();
    headers.remove("date");
    (answer, headers)
}

async fn assert_tells_nothing(route: &Route, stranger: &Caller, existing: &str, action: Option<&str>) {
    let nobody = uuid::Uuid::from_u128(7);
    let (absent, code) = if route.is_about_keys() {
        (ApiKeyId::from_uuid(nobody).to_string(), "api_key_not_found")
    } else {
        (AgentId::from_uuid(nobody).to_string(), "agent_not_found")
    };
    let (expected, expected_headers) = told(route, stranger, &absent).await;
    let error = expected.error(404, code);
    assert_eq!(error["action"].as_str(), action, "{}", route.name());
    assert!(route.operation.may_answer(404, code), "{}", route.name());
    let (upper, long) = (existing.to_uppercase(), "a".repeat(2_000));
    for id in MALFORMED.into_iter().chain([existing, &upper, &long]) {
        let (answer, headers) = told(route, stranger, id).await;
        let cell = format!("{} for {id}", route.name());
        assert_eq!(answer.status, expected.status, "{cell}");
        assert_eq!(answer.text, expected.text, "{cell}");
        assert_eq!(headers, expected_headers, "{cell}");
    }
}

#[tokio::test]
async fn another_workspace_s_record_is_an_absent_one() {
    let app = App::start().await;
    let (acme, rival) = (workspace(&app, "acme").await, workspace(&app, "rival").await);
    for route in operator_routes().filter(Route::has_id) {
        let id = route.subject(&acme).await;
        let path = format!("/api/{}/{id}", if route.is_about_keys() { "user/api-keys" } else { "agents" });
        let before = acme.operator.get(&path).await.data(200);
        assert_tells_nothing(&route, &rival.operator, &id, None).await;
        assert_eq!(acme.operator.get(&path).await.data(200), before, "{}", route.name());
        let (answer, _) = told(&route, &acme.operator, &id).await;
        assert!(answer.status.is_success(), "the owner may: {answer:?}");
    }
}

#[tokio::test]
async fn a_good_credential_opens_no_other_agent_s_path() {
    let app = App::start().await;
    let (acme, rival) = (app.workspace("acme").await, app.workspace("rival").await);
    let me = acme.agent("me").await;
    for other in [acme.agent("neighbour").await, rival.agent("stranger").await] {
        for route in routes().iter().filter(|route| route.takes_credential()) {
            assert_tells_nothing(route, &me.me, &other.id.to_string(), Some("stop")).await;
        }
        other.beat().await;
    }
    me.beat().await;
    assert_eq!(acme.connected().await.len(), 2);
}

#[tokio::test]
async fn collections_hold_the_own_workspace_s_agents_alone() {
    let app = App::start().await;
    let (acme, rival) = (workspace(&app, "acme").await, workspace(&app, "rival").await);
    let (ours, theirs) = (acme.agent("ours").await, rival.agent("theirs").await);
    ours.beat().await;
    theirs.beat().await;
    for (workspace, agent) in [(&acme, ours.id), (&rival, theirs.id)] {
        for path in ["/api/agents", "/api/agents/connected", "/api/agents/connected?limit=1000"] {
            assert_eq!(ids(workspace, path).await, [agent.to_string()], "{path}");
        }
        assert_eq!(ids(workspace, "/api/agents?status=active").await, [agent.to_string()]);
        let (agent, other) = if agent == ours.id { (agent, theirs.id) } else { (agent, ours.id) };
        let events = workspace.operator.get("/api/agents/events").await.data(200);
        assert!(events.as_array().unwrap().iter().all(|event| event["agent_id"] == agent.to_string()));
        assert_eq!(ids(workspace, &format!("/api/agents/events?agent_id={other}")).await, [""; 0]);
        assert_eq!(ids(workspace, "/api/user/api-keys").await.len(), 2, "the two of this workspace");
    }
}

/// A cursor says where, never what may be seen.
#[tokio::test]
async fn a_cursor_of_another_workspace_opens_nothing() {
    let app = App::start().await;
    let (acme, rival) = (app.workspace("acme").await, app.workspace("rival").await);
    for label in ["one", "two", "three"] {
        acme.register(label).await;
    }
    let page = acme.operator.get("/api/agents?limit=1").await.json();
    let cursor = page["meta"]["page"]["cursor"].as_str().unwrap();
    assert!(ids(&rival, &format!("/api/agents?cursor={cursor}")).await.is_empty());
}

/// The workspace is the credential's, whatever a header says.
#[tokio::test]
async fn a_header_that_names_another_workspace_is_ignored() {
    let app = App::start().await;
    let (acme, rival) = (app.workspace("acme").await, app.workspace("rival").await);
    let ours = acme.register("ours").await;
    rival.register("theirs").await;
    let list = acme.operator.request(reqwest::Method::GET, "/api/agents");
    let answer = acme.operator.send(list.header("x-organization-id", rival.id.to_string())).await;
    assert_eq!(answer.ids(), [ours.id.to_string()]);
}

async fn ids(workspace: &Workspace, path: &str) -> Vec<String> {
    let rows = workspace.operator.get(path).await.data(200);
    let ids = rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned());
    ids.collect()
}
