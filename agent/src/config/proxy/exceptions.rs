//! `NO_PROXY`, as curl reads it since 7.86: names with their subdomains, addresses, networks; a `*` alone for all.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

/// Whether `list` names the host of `url`. Its port plays no part: an entry with a port names nothing.
pub(super) fn names(list: &str, url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    if list == "*" {
        return true;
    }
    // curl takes spaces and tabs for separators until 8.9, and commas always.
    let mut entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => entries.any(|entry| holds_address(entry, address)),
        Err(_) => entries.any(|entry| holds_name(entry, host)),
    }
}

/// `example.com`, `.example.com` and `example.com.` are the same entry.
fn holds_name(entry: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let entry = entry.strip_suffix('.').unwrap_or(entry);
    let entry = entry.strip_prefix('.').unwrap_or(entry);
    let Some(start) = host.len().checked_sub(entry.len()) else { return false };
    let tail = host.get(start..).is_some_and(|tail| !tail.is_empty() && tail.eq_ignore_ascii_case(entry));
    tail && (start == 0 || host.as_bytes().get(start - 1) == Some(&b'.'))
}

/// curl takes `/0` for no prefix at all: it names one address.
fn holds_address(entry: &str, host: IpAddr) -> bool {
    let (address, prefix) = entry.split_once('/').unwrap_or((entry, "0"));
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else { return false };
    match (prefix, IpNet::new(address, prefix)) {
        (0, _) => address == host,
        (_, Ok(network)) => network.contains(&host),
        (_, Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        process::{Command, Stdio},
    };

    use super::*;

    /// Host, list, whether it is reached directly. Of the forms that versions of curl read alike.
    const CASES: [(&str, &str, bool); 48] = [
        ("api.invalid", "*", true),
        ("10.1.2.3", "*", true),
        ("[::1]", "*", true),
        ("api.invalid", "*,x", false),
        ("10.1.2.3", "x,*", false),
        ("api.invalid", "*.invalid", false),
        ("api.invalid", "", false),
        ("api.invalid", ",", false),
        ("api.invalid", ".", false),
        ("api.invalid", "api.invalid", true),
        ("api.invalid", "API.Invalid", true),
        ("API.INVALID", "api.invalid", true),
        ("api.invalid.", "api.invalid", true),
        ("api.invalid", "api.invalid.", true),
        ("api.invalid", ".invalid", true),
        ("api.invalid", "invalid", true),
        ("invalid", ".invalid", true),
        ("api.invalid", "..invalid", false),
        ("xapi.invalid", "api.invalid", false),
        ("api.invalid", "pi.invalid", false),
        ("api.invalid", "x.api.invalid", false),
        ("api.invalid", "b, api.invalid , c", true),
        ("api.invalid", "b,, ,api.invalid", true),
        ("api.invalid", "b;api.invalid", false),
        ("api.invalid", "api.invalid:443", false),
        ("api.invalid:8443", "api.invalid", true),
        ("api.invalid:8443", "api.invalid:8443", false),
        ("api.invalid", "https://api.invalid", false),
        ("api.invalid", "\"api.invalid\"", false),
        ("10.1.2.3", "10.0.0.0/8", true),
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.1.2.3/32", true),
        ("10.1.2.3", "10.1.2.3/33", false),
        ("10.1.2.3", "10.1.2.2/31", true),
        ("10.1.2.3", "10.1.2.4/31", false),
        ("10.1.2.3", "10.0.0.0/0", false),
        ("10.1.2.3", "10.1.2.3/0", true),
        ("10.1.2.3", "10/8", false),
        ("10.1.2.3", "10.", false),
        ("10.1.2.3", "10.*", false),
        ("10.1.2.3", "2.3", false),
        ("10.1.2.3", "010.1.2.3", false),
        ("10.1.2.3", "10.1.2.3/255.0.0.0", false),
        ("10.1.2.3:8443", "10.1.2.3:8443", false),
        ("10.1.2.3", "::ffff:10.1.2.3", false),
        ("127.0.0.1", "localhost", false),
        ("[::1]", "::1", true),
        ("[::1]", "10.0.0.0/8,b", false),
    ];

    fn direct(host: &str, list: &str) -> bool {
        names(list, &Url::parse(&format!("https://{host}/")).unwrap())
    }

    #[test]
    fn entries_name_hosts_domains_and_networks() {
        for (host, list, expected) in CASES {
            assert_eq!(direct(host, list), expected, "{host} {list:?}");
        }
    }

    /// Of these, versions of curl make different things.
    #[test]
    fn blanks_separate_and_networks_of_ipv6_count() {
        for (host, list, expected) in [
            ("api.invalid", "b api.invalid", true),
            ("api.invalid", "b\tapi.invalid", true),
            ("10.1.2.3", "192.168.0.0/16 10.0.0.0/8", true),
            ("[2001:db8::7]", "2001:db8::/32", true),
            ("[2001:db9::7]", "2001:db8::/32", false),
            ("[2001:db8::7]", "2001:db8:0::7", true),
            ("[2001:db8::7]", "2001:db8::/129", false),
            ("10.1.2.3", "10.1.2.3/x", false),
            ("10.1.2.3", "::/0", false),
        ] {
            assert_eq!(direct(host, list), expected, "{host} {list:?}");
        }
    }

    /// The curl of this machine, if there is one that knows networks: each case goes to the proxy, or does not.
    #[test]
    fn curl_excepts_the_same_hosts() {
        let Some(version) = curl_version().filter(|version| *version >= (7, 86)) else { return };
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        for (host, list, expected) in CASES {
            let status = Command::new("curl")
                .args(["-s", "--connect-timeout", "0.3", "-m", "0.3", &format!("https://{host}/")])
                .env_clear()
                .env("PATH", std::env!("PATH"))
                .env("https_proxy", format!("http://{}", proxy.local_addr().unwrap()))
                .env("no_proxy", list)
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(!status.success());
            let by_proxy = proxy.accept().is_ok();
            assert_eq!(!by_proxy, expected, "curl {version:?}: {host} {list:?}");
        }
    }

    fn curl_version() -> Option<(u32, u32)> {
        let said = Command::new("curl").arg("--version").output().ok()?.stdout;
        let said = String::from_utf8(said).ok()?;
        let mut numbers = said.split_whitespace().nth(1)?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}
