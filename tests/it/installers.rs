//! `GET /api/agents/installer/{agentId}/{platform}` and `GET /api/agents/manual-install/{agentId}`.

mod answers;
mod bundles;
mod callers;
mod events;
mod hosts;
mod manual;
mod pasted;
mod paths;
mod sandbox;
mod scripts;
mod slow;
mod stock;

use planasonix_wire::AgentId;
use reqwest::{Method, StatusCode, header::HeaderMap};
use sha2::{Digest, Sha256};

use crate::support::{Answer, actors::Caller};

/// An answer whose body is no text.
pub struct Download {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Download {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_str().unwrap()
    }

    fn sha256(&self) -> String {
        let digest = Sha256::digest(&self.bytes);
        digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

fn path(agent: AgentId, platform: &str) -> String {
    format!("/api/agents/installer/{agent}/{platform}")
}

impl Caller {
    /// Asks with these headers.
    async fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Download {
        let request = self.request(Method::GET, path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Download { status, headers, bytes: response.bytes().await.unwrap().into() }
    }

    /// A whole bundle, which must be there.
    pub async fn bundle(&self, agent: AgentId, platform: &str) -> Download {
        let download = self.fetch(&path(agent, platform), &[]).await;
        assert_eq!(download.status, 200, "{}", String::from_utf8_lossy(&download.bytes));
        download
    }

    async fn head(&self, path: &str) -> Answer {
        self.send(self.request(Method::HEAD, path)).await
    }

    async fn manual(&self, agent: AgentId) -> Answer {
        self.get(&format!("/api/agents/manual-install/{agent}")).await
    }
}
