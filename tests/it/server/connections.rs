//! Limits on the number of connections.

use std::net::{IpAddr, Ipv4Addr};

use planasonix::http::{
    remote_ip::Proxies,
    server::{ConnectionLimits, ListenerConfig},
};
use tokio::time::{Duration, sleep};

use super::Server;
use crate::support::wire::Line;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

fn server(total: usize, per_address: usize, trusted: &[&str]) -> Server {
    Server::with(ListenerConfig {
        connections: ConnectionLimits { total: Some(total), per_address: Some(per_address) },
        proxies: Proxies {
            trusted: trusted.iter().map(|range| range.parse().unwrap()).collect(),
            ..Proxies::default()
        },
        ..ListenerConfig::default()
    })
}

/// A connection from 127.0.0.`last` that is served, or that was closed.
async fn connect(server: &Server, last: u8) -> Option<Line> {
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let mut line = Line::open_narrow(from, server.address).await.unwrap();
    let reply = line.ask(GET).await.ok()?;
    assert_eq!(reply.status, 200);
    Some(line)
}

#[tokio::test]
async fn connection_beyond_the_limit_is_closed_until_another_ends() {
    let server = server(3, 0, &[]);
    let mut open = Vec::new();
    for last in [1, 1, 2] {
        open.push(connect(&server, last).await.unwrap());
    }
    assert!(connect(&server, 3).await.is_none());
    for line in &mut open {
        assert_eq!(line.ask(GET).await.unwrap().status, 200, "the others go on");
    }
    open.pop();
    sleep(Duration::from_millis(200)).await;
    assert!(connect(&server, 3).await.is_some());
}

#[tokio::test]
async fn connections_of_one_address_are_limited_and_those_of_a_proxy_are_not() {
    let server = server(100, 2, &["127.0.0.9"]);
    let mut open = Vec::new();
    for last in [1, 1, 2, 2, 9, 9, 9, 9] {
        open.push(connect(&server, last).await.unwrap());
    }
    assert!(connect(&server, 1).await.is_none() && connect(&server, 2).await.is_none());
    open.remove(0);
    sleep(Duration::from_millis(200)).await;
    assert!(connect(&server, 1).await.is_some());
}
