//! What the system says of processes. Zero where it says nothing: the figures are then left out.

use std::fs;

/// The kernel counts in hundredths of a second, whatever its own clock does.
const TICKS: f64 = 100.0;

/// The fields of `/proc/PID/stat` from the third on; the second may hold anything.
fn stat(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(ToOwned::to_owned).collect())
}

fn number(fields: &[String], field: usize) -> f64 {
    fields.get(field - 3).and_then(|text| text.parse().ok()).unwrap_or_default()
}

pub fn parent(process: u32) -> Option<u32> {
    stat(process)?.get(1)?.parse().ok()
}

/// User and system time of a process so far.
pub fn cpu_seconds(process: u32) -> f64 {
    stat(process).map_or(0.0, |fields| (number(&fields, 14) + number(&fields, 15)) / TICKS)
}

/// The same of a process, its children, and those of them that have ended.
pub fn family_cpu_seconds(process: u32) -> f64 {
    let ended = stat(process).map_or(0.0, |fields| (number(&fields, 16) + number(&fields, 17)) / TICKS);
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0.0;
    };
    let children = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|child| parent(*child) == Some(process))
        .map(cpu_seconds)
        .sum::<f64>();
    ended + children + cpu_seconds(process)
}

/// A line of `/proc/PID/status` that counts kilobytes, in megabytes.
pub fn megabytes(process: u32, name: &str) -> f64 {
    status(process, name).unwrap_or_default() / 1024.0
}

pub fn threads(process: u32) -> f64 {
    status(process, "Threads").unwrap_or_default()
}

fn status(process: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Forgets the peak of memory use so far.
pub fn reset_peak(process: u32) {
    // The peak then counts from the start of the process, which is an upper bound.
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}
