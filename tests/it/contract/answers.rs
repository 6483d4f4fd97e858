//! The answers of a live control plane, through a whole life, against the document's schemas.

use std::collections::BTreeSet;

use planasonix::domain::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, App,
    actors::{Caller, Workspace},
    document::{Operation, document, operation, operations},
    schema::complaints,
};

/// Sends requests and holds every answer against the document.
struct Judge {
    document: Value,
    seen: BTreeSet<String>,
}

impl Judge {
    fn new() -> Self {
        Self { document: document(), seen: BTreeSet::new() }
    }

    /// Calls an operation; its answer must be one that the document knows, of this status. A body of `null`
    /// is none.
    async fn call(&mut self, caller: &Caller, id: &str, agent: &str, body: Value, status: u16) -> Value {
        let operation = operation(id);
        self.call_at(caller, &operation, &operation.path_of(agent), body, status).await
    }

    async fn call_at(
        &mut self,
        caller: &Caller,
        operation: &Operation,
        path: &str,
        body: Value,
        status: u16,
    ) -> Value {
        let id = operation.id();
        let request = caller.request(operation.method.clone(), path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = caller.send(request).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
        let response = &operation.json["responses"][status.to_string()];
        assert!(response.is_object(), "{id} does not know {status}");
        let value = self.assert_fits(id, response, &answer);
        if answer.status.is_success() {
            self.seen.insert(id.to_owned());
        } else {
            let code = value["error"]["code"].as_str().unwrap();
            assert!(operation.may_answer(status, code), "{id} does not know {code}");
        }
        value
    }

    fn assert_fits(&self, id: &str, response: &Value, answer: &Answer) -> Value {
        let Some(content) = response.get("content") else {
            assert!(answer.text.is_empty() && answer.header("content-type").is_none(), "{id}: {answer:?}");
            return Value::Null;
        };
        let media_type = answer.header("content-type").unwrap();
        let schema = &content[media_type]["schema"];
        assert!(schema.is_object(), "{id} does not know {media_type}");
        let value = match media_type {
            "application/yaml" => yaml_serde::from_str(&answer.text).unwrap(),
            "application/json" => answer.json(),
            _ => answer.text.clone().into(),
        };
        let against = complaints(&self.document, schema, &value);
        assert!(against.is_empty(), "{id}: {against:#?}");
        for name in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            assert!(answer.header(name).is_some(), "{id} came without {name}");
        }
        value
    }

    async fn everything_about(&mut self, acme: &Workspace, agent: &str) {
        for id in ["getAgent", "getAgentHealth", "listAgentEvents"] {
            self.call(&acme.operator, id, agent, NONE, 200).await;
        }
        for operation in ["listAgents", "listConnectedAgents", "listEvents"].map(operation) {
            for query in ["", "?limit=1"] {
                let path = format!("{}{query}", operation.path);
                self.call_at(&acme.operator, &operation, &path, NONE, 200).await;
            }
        }
    }
}

const NONE: Value = Value::Null;

#[tokio::test]
async fn a_whole_life_fits_the_document() {
    let app = App::with(|settings| settings.admission.rates.key = 1_000_000).await;
    let acme = app.workspace("acme").await;
    let (mut judge, operator) = (Judge::new(), &acme.operator);
    acme.register("so that there is a second page").await;
    for id in ["livez", "readyz", "getOpenApiJson", "getOpenApiYaml"] {
        judge.call(&app.anonymous(), id, "", NONE, 200).await;
    }
    let new = json!({"label": "größe", "platform": "windows", "tags": ["a", "b"], "metadata": {"deep": [{"er": 1.50}]}});
    let registered = judge.call(operator, "registerAgent", "", new, 201).await;
    let agent = text(&registered, "id");
    judge.everything_about(&acme, &agent).await;
    let fresh = judge.call(operator, "issueEnrollmentToken", &agent, NONE, 200).await;
    judge.call(operator, "enableAgent", &agent, NONE, 409).await;

    let installer = app.bearer(&text(&fresh, "enrollment_token"));
    let me = enrolls_and_beats(&mut judge, &app, &installer, &agent).await;
    judge.everything_about(&acme, &agent).await;
    judge.call(operator, "issueEnrollmentToken", &agent, NONE, 409).await;
    for id in ["drainAgent", "resumeAgent", "downloadInstaller", "getManualInstall"] {
        judge.call(operator, id, &agent, NONE, 200).await;
    }
    judge.call(operator, "updateAgent", &agent, json!({"tags": [], "metadata": {"a": null}}), 200).await;
    judge.call(operator, "updateAgent", &agent, json!({"label": null}), 400).await;

    judge.call(operator, "revokeAgent", &agent, json!({"reason": "why not"}), 200).await;
    judge.everything_about(&acme, &agent).await;
    judge.call(&me, "sendHeartbeat", &agent, NONE, 403).await;
    for id in ["drainAgent", "downloadInstaller", "getManualInstall"] {
        judge.call(operator, id, &agent, NONE, 409).await;
    }
    judge.call(&me, "downloadInstaller", &agent, NONE, 403).await;
    judge.call(operator, "issueEnrollmentToken", &agent, NONE, 409).await;
    judge.call(operator, "enableAgent", &agent, NONE, 200).await;
    judge.everything_about(&acme, &agent).await;
    judge.call(operator, "deregisterAgent", &agent, NONE, 204).await;
    judge.call(operator, "getAgent", &agent, NONE, 404).await;
    judge.call(operator, "listAgentEvents", &agent, NONE, 200).await;
    keys_come_and_go(&mut judge, &app, &acme).await;

    let all: BTreeSet<String> = operations().iter().map(|operation| operation.id().to_owned()).collect();
    assert_eq!(judge.seen, all, "each operation is held against the document");
}

