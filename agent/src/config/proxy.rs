//! Which proxy the control plane is reached by, if any: the rules of curl, which fetched the bundle.

mod exceptions;
mod url;

use reqwest::Url;

pub use self::url::{ProxyScheme, ProxyUrl};
use super::{ConfigError, Lines};

/// The proxies, as `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name them.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For a control plane at `https://`.
    pub https: Option<ProxyUrl>,
    /// For a control plane at `http://`.
    pub http: Option<ProxyUrl>,
    /// For either, unless its own is set.
    pub all: Option<ProxyUrl>,
    /// Hosts, domains and networks that are reached directly, with commas or blanks between.
    pub exceptions: Option<String>,
}

/// How the control plane is reached.
#[derive(Debug)]
pub enum ProxyChoice<'a> {
    /// By this proxy.
    Proxy {
        /// The name of the setting that holds it.
        setting: &'static str,
        /// The proxy.
        proxy: &'a ProxyUrl,
    },
    /// Directly: `NO_PROXY` names the host.
    Excepted,
    /// Directly: no proxy is set for addresses of its scheme.
    NotSet,
    /// As the system's own settings say, on Windows and macOS.
    System,
}

impl Proxies {
    /// Takes each from its variable, in small letters before capitals as curl does; else from the file. A variable
    /// that is empty counts as not set, and so does a malformed one that `host` is not reached by.
    pub(super) fn resolve(
        host: Option<&Url>,
        variable: impl Fn(&str) -> Option<String>,
        lines: &Lines,
    ) -> Result<Self, ConfigError> {
        let either = |name: &str| {
            let lower = name.to_ascii_lowercase();
            let given = variable(&lower).or_else(|| variable(name));
            given.or_else(|| lines.get(&lower).or_else(|| lines.get(name)).map(str::to_owned))
        };
        let proxy =
            |name, is_used: bool| match either(name).map(|text| ProxyUrl::parse(name, &text)).transpose() {
                Err(_) if !is_used => Ok(None),
                parsed => parsed,
            };
        let without_tls = host.is_some_and(|host| host.scheme() == "http");
        let https = proxy("HTTPS_PROXY", !without_tls)?;
        let http = proxy("HTTP_PROXY", without_tls)?;
        let own = if without_tls { &http } else { &https };
        let all = proxy("ALL_PROXY", own.is_none())?;
        Ok(Self { https, http, all, exceptions: either("NO_PROXY") })
    }

