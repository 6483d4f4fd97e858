//! What agents are installed from.

use std::path::PathBuf;

use clap::Args;

use crate::installer::PublicUrl;

/// What agents are installed from.
#[derive(Debug, Clone, Args)]
pub struct InstallerArgs {
    /// Where agents reach this server: scheme, host and port. Installers hold it; without it there are none,
    /// except that `dev` takes its own address.
    #[arg(long, env = "PLANASONIX_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,
    /// The folder of the agent's programs: `linux-x86_64/planasonix-agent`, `linux-aarch64/…`, `macos-aarch64/…`,
    /// `macos-x86_64/…`, `windows-x86_64/planasonix-agent.exe` [default: `agents` beside this program; `dev`
    /// has the host's own built].
    #[arg(long, env = "PLANASONIX_AGENTS_DIR", value_name = "DIR")]
    pub agents_dir: Option<PathBuf>,
}
