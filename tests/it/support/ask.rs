//! Requests that a well-behaved client would not send, and what is asked of the answers.

use std::{future::Future, time::Duration};

use planasonix_wire::AgentId;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Answer,
    actors::{Agent, Caller, PendingAgent, Workspace},
};

/// Longer than anything takes that happens a moment later.
const A_MOMENT: Duration = Duration::from_secs(20);

impl Caller {
    /// A POST of bytes under a media type, or under none.
    pub async fn post_bytes(&self, path: &str, media_type: Option<&str>, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.request(Method::POST, path).body(body.into());
        self.send(match media_type {
            Some(media_type) => request.header("content-type", media_type),
            None => request,
        })
        .await
    }

    /// A POST of JSON to the letter.
    pub async fn post_text(&self, path: &str, json: &str) -> Answer {
        self.post_bytes(path, Some("application/json"), json).await
    }
}

impl Answer {
    /// The fields that a 400 blames, each with what is wrong with it.
    #[track_caller]
    pub fn blames(&self, code: &str) -> Vec<(String, String)> {
        let error = self.error(400, code);
        let details = error["details"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        details.iter().map(|bad| (text(&bad["field"]), text(&bad["issue"]))).collect()
    }

    /// Asserts that exactly these fields are blamed.
    #[track_caller]
    pub fn blames_exactly(&self, code: &str, fields: &[(&str, &str)]) {
        let blamed = self.blames(code);
        let blamed: Vec<_> = blamed.iter().map(|(field, issue)| (field.as_str(), issue.as_str())).collect();
        assert_eq!(blamed, fields, "{self:?}");
    }

    /// The ids of a list's rows.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        let rows = self.data(200);
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The cursor of the next page.
    pub fn cursor(&self) -> Option<String> {
        self.json()["meta"]["page"]["cursor"].as_str().map(ToOwned::to_owned)
    }
}

impl Workspace {
    /// Registers what the body says, and gives the agent's path.
    pub async fn registered(&self, body: &str) -> String {
        let answer = self.operator.post_text("/api/agents", body).await;
        format!("/api/agents/{}", answer.data(201)["id"].as_str().unwrap())
    }

    /// An agent that was registered so, and is enrolled.
    pub async fn agent_with(&self, body: Value) -> Agent {
        let registered = self.operator.post("/api/agents", &body).await.data(201);
        let token = registered["enrollment_token"].as_str().unwrap().to_owned();
        PendingAgent {
            id: registered["id"].as_str().unwrap().parse().unwrap(),
            token: Caller { token: Some(token), ..self.operator.clone() },
        }
        .enroll()
        .await
    }

    pub async fn detail(&self, agent: AgentId) -> Value {
        self.operator.get(&format!("/api/agents/{agent}")).await.data(200)
    }

    /// An agent's health, once it is as wanted: some of it follows a moment after the heartbeat.
    pub async fn health_when(&self, agent: AgentId, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(async || Some(self.health(agent).await).filter(&wanted)).await
    }

    /// An agent's detail, once it is as wanted.
    pub async fn detail_when(&self, agent: AgentId, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(async || Some(self.detail(agent).await).filter(&wanted)).await
    }

    /// Revokes with a reason.
    pub async fn revoke_for(&self, agent: AgentId, reason: &str) -> Answer {
        let path = format!("/api/agents/revoke/{agent}");
        self.operator.post(&path, &json!({"reason": reason})).await
    }
}

/// What is found in the end; fails when it is not found for long.
pub async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < A_MOMENT, "what was waited for did not come");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Runs work for each item, so many at a time, and gives the results in order.
pub async fn for_each<T, R, F: Future<Output = R>>(
    items: impl IntoIterator<Item = T>,
    at_once: usize,
    work: impl FnMut(T) -> F,
) -> Vec<R> {
    use futures_util::StreamExt;
    futures_util::stream::iter(items.into_iter().map(work)).buffered(at_once).collect().await
}
