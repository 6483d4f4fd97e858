//! The scripts and service definitions that bundles hold beside the program.

use super::archive::{Content, Entry};
use crate::domain::agent::Platform;

const LINUX: [Entry<'static>; 4] = [
    script("install.sh", include_bytes!("templates/linux/install.sh")),
    definition("planasonix-agent.init", include_bytes!("templates/linux/planasonix-agent.init")),
    definition("planasonix-agent.service", include_bytes!("templates/linux/planasonix-agent.service")),
    script("uninstall.sh", include_bytes!("templates/linux/uninstall.sh")),
];

const MACOS: [Entry<'static>; 3] = [
    definition("com.planasonix.agent.plist", include_bytes!("templates/macos/com.planasonix.agent.plist")),
    script("install.sh", include_bytes!("templates/macos/install.sh")),
    script("uninstall.sh", include_bytes!("templates/macos/uninstall.sh")),
];

const WINDOWS: [Entry<'static>; 2] = [
    definition("install.ps1", include_bytes!("templates/windows/install.ps1")),
    definition("uninstall.ps1", include_bytes!("templates/windows/uninstall.ps1")),
];

/// Those of a platform.
pub(super) fn of(platform: Platform) -> &'static [Entry<'static>] {
    match platform {
        Platform::Linux => &LINUX,
        Platform::Macos => &MACOS,
        Platform::Windows => &WINDOWS,
    }
}

const fn script(path: &'static str, text: &'static [u8]) -> Entry<'static> {
    Entry { path, executable: true, content: Content::Bytes(text) }
}

const fn definition(path: &'static str, text: &'static [u8]) -> Entry<'static> {
    Entry { path, executable: false, content: Content::Bytes(text) }
}
