//! Every way to lie about one's address, and what is made of it.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

const CLIENT: &str = "198.51.100.7";

fn proxies(header: ForwardedHeader) -> Proxies {
    let trusted = ["10.0.0.0/8", "192.0.2.1", "2001:db8:aaaa::/48"].map(|range| range.parse().unwrap());
    Proxies { trusted: trusted.to_vec(), header }
}

fn lines(name: &'static str, lines: &[&str]) -> HeaderMap {
    lines.iter().map(|line| (HeaderName::from_static(name), HeaderValue::from_str(line).unwrap())).collect()
}

fn seen(peer: &str, header: ForwardedHeader, headers: &HeaderMap) -> String {
    proxies(header).remote_ip(peer.parse().unwrap(), headers).to_string()
}

fn x_forwarded_for(values: &[&str]) -> String {
    seen("10.0.0.1", ForwardedHeader::XForwardedFor, &lines("x-forwarded-for", values))
}

fn forwarded(values: &[&str]) -> String {
    seen("10.0.0.1", ForwardedHeader::Forwarded, &lines("forwarded", values))
}

#[test]
fn a_peer_that_is_no_trusted_proxy_is_the_client_whatever_it_says() {
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let mut headers = lines("x-forwarded-for", &["1.1.1.1"]);
        headers.extend(lines("forwarded", &["for=1.1.1.1"]));
        for peer in [CLIENT, "192.0.2.2", "2001:db8:aaab::1"] {
            assert_eq!(seen(peer, header, &headers), peer);
        }
        let nobody = Proxies { trusted: vec![], header };
        assert_eq!(nobody.remote_ip(IpAddr::from([10, 0, 0, 1]), &headers).to_string(), "10.0.0.1");
    }
}

#[test]
fn the_right_most_address_that_is_no_proxy_s_is_the_client_s() {
    assert_eq!(x_forwarded_for(&["198.51.100.7"]), CLIENT);
    assert_eq!(x_forwarded_for(&["1.1.1.1, 198.51.100.7"]), CLIENT);
    assert_eq!(x_forwarded_for(&["1.1.1.1,198.51.100.7,10.9.9.9,192.0.2.1"]), CLIENT);
    assert_eq!(forwarded(&["for=1.1.1.1, for=198.51.100.7, for=\"[2001:db8:aaaa::1]\""]), CLIENT);
}

#[test]
fn all_lines_count_in_their_order() {
    assert_eq!(x_forwarded_for(&["1.1.1.1", "198.51.100.7", "10.0.0.2"]), CLIENT);
    assert_eq!(x_forwarded_for(&["198.51.100.7, 10.0.0.3", "", " , ", "10.0.0.2"]), CLIENT);
    assert_eq!(forwarded(&["for=1.1.1.1", "for=198.51.100.7;proto=https"]), CLIENT);
}

#[test]
fn the_other_header_is_ignored_always() {
    let mut headers = lines("forwarded", &["for=1.1.1.1"]);
    assert_eq!(seen("10.0.0.1", ForwardedHeader::XForwardedFor, &headers), "10.0.0.1");
    headers.extend(lines("x-forwarded-for", &[CLIENT]));
    assert_eq!(seen("10.0.0.1", ForwardedHeader::XForwardedFor, &headers), CLIENT);
    let headers = lines("x-forwarded-for", &["1.1.1.1"]);
    assert_eq!(seen("10.0.0.1", ForwardedHeader::Forwarded, &headers), "10.0.0.1");
}

#[test]
fn what_is_no_address_ends_the_walk_at_the_hop_that_vouched_for_it() {
    for bad in
        ["unknown", "_hidden", "1.2.3", "1.2.3.4.5", "host", "[::1", "1.1.1.1:port", "\"1.1.1.1\"", "::1]"]
    {
        assert_eq!(x_forwarded_for(&[bad]), "10.0.0.1", "{bad}");
        assert_eq!(x_forwarded_for(&[&format!("1.1.1.1, {bad}, 192.0.2.1")]), "192.0.2.1", "{bad}");
    }
    for bad in [
        "for=_hidden",
        "for=unknown",
        "by=1.1.1.1",
        "for",
        "for=",
        "for=1.1.1.1;for=2.2.2.2",
        "for=\"1.1.1.1",
    ] {
        assert_eq!(forwarded(&[&format!("for=1.1.1.1, {bad}")]), "10.0.0.1", "{bad}");
        assert_eq!(forwarded(&["for=1.1.1.1", bad, "for=10.0.0.2"]), "10.0.0.2", "{bad}");
    }
    let bytes = HeaderValue::from_bytes(b"1.1.1.1, \xff\xfe").unwrap();
    let headers = [(HeaderName::from_static("x-forwarded-for"), bytes)].into_iter().collect();
    assert_eq!(seen("10.0.0.1", ForwardedHeader::XForwardedFor, &headers), "10.0.0.1");
}

#[test]
fn where_all_are_proxies_the_farthest_is_told() {
    assert_eq!(x_forwarded_for(&["10.0.0.9, 10.0.0.8"]), "10.0.0.9");
    assert_eq!(x_forwarded_for(&[]), "10.0.0.1");
}

#[test]
fn addresses_may_carry_ports_brackets_and_quotes() {
    for (written, address) in [
        ("198.51.100.7:4711", CLIENT),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:198.51.100.7", CLIENT),
        ("[::ffff:c633:6407]:1", CLIENT),
    ] {
        assert_eq!(x_forwarded_for(&[written]), address);
        assert_eq!(forwarded(&[&format!("proto=http; For=\"{written}\" ;by=\"a,b;c\"")]), address);
    }
    assert_eq!(forwarded(&["for=198.51.100.7:_port"]), CLIENT);
    assert_eq!(forwarded(&["for=\"[2001:db8::7]:_p0rt\""]), "2001:db8::7");
}

#[test]
fn a_mapped_address_is_the_ipv4_one_whoever_names_it() {
    let headers = lines("x-forwarded-for", &[CLIENT]);
    assert_eq!(seen("::ffff:10.0.0.1", ForwardedHeader::XForwardedFor, &headers), CLIENT);
    assert_eq!(seen("::ffff:9.0.0.1", ForwardedHeader::XForwardedFor, &headers), "9.0.0.1");
    assert_eq!("::ffff:10.0.0.0/104".parse::<Range>(), "10.0.0.0/8".parse());
    for bad in ["", "10.0.0.0/33", "10.0.0", "proxy", "10.0.0.0/8,10.0.0.1"] {
        assert!(bad.parse::<Range>().is_err(), "{bad}");
    }
}

proptest! {
    /// A trusted proxy appends the client's address to whatever the client wrote: on its line or on the next.
    #[test]
    fn nothing_that_a_client_writes_changes_what_its_proxy_says(lie in "[ -~]{0,60}", same_line: bool) {
        for (header, name, truth) in [
            (ForwardedHeader::XForwardedFor, "x-forwarded-for", CLIENT.to_owned()),
            (ForwardedHeader::Forwarded, "forwarded", format!("for=\"{CLIENT}\";by=\"_a,b\"")),
        ] {
            let headers = if same_line {
                lines(name, &[&format!("{lie}, {truth}")])
            } else {
                lines(name, &[&lie, &truth])
            };
            prop_assert_eq!(seen("10.0.0.1", header, &headers), CLIENT);
        }
    }
}
