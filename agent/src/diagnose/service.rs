//! Whether the host's service manager keeps the agent running, as far as it tells.

use std::{io::ErrorKind, path::Path, time::Duration};

use super::finding::Finding;
use crate::subprocess;

const PATIENCE: Duration = Duration::from_secs(3);

/// A service manager: how it is asked, what it says when all is well, and what to do otherwise.
struct Manager {
    name: &'static str,
    /// Present where the service is installed.
    mark: &'static str,
    question: &'static [&'static str],
    running: &'static str,
    /// What the line that tells the state holds in any case.
    state: &'static str,
    advice: &'static str,
}

#[cfg(target_os = "linux")]
const MANAGERS: &[Manager] = &[
    Manager {
        name: "systemd",
        mark: "/etc/systemd/system/planasonix-agent.service",
        question: &["systemctl", "is-active", "planasonix-agent.service"],
        running: "active",
        state: "",
        advice: "systemctl restart planasonix-agent; why it ended: journalctl -u planasonix-agent -n 50",
    },
    Manager {
        name: "service script",
        mark: "/etc/init.d/planasonix-agent",
        question: &["/etc/init.d/planasonix-agent", "status"],
        running: "running",
        state: "",
        advice: "/etc/init.d/planasonix-agent start; why it ended: tail -n 50 /var/log/planasonix-agent.log \
                 /var/log/planasonix-agent/*.log",
    },
];

#[cfg(target_os = "macos")]
const MANAGERS: &[Manager] = &[Manager {
    name: "launchd",
    mark: "/Library/LaunchDaemons/com.planasonix.agent.plist",
    question: &["launchctl", "print", "system/com.planasonix.agent"],
    running: "state = running",
    state: "state = ",
    advice: "sudo launchctl kickstart -k system/com.planasonix.agent",
}];

#[cfg(windows)]
const MANAGERS: &[Manager] = &[Manager {
    name: "Windows services",
    mark: r"C:\Program Files\Planasonix Agent\planasonix-agent.exe",
    question: &["sc.exe", "query", crate::service::NAME],
    running: "RUNNING",
    state: "STATE",
    advice: "Start-Service planasonix-agent; why it ended: its log, below %ProgramData%\\Planasonix Agent",
}];

/// Asks the manager that the service was installed with. A host without one, such as a container, is no problem.
pub(super) async fn examine() -> Finding {
    if let Some(installed) = MANAGERS.iter().find(|manager| Path::new(manager.mark).exists()) {
        return ask(installed).await;
    }
    let mut finding = Finding::new("service");
    finding.fact("installed", "no");
    finding
}

async fn ask(manager: &Manager) -> Finding {
    let mut finding = Finding::new("service");
    finding.fact("manager", manager.name);
    let Some((program, arguments)) = manager.question.split_first() else { return finding };
    let said = match subprocess::query(program, arguments, PATIENCE).await {
        Ok(answer) => String::from_utf8_lossy(&answer.stdout).into_owned(),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            return finding.with_problem(format!("{program} does not answer"), manager.advice);
        }
        Err(error) => return finding.with_problem(format!("{program}: {error}"), manager.advice),
    };
    if let Some(state) = said.lines().find(|line| line.contains(manager.running)) {
        finding.fact("state", state.trim());
        return finding;
    }
    // The managers of Windows and macOS tell more than the state, and the former begins with an empty line.
    let told = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let state = told().find(|line| line.contains(manager.state)).or_else(|| told().next());
    finding.fact("state", state.unwrap_or("it says nothing"));
    finding.with_problem("the service does not run", manager.advice)
}
