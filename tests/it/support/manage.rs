//! What operators do beside registering, and what agents do beside beating.

use planasonix_wire::AgentId;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Answer,
    actors::{Agent, Caller, Workspace},
};

impl Caller {
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    /// A POST that may be sent again under this key.
    pub async fn post_under(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }
}

impl Workspace {
    pub async fn drain(&self, agent: AgentId) -> Answer {
        self.operator.post_nothing(&format!("/api/agents/drain/{agent}")).await
    }

    pub async fn resume(&self, agent: AgentId) -> Answer {
        self.operator.post_nothing(&format!("/api/agents/resume/{agent}")).await
    }

    /// One page of the audit trail.
    pub async fn trail(&self, query: &str) -> Vec<Value> {
        let page = self.operator.get(&format!("/api/agents/events?{query}")).await;
        page.data(200).as_array().unwrap().clone()
    }
}

impl Agent {
    pub fn path(&self) -> String {
        format!("/api/agents/{}", self.id)
    }

    /// The same agent with another credential.
    #[must_use]
    pub fn with(&self, answer: &Value) -> Self {
        Self { id: self.id, me: self.me.with_token(answer["credential"].as_str().unwrap()) }
    }

    pub async fn try_rotate(&self) -> Answer {
        self.me.post_nothing(&format!("{}/credential", self.path())).await
    }

    /// The same agent with its next credential.
    pub async fn rotate(&self) -> Self {
        self.with(&self.try_rotate().await.data(200))
    }

    pub async fn disconnect(&self) -> Answer {
        self.me.post_nothing(&format!("{}/disconnect", self.path())).await
    }

    pub async fn deregister(&self) -> Answer {
        self.me.delete(&self.path()).await
    }

    /// A heartbeat that must be refused so; gives what the agent is told to do.
    #[track_caller]
    pub fn refused(&self, code: &'static str) -> impl Future<Output = String> {
        let (status, beat) = (if code == "unauthenticated" { 401 } else { 403 }, self.clone());
        async move {
            let refusal = beat.heartbeat(&json!({})).await.error(status, code);
            refusal["action"].as_str().unwrap().to_owned()
        }
    }
}
