//! Who may call what: every route × every wrong credential, and what one workspace can learn of another.

mod carriers;
mod order;
mod refused_agents;
mod strangers;
mod sweep;

use planasonix::domain::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{
    App,
    actors::{Caller, Workspace},
    document::{Operation, operations},
};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// An API key that may read.
    Read,
    /// An API key that may write.
    Write,
    /// An API key that may write, or the agent's own credential.
    WriteOrSelf,
    /// An API key that may read, or the agent's own enrollment token.
    ReadOrToken,
    /// An API key that may read, or the agent's own enrollment token or credential.
    ReadOrOwn,
    /// An API key that may manage the workspace.
    Admin,
    /// An enrollment token.
    Token,
    /// The agent's own credential.
    Credential,
}

/// Every route and what it needs, as the contract says. A route that is missing here fails [`routes`].
const ROUTES: [(&str, &str, Needs); 29] = [
    ("GET", "/api/agents", Needs::Read),
    ("POST", "/api/agents", Needs::Write),
    ("GET", "/api/agents/connected", Needs::Read),
    ("GET", "/api/agents/{id}", Needs::Read),
    ("PATCH", "/api/agents/{id}", Needs::Write),
    ("DELETE", "/api/agents/{id}", Needs::WriteOrSelf),
    ("GET", "/api/agents/{id}/health", Needs::Read),
    ("GET", "/api/agents/events", Needs::Read),
    ("GET", "/api/agents/{id}/events", Needs::Read),
    ("POST", "/api/agents/{id}/enrollment-token", Needs::Write),
    ("POST", "/api/agents/revoke/{id}", Needs::Write),
    ("POST", "/api/agents/enable/{id}", Needs::Write),
    ("POST", "/api/agents/drain/{id}", Needs::Write),
    ("POST", "/api/agents/resume/{id}", Needs::Write),
    ("GET", "/api/agents/installer/{agentId}/{platform}", Needs::ReadOrOwn),
    ("GET", "/api/agents/manual-install/{agentId}", Needs::ReadOrToken),
    ("GET", "/api/user/api-keys", Needs::Admin),
    ("POST", "/api/user/api-keys", Needs::Admin),
    ("GET", "/api/user/api-keys/{id}", Needs::Admin),
    ("DELETE", "/api/user/api-keys/{id}", Needs::Admin),
    ("POST", "/api/user/api-keys/{id}/regenerate", Needs::Admin),
    ("POST", "/api/agents/enroll", Needs::Token),
    ("POST", "/api/agents/{id}/heartbeat", Needs::Credential),
    ("POST", "/api/agents/{id}/credential", Needs::Credential),
    ("POST", "/api/agents/{id}/disconnect", Needs::Credential),
    ("GET", "/livez", Needs::Nothing),
    ("GET", "/readyz", Needs::Nothing),
    ("GET", "/api/openapi.json", Needs::Nothing),
    ("GET", "/api/openapi.yaml", Needs::Nothing),
];

/// A route as the document has it, with what the contract says it needs.
struct Route {
    operation: Operation,
    needs: Needs,
}

/// Every route that the document knows; each must have its place in [`ROUTES`].
fn routes() -> Vec<Route> {
    let route = |operation: Operation| {
        let (method, path) = (operation.method.as_str(), operation.path.as_str());
        let known = ROUTES.iter().find(|route| (route.0, route.1) == (method, path));
        let (.., needs) = *known.unwrap_or_else(|| panic!("{method} {path} is missing from the sweep"));
        Route { operation, needs }
    };
    let routes: Vec<_> = operations().into_iter().map(route).collect();
    assert_eq!(routes.len(), ROUTES.len(), "the sweep knows a route that is no more");
    routes
}

/// The routes that need an API key.
fn operator_routes() -> impl Iterator<Item = Route> {
    routes().into_iter().filter(Route::is_operator)
}

