//! A memory limit for one process, as a container has it: a cgroup of version 2 or 1 where this program may make
//! one. It is a child of this program's own cgroup, so that what accounts for this program still does.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

const ROOT: &str = "/sys/fs/cgroup";

/// Removed when dropped, which must be after its processes have ended.
pub struct Cgroup {
    folder: PathBuf,
    /// The file with the highest use so far.
    peak: &'static str,
}

impl Cgroup {
    /// Makes a cgroup of this name with a limit in bytes. `None` if there is no memory controller here, or this
    /// program may not use it.
    pub fn create(name: &str, bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = |controllers: &str| {
            own.lines()
                .find_map(|line| line.split_once(':')?.1.split_once(':').filter(|(of, _)| *of == controllers))
        };
        let (parent, limit, (swap, no_swap), peak) = match path("memory") {
            Some((_, path)) => (
                Path::new(ROOT).join("memory").join(path.trim_start_matches('/')),
                "memory.limit_in_bytes",
                // Memory and swap together.
                ("memory.memsw.limit_in_bytes", bytes.to_string()),
                "memory.max_usage_in_bytes",
            ),
            None => (
                Path::new(ROOT).join(path("")?.1.trim_start_matches('/')),
                "memory.max",
                ("memory.swap.max", "0".to_owned()),
                "memory.peak",
            ),
        };
        let folder = parent.join(name);
        fs::create_dir(&folder).ok()?;
        let cgroup = Self { folder, peak };
        fs::write(cgroup.folder.join(limit), bytes.to_string()).ok()?;
        // Without swap accounting there is no such file, and then nothing to limit.
        let _ = fs::write(cgroup.folder.join(swap), no_swap);
        Some(cgroup)
    }

    /// The file into which a process writes its id to enter.
    pub fn entrance(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Highest use so far in megabytes, the page cache and the kernel's memory for it included.
    pub fn peak_megabytes(&self) -> Option<f64> {
        let bytes: f64 = fs::read_to_string(self.folder.join(self.peak)).ok()?.trim().parse().ok()?;
        Some(bytes / 1_048_576.0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process may still be on its way out.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}
