//! The agent's side of the API: one method a route, and a typed answer to each.
//!
//! Only an answer in the API's own envelope that says `stop` or `re_enroll` is a refusal. All else that
//! is no success (silence, a proxy's error page, an answer cut short) is a reason to try again.

mod answer;
mod tls;

use std::{net::IpAddr, time::Duration};

use planasonix_wire::{
    enroll::{Enroll, Enrolled, RotatedCredential},
    heartbeat::{Heartbeat, HeartbeatAck},
};
use reqwest::{Method, RequestBuilder, Url, header, redirect};
use serde::{Serialize, de::IgnoredAny};

pub use self::{
    answer::{Answer, Outcome, Refusal, Remedy, Retry},
    tls::install_provider,
};
use crate::{
    config::{Config, ConfigError, Proxies, ProxyChoice},
    secret::Token,
    timing::Timing,
};

const USER_AGENT: &str = concat!("planasonix-agent/", env!("CARGO_PKG_VERSION"));

/// Speaks with one control plane. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    second: Duration,
}

impl Client {
    /// A client for the control plane that the settings name, by the way out that they name.
    pub fn new(config: &Config, timing: &Timing) -> Result<Self, ConfigError> {
        install_provider();
        let host = config.api_host()?;
        warn_if_open(host);
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            // A redirect would carry the credential to somebody else.
            .redirect(redirect::Policy::none())
            .connect_timeout(timing.connect)
            .timeout(timing.request);
        let builder = tls::trust(builder, host, config.ca_file.as_deref())?;
        let http = proxied(builder, host, &config.proxies)?.build().map_err(|error| ConfigError::Value {
            name: "PLANASONIX_CA_FILE",
            issue: format!("{} (is the package ca-certificates installed?)", answer::causes(&error)),
        })?;
        Ok(Self { http, base: host.as_str().trim_end_matches('/').to_owned(), second: timing.second })
    }

    /// Trades an enrollment token for a credential. The same `key` makes a repetition of a lost answer safe.
    pub async fn enroll(&self, token: &Token, key: &str, about: &Enroll) -> Answer<Enrolled> {
        let request = self.post("/api/agents/enroll", token).header("Idempotency-Key", key);
        answer::data(with_body(request, about), self.second).await
    }

    /// Sends one beat of the credential's agent.
    pub async fn heartbeat(&self, credential: &Token, beat: &Heartbeat) -> Answer<HeartbeatAck> {
        let path = format!("/api/agents/{}/heartbeat", credential.agent());
        answer::data(with_body(self.post(&path, credential), beat), self.second).await
    }

    /// Asks for a new credential; the current one stays good until the new one is used.
    pub async fn rotate(&self, credential: &Token) -> Answer<RotatedCredential> {
        let path = format!("/api/agents/{}/credential", credential.agent());
        answer::data(self.post(&path, credential), self.second).await
    }

    /// Takes leave: the agent counts as disconnected at once.
    pub async fn disconnect(&self, credential: &Token) -> Answer<()> {
        let path = format!("/api/agents/{}/disconnect", credential.agent());
        answer::nothing(self.post(&path, credential), self.second).await
    }

    /// Asks whether the control plane is ready; needs no credential.
    pub async fn ready(&self) -> Answer<IgnoredAny> {
        answer::data(self.http.get(format!("{}/readyz", self.base)), self.second).await
    }

    /// Deletes the agent's own record; its credentials are dead afterwards.
    pub async fn deregister(&self, credential: &Token) -> Answer<()> {
        let path = format!("/api/agents/{}", credential.agent());
        answer::nothing(self.request(Method::DELETE, &path, credential), self.second).await
    }

    fn post(&self, path: &str, bearer: &Token) -> RequestBuilder {
        self.request(Method::POST, path, bearer)
    }

    fn request(&self, method: Method, path: &str, bearer: &Token) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(bearer.expose())
    }
}

/// A body that cannot be written cannot occur with the types of the API; an empty one is valid as well.
fn with_body(request: RequestBuilder, body: &impl Serialize) -> RequestBuilder {
    let body = serde_json::to_vec(body).unwrap_or_default();
    request.header(header::CONTENT_TYPE, "application/json").body(body)
}

fn warn_if_open(host: &Url) {
    if host.scheme() == "http" && !is_loopback(host) {
        tracing::warn!(%host, "without TLS, anybody on the way can read the agent's credential: use https://");
    }
}

/// Whether what is sent to `url` never leaves this host.
pub fn is_loopback(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The way out that the settings choose, unless it is left to the system.
fn proxied(
    builder: reqwest::ClientBuilder,
    host: &Url,
    proxies: &Proxies,
) -> Result<reqwest::ClientBuilder, ConfigError> {
    Ok(match proxies.choose(host) {
        ProxyChoice::System => builder,
        ProxyChoice::Excepted | ProxyChoice::NotSet => builder.no_proxy(),
        ProxyChoice::Proxy { setting, proxy } => {
            let refuse = |error| ConfigError::Value { name: setting, issue: answer::causes(&error) };
            builder.no_proxy().proxy(proxy.for_client().map_err(refuse)?)
        }
    })
}
