//! A proxy's address, read as curl reads it. What would be read as another host is refused.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use reqwest::{Proxy, Url};

use super::ConfigError;

/// What curl lets no host name hold. A password behind the host would.
const NEVER_IN_HOSTS: &str = "@{}\\$'\"^`*<>=;,+&()|";
/// curl takes one to three slashes behind a scheme.
const MAX_SLASHES: usize = 3;

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP, in the clear up to the proxy.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS 4; this host resolves names.
    Socks4,
    /// SOCKS 4a; the proxy resolves names.
    Socks4a,
    /// SOCKS 5; this host resolves names.
    Socks5,
    /// SOCKS 5; the proxy resolves names.
    Socks5h,
}

impl ProxyScheme {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "https" => Self::Https,
            "socks" | "socks4" => Self::Socks4,
            "socks4a" => Self::Socks4a,
            "socks5" => Self::Socks5,
            "socks5h" => Self::Socks5h,
            _ => return None,
        })
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// The port of an address without one, as curl has it.
    const fn default_port(self) -> u16 {
        if matches!(self, Self::Https) { 443 } else { 1080 }
    }

    const fn is_socks(self) -> bool {
        !matches!(self, Self::Http | Self::Https)
    }
}

/// A proxy's address. Its user and password are never printed: what is, is scheme, host and port.
#[derive(Clone)]
pub struct ProxyUrl {
    scheme: ProxyScheme,
    /// An IPv6 address in brackets, a name in ASCII.
    host: String,
    port: u16,
    login: Option<Login>,
}

/// As bytes: percent codes may stand for any.
#[derive(Clone)]
struct Login {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl ProxyUrl {
    /// No error repeats any part of `text`, which may be a password.
    pub(super) fn parse(name: &'static str, text: &str) -> Result<Self, ConfigError> {
        parse(text.trim()).map_err(|issue| ConfigError::Value { name, issue: issue.to_owned() })
    }

    /// How the proxy is spoken to.
    pub const fn scheme(&self) -> ProxyScheme {
        self.scheme
    }

    /// The host; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What an HTTP proxy wants to see first. Marked as sensitive, so that it prints nothing.
    pub fn authorization(&self) -> Option<HeaderValue> {
        let login = self.login.as_ref().filter(|_| !self.scheme.is_socks())?;
        let both = [login.user.as_slice(), b":", login.password.as_slice()].concat();
        let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(both))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// User and password for a SOCKS 5 proxy.
    pub fn socks_login(&self) -> Option<(String, String)> {
        let login = self.login.as_ref().filter(|_| self.scheme.is_socks())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((text(&login.user), text(&login.password)))
    }

    /// The proxy for the client of the API.
    pub fn for_client(&self) -> Result<Proxy, reqwest::Error> {
        let Self { scheme, host, port, .. } = self;
        let login = match &self.login {
            Some(login) if scheme.is_socks() => {
                let coded = |bytes| percent_encode(bytes, NON_ALPHANUMERIC);
                format!("{}:{}@", coded(&login.user), coded(&login.password))
            }
            _ => String::new(),
        };
        let proxy = Proxy::all(format!("{}://{login}{host}:{port}", scheme.as_str()))?;
        Ok(match self.authorization() {
            Some(value) => proxy.custom_http_auth(value),
            None => proxy,
        })
    }
}

fn parse(text: &str) -> Result<ProxyUrl, &'static str> {
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err("a proxy's address holds no blanks: write one in a password as %20");
    }
    let (scheme, rest) = split_scheme(text)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if path.contains('@') || authority.matches('@').count() > 1 {
        return Err(
            "in a proxy's user and password, write @ as %40, / as %2F, ? as %3F, # as %23 and % as %25",
        );
    }
    let (login, place) =
        authority.split_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
    let login = login.filter(|login| !login.is_empty()).map(read_login).transpose()?;
    if scheme.is_socks()
        && let Some(login) = &login
    {
        check_socks_login(scheme, login)?;
    }
    let (host, port) = split_port(place)?;
    let port = port.filter(|port| !port.is_empty()).map_or(Ok(scheme.default_port()), read_port)?;
    Ok(ProxyUrl { scheme, host: read_host(host)?, port, login })
}

const FORM: &str = "not a proxy's address: write it like http://proxy.example.com:3128, or with \
                    user:password@ before the host, without quotes";

/// An address without a scheme is of an HTTP proxy.
fn split_scheme(text: &str) -> Result<(ProxyScheme, &str), &'static str> {
    let Some((scheme, rest)) = text.split_once(':').filter(|(_, rest)| rest.starts_with('/')) else {
        // Its slashes are missing, or are backslashes.
        let is_scheme = |user: (&str, &str)| user.1.contains('@') && ProxyScheme::parse(user.0).is_some();
        let broken = text.split_once(':').is_some_and(is_scheme);
        return if broken { Err(FORM) } else { Ok((ProxyScheme::Http, text)) };
    };
    // A user whose password begins with a slash is no scheme either.
    let scheme = ProxyScheme::parse(scheme).ok_or(
        "a proxy's address begins with http://, https://, socks4://, socks4a://, socks5:// or socks5h://",
    )?;
    let rest_after = rest.trim_start_matches('/');
    if rest.len() - rest_after.len() > MAX_SLASHES { Err(FORM) } else { Ok((scheme, rest_after)) }
}

fn read_login(text: &str) -> Result<Login, &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let bytes = |part: &str| percent_decode_str(part).collect::<Vec<u8>>();
    let login = Login { user: bytes(user), password: bytes(password) };
    if login.user.iter().chain(&login.password).any(u8::is_ascii_control) {
        return Err("a proxy's user and password hold no control characters");
    }
    Ok(login)
}

/// What SOCKS cannot carry.
fn check_socks_login(scheme: ProxyScheme, login: &Login) -> Result<(), &'static str> {
    if matches!(scheme, ProxyScheme::Socks4 | ProxyScheme::Socks4a) {
        return Err("a SOCKS 4 proxy takes no user and password here: use socks5:// or socks5h://");
    }
    let fits = |part: &[u8]| part.len() <= 255 && str::from_utf8(part).is_ok();
    if fits(&login.user) && fits(&login.password) {
        Ok(())
    } else {
        Err("a SOCKS proxy's user and password are UTF-8 of at most 255 bytes each")
    }
}

fn split_port(place: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(end) = place.starts_with('[').then(|| place.find(']')).flatten() {
        let (host, rest) = place.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(FORM),
        };
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(
            "a proxy's port is one number: an IPv6 address stands in brackets, user and password before the host",
        ),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((place, None)),
    }
}

fn read_port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse::<u16>().ok().filter(|port| digits && *port > 0);
    port.ok_or("a proxy's port is a number from 1 to 65535")
}

/// The host in the form that a resolver takes: international names in ASCII, short forms of IPv4 in full.
fn read_host(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains(|character| NEVER_IN_HOSTS.contains(character)) {
        return Err(FORM);
    }
    let url = Url::parse(&format!("http://{text}/")).map_err(|_| FORM)?;
    url.host_str().filter(|host| !host.is_empty()).map(str::to_owned).ok_or(FORM)
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
