//! What the system grants the process: open files and memory.

use std::{fs, path::Path};

use nix::sys::resource::{Resource, getrlimit};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Limits of the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// The limit of open files as it is now.
    pub(super) open_files: u64,
    /// The least of the control group's limit, the limit of address space, and the machine's memory.
    pub(super) memory_bytes: u64,
}

impl Capacity {
    /// Reads them from the system. What cannot be read counts as unlimited.
    pub(super) fn of_process() -> Self {
        let limit = |resource| getrlimit(resource).map_or(u64::MAX, |(soft, _)| soft);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        let limits = [group_memory(&groups, Path::new(CGROUPS)), machine];
        let address_space = limit(Resource::RLIMIT_AS);
        Self {
            open_files: limit(Resource::RLIMIT_NOFILE),
            memory_bytes: limits.into_iter().flatten().fold(address_space, u64::min),
        }
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least memory limit of the process's control groups and those above them. `groups` is the text of
/// `/proc/self/cgroup`: lines of `number:controllers:path`, without controllers in version 2. Within a container
/// the path may be the host's; then the limit of the root that is seen there counts.
fn group_memory(groups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = mount.join(path.trim_start_matches('/'));
        let above = group.ancestors().take_while(|folder| folder.starts_with(&mount));
        // "max" is no limit.
        let limits =
            above.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok());
        least = limits.chain(least).min();
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn group_memory_is_the_least_limit_on_the_way_up() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "a/memory.max", "536870912\n");
        write(root, "a/b/memory.max", "max\n");
        assert_eq!(group_memory("0::/a/b\n", root), Some(536_870_912));
        assert_eq!(group_memory("0::/c\n", root), None);
        write(root, "memory.max", "1024\n");
        assert_eq!(group_memory("0::/host/path\n", root), Some(1024));
        write(root, "memory/docker/memory.limit_in_bytes", "512\n");
        assert_eq!(group_memory("9:cpu:/docker\n8:memory,x:/docker\n0::/\n", root), Some(512));
    }

    #[test]
    fn capacity_of_this_process_is_known() {
        let capacity = Capacity::of_process();
        assert!(capacity.open_files >= 64, "{capacity:?}");
        assert!((1 << 20..1 << 60).contains(&capacity.memory_bytes), "{capacity:?}");
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       16 kB\n"), Some(16 * 1024));
    }
}
