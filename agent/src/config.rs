//! Every setting of the program. The only place that reads the environment.
//!
//! A setting is a flag, else a variable, else a line `KEY=value` of the configuration file, else a
//! default. The file has the same form on every platform, and systemd can read it as an
//! `EnvironmentFile`: `#` begins a comment line, nothing is quoted, nothing is expanded.

mod error;
mod file;
mod places;
mod proxy;
mod tokens;

use std::{env, path::PathBuf};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use planasonix_wire::AgentId;
use reqwest::Url;

pub use self::{
    error::ConfigError,
    file::Lines,
    proxy::{Proxies, ProxyChoice, ProxyScheme, ProxyUrl},
    tokens::{TokenArgs, TokenSource},
};

/// The variable that an enrollment token is handed over in. No child process may inherit it.
pub const TOKEN_VARIABLE: &str = "PLANASONIX_ENROLLMENT_TOKEN";

/// The flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// The configuration file [default: the installer's].
    #[arg(long, global = true, env = "PLANASONIX_CONFIG", value_name = "FILE", value_parser = path())]
    pub config: Option<PathBuf>,
    /// Where the control plane is, such as `https://api.planasonix.com`.
    #[arg(long, global = true, env = "PLANASONIX_API_HOST", value_name = "URL")]
    pub api_host: Option<String>,
    /// The agent that this host is meant to be; another one is warned about.
    #[arg(long, global = true, env = "PLANASONIX_AGENT_ID", value_name = "ID")]
    pub agent_id: Option<String>,
    /// Certificate authorities to trust beside the system's (PEM).
    #[arg(long, global = true, env = "PLANASONIX_CA_FILE", value_name = "FILE", value_parser = path())]
    pub ca_file: Option<PathBuf>,
    /// Where the agent keeps its identity.
    #[arg(long, global = true, env = "PLANASONIX_STATE_DIR", value_name = "DIR", value_parser = path())]
    pub state_dir: Option<PathBuf>,
    /// Where this host's jobs keep their data: the free space of its volume is reported [default: the state folder].
    #[arg(long, global = true, env = "PLANASONIX_DATA_DIR", value_name = "DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// Where the agent and the pipeline runtimes of this host meet.
    #[arg(long, global = true, env = "PLANASONIX_RUNTIME_DIR", value_name = "DIR", value_parser = path())]
    pub runtime_dir: Option<PathBuf>,
    /// What to log: a level (error, warn, info, debug, trace), or a level for each module [default: info].
    #[arg(long, global = true, env = "PLANASONIX_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Where to log [default: standard error].
    #[arg(long, global = true, env = "PLANASONIX_LOG_FILE", value_name = "FILE", value_parser = path())]
    pub log_file: Option<PathBuf>,
}

/// The settings, as all that follows uses them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configuration file, which need not exist.
    pub file: PathBuf,
    /// The control plane, if it was named.
    pub api_host: Option<Url>,
    /// The agent that this host is meant to be.
    pub agent_id: Option<AgentId>,
    /// Certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The way out of this host's network.
    pub proxies: Proxies,
    /// Where the identity is kept.
    pub state_dir: PathBuf,
    /// A folder on the volume whose free space is reported.
    pub data_dir: PathBuf,
    /// Where the agent and the pipeline runtimes meet.
    pub runtime_dir: PathBuf,
    /// What to log.
    pub log: String,
    /// Where to log; standard error without it.
    pub log_file: Option<PathBuf>,
    /// Where an enrollment token comes from, when one is needed.
    pub tokens: TokenSource,
    /// Keys of the configuration file that mean nothing here: probably mistyped.
    pub unknown_keys: Vec<String>,
    /// The flags, from which all this can be read again.
    flags: Options,
}

impl Config {
    /// Reads the environment and the configuration file.
    pub fn load(options: &Options) -> Result<Self, ConfigError> {
        let given = options.config.clone().filter(|path| !path.as_os_str().is_empty());
        let path = given.clone().unwrap_or_else(|| places::config_file(variable));
        let lines = Lines::read(&path, given.is_some())?;
        Self::resolve(options, path, &lines, variable)
    }

    /// Reads the configuration file again. Flags and environment are what they were when the process started.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        Self::load(&self.flags)
    }

    /// The same settings, holding no secret but a proxy's password.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { tokens: TokenSource::None, ..self.clone() }
    }

    /// What holds when nothing is set: for whoever has to say somewhere that the settings cannot be used.
    #[cfg(windows)]
    pub fn without_settings() -> Result<Self, ConfigError> {
        let places = |name: &str| variable(name).filter(|_| name == "ProgramData");
        Self::resolve(&Options::default(), places::config_file(places), &Lines::default(), places)
    }

    /// Settles every setting; `variable` looks one up in the environment.
    pub fn resolve(
        options: &Options,
        file: PathBuf,
        lines: &Lines,
        variable: impl Fn(&str) -> Option<String> + Copy,
    ) -> Result<Self, ConfigError> {
        let text = |flag: &Option<String>, key| chosen(flag.clone(), lines, key);
        let path = |flag: &Option<PathBuf>, key| {
            let flag = flag.clone().filter(|path| !path.as_os_str().is_empty());
            flag.or_else(|| lines.get(key).map(PathBuf::from))
        };
        let api_host = text(&options.api_host, "PLANASONIX_API_HOST");
        let agent_id = text(&options.agent_id, "PLANASONIX_AGENT_ID");
        let state_dir = path(&options.state_dir, "PLANASONIX_STATE_DIR");
        let runtime_dir = path(&options.runtime_dir, "PLANASONIX_RUNTIME_DIR");
        let state_dir = state_dir.unwrap_or_else(|| places::state_dir(variable));
        let api_host = api_host.as_deref().map(host).transpose()?;
        Ok(Self {
            proxies: Proxies::resolve(api_host.as_ref(), variable, lines)?,
            api_host,
            agent_id: agent_id.as_deref().map(agent).transpose()?,
            ca_file: path(&options.ca_file, "PLANASONIX_CA_FILE"),
            data_dir: path(&options.data_dir, "PLANASONIX_DATA_DIR").unwrap_or_else(|| state_dir.clone()),
            state_dir,
            runtime_dir: runtime_dir.unwrap_or_else(|| places::runtime_dir(variable)),
            log: text(&options.log, "PLANASONIX_LOG").unwrap_or_else(|| "info".to_owned()),
            log_file: path(&options.log_file, "PLANASONIX_LOG_FILE"),
            tokens: variable(TOKEN_VARIABLE).map_or(TokenSource::None, TokenSource::given),
            unknown_keys: lines.unknown(),
            flags: options.clone(),
            file,
        })
    }

    /// The control plane, which most commands cannot do without.
    pub fn api_host(&self) -> Result<&Url, ConfigError> {
        self.api_host.as_ref().ok_or_else(|| ConfigError::Value {
            name: "PLANASONIX_API_HOST",
            issue: format!(
                "not set: name the control plane with --api-host, the variable, or a line in {}",
                self.file.display()
            ),
        })
    }
}

