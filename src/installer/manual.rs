//! The commands that install an agent by hand.
//!
//! Each is to be pasted as it stands. The enrollment token is on no command line, where other users of the host
//! could read it: `curl` reads its header from standard input, the install script its variable. `sudo` writes a
//! variable that it is told to keep into its log, so it is piped past it. Nothing is unpacked, let alone run as
//! root, unless the checksum holds.

use planasonix_wire::{
    AgentId,
    installer::{EnvironmentVariables, ManualInstall, Step},
};

use super::PublicUrl;
use crate::domain::agent::Platform;

/// Both steps, for a bundle of this SHA-256 in hexadecimal.
pub(super) fn steps(url: &PublicUrl, agent: AgentId, platform: Platform, sha256: &str) -> ManualInstall {
    let source = format!("{url}/api/agents/installer/{agent}/{platform}");
    let (needs, download, install) = match platform {
        Platform::Linux => {
            (POSIX_NEEDS, by_curl(&source), from_tar(&format!("{} | sha256sum -c -", sum(sha256))))
        }
        Platform::Macos => {
            (MACOS_NEEDS, by_curl(&source), from_tar(&format!("{} | shasum -a 256 -c -", sum(sha256))))
        }
        Platform::Windows => (WINDOWS_NEEDS, by_powershell(&source), from_zip(sha256)),
    };
    let step = |order, title, command| Step { order, title, command };
    ManualInstall {
        agent_id: agent,
        steps: vec![
            step(1, format!("Download bundle ({needs})"), download),
            step(2, "Extract and install".to_owned(), install),
        ],
        environment_variables: EnvironmentVariables {
            planasonix_api_host: url.to_string(),
            planasonix_agent_id: agent,
        },
    }
}

const POSIX_NEEDS: &str = "needs curl, tar, CA certificates, and root or sudo";
const MACOS_NEEDS: &str = "needs an administrator's account";
const WINDOWS_NEEDS: &str = "in PowerShell, as administrator";

fn by_curl(source: &str) -> String {
    format!(
        r#"printf 'Authorization: Bearer %s' "$PLANASONIX_ENROLLMENT_TOKEN" | curl -fsSL -H @- "{source}" -o planasonix-agent.tar.gz"#
    )
}

fn sum(sha256: &str) -> String {
    format!(r#"printf '%s  %s\n' {sha256} "$d/planasonix-agent.tar.gz""#)
}

/// What the script takes: the token, and the way out of a network that lets nobody out directly, which `curl` took
/// as well.
const PIPED: &str = "PLANASONIX_(ENROLLMENT_TOKEN|CA_FILE)|HTTPS?_PROXY|https?_proxy|NO_PROXY|no_proxy";

/// In a folder of its own, which goes afterwards: what was checked is what runs, also where others may write. As
/// root the script is run directly: a small host may have no sudo.
fn from_tar(check: &str) -> String {
    format!(
        "(d=$(mktemp -d \"$PWD/planasonix-agent.XXXXXX\") && trap 'rm -rf \"$d\"' EXIT && \
         cp planasonix-agent.tar.gz \"$d\" && {check} && tar -xzf \"$d/planasonix-agent.tar.gz\" -C \"$d\" && \
         export PLANASONIX_ENROLLMENT_TOKEN && if [ \"$(id -u)\" -eq 0 ]; \
         then \"$d/planasonix-agent/install.sh\"; \
         else env | grep -E '^({PIPED})=' | sudo \"$d/planasonix-agent/install.sh\" --environment-file -; fi)"
    )
}

/// In a block of its own, so that the session's settings stay as they are. Older systems speak TLS 1.2 only when
/// told to, and take no proxy from the environment.
fn by_powershell(source: &str) -> String {
    format!(
        "& {{ $ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue'; \
         [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor \
         [Net.SecurityProtocolType]::Tls12; \
         $p = @{{}}; if ($env:HTTPS_PROXY -and $PSVersionTable.PSVersion.Major -lt 6) \
         {{ $p.Proxy = if ($env:HTTPS_PROXY -match '://') {{ $env:HTTPS_PROXY }} else {{ \"http://$env:HTTPS_PROXY\" }} }}; \
         Invoke-WebRequest @p -UseBasicParsing -Uri '{source}' -OutFile planasonix-agent.zip \
         -Headers @{{ Authorization = \"Bearer $env:PLANASONIX_ENROLLMENT_TOKEN\" }} }}"
    )
}

/// The same, in the user's folder for temporary files.
fn from_zip(sha256: &str) -> String {
    format!(
        "& {{ $ErrorActionPreference = 'Stop'; $d = Join-Path $env:TEMP ([guid]::NewGuid()); \
         New-Item -ItemType Directory -Path $d | Out-Null; try {{ \
         Copy-Item planasonix-agent.zip $d; $zip = Join-Path $d planasonix-agent.zip; \
         if ((Get-FileHash -Algorithm SHA256 $zip).Hash -ne '{sha256}') \
         {{ throw 'planasonix-agent.zip is not what was to be downloaded' }}; \
         Expand-Archive -Path $zip -DestinationPath $d; \
         powershell.exe -NoProfile -ExecutionPolicy Bypass -File (Join-Path $d planasonix-agent\\install.ps1); \
         if ($LASTEXITCODE -ne 0) {{ throw \"install.ps1 ended with $LASTEXITCODE\" }} }} \
         finally {{ [IO.Directory]::Delete($d, $true) }} }}"
    )
}
