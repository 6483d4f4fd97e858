//! The way to the control plane, step by step, each on what the step before it reached.

use reqwest::Url;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{
    certificate,
    finding::Finding,
    race,
    reach::{self, PATIENCE, Refused},
    route::{self, Hop, Route},
    socks,
    tls::{BrokenOff, Seen, Trust, TrustError},
};
use crate::{
    certificates::{self, Explanation},
    client::{Client, Outcome, is_loopback},
    clock,
    config::{Config, ProxyScheme},
    run::skew,
};

/// Looks at every step towards `url`. The `bool` tells whether the control plane can be asked.
pub(super) async fn examine(config: &Config, url: &Url, client: Option<&Client>) -> (Vec<Finding>, bool) {
    let (route, finding) = route::choose(url, &config.proxies);
    let mut findings = vec![finding];
    let (host, port) = next_hop(url, &route);
    let (finding, addresses) = reach::resolve("dns", &host, port).await;
    findings.push(finding);
    if addresses.is_empty() {
        return (skip(findings, &["tcp", "tls", "http", "clock"], "the name is not known"), false);
    }
    let (finding, stream) = race::connect(&addresses).await;
    findings.push(finding);
    let Some(stream) = stream else {
        return (skip(findings, &["tls", "http", "clock"], "there is no connection"), false);
    };
    let (finding, usable) = secure(config, url, &route, stream).await;
    findings.push(finding);
    let (true, Some(client)) = (usable, client) else {
        return (skip(findings, &["http", "clock"], "the agent would not use this connection"), false);
    };
    let (http, clock, ready) = ask(client).await;
    findings.extend([http, clock]);
    (findings, ready)
}