    /// How `url` is reached. The agent's client and `diagnose` both follow this.
    pub fn choose(&self, url: &Url) -> ProxyChoice<'_> {
        let named = [("HTTPS_PROXY", &self.https), ("HTTP_PROXY", &self.http), ("ALL_PROXY", &self.all)];
        if self.exceptions.as_deref().is_some_and(|list| exceptions::names(list, url)) {
            return ProxyChoice::Excepted;
        }
        if cfg!(any(windows, target_os = "macos")) && named.iter().all(|(_, proxy)| proxy.is_none()) {
            return ProxyChoice::System;
        }
        let other = if url.scheme() == "https" { "HTTP_PROXY" } else { "HTTPS_PROXY" };
        named
            .into_iter()
            .filter(|(setting, _)| *setting != other)
            .find_map(|(setting, proxy)| proxy.as_ref().map(|proxy| ProxyChoice::Proxy { setting, proxy }))
            .unwrap_or(ProxyChoice::NotSet)
    }

    /// `NO_PROXY` as it may be shown: an entry with `@` may hold a password.
    pub fn shown_exceptions(&self) -> Option<String> {
        let shown = |entry: &str| if entry.contains('@') { "REDACTED".to_owned() } else { entry.to_owned() };
        self.exceptions.as_ref().map(|list| list.split(',').map(shown).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(environment: &[(&str, &str)], file: &str) -> Proxies {
        let lines = Lines::parse(file, "agent.conf".as_ref()).unwrap();
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, value)| *key == name && !value.is_empty());
            found.map(|(_, value)| (*value).to_owned())
        };
        Proxies::resolve(None, variable, &lines).unwrap()
    }

    #[test]
    fn malformed_proxy_stops_only_who_would_use_it() {
        let bad = "quic://proxy.example";
        for (host, file, is_error) in [
            ("https://api.example", format!("HTTPS_PROXY={bad}"), true),
            ("https://api.example", format!("HTTP_PROXY={bad}"), false),
            ("https://api.example", format!("ALL_PROXY={bad}"), true),
            ("https://api.example", format!("ALL_PROXY={bad}\nHTTPS_PROXY=http://proxy.example"), false),
            ("http://api.example", format!("HTTPS_PROXY={bad}\nHTTP_PROXY=http://proxy.example"), false),
            ("http://api.example", format!("HTTP_PROXY={bad}"), true),
        ] {
            let lines = Lines::parse(&file, "agent.conf".as_ref()).unwrap();
            let host = Url::parse(host).unwrap();
            let resolved = Proxies::resolve(Some(&host), |_| None, &lines);
            assert_eq!(resolved.is_err(), is_error, "{host} {file}");
        }
    }

    fn chosen(proxies: &Proxies, url: &str) -> String {
        match proxies.choose(&Url::parse(url).unwrap()) {
            ProxyChoice::Proxy { setting, proxy } => format!("{setting} {proxy}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn exception_holds_without_a_named_proxy_too() {
        let excepted = proxies(&[], "NO_PROXY=.example, 10.0.0.0/8");
        for url in ["https://api.example", "http://10.1.2.3:8080"] {
            assert_eq!(chosen(&excepted, url), "Excepted", "{url}");
        }
        let by_system = if cfg!(any(windows, target_os = "macos")) { "System" } else { "NotSet" };
        assert_eq!(chosen(&excepted, "https://api.planasonix.com"), by_system);
        assert_eq!(chosen(&Proxies::default(), "https://api.example"), by_system);
    }

    /// Each as curl 7.88 chooses, but for `HTTP_PROXY` in capitals, which curl leaves out of fear of CGI.
    #[test]
    fn settings_are_preferred_as_curl_prefers_them() {
        let https = "https://api.example";
        for (environment, url, expected) in [
            (
                &[("https_proxy", "http://low:1"), ("HTTPS_PROXY", "http://up:1")][..],
                https,
                "HTTPS_PROXY http://low:1",
            ),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "http://up:1")], https, "HTTPS_PROXY http://up:1"),
            (&[("ALL_PROXY", "http://up:1")], https, "ALL_PROXY http://up:1"),
            (&[("all_proxy", "http://low:1"), ("ALL_PROXY", "http://up:1")], https, "ALL_PROXY http://low:1"),
            (
                &[("all_proxy", "http://low:1"), ("HTTPS_PROXY", "http://up:1")],
                https,
                "HTTPS_PROXY http://up:1",
            ),
            (&[("ALL_PROXY", "http://up:1"), ("NO_PROXY", "api.example")], https, "Excepted"),
            (
                &[("ALL_PROXY", "http://up:1"), ("NO_PROXY", "api.example"), ("no_proxy", "b")],
                https,
                "ALL_PROXY http://up:1",
            ),
            (
                &[("HTTP_PROXY", "http://up:1"), ("all_proxy", "socks5h://low:2")],
                https,
                "ALL_PROXY socks5h://low:2",
            ),
            (&[("HTTPS_PROXY", "http://up:1")], "http://api.example", "NotSet"),
            (&[("HTTP_PROXY", "http://up:1")], "http://api.example", "HTTP_PROXY http://up:1"),
        ] {
            assert_eq!(chosen(&proxies(environment, ""), url), expected, "{environment:?}");
        }
    }

    #[test]
    fn variable_wins_over_file_and_file_takes_small_letters() {
        let both = proxies(&[("HTTPS_PROXY", "http://env:1")], "HTTPS_PROXY=http://file:1");
        assert_eq!(chosen(&both, "https://api.example"), "HTTPS_PROXY http://env:1");
        let file = proxies(&[], "https_proxy=http://file:1\nno_proxy=b");
        assert_eq!(chosen(&file, "https://api.example"), "HTTPS_PROXY http://file:1");
    }

    #[test]
    fn password_within_exceptions_is_not_shown() {
        let shown = proxies(&[], "NO_PROXY=a.example, http://me:secret@b.example").shown_exceptions();
        assert_eq!(shown.unwrap(), "a.example,REDACTED");
    }
}
