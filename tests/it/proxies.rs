//! `remote_ip` is the client's, whatever anybody writes into headers.

use std::net::IpAddr;

use planasonix::http::remote_ip::{ForwardedHeader, Proxies};
use reqwest::Method;

use crate::support::{
    App,
    actors::{Agent, Workspace},
    haproxy::Haproxy,
    http,
};

const LIES: [&[(&str, &str)]; 6] = [
    &[],
    &[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")],
    &[
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2, 127.0.0.4"),
        ("forwarded", "for=\"1.1.1.1"),
    ],
    &[("x-forwarded-for", "unknown, \"1.1.1.1"), ("forwarded", "for=_hidden;for=1.1.1.1,\\\"")],
    &[("x-forwarded-for", ""), ("forwarded", "")],
    &[
        ("x-real-ip", "1.1.1.1"),
        ("x-client-ip", "1.1.1.1"),
        ("true-client-ip", "1.1.1.1"),
        ("via", "1.1 1.1.1.1"),
    ],
];

/// Whom the control plane sees after a beat with these headers.
async fn seen(acme: &Workspace, agent: &Agent, headers: &[(&str, &str)]) -> String {
    let mut beat = agent.me.request(Method::POST, &format!("/api/agents/{}/heartbeat", agent.id));
    for (name, value) in headers {
        beat = beat.header(*name, *value);
    }
    agent.me.send(beat).await.data(200);
    let rows = acme.operator.get("/api/agents/connected").await.data(200);
    rows[0]["remote_ip"].as_str().unwrap().to_owned()
}

fn trusting(ranges: &[&str], header: ForwardedHeader) -> Proxies {
    Proxies { trusted: ranges.iter().map(|range| range.parse().unwrap()).collect(), header }
}

#[tokio::test]
async fn a_forged_header_changes_nothing_unless_its_sender_is_a_trusted_proxy() {
    for proxies in [Proxies::default(), trusting(&["10.0.0.0/8", "::1"], ForwardedHeader::XForwardedFor)] {
        let app = App::with(|settings| settings.admission.proxies = proxies).await;
        let acme = app.workspace("acme").await;
        let agent = acme.agent("etl").await;
        for lie in LIES {
            assert_eq!(seen(&acme, &agent, lie).await, "127.0.0.1", "{lie:?}");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_in_its_own_header_alone() {
    let both = [("x-forwarded-for", "198.51.100.7"), ("forwarded", "for=\"[2001:db8::7]:4711\"")];
    for (header, client) in
        [(ForwardedHeader::XForwardedFor, "198.51.100.7"), (ForwardedHeader::Forwarded, "2001:db8::7")]
    {
        let app = App::with(|settings| settings.admission.proxies = trusting(&["127.0.0.1"], header)).await;
        let acme = app.workspace("acme").await;
        let agent = acme.agent("etl").await;
        assert_eq!(seen(&acme, &agent, &both).await, client);
        let other =
            both.iter().find(|(name, _)| (*name == "forwarded") != (header == ForwardedHeader::Forwarded));
        assert_eq!(seen(&acme, &agent, &[*other.unwrap()]).await, "127.0.0.1");
    }
}

/// The client, two proxies in a row and the control plane, each at an address of its own.
#[tokio::test]
async fn through_real_proxies_it_is_the_client_s_whatever_the_client_writes() {
    let client: IpAddr = [127, 0, 0, 2].into();
    let Ok(http) = http::builder().local_address(client).build() else { panic!("no client") };
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let proxies = trusting(&["127.0.0.3", "127.0.0.4/31"], header);
        // These proxies and no others are between.
        let app = App::one_process(|settings| settings.admission.proxies = proxies).await;
        let Some(inner) = Haproxy::before(app.address, "127.0.0.4") else {
            println!("skipped: haproxy is not installed (Debian: apt-get install haproxy)");
            return;
        };
        let outer = Haproxy::before(inner.address, "127.0.0.3").unwrap();
        let acme = app.workspace("acme").await;
        let mut agent = acme.agent("etl").await;
        agent.me.http = http.clone();
        for lie in LIES {
            for entrance in [app.address, inner.address, outer.address] {
                let at = agent.at(entrance);
                assert_eq!(seen(&acme, &at, lie).await, client.to_string(), "{header:?} {lie:?}");
            }
        }
    }
}
