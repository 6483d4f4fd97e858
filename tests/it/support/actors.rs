//! The people and machines who talk to the control plane.

use std::net::SocketAddr;

use planasonix_wire::{AgentId, WorkspaceId};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::Answer;

/// Somebody who sends requests, with a bearer token or without.
#[derive(Clone)]
pub struct Caller {
    pub http: reqwest::Client,
    pub base: String,
    pub token: Option<String>,
}

impl Caller {
    /// A request to be completed and sent.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The same caller, at another server.
    #[must_use]
    pub fn at(&self, server: SocketAddr) -> Self {
        Self { base: format!("http://{server}"), ..self.clone() }
    }

    /// The same caller with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::take(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// A POST with no body at all.
    pub async fn post_nothing(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }
}

/// A workspace with an operator who may read and write.
pub struct Workspace {
    pub id: WorkspaceId,
    pub operator: Caller,
}

/// An agent that waits for its enrollment.
pub struct PendingAgent {
    pub id: AgentId,
    pub token: Caller,
}

/// An agent that has a credential.
#[derive(Clone)]
pub struct Agent {
    pub id: AgentId,
    pub me: Caller,
}

impl Workspace {
    pub async fn register(&self, label: &str) -> PendingAgent {
        let registered =
            self.operator.post("/api/agents", &json!({"label": label, "platform": "linux"})).await.data(201);
        self.pending(&registered)
    }

    /// An agent that is enrolled.
    pub async fn agent(&self, label: &str) -> Agent {
        self.register(label).await.enroll().await
    }

    pub async fn revoke(&self, agent: AgentId) -> Answer {
        self.operator.post_nothing(&format!("/api/agents/revoke/{agent}")).await
    }

    /// Enables a revoked agent, which then waits for its enrollment.
    pub async fn enable(&self, agent: AgentId) -> PendingAgent {
        let enabled = self.operator.post_nothing(&format!("/api/agents/enable/{agent}")).await.data(200);
        self.pending(&enabled)
    }

    pub async fn health(&self, agent: AgentId) -> Value {
        self.operator.get(&format!("/api/agents/{agent}/health")).await.data(200)
    }

    /// The ids in the connected view.
    pub async fn connected(&self) -> Vec<String> {
        let rows = self.operator.get("/api/agents/connected").await.data(200);
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    fn pending(&self, answer: &Value) -> PendingAgent {
        let token = answer["enrollment_token"].as_str().unwrap().to_owned();
        PendingAgent {
            id: answer["id"].as_str().unwrap().parse().unwrap(),
            token: Caller { token: Some(token), ..self.operator.clone() },
        }
    }
}

impl PendingAgent {
    pub async fn try_enroll(&self) -> Answer {
        self.token.post_nothing("/api/agents/enroll").await
    }

    pub async fn enroll(&self) -> Agent {
        let enrolled = self.try_enroll().await.data(200);
        let credential = enrolled["credential"].as_str().unwrap().to_owned();
        Agent { id: self.id, me: Caller { token: Some(credential), ..self.token.clone() } }
    }
}

impl Agent {
    /// The same agent, at another server.
    #[must_use]
    pub fn at(&self, server: SocketAddr) -> Self {
        Self { id: self.id, me: self.me.at(server) }
    }

    pub async fn heartbeat(&self, body: &Value) -> Answer {
        self.me.post(&format!("/api/agents/{}/heartbeat", self.id), body).await
    }

    /// A heartbeat that must be accepted.
    pub async fn beat(&self) {
        self.heartbeat(&json!({})).await.data(200);
    }
}
