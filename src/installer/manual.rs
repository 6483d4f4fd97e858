//! The commands that install an agent by hand.
//!
//! Each is to be pasted as it stands, both into the same shell. The enrollment token is on no command line, where other
//! users of the host could read it: `curl` reads its header from standard input, the install script its variable.
//! `sudo` writes a variable that it is told to keep into its log, so it is piped past it. Nothing is unpacked, let
//! alone run as root, unless the checksum holds.
//!
//! The first step makes a folder that only its user can enter, and leaves its path in a variable of the shell. Bundle
//! and unpacked files lie there alone, so what was checked is what runs, also where others may write in the working
//! folder. The second step removes the folder and the variable, however it ends; without the first it does nothing.

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

const POSIX_NEEDS: &str =
    "needs curl, tar, CA certificates, and root or sudo; paste both steps into one shell";
const MACOS_NEEDS: &str = "needs an administrator's account; paste both steps into one shell";
const WINDOWS_NEEDS: &str = "in PowerShell, as administrator; paste both steps into one window";

/// A download that fails leaves no folder and no variable behind.
fn by_curl(source: &str) -> String {
    format!(
        "unset planasonix_dir; planasonix_dir=$(mktemp -d) && \
         {{ printf 'Authorization: Bearer %s' \"$PLANASONIX_ENROLLMENT_TOKEN\" | \
         curl -fsSL -H @- \"{source}\" -o \"$planasonix_dir/planasonix-agent.tar.gz\" || \
         {{ rm -rf \"$planasonix_dir\"; unset planasonix_dir; false; }}; }}"
    )
}

fn sum(sha256: &str) -> String {
    format!(r#"printf '%s  %s\n' {sha256} "$d/planasonix-agent.tar.gz""#)
}

/// What the script takes: the token, and the way out of a network that lets nobody out directly, which `curl` took
/// as well.
const PIPED: &str = "PLANASONIX_(ENROLLMENT_TOKEN|CA_FILE)|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy";

/// As root the script is run directly: a small host may have no sudo. `sh` runs it, since the folder for temporary
/// files may be mounted `noexec`.
fn from_tar(check: &str) -> String {
    format!(
        "(d=${{planasonix_dir:?run step 1 in this shell first}} && trap 'rm -rf \"$d\"' EXIT && \
         {check} && tar -xzf \"$d/planasonix-agent.tar.gz\" -C \"$d\" && \
         export PLANASONIX_ENROLLMENT_TOKEN && if [ \"$(id -u)\" -eq 0 ]; \
         then sh \"$d/planasonix-agent/install.sh\"; \
         else env | grep -E '^({PIPED})=' | sudo sh \"$d/planasonix-agent/install.sh\" --environment-file -; fi) \
         && unset planasonix_dir || {{ unset planasonix_dir; false; }}"
    )
}

/// In a block of its own, so that the session's settings stay as they are. Older systems speak TLS 1.2 only when
/// told to, and take no proxy from the environment. The folder is closed to everybody but administrators while it is
/// empty.
fn by_powershell(source: &str) -> String {
    format!(
        "$planasonixDir = $null; $planasonixDir = \
         & {{ $ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue'; \
         [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor \
         [Net.SecurityProtocolType]::Tls12; \
         $d = Join-Path ([IO.Path]::GetTempPath()) ([guid]::NewGuid()); \
         New-Item -ItemType Directory -Path $d | Out-Null; try {{ \
         icacls.exe $d /setowner '*S-1-5-32-544' /q | Out-Null; \
         if ($LASTEXITCODE -ne 0) {{ throw \"cannot take $d over: run this as administrator\" }}; \
         icacls.exe $d /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' /q | Out-Null; \
         if ($LASTEXITCODE -ne 0) {{ throw \"cannot close $d to others\" }}; \
         $p = @{{}}; $x = if ($env:HTTPS_PROXY) {{ $env:HTTPS_PROXY }} else {{ $env:ALL_PROXY }}; \
         if ($x -and $PSVersionTable.PSVersion.Major -lt 6) \
         {{ $p.Proxy = if ($x -match '://') {{ $x }} else {{ \"http://$x\" }} }}; \
         Invoke-WebRequest @p -UseBasicParsing -Uri '{source}' -OutFile (Join-Path $d planasonix-agent.zip) \
         -Headers @{{ Authorization = \"Bearer $env:PLANASONIX_ENROLLMENT_TOKEN\" }} | Out-Null; $d }} \
         catch {{ [IO.Directory]::Delete($d, $true); throw }} }}"
    )
}

fn from_zip(sha256: &str) -> String {
    format!(
        "& {{ $ErrorActionPreference = 'Stop'; $d = $planasonixDir; \
         if (-not $d) {{ throw 'run step 1 in this window first' }}; try {{ \
         $zip = Join-Path $d planasonix-agent.zip; \
         if ((Get-FileHash -Algorithm SHA256 $zip).Hash -ne '{sha256}') \
         {{ throw 'planasonix-agent.zip is not what was to be downloaded' }}; \
         Expand-Archive -Path $zip -DestinationPath $d; \
         powershell.exe -NoProfile -ExecutionPolicy Bypass -File (Join-Path $d planasonix-agent\\install.ps1); \
         if ($LASTEXITCODE -ne 0) {{ throw \"install.ps1 ended with $LASTEXITCODE\" }} }} \
         finally {{ [IO.Directory]::Delete($d, $true); Set-Variable planasonixDir $null -Scope 1 }} }}"
    )
}
