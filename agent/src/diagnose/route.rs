//! Which way out the agent takes, and why.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

use super::finding::Finding;
use crate::config::Proxies;

/// The way to the control plane.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// Straight.
    Direct,
    /// By a proxy.
    Proxy {
        /// Where the proxy is, without its password.
        proxy: Uri,
        /// What it wants to see first; marked as sensitive, so it prints nothing.
        authorization: Option<HeaderValue>,
    },
}

/// The way that the agent's own client takes to `url`: both ask the same matcher.
pub(super) fn choose(url: &Url, proxies: &Proxies) -> (Route, Finding) {
    let mut finding = Finding::new("proxy");
    let named =
        if url.scheme() == "https" { ("HTTPS_PROXY", &proxies.https) } else { ("HTTP_PROXY", &proxies.http) };
    let exceptions = proxies.exceptions.as_deref().unwrap_or_default();
    if let Some(proxy) = named.1 {
        finding.fact(named.0, proxy);
    }
    if !exceptions.is_empty() {
        finding.fact("NO_PROXY", exceptions);
    }
    let of_system = proxies.leave_to_system(url);
    let matcher = if of_system {
        Matcher::from_system()
    } else {
        let address = |proxy: &Option<crate::config::ProxyUrl>| {
            proxy.as_ref().map(|proxy| proxy.expose().to_string()).unwrap_or_default()
        };
        Matcher::builder().https(address(&proxies.https)).http(address(&proxies.http)).no(exceptions).build()
    };
    let chosen = url.as_str().parse::<Uri>().ok().and_then(|uri| matcher.intercept(&uri));
    let Some(chosen) = chosen else {
        let why = if proxies.except(url) {
            "NO_PROXY excepts the control plane"
        } else {
            "no proxy is set for this kind of address"
        };
        finding.fact("route", format!("direct: {why}"));
        return (Route::Direct, finding);
    };
    let why = if of_system { "the system's settings say so" } else { named.0 };
    finding.fact("route", format!("by the proxy {}: {why}", place(chosen.uri())));
    let authorization = chosen.basic_auth().cloned();
    (Route::Proxy { proxy: chosen.uri().clone(), authorization }, finding)
}

/// Host and port of an address, as one writes them.
pub(super) fn place(uri: &Uri) -> String {
    let (host, port) = endpoint(uri);
    format!("{host}:{port}")
}

/// The host, as a resolver takes it, and the port.
pub(super) fn endpoint(uri: &Uri) -> (String, u16) {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Lines, Options};

    fn chosen(url: &str, settings: &str) -> (Option<Uri>, String) {
        let lines = Lines::parse(settings, "agent.conf".as_ref()).unwrap();
        let config = Config::resolve(&Options::default(), "agent.conf".into(), &lines, |_| None).unwrap();
        let (route, finding) = choose(&Url::parse(url).unwrap(), &config.proxies);
        let proxy = match route {
            Route::Direct => None,
            Route::Proxy { proxy, .. } => Some(proxy),
        };
        (proxy, finding.to_string())
    }

    const PROXY: &str = "HTTPS_PROXY=http://me:hunter2@proxy.example:3128\n";

    #[test]
    fn a_proxy_is_taken_and_its_password_is_not_told() {
        let (proxy, told) = chosen("https://api.example", PROXY);
        assert_eq!(place(&proxy.unwrap()), "proxy.example:3128");
        assert!(told.contains("by the proxy proxy.example:3128: HTTPS_PROXY"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
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