impl Route {
    fn is_operator(&self) -> bool {
        self.takes_key_or_own() || matches!(self.needs, Needs::Read | Needs::Write | Needs::Admin)
    }

    fn is_agent(&self) -> bool {
        matches!(self.needs, Needs::Token | Needs::Credential)
    }

    /// Whether an API key is good here, and an agent's own secret too.
    fn takes_key_or_own(&self) -> bool {
        matches!(self.needs, Needs::WriteOrSelf | Needs::ReadOrToken | Needs::ReadOrOwn)
    }

    /// Whether an agent's own credential is good here.
    fn takes_credential(&self) -> bool {
        matches!(self.needs, Needs::Credential | Needs::WriteOrSelf | Needs::ReadOrOwn)
    }

    fn is_about_keys(&self) -> bool {
        self.operation.path.starts_with("/api/user/api-keys")
    }

    fn takes_body(&self) -> bool {
        matches!(self.operation.method, Method::POST | Method::PATCH)
    }

    fn has_id(&self) -> bool {
        !self.operation.path_parameters().is_empty()
    }

    fn name(&self) -> String {
        format!("{} {}", self.operation.method, self.operation.path)
    }

    /// A request that would do, were it not for its caller; the path names this record.
    fn request(&self, caller: &Caller, id: &str) -> RequestBuilder {
        self.request_to(caller, &self.operation.path_of(id))
    }

    /// The same, to a path already made.
    fn request_to(&self, caller: &Caller, path: &str) -> RequestBuilder {
        let request = caller.request(self.operation.method.clone(), path);
        match self.operation.id() {
            "registerAgent" => request.json(&json!({"label": "by the sweep", "platform": "linux"})),
            "createApiKey" => request.json(&json!({"name": "by the sweep", "scopes": ["agents:read"]})),
            _ if self.takes_body() => request.json(&json!({})),
            _ => request,
        }
    }

    /// The id of a fresh record in a state in which this route has something to do.
    async fn subject(&self, workspace: &Workspace) -> String {
        if self.is_about_keys() {
            return key(workspace).await;
        }
        let agent = workspace.register("prepared").await.id;
        if self.operation.id() == "enableAgent" {
            workspace.revoke(agent).await.data(200);
        }
        agent.to_string()
    }
}

/// A workspace whose operator may do everything.
async fn workspace(app: &App, slug: &str) -> Workspace {
    let Workspace { id, .. } = app.workspace(slug).await;
    let (_, operator) = app.operator(id, &[Scope::AdminOrganization]).await;
    Workspace { id, operator }
}

/// The id of a fresh API key, which may read.
async fn key(workspace: &Workspace) -> String {
    let new = json!({"name": "prepared", "scopes": ["agents:read"]});
    let created = workspace.operator.post("/api/user/api-keys", &new).await.data(201);
    created["id"].as_str().unwrap().to_owned()
}

/// The document's own word on who may call agrees with the contract.
#[test]
fn the_document_names_the_credential_and_the_scope() {
    for route in routes() {
        let expected = match route.needs {
            Needs::Nothing => json!(null),
            Needs::Read => json!([{"apiKey": ["agents:read"]}]),
            Needs::Write => json!([{"apiKey": ["agents:write"]}]),
            Needs::WriteOrSelf => json!([{"apiKey": ["agents:write"]}, {"agentCredential": []}]),
            Needs::ReadOrToken => json!([{"apiKey": ["agents:read"]}, {"enrollmentToken": []}]),
            Needs::ReadOrOwn => {
                json!([{"apiKey": ["agents:read"]}, {"enrollmentToken": []}, {"agentCredential": []}])
            }
            Needs::Admin => json!([{"apiKey": ["admin:organization"]}]),
            Needs::Token => json!([{"enrollmentToken": []}]),
            Needs::Credential => json!([{"agentCredential": []}]),
        };
        assert_eq!(route.operation.json["security"], expected, "{}", route.name());
    }
}