/// A path, which may be empty: a variable that is set to nothing is not set.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn chosen(flag: Option<String>, lines: &Lines, key: &str) -> Option<String> {
    flag.filter(|value| !value.trim().is_empty()).or_else(|| lines.get(key).map(str::to_owned))
}

fn host(text: &str) -> Result<Url, ConfigError> {
    let refuse = |issue: &str| ConfigError::Value { name: "PLANASONIX_API_HOST", issue: issue.to_owned() };
    let url =
        Url::parse(text.trim()).map_err(|_| refuse("not a URL: write it like https://api.planasonix.com"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refuse("must begin with https:// (or http://) and name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("must not hold a user name or a password"));
    }
    // A backslash ends the host for some readers and not for others, and behind it may stand a password.
    if text.contains(['\\', '@']) {
        return Err(refuse("must not hold a backslash or @"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("must not hold ? or #"));
    }
    Ok(url)
}

fn agent(text: &str) -> Result<AgentId, ConfigError> {
    text.trim().parse().map_err(|_| ConfigError::Value {
        name: "PLANASONIX_AGENT_ID",
        issue: "not an agent's id: it is agt_ and 26 characters".to_owned(),
    })
}

/// A variable of the environment; one that is empty or not Unicode counts as not set.
fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(options: &Options, file: &str) -> Result<Config, ConfigError> {
        let lines = Lines::parse(file, "agent.conf".as_ref())?;
        let environment = |name: &str| (name == "https_proxy").then(|| "proxy.example:3128".to_owned());
        Config::resolve(options, "agent.conf".into(), &lines, environment)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "# installed\nPLANASONIX_API_HOST=https://file.example\nPLANASONIX_LOG=debug\n";
        let options = Options { api_host: Some("https://flag.example".to_owned()), ..Options::default() };
        let config = resolve(&options, file).unwrap();
        assert_eq!(config.api_host().unwrap().as_str(), "https://flag.example/");
        assert_eq!(config.log, "debug");
        assert_eq!(resolve(&Options::default(), "").unwrap().log, "info");
    }

    #[test]
    fn control_plane_may_have_any_name_that_resolves() {
        for name in
            ["https://control_plane.internal/", "https://api.planasonix.com.:8443/", "http://[::1]:8080/"]
        {
            let config = resolve(&Options::default(), &format!("PLANASONIX_API_HOST={name}")).unwrap();
            assert_eq!(config.api_host().unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_variable_left_empty_is_not_set() {
        let options =
            Options { api_host: Some(String::new()), state_dir: Some(PathBuf::new()), ..Options::default() };
        let config = resolve(&options, "PLANASONIX_STATE_DIR=/srv/agent").unwrap();
        assert_eq!(config.state_dir, PathBuf::from("/srv/agent"));
        let missing = config.api_host().unwrap_err().to_string();
        assert!(missing.starts_with("PLANASONIX_API_HOST: not set"), "{missing}");
    }

    #[test]
    fn a_bad_value_names_its_setting() {
        for (line, name) in [
            ("PLANASONIX_API_HOST=api.planasonix.com", "PLANASONIX_API_HOST"),
            ("PLANASONIX_API_HOST=ftp://x", "PLANASONIX_API_HOST"),
            ("PLANASONIX_API_HOST=https://user:hunter2@x", "PLANASONIX_API_HOST"),
            (r"PLANASONIX_API_HOST=https://CORP\user:hunter2@x", "PLANASONIX_API_HOST"),
            ("PLANASONIX_API_HOST=https://x/user:hunter2@y", "PLANASONIX_API_HOST"),
            ("PLANASONIX_AGENT_ID=agt_1", "PLANASONIX_AGENT_ID"),
            ("PLANASONIX_API_HOST=http://x\nHTTP_PROXY=http://[", "HTTP_PROXY"),
        ] {
            let error = resolve(&Options::default(), line).unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_proxy_of_the_environment_wins_over_the_file() {
        let config = resolve(&Options::default(), "HTTPS_PROXY=http://other:1\nNO_PROXY=internal").unwrap();
        assert_eq!(config.proxies.https.unwrap().to_string(), "http://proxy.example:3128");
        assert_eq!(config.proxies.exceptions.unwrap(), "internal");
    }
}
