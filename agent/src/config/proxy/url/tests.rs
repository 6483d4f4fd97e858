//! `PLACE` is a listener of the test. What is accepted, the curl of this machine sends to the same place.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::*;

/// Address, and the user and password that the proxy is shown.
const ACCEPTED: [(&str, Option<&[u8]>); 23] = [
    ("http://PLACE", None),
    ("HTTP://PLACE", None),
    ("PLACE", None),
    ("http:/PLACE", None),
    ("http:///PLACE", None),
    ("http://PLACE/", None),
    ("http://PLACE/path?query#fragment", None),
    ("http://me:secret@PLACE", Some(b"me:secret")),
    ("me:secret@PLACE", Some(b"me:secret")),
    ("http://me@PLACE", Some(b"me:")),
    ("http://:secret@PLACE", Some(b":secret")),
    (r"http://CORP\me:secret@PLACE", Some(br"CORP\me:secret")),
    (r"CORP\me:secret@PLACE", Some(br"CORP\me:secret")),
    (r"http://CORP%5Cme:secret@PLACE", Some(br"CORP\me:secret")),
    (r"http://me:sec\ret@PLACE", Some(br"me:sec\ret")),
    ("http://me%40corp.example:secret@PLACE", Some(b"me@corp.example:secret")),
    ("http://me:p%40%3A%2F%3F%23%25@PLACE", Some(b"me:p@:/?#%")),
    ("http://me:100%@PLACE", Some(b"me:100%")),
    ("http://me:p%zz@PLACE", Some(b"me:p%zz")),
    ("http://me:a:b@PLACE", Some(b"me:a:b")),
    ("http://me;x:p[w]$&+,=^`{|}~'()*!@PLACE", Some(b"me;x:p[w]$&+,=^`{|}~'()*!")),
    ("http://me:p\u{e4}ss@PLACE", Some("me:p\u{e4}ss".as_bytes())),
    ("http://me:p%E4ss@PLACE", Some(b"me:p\xe4ss")),
];

fn parsed(text: &str) -> Result<ProxyUrl, ConfigError> {
    ProxyUrl::parse("HTTPS_PROXY", text)
}

fn header(login: &[u8]) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(login))
}

#[test]
fn domains_and_odd_passwords_stay_before_the_host() {
    for (text, login) in ACCEPTED {
        let proxy = parsed(&text.replace("PLACE", "proxy.example:3128")).unwrap();
        assert_eq!(
            format!("{proxy} {proxy:?}"),
            "http://proxy.example:3128 http://proxy.example:3128",
            "{text}"
        );
        let authorization = proxy.authorization().map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(authorization, login.map(header), "{text}");
        assert!(proxy.for_client().is_ok(), "{text}");
    }
}

#[test]
fn hosts_and_ports_are_those_of_curl() {
    for (text, shown) in [
        ("http://proxy.example", "http://proxy.example:1080"),
        ("http://proxy.example:", "http://proxy.example:1080"),
        ("http://proxy.example:80", "http://proxy.example:80"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("https://me:secret@proxy.example:8443", "https://proxy.example:8443"),
        ("socks5://proxy.example", "socks5://proxy.example:1080"),
        ("socks5h://me:secret@proxy.example:9", "socks5h://proxy.example:9"),
        ("socks://proxy.example:9", "socks4://proxy.example:9"),
        ("socks4a://proxy.example:9", "socks4a://proxy.example:9"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
        ("me:secret@[::1]", "http://[::1]:1080"),
        ("http://127.1:9", "http://127.0.0.1:9"),
        ("http://my_proxy.example:9", "http://my_proxy.example:9"),
        ("http://pr\u{f6}xy.example:9", "http://xn--prxy-6qa.example:9"),
        (" http://proxy.example:9 ", "http://proxy.example:9"),
    ] {
        let proxy = parsed(text).unwrap();
        assert_eq!(proxy.to_string(), shown, "{text}");
        assert!(proxy.for_client().is_ok(), "{text}");
    }
}

#[test]
fn malformed_addresses_are_refused_without_repeating_them() {
    for text in [
        "http://me:se@cret@proxy.example:3128",
        "me:secret@x@proxy.example:3128",
        "http://me:se/cret@proxy.example:3128",
        "http://me:12/secret@proxy.example:3128",
        "http://me:se#cret@proxy.example:3128",
        "http://me:se?cret@proxy.example:3128",
        "me:/secret@proxy.example:3128",
        "me:secret://x@proxy.example:3128",
        "http://me:se cret@proxy.example:3128",
        "http://me:se\tcret@proxy.example:3128",
        "http://me:secret%0a@proxy.example:3128",
        "http://me%3Asecret%40proxy.example:3128",
        "http://proxy.example:3128:me:secret",
        "http://proxy.example:3128;me:secret",
        "http://proxy.example;secret:3128",
        r"http://proxy.example\secret:3128",
        r"http:\\me:secret@proxy.example:3128",
        "http:////me:secret@proxy.example:3128",
        "//me:secret@proxy.example:3128",
        "\"http://me:secret@proxy.example:3128\"",
        "http://me:secret@",
        "http://me:secret@:3128",
        "http://me:secret@proxy.example:0",
        "http://me:secret@proxy.example:99999",
        "http://me:secret@proxy.example:+80",
        "http://me:secret@2001:db8::1",
        "http://me:secret@[::1",
        "http://me:secret@[::1]3128",
        "http://me:secret@[fe80::1%25eth0]:3128",
        "ftp://me:secret@proxy.example:3128",
        "socks4://me:secret@proxy.example:3128",
        "socks5://me:secret%FF@proxy.example:3128",
        "http://",
        ":",
    ] {
        let error = parsed(text).expect_err(text).to_string();
        assert!(error.starts_with("HTTPS_PROXY: ") && !error.contains("cret"), "{text}: {error}");
    }
}

/// The head of one request to a proxy on this machine, if it comes within 10 s.
fn accept(proxy: &TcpListener) -> Option<Vec<String>> {
    let mut waits = 0..500;
    let stream = loop {
        match proxy.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => waits.next().map(|_| thread::sleep(Duration::from_millis(20)))?,
        }
    };
    stream.set_nonblocking(false).unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    Some(lines.take_while(|line| !line.is_empty()).collect())
}

fn curl(proxy: &str) -> Option<std::process::Output> {
    let mut command = Command::new("curl");
    command.args(["-sv", "-m", "10", "https://api.invalid/"]).env_clear().env("PATH", env!("PATH"));
    command.env("https_proxy", proxy).stdin(Stdio::null()).output().ok()
}

#[test]
fn curl_shows_the_same_login_to_the_same_place() {
    if curl("http://127.0.0.1:9").is_none() {
        return;
    }
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let place = proxy.local_addr().unwrap().to_string();
    for (text, login) in ACCEPTED {
        let text = text.replace("PLACE", &place);
        let head = thread::scope(|scope| {
            let asked = scope.spawn(|| accept(&proxy));
            let ended = curl(&text).unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            asked.join().unwrap().unwrap_or_else(|| panic!("curl does not ask {text}: {said}"))
        });
        let seen = head.iter().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
        assert_eq!(seen.map(str::to_owned), login.map(header), "{text}");
    }
    let said = curl("http://127.0.0.1").unwrap().stderr;
    assert!(String::from_utf8_lossy(&said).contains("1080"), "curl's port is another now");
}
