//! The memory and processor limits of a container, from its control groups (cgroup v1 and v2).
//!
//! A limit counts wherever it stands between this process's own group and the outermost one that it can see. A service
//! of the host is no container: the limits of its unit are the agent's alone, and the jobs run elsewhere, so only a
//! limit of the outermost group counts there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Control groups are read anew each time: limits change while a container runs.
#[derive(Debug)]
pub(super) struct Cgroups {
    process: PathBuf,
    before: Option<CpuSample>,
}

/// How busy the processors that the limit allows are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CpuLoad {
    /// There is no limit.
    Unlimited,
    /// There is one, and too little was seen of it.
    Unknown,
    /// This share of it, 0–1, was used since the sample before.
    Share(f64),
}

#[derive(Debug, Clone, Copy)]
struct CpuSample {
    at: Instant,
    used_seconds: f64,
}

/// The folders of one hierarchy, from this process's own group to the outermost one.
struct Hierarchy {
    folders: Vec<PathBuf>,
    unified: bool,
}

impl Cgroups {
    /// Those of this process.
    pub(super) fn of_this_process() -> Self {
        Self::new(Path::new("/proc/self"))
    }

    /// Those of the process that `folder` describes, as `/proc/PID` does.
    fn new(folder: &Path) -> Self {
        Self { process: folder.to_owned(), before: None }
    }

    /// The share of the memory limit that is in use, caches that are given up without loss aside. Where there are
    /// several limits, of the one that is nearest. None where there is none below `total`, the host's memory in bytes.
    pub(super) fn memory_share(&self, total: u64) -> Option<f64> {
        let hierarchy = self.hierarchy("memory")?;
        let (limit, used, cache) = if hierarchy.unified {
            ("memory.max", "memory.current", "inactive_file")
        } else {
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        };
        let share = |folder: &PathBuf| {
            let limit = number(&folder.join(limit)).filter(|limit| (1..total).contains(limit))?;
            let cache = entry(&folder.join("memory.stat"), cache).unwrap_or(0);
            Some(ratio(number(&folder.join(used))?.saturating_sub(cache), limit))
        };
        hierarchy.folders.iter().filter_map(share).reduce(f64::max)
    }

    /// The load of the processors that this process's groups may use since the call before. `processors` is how many
    /// the host has.
    pub(super) fn cpu_load(&mut self, processors: usize) -> CpuLoad {
        let Some((limit, used_seconds)) = self.cpu_limit(processors) else {
            self.before = None;
            return CpuLoad::Unlimited;
        };
        let now = CpuSample { at: Instant::now(), used_seconds };
        let Some(before) = self.before.replace(now) else { return CpuLoad::Unknown };
        let elapsed = (now.at - before.at).as_secs_f64();
        let used = now.used_seconds - before.used_seconds;
        if elapsed > 0.0 && used >= 0.0 { CpuLoad::Share(used / (elapsed * limit)) } else { CpuLoad::Unknown }
    }

    /// The smallest number of processors that a limit allows, if that is fewer than the host has, and the seconds that
    /// the group with the limit has used.
    fn cpu_limit(&self, processors: usize) -> Option<(f64, f64)> {
        let hierarchy = self.hierarchy("cpu")?;
        let accounts = if hierarchy.unified { None } else { Some(self.hierarchy("cpuacct")?) };
        let quota = |(depth, folder): (usize, &PathBuf)| Some((quota(folder, hierarchy.unified)?, depth));
        let quotas = hierarchy.folders.iter().enumerate().filter_map(quota);
        let sets = self.assigned_processors().map(|count| (count, 0));
        let all = f64::from(u32::try_from(processors).ok()?);
        let (limit, depth) = quotas
            .chain(sets)
            .filter(|(limit, _)| *limit > 0.0 && *limit < all)
            .min_by(|a, b| a.0.total_cmp(&b.0))?;
        let used = match accounts {
            None => entry(&hierarchy.folders.get(depth)?.join("cpu.stat"), "usage_usec")? * 1_000,
            Some(accounts) => {
                let folder = accounts.folders.get(depth).or(accounts.folders.first())?;
                number(&folder.join("cpuacct.usage"))?
            }
        };
        Some((limit, ratio(used, 1_000_000_000)))
    }

    /// How many processors this process's group is assigned.
    fn assigned_processors(&self) -> Option<f64> {
        let hierarchy = self.hierarchy("cpuset")?;
        let own = hierarchy.folders.first()?;
        let files = ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"];
        let list = files.iter().find_map(|file| fs::read_to_string(own.join(file)).ok())?;
        Some(f64::from(list.trim().split(',').filter_map(range_length).sum::<u32>()))
            .filter(|count| *count > 0.0)
    }

    /// The hierarchy that has a controller: one of its own (v1), else the unified one (v2).
    fn hierarchy(&self, controller: &str) -> Option<Hierarchy> {
        let groups = fs::read_to_string(self.process.join("cgroup")).ok()?;
        let mounts = fs::read_to_string(self.process.join("mountinfo")).ok()?;
        let group_of = |wanted: &str| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                controllers.split(',').any(|controller| controller == wanted).then_some(path)
            })
        };
        if let Some(group) = group_of(controller) {
            let of_its_own = |mount: &Mount<'_>| {
                mount.kind == "cgroup" && mount.options.split(',').any(|option| option == controller)
            };
            if let Some(folders) = folders(group, mounts.lines().filter_map(Mount::parse).filter(of_its_own))
            {
                return Some(Hierarchy { folders, unified: false });
            }
        }
        let unified = |mount: &Mount<'_>| mount.kind == "cgroup2";
        let folders = folders(group_of("")?, mounts.lines().filter_map(Mount::parse).filter(unified))?;
        Some(Hierarchy { folders, unified: true })
    }
}

/// A line of `mountinfo`.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut kind = kind.split(' ');
        let (root, point) = (place.next()?, place.next()?);
        Some(Self { root, point, kind: kind.next()?, options: kind.nth(1)? })
    }
}

/// The folders from the group's own to the outermost. A container may see its own group as the root of the mount.
fn folders<'a>(group: &str, mounts: impl Iterator<Item = Mount<'a>>) -> Option<Vec<PathBuf>> {
    let mut outermost = None;
    for mount in mounts {
        let point = Path::new(mount.point);
        if let Ok(below) = Path::new(group).strip_prefix(mount.root)
            && !is_service(group)
        {
            let own = point.join(below);
            let levels = below.components().count() + 1;
            return Some(own.ancestors().take(levels).map(Path::to_owned).collect());
        }
        outermost.get_or_insert_with(|| vec![point.to_owned()]);
    }
    outermost
}

/// Whether the group is that of a service or of a user's session, as systemd names them.
fn is_service(group: &str) -> bool {
    let name = group.rsplit('/').next().unwrap_or_default();
    let scope = name.strip_suffix(".scope");
    name.ends_with(".service") || scope.is_some_and(|name| name == "init" || name.starts_with("session-"))
}

/// How many processors' time the group may use.
fn quota(folder: &Path, unified: bool) -> Option<f64> {
    if unified {
        let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        return Some(ratio(quota.parse().ok()?, period.parse().ok().filter(|period| *period > 0)?));
    }
    let period = number(&folder.join("cpu.cfs_period_us")).filter(|period| *period > 0)?;
    // -1 is no limit, and no such number.
    Some(ratio(number(&folder.join("cpu.cfs_quota_us"))?, period))
}

fn range_length(range: &str) -> Option<u32> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
    Some(last.checked_sub(first)? + 1)
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of such lines.
fn entry(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[expect(clippy::cast_precision_loss, reason = "a share has no use for the bits beyond 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests;
