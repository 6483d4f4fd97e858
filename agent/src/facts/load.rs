//! How busy the host is: processor, memory, disk. In a container with a limit, the host is what the limit allows.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use planasonix_wire::json::Patch;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, System};

#[cfg(target_os = "linux")]
use super::cgroup::{Cgroups, CpuLoad};
#[cfg(windows)]
use super::windows::{Times, volume};

const BYTES_PER_GIGABYTE: f64 = 1e9;
const MOST_DISK_GIGABYTES: f64 = 1e9;
/// The control plane takes less for too little, whatever the size of the volume.
const LITTLE_DISK_BYTES: u64 = 1_000_000_000;
/// A volume with less than `LITTLE_DISK_BYTES` free has enough room if this part of it is free: a tenth.
const SMALL_VOLUME_PARTS: u64 = 10;

/// The host's load. What cannot be told, or is beyond the API's bounds, is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Processor load since the read before, 0–100. In a container with a limit, the container's own, of the limit.
    pub cpu_percent: Option<f64>,
    /// Memory that is in use, 0–100. In a container with a limit, the container's own, of the limit.
    pub memory_percent: Option<f64>,
    /// Space that the agent's user may still fill, in gigabytes (10⁹ bytes). `Clear` where less than 1 GB is free on a
    /// volume of which that is at least a tenth: the bare number would be taken for a lack of space.
    pub disk_free_gb: Patch<f64>,
}

/// The room of a volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Volume {
    /// What the agent's user may still fill.
    pub(super) free: u64,
    /// All there is.
    pub(super) size: u64,
}

/// Reads the host's load. It keeps the processor's counters, since load is a difference of two reads.
#[derive(Debug)]
pub struct Gauge {
    disk: PathBuf,
    // Absent on a host that does not tell.
    system: Option<System>,
    #[cfg(target_os = "linux")]
    cgroups: Cgroups,
    #[cfg(windows)]
    times: Option<Times>,
    sampled: Instant,
    cpu_percent: Option<f64>,
}

impl Gauge {
    /// A gauge of the host, and of the disk that holds (or would hold) `disk`.
    pub fn new(disk: &Path) -> Self {
        let mut gauge = Self {
            disk: disk.to_owned(),
            system: System::new().ok(),
            #[cfg(target_os = "linux")]
            cgroups: Cgroups::of_this_process(),
            #[cfg(windows)]
            times: None,
            sampled: Instant::now(),
            cpu_percent: None,
        };
        // One sample is no load.
        gauge.sample();
        gauge
    }

    /// The load now. Until 200 ms after the gauge was made, the processor's is left out; a read that
    /// follows another sooner than that repeats its figure.
    pub fn read(&mut self) -> Load {
        if self.sampled.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL {
            self.sampled = Instant::now();
            self.cpu_percent = self.sample();
        }
        let memory_percent = self.memory_percent();
        let disk_free_gb = volume(&self.disk).map_or(Patch::Keep, disk_free_gb);
        Load { cpu_percent: self.cpu_percent, memory_percent, disk_free_gb }
    }

    fn memory_percent(&mut self) -> Option<f64> {
        let system = self.system.as_mut()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        #[cfg(target_os = "linux")]
        if let Some(of_limit) = self.cgroups.memory_share(system.total_memory()) {
            return percent(of_limit * 100.0);
        }
        share(system.used_memory(), system.total_memory())
    }

    /// The processor's load since the sample before.
    #[cfg(not(windows))]
    fn sample(&mut self) -> Option<f64> {
        let system = self.system.as_mut()?;
        system.refresh_cpu_usage();
        #[cfg(target_os = "linux")]
        match self.cgroups.cpu_load(system.cpus().len()) {
            CpuLoad::Unlimited => {}
            CpuLoad::Unknown => return None,
            CpuLoad::Share(of_limit) => return percent(of_limit * 100.0),
        }
        // A host without counters reports none of its processors, and a load of nought.
        if system.cpus().is_empty() { None } else { percent(system.global_cpu_usage().into()) }
    }