async fn enrolls_and_beats(judge: &mut Judge, app: &App, installer: &Caller, agent: &str) -> Caller {
    let facts = json!({"hostname": "h", "version": "1", "platform": "linux", "capabilities": ["x"], "instance_id": "i"});
    let enrolled = judge.call(installer, "enrollAgent", "", facts.clone(), 200).await;
    judge.call(installer, "enrollAgent", "", facts, 401).await;
    let mut me = app.bearer(&text(&enrolled, "credential"));
    let beat = json!({
        "cpu_percent": 34.2, "memory_percent": 96, "disk_free_gb": 0.5, "active_jobs": 2, "queue_depth": 0,
        "last_error": "no disk", "sent_at": "2025-03-27T15:00:00.123+02:00", "version": "2.14.3", "capabilities": ["y"],
    });
    judge.call(&me, "sendHeartbeat", agent, beat, 200).await;
    judge.call(&me, "disconnectAgent", agent, NONE, 204).await;
    let next = judge.call(&me, "rotateCredential", agent, NONE, 200).await;
    let old = std::mem::replace(&mut me, app.bearer(&text(&next, "credential")));
    judge.call(&me, "sendHeartbeat", agent, NONE, 200).await;
    for id in ["sendHeartbeat", "rotateCredential", "disconnectAgent", "deregisterAgent", "downloadInstaller"]
    {
        judge.call(&old, id, agent, NONE, 403).await;
    }
    judge.call(&me, "sendHeartbeat", agent, json!({"cpu_percent": 101}), 400).await;
    me
}

async fn keys_come_and_go(judge: &mut Judge, app: &App, acme: &Workspace) {
    let (id, admin) = app.operator(acme.id, &[Scope::AdminOrganization]).await;
    judge.call(&acme.operator, "listApiKeys", "", NONE, 403).await;
    judge.call(&admin, "deleteApiKey", &id.to_string(), NONE, 409).await;
    let new = json!({"name": "n", "scopes": ["agents:read"], "expires_in_days": 3});
    let key = text(&judge.call(&admin, "createApiKey", "", new, 201).await, "id");
    judge.call(&admin, "createApiKey", "", json!({"scopes": []}), 400).await;
    judge.call(&admin, "regenerateApiKey", &key, NONE, 200).await;
    judge.call(&admin, "listApiKeys", "", NONE, 200).await;
    judge.call(&admin, "getApiKey", &key, NONE, 200).await;
    judge.call(&admin, "deleteApiKey", &key, NONE, 204).await;
    judge.call(&admin, "getApiKey", &key, NONE, 404).await;
}

fn text(answer: &Value, field: &str) -> String {
    answer["data"][field].as_str().unwrap().to_owned()
}

/// The document's own names for the values of an enumeration are the ones that requests may use.
#[tokio::test]
async fn every_documented_choice_is_taken() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let document = document();
    let choices = |name: &str| document["components"]["schemas"][name]["enum"].as_array().unwrap().clone();
    for platform in choices("Platform") {
        let new = json!({"label": "x", "platform": platform});
        let registered = acme.operator.post("/api/agents", &new).await.data(201);
        assert_eq!(registered["platform"], platform);
    }
    for status in choices("Status") {
        let path = format!("/api/agents?status={}", status.as_str().unwrap());
        acme.operator.send(acme.operator.request(Method::GET, &path)).await.data(200);
    }
}
