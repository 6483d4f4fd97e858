//! Which machine this is.

use planasonix_wire::agent::Platform;
use sha2::{Digest, Sha256};

use crate::secret::hex;

const LONGEST_HOSTNAME: usize = 255;

/// The host's name, if it has one that the API takes (1–255 characters).
pub fn hostname() -> Option<String> {
    system_hostname().as_deref().and_then(acceptable_hostname)
}

/// `sysinfo` reads the name into as many bytes as Linux allows it, and finds no room for the NUL behind the longest.
#[cfg(unix)]
fn system_hostname() -> Option<String> {
    nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned())
}

#[cfg(not(unix))]
fn system_hostname() -> Option<String> {
    sysinfo::System::host_name().ok()
}

fn acceptable_hostname(name: &str) -> Option<String> {
    let name: String = name.trim().chars().filter(|&character| character != '\0').collect();
    (1..=LONGEST_HOSTNAME).contains(&name.chars().count()).then_some(name)
}

/// What this program was built for.
pub const fn platform() -> Platform {
    if cfg!(windows) {
        Platform::Windows
    } else if cfg!(target_os = "macos") {
        Platform::Macos
    } else {
        Platform::Linux
    }
}

/// The installation's name for itself: 64 hexadecimal digits.
///
/// It is made of the identity's seed and of the machine's own id, which never leaves it. On Linux that id lies on the
/// disk, and a copy of the disk has the same: the `run_id` of heartbeats tells it from the original.
pub fn instance_id(seed: &str) -> String {
    digest(seed, machine_id().as_deref().unwrap_or_default())
}

fn digest(seed: &str, machine: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(machine);
    hex(&hash.finalize())
}

/// The id that the system keeps for the machine. Containers often have none; the seed has to do there.
#[cfg(target_os = "linux")]
fn machine_id() -> Option<String> {
    let read = |path| std::fs::read_to_string(path).ok().map(|id| id.trim().to_owned());
    ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().filter_map(read).find(|id| !id.is_empty())
}

/// The id that the firmware keeps for the machine.
#[cfg(not(target_os = "linux"))]
fn machine_id() -> Option<String> {
    sysinfo::Product::uuid().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_told_by_its_seed_and_its_machine() {
        assert_eq!(instance_id("seed"), instance_id("seed"));
        assert_ne!(instance_id("seed"), instance_id("seeds"));
        assert_ne!(digest("seed", "one machine"), digest("seed", "another"));
        assert_eq!(
            digest("a", "bc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "SHA-256 of both, in hexadecimal"
        );
    }

    #[test]
    fn a_hostname_that_the_api_would_refuse_is_left_out() {
        assert_eq!(acceptable_hostname(" etl-01\n").as_deref(), Some("etl-01"));
        assert_eq!(acceptable_hostname("a\0b").as_deref(), Some("ab"));
        assert_eq!(acceptable_hostname(""), None);
        assert_eq!(acceptable_hostname(&"x".repeat(256)), None);
        assert_eq!(acceptable_hostname(&"ä".repeat(255)), Some("ä".repeat(255)));
    }

    #[test]
    fn this_host_has_a_name() {
        assert!(hostname().is_some());
    }
}
