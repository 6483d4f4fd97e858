//! Which way out the agent takes, and why.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::Url;

use super::finding::Finding;
use crate::config::{Proxies, ProxyChoice, ProxyScheme, ProxyUrl};

/// The way to the control plane.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// Straight.
    Direct,
    /// By a proxy.
    Proxy(Hop),
}

/// A proxy on the way.
#[derive(Clone)]
pub(super) struct Hop {
    /// How it is spoken to.
    pub(super) scheme: ProxyScheme,
    /// The host; an IPv6 address in brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// Where its address comes from, for advice.
    pub(super) setting: &'static str,
    /// What an HTTP proxy wants to see first; marked as sensitive, so it prints nothing.
    pub(super) authorization: Option<HeaderValue>,
    /// User and password for a SOCKS proxy.
    pub(super) socks_login: Option<(String, String)>,
}

impl std::fmt::Debug for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} ({})", self.scheme, self.place(), self.setting)
    }
}

impl Hop {
    fn named(setting: &'static str, proxy: &ProxyUrl) -> Self {
        Self {
            scheme: proxy.scheme(),
            host: proxy.host().to_owned(),
            port: proxy.port(),
            setting,
            authorization: proxy.authorization(),
            socks_login: proxy.socks_login(),
        }
    }

    fn of_system(chosen: &Intercept) -> Self {
        let is_tls = chosen.uri().scheme_str() == Some("https");
        let usual = if is_tls { 443 } else { 80 };
        Self {
            scheme: if is_tls { ProxyScheme::Https } else { ProxyScheme::Http },
            host: chosen.uri().host().unwrap_or_default().to_owned(),
            port: chosen.uri().port_u16().unwrap_or(usual),
            setting: "the system's proxy settings",
            authorization: chosen.basic_auth().cloned(),
            socks_login: None,
        }
    }

    /// Host and port, as one writes them.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The way that the agent's own client takes to `url`: both ask [`Proxies::choose`].
pub(super) fn choose(url: &Url, proxies: &Proxies) -> (Route, Finding) {
    let mut finding = Finding::new("proxy");
    let choice = proxies.choose(url);
    if let ProxyChoice::Proxy { setting, proxy } = &choice {
        finding.fact(*setting, proxy);
    }
    if let Some(exceptions) = proxies.shown_exceptions() {
        finding.fact("NO_PROXY", exceptions);
    }
    let hop = match choice {
        ProxyChoice::Proxy { setting, proxy } => Some(Hop::named(setting, proxy)),
        ProxyChoice::System => {
            let uri = url.as_str().parse::<Uri>().ok();
            uri.and_then(|uri| Matcher::from_system().intercept(&uri)).as_ref().map(Hop::of_system)
        }
        ProxyChoice::Excepted => {
            finding.fact("route", "direct: NO_PROXY excepts the control plane");
            return (Route::Direct, finding);
        }
        ProxyChoice::NotSet => None,
    };
    let Some(hop) = hop else {
        finding.fact("route", "direct: no proxy is set for this kind of address");
        return (Route::Direct, finding);
    };
    finding.fact("route", format!("by the proxy {}: {}", hop.place(), hop.setting));
    (Route::Proxy(hop), finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Lines, Options};

    fn chosen(url: &str, settings: &str) -> (Option<String>, String) {
        let lines = Lines::parse(settings, "agent.conf".as_ref()).unwrap();
        let config = Config::resolve(&Options::default(), "agent.conf".into(), &lines, |_| None).unwrap();
        let (route, finding) = choose(&Url::parse(url).unwrap(), &config.proxies);
        let proxy = match route {
            Route::Direct => None,
            Route::Proxy(hop) => Some(format!("{hop:?}")),
        };
        (proxy, finding.to_string())
    }

    const PROXY: &str = "HTTPS_PROXY=http://me:hunter2@proxy.example:3128\n";

    #[test]
    fn a_proxy_is_taken_and_its_login_is_not_told() {
        for settings in
            [PROXY.to_owned(), PROXY.replace("me:", r"CORP\me:"), PROXY.replace("http:", "socks5:")]
        {
            let (proxy, told) = chosen("https://api.example", &settings);
            assert!(proxy.as_ref().unwrap().contains("proxy.example:3128"), "{proxy:?}");
            assert!(told.contains("by the proxy proxy.example:3128: HTTPS_PROXY"), "{told}");
            for secret in ["hunter2", "me:", "CORP"] {
                assert!(!told.contains(secret) && !proxy.as_ref().unwrap().contains(secret), "{told}");
            }
        }
    }

    #[test]
    fn an_exception_is_reached_directly_and_named_as_the_reason() {
        let (proxy, told) = chosen("https://api.example", &format!("{PROXY}NO_PROXY=.example"));
        assert_eq!(proxy, None);
        assert!(told.contains("direct: NO_PROXY excepts"), "{told}");
    }

    #[test]
    fn a_proxy_of_the_other_scheme_does_not_count() {
        let (proxy, told) = chosen("http://api.example", PROXY);
        assert_eq!(proxy, None);
        assert!(told.contains("no proxy is set"), "{told}");
    }
}
