//! Installers: bundles of the real agent with all that puts it to work on a host, and the commands that fetch
//! and run them.
//!
//! A bundle is a part that is the same for every agent, packed once when the server starts, and a small tail
//! made for each request, which names the agent. So a download costs the server no memory to speak of, and the
//! same request gives the same bytes, on every server of the same version and with the same binaries. No bundle
//! and no command holds a secret.
//!
//! Where agents find the server comes from its settings alone ([`PublicUrl`]), never from a request: a forged
//! `Host` would send tokens elsewhere.

mod archive;
pub mod binaries;
mod bundle;
mod conf;
mod manual;
mod public_url;
mod templates;

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use planasonix_wire::{AgentId, installer::ManualInstall};

use self::bundle::Bundle;
pub use self::{
    binaries::Binary,
    bundle::Package,
    public_url::{InvalidPublicUrl, PublicUrl},
};
use crate::{
    domain::{Error, Result, agent::Platform},
    meter,
};

/// Pause after a bundle could not be packed; doubled each time up to `MAX_RETRY_PAUSE`.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const MAX_RETRY_PAUSE: Duration = Duration::from_mins(1);

/// The installers that this server hands out. Cheap to clone; clones share what is in stock.
#[derive(Clone, Default)]
pub struct Installers {
    public_url: Option<PublicUrl>,
    stock: Arc<RwLock<HashMap<Platform, Stock>>>,
}

/// How far a platform's bundle has come. One that is not listed has no binary here.
#[derive(Clone)]
enum Stock {
    /// Its binary is being built.
    Built,
    /// It is being packed.
    Packed,
    /// It is there.
    Ready(Bundle),
    /// It could not be packed, for this reason, and is tried again.
    Failed(String),
}

impl Installers {
    /// None in stock yet. Without a public URL none is ever handed out.
    pub fn new(public_url: Option<PublicUrl>) -> Self {
        Self { public_url, stock: Arc::default() }
    }

    /// Packs these binaries' bundles, one for each platform; takes seconds. Returns whether all are there. What cannot be
    /// packed is logged, and callers get the reason.
    pub fn stock(&self, binaries: &[Binary]) -> bool {
        self.announce(binaries);
        let mut complete = true;
        for (platform, binaries) in by_platform(binaries) {
            if self.is_ready(platform) {
                continue;
            }
            match Bundle::pack(platform, &binaries) {
                Ok(bundle) => {
                    tracing::info!(%platform, bytes = bundle.len(), "installer ready");
                    self.note(platform, Stock::Ready(bundle));
                }
                Err(error) => {
                    tracing::error!(%platform, %error, "installer cannot be prepared");
                    self.note(platform, Stock::Failed(error.to_string()));
                    complete = false;
                }
            }
        }
        complete
    }

    /// The same until all are there, with a pause after each failure: room for temporary files may be made, a folder
    /// mounted, a program replaced.
    pub fn stock_all(&self, binaries: &[Binary]) {
        let mut pause = RETRY_PAUSE;
        while !self.stock(binaries) {
            thread::sleep(pause);
            pause = MAX_RETRY_PAUSE.min(2 * pause);
        }
    }

    /// The same on a thread of its own, which the end of the process does not wait for.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn stock_in_background(&self, binaries: Vec<Binary>) -> io::Result<()> {
        self.announce(&binaries);
        let installers = self.clone();
        let work = move || installers.stock_all(&binaries);
        thread::Builder::new().name("installers".to_owned()).spawn(work).map(drop)
    }

    /// Says that a platform's binary is being built, and will be stocked.
    pub fn await_build(&self, platform: Platform) {
        self.note(platform, Stock::Built);
    }

    /// Says that a platform's binary will not come.
    pub fn give_up(&self, platform: Platform) {
        self.stock.write().unwrap_or_else(PoisonError::into_inner).remove(&platform);
        meter::installer_ready(platform.as_str(), false);
    }

    /// One agent's bundle for a platform.
    ///
    /// # Errors
    /// [`Error::NoPublicUrl`], or why there is none (yet).
    pub fn package(&self, agent: AgentId, platform: Platform) -> Result<Package> {
        let url = self.public_url()?;
        self.bundle(platform)?.package(url, agent).map_err(|error| Error::Internal(error.into()))
    }

    /// How one agent is installed by hand on a host of this platform.
    ///
    /// # Errors
    /// As [`Self::package`]: a command that fetches nothing is none.
    pub fn manual(&self, agent: AgentId, platform: Platform) -> Result<ManualInstall> {
        let package = self.package(agent, platform)?;
        Ok(manual::steps(self.public_url()?, agent, platform, &package.sha256()))
    }

    fn public_url(&self) -> Result<&PublicUrl> {
        self.public_url.as_ref().ok_or(Error::NoPublicUrl)
    }

    fn bundle(&self, platform: Platform) -> Result<Bundle> {
        let stock = self.stock.read().unwrap_or_else(PoisonError::into_inner);
        match stock.get(&platform) {
            Some(Stock::Ready(bundle)) => Ok(bundle.clone()),
            Some(Stock::Packed) => Err(Error::InstallerBeingPacked(platform)),
            Some(Stock::Built) => Err(Error::InstallerBeingBuilt(platform)),
            Some(Stock::Failed(reason)) => Err(Error::InstallerFailed { platform, reason: reason.clone() }),
            None => {
                let there = Platform::ALL.iter().copied().filter(|other| stock.contains_key(other));
                Err(Error::InstallerUnavailable { platform, there: there.collect() })
            }
        }
    }

    fn is_ready(&self, platform: Platform) -> bool {
        let stock = self.stock.read().unwrap_or_else(PoisonError::into_inner);
        matches!(stock.get(&platform), Some(Stock::Ready(_)))
    }

    /// Says what is being packed. What failed before keeps its reason until it is there.
    fn announce(&self, binaries: &[Binary]) {
        for (platform, _) in by_platform(binaries) {
            let mut stock = self.stock.write().unwrap_or_else(PoisonError::into_inner);
            match stock.get(&platform) {
                Some(Stock::Ready(_) | Stock::Failed(_)) => {}
                Some(Stock::Built | Stock::Packed) | None => drop(stock.insert(platform, Stock::Packed)),
            }
            drop(stock);
            meter::installer_ready(platform.as_str(), self.is_ready(platform));
        }
    }

    fn note(&self, platform: Platform, stock: Stock) {
        meter::installer_ready(platform.as_str(), matches!(stock, Stock::Ready(_)));
        self.stock.write().unwrap_or_else(PoisonError::into_inner).insert(platform, stock);
    }
}

impl fmt::Debug for Installers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installers").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

fn by_platform(binaries: &[Binary]) -> impl Iterator<Item = (Platform, Vec<&Binary>)> {
    let of = |platform| binaries.iter().filter(|binary| binary.platform == platform).collect::<Vec<_>>();
    let each = Platform::ALL.iter().map(move |platform| (*platform, of(*platform)));
    each.filter(|(_, binaries)| !binaries.is_empty())
}
