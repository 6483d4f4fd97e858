//! The way out of a network that lets nobody out directly.

use std::fmt;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

use super::{ConfigError, Lines};

/// The proxies, as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name them.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For a control plane at `https://`.
    pub https: Option<ProxyUrl>,
    /// For a control plane at `http://`.
    pub http: Option<ProxyUrl>,
    /// Hosts, domains and networks that are reached directly, with commas between.
    pub exceptions: Option<String>,
}

impl Proxies {
    /// Takes each from its variable, in capitals or, as curl has it, in small letters; else from the file.
    pub(super) fn resolve(
        variable: impl Fn(&str) -> Option<String>,
        lines: &Lines,
    ) -> Result<Self, ConfigError> {
        let either = |name: &str| {
            let given = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
            given.or_else(|| lines.get(name).map(str::to_owned))
        };
        let proxy = |name| either(name).map(|text| ProxyUrl::parse(name, &text)).transpose();
        Ok(Self { https: proxy("HTTPS_PROXY")?, http: proxy("HTTP_PROXY")?, exceptions: either("NO_PROXY") })
    }
}

impl Proxies {
    /// Whether the system's own settings say how `url` is reached: where no proxy is named here, Windows and
    /// macOS have a say of their own, except on what is to be reached directly.
    pub fn leave_to_system(&self, url: &Url) -> bool {
        let named = self.https.is_some() || self.http.is_some();
        cfg!(any(windows, target_os = "macos")) && !named && !self.except(url)
    }

    /// Whether `NO_PROXY` names `url`'s host.
    pub fn except(&self, url: &Url) -> bool {
        let exceptions = self.exceptions.as_deref().unwrap_or_default();
        let matcher = Matcher::builder().all("http://proxy.invalid").no(exceptions).build();
        url.as_str().parse::<Uri>().is_ok_and(|uri| matcher.intercept(&uri).is_none())
    }
}

/// A proxy's address. It may hold a password, which only [`ProxyUrl::expose`] tells.
#[derive(Clone)]
pub struct ProxyUrl(Url);

impl ProxyUrl {
    fn parse(name: &'static str, text: &str) -> Result<Self, ConfigError> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let refused = || ConfigError::Value {
            name,
            issue: "not a proxy's address: write it like http://proxy.example.com:3128".to_owned(),
        };
        let url = Url::parse(whole.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.filter(Url::has_host).map(Self).ok_or_else(refused)
    }

    /// The address, with its password.
    pub const fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        if !shown.username().is_empty() || shown.password().is_some() {
            // Neither fails on an address that has a host, as all of ours do.
            let _ = shown.set_username("REDACTED");
            let _ = shown.set_password(None);
        }
        fmt::Display::fmt(&shown, f)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_holds_where_no_proxy_is_named_too() {
        let exceptions = Some(".example, 10.0.0.0/8".to_owned());
        let proxies = Proxies { exceptions, ..Proxies::default() };
        for (url, excepted) in [
            ("https://api.example", true),
            ("http://10.1.2.3:8080", true),
            ("https://api.planasonix.com", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(proxies.except(&url), excepted, "{url}");
            assert!(!Proxies::default().except(&url), "{url}");
            let systems_word_counts = cfg!(any(windows, target_os = "macos")) && !excepted;
            assert_eq!(proxies.leave_to_system(&url), systems_word_counts, "{url}");
        }
    }

    #[test]
    fn a_proxys_password_is_never_printed() {
        let proxy = ProxyUrl::parse("HTTPS_PROXY", "http://me:secret@proxy.example:3128").unwrap();
        assert_eq!(format!("{proxy} {proxy:?}").matches("secret").count(), 0);
        assert_eq!(proxy.to_string(), "http://REDACTED@proxy.example:3128/");
        assert_eq!(proxy.expose().password(), Some("secret"));
    }
}
