//! Connecting to one of several addresses, by the code that the agent's own client connects with.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
    vec,
};

use http::Uri;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tower_service::Service;

use super::{finding::Finding, reach::PATIENCE};

/// Answers every name with the addresses that the probe before has found.
#[derive(Debug, Clone)]
struct Resolved(Vec<SocketAddr>);

impl Service<Name> for Resolved {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

/// Connects as the client does, whose connector gives the addresses of the second family their turn 0.3 s after the
/// first. Each address is tried on its own as well, to say which of them lead nowhere.
pub(super) async fn connect(addresses: &[SocketAddr]) -> (Finding, Option<TcpStream>) {
    let mut finding = Finding::new("tcp");
    let (raced, tried) = tokio::join!(race(addresses), try_each(addresses));
    for (address, outcome) in &tried {
        finding.fact(address.to_string(), outcome.as_ref().map_or_else(String::as_str, |()| "connected"));
    }
    match raced {
        Ok(stream) => {
            if let Ok(used) = stream.peer_addr() {
                finding.fact("used", used);
            }
            if let Some(family) = dead_family(&tried) {
                finding.fact(
                    "note",
                    format!("no {family} address can be reached: each new connection loses 0.3 s"),
                );
            }
            (finding, Some(stream))
        }
        Err(error) => {
            let problem = if tried.iter().any(|(_, outcome)| outcome.is_ok()) {
                format!("the agent's client reached no address: {error}")
            } else {
                "no address can be reached".to_owned()
            };
            let advice = "let this host out to that address and port: a firewall, or a proxy that neither HTTPS_PROXY \
                          nor ALL_PROXY names, is in the way";
            (finding.with_problem(problem, advice), None)
        }
    }
}

async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let port = addresses.first().map_or(443, SocketAddr::port);
    let uri = format!("http://resolved.invalid:{port}/").parse::<Uri>().map_err(io::Error::other)?;
    let mut connector = HttpConnector::new_with_resolver(Resolved(addresses.to_vec()));
    connector.set_connect_timeout(Some(PATIENCE));
    match timeout(PATIENCE, connector.call(uri)).await {
        Ok(connected) => connected.map(hyper_util::rt::TokioIo::into_inner).map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn try_each(addresses: &[SocketAddr]) -> Vec<(SocketAddr, Result<(), String>)> {
    let mut attempts = JoinSet::new();
    for (index, &address) in addresses.iter().enumerate() {
        attempts.spawn(async move {
            let outcome = match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            (index, address, outcome)
        });
    }
    let mut tried = attempts.join_all().await;
    tried.sort_by_key(|(index, ..)| *index);
    tried.into_iter().map(|(_, address, outcome)| (address, outcome)).collect()
}

/// The family of addresses of which none can be reached, while one of the other can.
fn dead_family(tried: &[(SocketAddr, Result<(), String>)]) -> Option<&'static str> {
    let dead = |is_of_family: fn(&IpAddr) -> bool| {
        let mut of_family = tried.iter().filter(|(address, _)| is_of_family(&address.ip())).peekable();
        of_family.peek().is_some() && of_family.all(|(_, outcome)| outcome.is_err())
    };
    match (dead(IpAddr::is_ipv6), dead(IpAddr::is_ipv4)) {
        (true, false) => Some("IPv6"),
        (false, true) => Some("IPv4"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::diagnose::Verdict;

    /// Listens, and keeps its backlog full: whoever connects hears nothing.
    async fn nowhere(address: &str) -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..64 {
            match timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => return (address, waiting, listener),
            }
        }
        panic!("the backlog of {address} does not fill");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn ipv6_that_leads_nowhere_is_no_problem_where_ipv4_answers() {
        let (dead, _waiting, _listener) = nowhere("[::1]:0").await;
        let alive = TcpListener::bind(("127.0.0.1", dead.port())).await.unwrap();
        let alive = alive.local_addr().unwrap();
        let started = Instant::now();
        let stream = race(&[dead, alive]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
        for order in [[dead, alive], [alive, dead]] {
            let (finding, stream) = connect(&order).await;
            assert!(stream.is_some() && finding.verdict == Verdict::Ok, "{finding}");
            let told = finding.to_string();
            assert!(told.contains("no answer in time") && told.contains("no IPv6 address"), "{told}");
            assert!(told.contains("used") && finding.advice.is_none(), "{told}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn addresses_that_all_lead_nowhere_are_named_with_what_happened() {
        let (dead, _waiting, _listener) = nowhere("[::1]:0").await;
        let closed = SocketAddr::from(([127, 0, 0, 1], dead.port()));
        let (finding, stream) = connect(&[dead, closed]).await;
        assert!(stream.is_none() && finding.verdict == Verdict::Problem, "{finding}");
        let told = finding.to_string();
        assert!(told.contains("no answer in time") && told.contains("refused"), "{told}");
    }

    #[tokio::test]
    async fn dead_address_before_a_live_one_of_its_family_is_passed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        let closed = SocketAddr::from(([127, 0, 0, 2], alive.port()));
        let (finding, stream) = connect(&[closed, alive]).await;
        assert_eq!(stream.unwrap().peer_addr().unwrap(), alive);
        assert!(!finding.to_string().contains("note"), "{finding}");
    }
}
