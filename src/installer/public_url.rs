//! Where agents and installers reach this server.

use std::{fmt, net::Ipv6Addr, str::FromStr};

/// A URL of scheme, host and perhaps port, without a slash at its end: `https://api.planasonix.com`. Nothing in
/// it means anything to a shell, so it may stand in a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// A text that is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be as https://api.example.com: https or http, host, port, nothing else")]
pub struct InvalidPublicUrl;

impl PublicUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPublicUrl> {
        let url = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let (scheme, authority) = url.split_once("://").ok_or(InvalidPublicUrl)?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let good = matches!(scheme, "http" | "https") && is_host(host) && port.is_none_or(is_port);
        if good { Ok(Self(url)) } else { Err(InvalidPublicUrl) }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    // A final dot makes a name absolute: no search list of a resolver applies.
    let name = host.strip_suffix('.').unwrap_or(host);
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Host names may not have an underscore, but resolvers, and the names of services in private networks, do.
fn is_label(label: &str) -> bool {
    let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (1..=63).contains(&label.len()) && letters && !label.starts_with('-') && !label.ends_with('-')
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_scheme_host_and_port() {
        for (text, url) in [
            ("https://api.planasonix.com", "https://api.planasonix.com"),
            ("https://api.planasonix.com/", "https://api.planasonix.com"),
            ("HTTPS://API.Planasonix.com:8443", "https://api.planasonix.com:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://[::1]", "http://[::1]"),
            ("http://localhost", "http://localhost"),
            ("http://control_plane:8080", "http://control_plane:8080"),
            ("https://_a.b_.example", "https://_a.b_.example"),
            ("https://api.planasonix.com./", "https://api.planasonix.com."),
            ("https://api.planasonix.com.:8443", "https://api.planasonix.com.:8443"),
        ] {
            assert_eq!(text.parse::<PublicUrl>().unwrap().as_str(), url);
        }
    }

    #[test]
    fn nothing_that_a_shell_could_read_is_one() {
        for bad in [
            "",
            "api.planasonix.com",
            "//api.planasonix.com",
            "ftp://api.planasonix.com",
            "https://",
            "https:///",
            "https://:443",
            "https://a:",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:80:80",
            "https://a//",
            "https://a/path",
            "https://a?query",
            "https://a#fragment",
            "https://user@a",
            "https://user:password@a",
            "https://a b",
            "https://a\n",
            "https://$(id)",
            "https://a\"; id; \"",
            "https://a'b",
            "https://a`id`",
            "https://a;id",
            "https://a|id",
            "https://a%24",
            "https://a\\b",
            "https://-a",
            "https://a..b",
            "https://.",
            "https://a..",
            "https://.a",
            "https://[::1].",
            "https://[::1",
            "https://[fe80::1%25eth0]",
            "https://größe.example",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad:?}");
        }
    }
}