    /// The processor's load since the sample before.
    #[cfg(windows)]
    fn sample(&mut self) -> Option<f64> {
        let now = Times::now();
        let before = std::mem::replace(&mut self.times, now);
        let (idle, total) = now?.since(before?)?;
        share(total.saturating_sub(idle), total)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage has no use for the bits beyond 2^53")]
fn share(part: u64, whole: u64) -> Option<f64> {
    percent(part as f64 / whole as f64 * 100.0)
}

/// A percentage to one decimal. Counters that are read one after the other overshoot a little: that is 100.
fn percent(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value.clamp(0.0, 100.0) * 10.0).round() / 10.0)
}

#[expect(clippy::cast_precision_loss, reason = "gigabytes have no use for single bytes beyond 2^53")]
fn gigabytes(bytes: u64) -> Option<f64> {
    let gigabytes = (bytes as f64 / BYTES_PER_GIGABYTE * 10.0).round() / 10.0;
    (gigabytes <= MOST_DISK_GIGABYTES).then_some(gigabytes)
}

/// The free space, as far as the bare number says what it should.
fn disk_free_gb(volume: Volume) -> Patch<f64> {
    let Volume { free, size } = volume;
    if free < LITTLE_DISK_BYTES && free.saturating_mul(SMALL_VOLUME_PARTS) >= size {
        return Patch::Clear;
    }
    gigabytes(free).map_or(Patch::Keep, Patch::Set)
}

/// The room for an unprivileged user on the disk of the nearest folder that exists.
///
/// Asked of the file system itself: a list of mounts lacks the root of a chroot, and bind mounts.
#[cfg(unix)]
#[expect(clippy::useless_conversion, reason = "macOS has one narrower counter, Linux none")]
fn volume(path: &Path) -> Option<Volume> {
    let statistics = path.ancestors().find_map(|folder| nix::sys::statvfs::statvfs(folder).ok())?;
    let bytes = |blocks: u64| blocks.checked_mul(u64::from(statistics.fragment_size()));
    Some(Volume {
        free: bytes(u64::from(statistics.blocks_available()))?,
        size: bytes(u64::from(statistics.blocks()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_figures_are_within_the_bounds_of_the_api() {
        let folder = tempfile::tempdir().unwrap();
        let mut gauge = Gauge::new(folder.path());
        assert_eq!(gauge.read().cpu_percent, None, "one sample is no load");
        std::thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL * 2);
        let load = gauge.read();
        assert!((0.0..=100.0).contains(&load.cpu_percent.unwrap()), "{load:?}");
        let memory = load.memory_percent.unwrap();
        assert!(memory > 0.0 && memory <= 100.0, "{load:?}");
        assert!(load.disk_free_gb.set().is_none_or(|free| (0.0..=1e9).contains(free)), "{load:?}");
        assert_eq!(gauge.read().cpu_percent, load.cpu_percent, "too soon for another sample");
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_on_its_parents_disk() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            volume(&folder.path().join("not/yet/there")).is_some_and(|volume| volume.free <= volume.size)
        );
        let told = volume(Path::new("/proc/self/nowhere"));
        assert_eq!(told, volume(Path::new("/proc")), "of the file system asked for, not of the root");
    }

    #[test]
    fn a_small_volume_is_judged_by_its_share() {
        const MEGABYTE: u64 = 1_000_000;
        for (free, size, told) in [
            (999, 4_000, Patch::Clear),
            (400, 4_000, Patch::Clear),
            (399, 4_000, Patch::Set(0.4)),
            (0, 4_000, Patch::Set(0.0)),
            (10, 64, Patch::Clear),
            (999, 9_990, Patch::Clear),
            (999, 10_000, Patch::Set(1.0)),
            (900, 10_000, Patch::Set(0.9)),
            (1_000, 10_000, Patch::Set(1.0)),
            (900, 2_000_000, Patch::Set(0.9)),
        ] {
            let volume = Volume { free: free * MEGABYTE, size: size * MEGABYTE };
            assert_eq!(disk_free_gb(volume), told, "{free} of {size} MB");
        }
    }

    #[test]
    fn what_is_no_number_or_out_of_bounds_is_left_out() {
        assert_eq!(percent(f64::NAN), None);
        assert_eq!(share(1, 0), None);
        assert_eq!(share(0, 0), None);
        assert_eq!(percent(100.4), Some(100.0));
        assert_eq!(percent(f64::from(34.2_f32)), Some(34.2));
        assert_eq!(gigabytes(412_512_000_000), Some(412.5));
        assert_eq!(gigabytes(u64::MAX), None);
    }
}
