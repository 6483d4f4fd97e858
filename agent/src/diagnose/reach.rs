//! Names, and the way through an HTTP proxy.

use std::{io, net::SocketAddr, time::Duration};

use http::HeaderValue;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::lookup_host,
    time::timeout,
};

use super::finding::Finding;

/// What the network is given for one step. All steps together stay within half a minute.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A proxy's head is far shorter.
const MOST_HEAD_BYTES: u64 = 16 * 1_024;

/// Asks the resolver for a host.
pub(super) async fn resolve(probe: &'static str, host: &str, port: u16) -> (Finding, Vec<SocketAddr>) {
    let mut finding = Finding::new(probe);
    finding.fact("host", host);
    let advice = format!(
        "check that this host's resolver knows {host} (for example: getent hosts {host}, or nslookup {host})"
    );
    // An IPv6 address stands in brackets within an address, and without them for the resolver.
    let addresses: Vec<_> = match timeout(PATIENCE, lookup_host((host.trim_matches(['[', ']']), port))).await
    {
        Err(_) => return (finding.with_problem("the resolver did not answer in time", advice), Vec::new()),
        Ok(Err(error)) => return (finding.with_problem(error.to_string(), advice), Vec::new()),
        Ok(Ok(addresses)) => addresses.collect(),
    };
    let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    finding.fact("addresses", shown.join(", "));
    if addresses.is_empty() {
        finding.problem("the name has no address", advice);
    }
    (finding, addresses)
}

/// What a proxy said instead of letting us through.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the proxy broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("the proxy does not answer CONNECT as HTTP")]
    NotHttp,
    #[error("the proxy wants a user name and password (407)")]
    Authentication,
    #[error("the proxy refuses: {0}")]
    Status(String),
}

impl Refused {
    /// What to do about it, where `setting` names the proxy.
    pub(super) fn advice(&self, target: &str, setting: &str) -> String {
        match self {
            Self::Authentication => format!(
                "put user:password@ into the proxy's address ({setting}), and keep agent.conf readable by the agent \
                 alone then"
            ),
            Self::Status(_) => format!("have the proxy's administrators allow CONNECT to {target}"),
            Self::Broken(_) | Self::NotHttp => format!(
                "check that {setting} names an HTTP proxy, with its right port and http:// or https://, or a SOCKS \
                 proxy with socks5h://"
            ),
        }
    }
}

/// Has a proxy connect us to `target` (host and port).
pub(super) async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    target: &str,
    authorization: Option<&HeaderValue>,
) -> Result<(), Refused> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let head = head(stream).await?;
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.splitn(3, ' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !version.starts_with("HTTP/1.") {
        return Err(Refused::NotHttp);
    }
    match status.parse::<u16>() {
        Ok(200..=299) => Ok(()),
        Ok(407) => Err(Refused::Authentication),
        Ok(_) => Err(Refused::Status(line.chars().filter(|character| !character.is_control()).collect())),
        Err(_) => Err(Refused::NotHttp),
    }
}

/// Reads up to the blank line and no byte further: what follows belongs to the other side of the tunnel.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut head = Vec::new();
    let mut limited = stream.take(MOST_HEAD_BYTES);
    while !head.ends_with(b"\r\n\r\n") {
        match limited.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !head.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &str) -> (Result<(), Refused>, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(4_096);
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let mut secret = HeaderValue::from_static("Basic bWU6aHVudGVyMg==");
        secret.set_sensitive(true);
        let outcome = tunnel(&mut ours, "api.example:443", Some(&secret)).await;
        drop(ours);
        let mut asked = String::new();
        theirs.read_to_string(&mut asked).await.unwrap();
        (outcome, asked)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_with_the_proxys_password() {
        let (outcome, asked) = answered("HTTP/1.1 200 Connection established\r\n\r\n").await;
        outcome.unwrap();
        assert_eq!(
            asked,
            "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\
             Proxy-Authorization: Basic bWU6aHVudGVyMg==\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn each_refusal_of_a_proxy_has_its_own_advice() {
        for (answer, problem, advice) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "(407)", "user:password@"),
            (
                "HTTP/1.0 403 Forbidden by policy\r\n\r\n",
                "403 Forbidden by policy",
                "allow CONNECT to api.example:443",
            ),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "not answer CONNECT", "names an HTTP proxy"),
            ("HTTP/1.1 what\r\n\r\n", "not answer CONNECT", "names an HTTP proxy"),
        ] {
            let refused = answered(answer).await.0.unwrap_err();
            assert!(refused.to_string().contains(problem), "{refused}");
            assert!(refused.advice("api.example:443", "HTTPS_PROXY").contains(advice), "{refused}");
        }
    }
}