fn skip(mut findings: Vec<Finding>, probes: &[&'static str], why: &str) -> Vec<Finding> {
    findings.extend(probes.iter().map(|probe| Finding::skipped(probe, why)));
    findings
}

fn next_hop(url: &Url, route: &Route) -> (String, u16) {
    match route {
        Route::Direct => {
            (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(443))
        }
        Route::Proxy(hop) => (hop.host.clone(), hop.port),
    }
}

/// Why there was no handshake.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("the proxy itself: {0}")]
    ToProxy(std::io::Error),
    #[error(transparent)]
    Proxy(#[from] Refused),
    #[error("the SOCKS proxy: {0}")]
    Socks(String),
    #[error("{}", .0.problem)]
    Explained(Explanation),
    #[error("{0}")]
    Handshake(std::io::Error),
    #[error("no answer in time")]
    Late,
}

impl Failure {
    fn advice(&self, target: &str, route: &Route) -> String {
        let setting = match route {
            Route::Direct => "HTTPS_PROXY",
            Route::Proxy(hop) => hop.setting,
        };
        match self {
            Self::Trust(TrustError::NoRoots(_)) => {
                let package =
                    if cfg!(target_os = "linux") { "install the package ca-certificates, or " } else { "" };
                format!("{package}set PLANASONIX_CA_FILE")
            }
            Self::Trust(_) => {
                "name a readable PEM file as PLANASONIX_CA_FILE, or remove the setting".to_owned()
            }
            Self::ToProxy(_) => {
                format!("check {setting}, and PLANASONIX_CA_FILE for the proxy's own certificate")
            }
            Self::Proxy(refused) => refused.advice(target, setting),
            Self::Socks(_) => {
                format!(
                    "check the proxy's scheme, port, user and password in {setting}, and that it may reach {target}"
                )
            }
            Self::Explained(explanation) => explanation.advice.clone(),
            Self::Handshake(_) | Self::Late => {
                format!("check that TLS is spoken at {target}, and that no firewall on the way cuts it off")
            }
        }
    }
}

/// Shakes hands as the agent would, and tells whether it would go on.
async fn secure(config: &Config, url: &Url, route: &Route, stream: TcpStream) -> (Finding, bool) {
    let mut finding = Finding::new("tls");
    let host = url.host_str().unwrap_or_default();
    if url.scheme() == "http" {
        finding.fact("used", "no: the address begins with http://");
        if !is_loopback(url) {
            finding.problem(
                "anybody on the way can read the agent's credential",
                "set PLANASONIX_API_HOST to an address that begins with https://",
            );
        }
        return (finding, true);
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let target = format!("{host}:{port}");
    let shaken = match Trust::new(config.ca_file.as_deref()) {
        Ok(trust) => {
            let shaken = timeout(PATIENCE, shake(&trust, (host, port), route, stream)).await;
            shaken.unwrap_or(Err(Failure::Late)).map(|seen| (trust, seen))
        }
        Err(error) => Err(error.into()),
    };
    let (trust, seen) = match shaken {
        Ok(seen) => seen,
        Err(failure) => {
            let advice = failure.advice(&target, route);
            return (finding.with_problem(failure.to_string(), advice), false);
        }
    };
    let believed = describe(&mut finding, config, host, (&trust, &seen));
    (finding, believed)
}

/// Says what the handshake has shown, and whether the agent would go on.
fn describe(finding: &mut Finding, config: &Config, host: &str, (trust, seen): (&Trust, &Seen)) -> bool {
    finding.fact("protocol", seen.protocol);
    let now = clock::now();
    for (index, shown) in seen.chain.iter().enumerate() {
        finding.fact(format!("certificate {}", index + 1), certificate::describe(shown, now));
    }
    match &config.ca_file {
        Some(path) => finding.fact("trusted", format!("the system's authorities and {}", path.display())),
        None => finding.fact("trusted", "the system's authorities"),
    }
    if let Err(error) = &seen.verdict {
        let Explanation { problem, advice } = certificate::explain(error, host, &seen.chain, &trust.extra);
        finding.problem(problem, advice);
    }
    seen.verdict.is_ok()
}

async fn shake(
    trust: &Trust,
    (host, port): (&str, u16),
    route: &Route,
    stream: TcpStream,
) -> Result<Seen, Failure> {
    match route {
        Route::Direct => look(trust, stream, host).await,
        Route::Proxy(hop) => match hop.scheme {
            ProxyScheme::Https => {
                let stream = trust.shake_believed(stream, &hop.host).await.map_err(Failure::ToProxy)?;
                look_through(trust, hop, stream, (host, port)).await
            }
            ProxyScheme::Http => look_through(trust, hop, stream, (host, port)).await,
            _ => {
                let stream = socks::tunnel(stream, hop, host, port).await.map_err(Failure::Socks)?;
                look(trust, stream, host).await
            }
        },
    }
}

async fn look_through<S: AsyncRead + AsyncWrite + Unpin>(
    trust: &Trust,
    hop: &Hop,
    mut stream: S,
    (host, port): (&str, u16),
) -> Result<Seen, Failure> {
    reach::tunnel(&mut stream, &format!("{host}:{port}"), hop.authorization.as_ref()).await?;
    look(trust, stream, host).await
}

async fn look<S: AsyncRead + AsyncWrite + Unpin>(
    trust: &Trust,
    stream: S,
    host: &str,
) -> Result<Seen, Failure> {
    trust.look(stream, host).await.map_err(|BrokenOff { error, chain }| {
        let Some(cause) = certificates::of_connection(&error) else { return Failure::Handshake(error) };
        if chain.is_empty() || !matches!(cause, rustls::Error::InvalidCertificate(_)) {
            let explained = certificates::explain_handshake(cause);
            return explained.map_or_else(|| Failure::Handshake(error), Failure::Explained);
        }
        // The key that the server proves itself with, which no authority vouches for the use of.
        Failure::Explained(certificate::explain(cause, host, &chain, &trust.extra))
    })
}

/// Asks for `/readyz` as the agent's own client does, and compares the clocks.
async fn ask(client: &Client) -> (Finding, Finding, bool) {
    let answer = client.ready().await;
    let mut http = Finding::new("http");
    match &answer.outcome {
        Outcome::Accepted(_) => http.fact("/readyz", "ready"),
        Outcome::Refused(refusal) => http.problem(
            format!("the control plane answers: {refusal}"),
            "check that PLANASONIX_API_HOST names the control plane",
        ),
        Outcome::Retry(retry) => http.problem(
            retry.why.clone(),
            "if a proxy or a sign-in page answered, have it let this host through; otherwise the control plane is \
             not ready: try again in a minute",
        ),
    }
    let ready = matches!(answer.outcome, Outcome::Accepted(_));
    let Some(ahead) = answer.skew else {
        return (http, Finding::skipped("clock", "the answer bears no date of the control plane"), ready);
    };
    let mut clock = Finding::new("clock");
    let told = skew::describe(ahead);
    clock.fact("this host", &told);
    if ahead.abs() > skew::TOLERATED {
        clock.problem(format!("this host's clock is {told}"), "synchronise this host's clock (NTP)");
    }
    (http, clock, ready)
}
