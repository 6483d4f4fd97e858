//! Where the agent's programs come from: a folder of all platforms', or for `dev` the host's own, built if need
//! be.

mod build;

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub use self::build::Build;
use self::build::Plan;
use super::failure::Failure;
use crate::{
    config::InstallerArgs,
    installer::{
        Binary, Installers, PublicUrl,
        binaries::{file_name, host, in_folder},
    },
};

/// The folder beside this program where `serve` looks.
const FOLDER: &str = "agents";

/// What an agent of this program's version says of itself.
const VERSION: &str = concat!("planasonix-agent ", env!("CARGO_PKG_VERSION"));

/// The installers of `serve`.
///
/// # Errors
/// The folder that was named cannot be read.
pub fn for_serve(args: InstallerArgs) -> Result<Installers, Failure> {
    let beside = || Some(folder_of_this()?.join(FOLDER)).filter(|folder| folder.is_dir());
    let folder = args.agents_dir.or_else(beside);
    let binaries = folder.as_deref().map(read).transpose()?.unwrap_or_default();
    let installers = Installers::new(args.public_url.clone());
    if args.public_url.is_none() {
        tracing::info!("no installers: --public-url is not set");
    } else if binaries.is_empty() {
        tracing::info!("no installers: there are no agents in --agents-dir");
    } else {
        installers.stock_in_background(binaries)?;
    }
    Ok(installers)
}

/// The installers of `dev`, and the build of the host's agent, if it takes one; that ends when it is dropped.
///
/// # Errors
/// The folder that was named cannot be read.
pub fn for_dev(args: InstallerArgs, own: PublicUrl) -> Result<(Installers, Option<Build>), Failure> {
    let installers = Installers::new(Some(args.public_url.unwrap_or(own)));
    if let Some(folder) = args.agents_dir {
        installers.stock_in_background(read(&folder)?)?;
        return Ok((installers, None));
    }
    let Some((platform, architecture)) = host() else {
        tracing::warn!("no installer: agents are not built for this host; name a folder with --agents-dir");
        return Ok((installers, None));
    };
    let (folder, name) = (folder_of_this(), file_name(platform));
    let plan = folder.as_deref().and_then(|folder| Plan::find(folder, name));
    let binary = |path| Binary { platform, architecture, path };
    let places = folder.iter().map(|folder| folder.join(name)).chain(plan.iter().map(Plan::program));
    // An old one is still an agent. Who can have the right one built does not take it.
    let may_be_old = plan.is_none();
    let fits = |binary: &Binary| binary.check().is_ok() && (may_be_old || is_current(&binary.path));
    if let Some(there) = places.map(binary).find(fits) {
        tracing::info!(%platform, architecture, file = %there.path.display(), "agent found");
        installers.stock_in_background(vec![there])?;
        return Ok((installers, None));
    }
    let Some(plan) = plan else {
        tracing::warn!(
            "no installer: there is no agent beside this program, and no checkout to build it from"
        );
        return Ok((installers, None));
    };
    let build = start(&plan, &installers, binary(plan.program()))?;
    Ok((installers, Some(build)))
}

/// Has the agent built, and stocked when it is there.
fn start(plan: &Plan, installers: &Installers, binary: Binary) -> io::Result<Build> {
    let platform = binary.platform;
    installers.await_build(platform);
    tracing::info!(%platform, "cargo builds the agent; its installer follows when it is done");
    let installers = installers.clone();
    plan.start(move |built| match built {
        Ok(()) => installers.stock_all(&[binary]),
        Err(error) => {
            tracing::warn!(%platform, "no installer: {error}");
            installers.give_up(platform);
        }
    })
}

/// Whether an agent's program is of this version; it is asked, for a name does not say.
fn is_current(program: &Path) -> bool {
    let answer = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let said = answer.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let current = said.as_ref().is_ok_and(|said| said == VERSION);
    if !current {
        tracing::info!(file = %program.display(), ?said, "an agent of another version is passed over");
    }
    current
}

fn read(folder: &Path) -> Result<Vec<Binary>, Failure> {
    in_folder(folder)
        .map_err(|error| Failure::new(format!("--agents-dir: cannot read {}: {error}", folder.display())))
}

/// Where this program lies.
fn folder_of_this() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}
