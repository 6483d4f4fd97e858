//! The agent's side of the API: one method a route, and a typed answer to each.
//!
//! Only an answer in the API's own envelope that says `stop` or `re_enroll` is a refusal. All else that
//! is no success (silence, a proxy's error page, an answer cut short) is a reason to try again.

mod answer;
mod renewal;
mod tls;

use std::{net::IpAddr, sync::Arc, time::Duration};

use planasonix_wire::{
    enroll::{Enroll, Enrolled, RotatedCredential},
    heartbeat::{Heartbeat, HeartbeatAck},
};
use reqwest::{Method, RequestBuilder, Url, header};
use serde::{Serialize, de::IgnoredAny};

use self::renewal::RenewingClient;
pub use self::{
    answer::{Answer, Outcome, Refusal, Remedy, Retry},
    tls::install_provider,
};
use crate::{
    config::{Config, ConfigError, Proxies, ProxyChoice},
    secret::Token,
    timing::Timing,
};

/// Speaks with one control plane. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: Arc<RenewingClient>,
    second: Duration,
}

impl Client {
    /// A client for the control plane that the settings name, by the way out that they name.
    pub fn new(config: &Config, timing: &Timing) -> Result<Self, ConfigError> {
        install_provider();
        warn_if_open(config.api_host()?);
        Ok(Self { http: Arc::new(RenewingClient::new(config, timing)?), second: timing.second })
    }

    /// Speaks from now on with the control plane that these settings name, by their way out and with their authorities.
    /// If they cannot be used, those before remain in force.
    pub fn reconfigure(&self, config: &Config) -> Result<(), ConfigError> {
        self.http.reconfigure(config)?;
        config.api_host().map(warn_if_open)
    }

    /// Trades an enrollment token for a credential. The same `key` makes a repetition of a lost answer safe.
    pub async fn enroll(&self, token: &Token, key: &str, about: &Enroll) -> Answer<Enrolled> {
        let request = self.post("/api/agents/enroll", token).header("Idempotency-Key", key);
        self.noted(answer::data(with_body(request, about), self.second).await)
    }

    /// Sends one beat of the credential's agent.
    pub async fn heartbeat(&self, credential: &Token, beat: &Heartbeat) -> Answer<HeartbeatAck> {
        let path = format!("/api/agents/{}/heartbeat", credential.agent());
        self.noted(answer::data(with_body(self.post(&path, credential), beat), self.second).await)
    }

    /// Asks for a new credential; the current one stays good until the new one is used.
    pub async fn rotate(&self, credential: &Token) -> Answer<RotatedCredential> {
        let path = format!("/api/agents/{}/credential", credential.agent());
        self.noted(answer::data(self.post(&path, credential), self.second).await)
    }

    /// Takes leave: the agent counts as disconnected at once.
    pub async fn disconnect(&self, credential: &Token) -> Answer<()> {
        let path = format!("/api/agents/{}/disconnect", credential.agent());
        self.noted(answer::nothing(self.post(&path, credential), self.second).await)
    }

    /// Asks whether the control plane is ready; needs no credential.
    pub async fn ready(&self) -> Answer<IgnoredAny> {
        let (http, base) = self.http.current();
        self.noted(answer::data(http.get(format!("{base}/readyz")), self.second).await)
    }

    /// Deletes the agent's own record; its credentials are dead afterwards.
    pub async fn deregister(&self, credential: &Token) -> Answer<()> {
        let path = format!("/api/agents/{}", credential.agent());
        self.noted(answer::nothing(self.request(Method::DELETE, &path, credential), self.second).await)
    }

    fn noted<T>(&self, answer: Answer<T>) -> Answer<T> {
        if answer.no_connection {
            self.http.connecting_failed();
        }
        answer
    }

    fn post(&self, path: &str, bearer: &Token) -> RequestBuilder {
        self.request(Method::POST, path, bearer)
    }

    fn request(&self, method: Method, path: &str, bearer: &Token) -> RequestBuilder {
        let (http, base) = self.http.current();
        http.request(method, format!("{base}{path}")).bearer_auth(bearer.expose())
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
