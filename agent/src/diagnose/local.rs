//! What can be told without the network: the program and its host, the settings in force, the folder that the
//! agent shares with the pipeline runtimes.

use std::io::ErrorKind;

use sysinfo::System;

use super::finding::Finding;
use crate::{authorities, clock, config::Config, facts, runtimes};

/// The program and its host.
pub(super) fn program() -> Finding {
    let mut finding = Finding::new("program");
    finding.fact("version", facts::VERSION);
    finding.fact("platform", format!("{} {}", facts::platform(), std::env::consts::ARCH));
    if let Ok(system) = System::long_os_version() {
        finding.fact("system", system);
    }
    if let Ok(kernel) = System::kernel_version() {
        finding.fact("kernel", kernel);
    }
    if let Some(name) = facts::hostname() {
        finding.fact("hostname", name);
    }
    finding.fact("time", clock::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    finding
}

/// The settings in force. Of proxies, users and passwords are left out; the enrollment token is no setting.
pub(super) fn settings(config: &Config) -> Finding {
    let mut finding = Finding::new("configuration");
    let there = if config.file.exists() { "" } else { " (not there)" };
    finding.fact("file", format!("{}{there}", config.file.display()));
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "not set".to_owned());
    finding.fact("PLANASONIX_API_HOST", or_none(config.api_host.as_ref().map(ToString::to_string)));
    finding.fact("PLANASONIX_AGENT_ID", or_none(config.agent_id.as_ref().map(ToString::to_string)));
    finding
        .fact("PLANASONIX_CA_FILE", or_none(config.ca_file.as_ref().map(|path| path.display().to_string())));
    finding.fact("HTTPS_PROXY", or_none(config.proxies.https.as_ref().map(ToString::to_string)));
    finding.fact("HTTP_PROXY", or_none(config.proxies.http.as_ref().map(ToString::to_string)));
    finding.fact("ALL_PROXY", or_none(config.proxies.all.as_ref().map(ToString::to_string)));
    finding.fact("NO_PROXY", or_none(config.proxies.shown_exceptions()));
    finding.fact("PLANASONIX_STATE_DIR", config.state_dir.display());
    finding.fact("PLANASONIX_DATA_DIR", config.data_dir.display());
    finding.fact("PLANASONIX_RUNTIME_DIR", config.runtime_dir.display());
    finding.fact("PLANASONIX_LOG", &config.log);
    finding.fact(
        "PLANASONIX_LOG_FILE",
        or_none(config.log_file.as_ref().map(|path| path.display().to_string())),
    );
    if let Err(error) = config.api_host() {
        finding.problem(error.to_string(), "the installer's bundle holds an agent.conf that names it");
    }
    if !config.unknown_keys.is_empty() {
        finding.problem(
            format!(
                "{} holds keys that mean nothing: {}",
                config.file.display(),
                config.unknown_keys.join(", ")
            ),
            "correct or remove them",
        );
    }
    unusable_authorities(&mut finding, config);
    finding
}

/// Certificates that the agent leaves out. A file of which it can use none is the handshake's problem.
fn unusable_authorities(finding: &mut Finding, config: &Config) {
    let Some(found) = config.ca_file.as_deref().and_then(|path| authorities::read(path).ok()) else { return };
    for (nth, why) in found.unusable.iter().enumerate() {
        finding.fact(format!("unusable authority {}", nth + 1), why);
    }
    if let (Some(path), Some(first), false) =
        (&config.ca_file, found.unusable.first(), found.certificates.is_empty())
    {
        finding.problem(
            format!("{}: {first}", path.display()),
            "replace or remove it; the other authorities of the file are used",
        );
    }
}

/// The folder that the agent shares with the pipeline runtimes, and what the agent last said there.
pub(super) fn runtime_folder(config: &Config) -> Finding {
    let mut finding = Finding::new("runtime folder");
    let folder = &config.runtime_dir;
    finding.fact("folder", folder.display());
    match runtimes::described(folder, clock::file_time()) {
        Ok(runtimes) if runtimes.is_empty() => finding.fact("runtimes", "none reports"),
        Ok(runtimes) => {
            for (name, said) in runtimes {
                match said {
                    Ok(line) => finding.fact(name, line),
                    Err(why) => {
                        finding.fact(&name, &why);
                        finding.problem(
                            format!("{name}: {why}; how many jobs run is unknown to the control plane"),
                            "correct what that runtime writes, or remove its file if it is gone",
                        );
                    }
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return finding.unknown(format!("{}: {error}", folder.display()));
        }
        Err(error) => {
            let advice =
                "start the service, which makes it, or set PLANASONIX_RUNTIME_DIR to a folder of the agent's";
            return finding.with_problem(format!("{}: {error}", folder.display()), advice);
        }
    }
    let Some(said) = runtimes::read_agent_file(folder) else {
        return finding.with_problem("the agent has said nothing here", "start the agent's service");
    };
    finding.fact("agent", &said.status);
    finding.fact("said at", said.updated_at);
    if !said.is_recent(clock::now()) {
        finding.problem("the agent has been silent for more than 5 minutes", "start the agent's service");
    }
    finding
}
