//! What Windows tells whoever asks.
//!
//! Not its performance counters: those are for members of Performance Monitor Users, which a service's own account
//! is not, and without them a host would have a load of nought for ever. Nor its list of volumes, whose sizes leave
//! quotas out.

use std::{iter::once, os::windows::ffi::OsStrExt, path::Path, ptr};

use windows_sys::Win32::{
    Foundation::FILETIME, Storage::FileSystem::GetDiskFreeSpaceExW, System::Threading::GetSystemTimes,
};

use super::load::Volume;

/// How long all processors together did what, since the system started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    idle: u64,
    total: u64,
}

impl Times {
    /// The times until now.
    pub(super) fn now() -> Option<Self> {
        let (mut idle, mut kernel, mut user) =
            (FILETIME::default(), FILETIME::default(), FILETIME::default());
        // SAFETY: it writes three times, to places of ours that are there until it returns.
        #[expect(unsafe_code, reason = "nothing safe tells the processors' times")]
        let told = unsafe { GetSystemTimes(&raw mut idle, &raw mut kernel, &raw mut user) };
        // The kernel's time holds the idle one.
        (told != 0).then(|| Self { idle: ticks(idle), total: ticks(kernel) + ticks(user) })
    }

    /// The idle time since `before`, and all of it.
    pub(super) fn since(self, before: Self) -> Option<(u64, u64)> {
        Some((self.idle.checked_sub(before.idle)?, self.total.checked_sub(before.total)?))
    }
}

fn ticks(time: FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

/// The room for this user on the disk of the nearest folder that exists.
pub(super) fn volume(path: &Path) -> Option<Volume> {
    path.ancestors().find_map(|folder| {
        let name: Vec<u16> = folder.as_os_str().encode_wide().chain(once(0)).collect();
        let (mut free, mut size) = (0, 0);
        // SAFETY: the name ends with a nought; the two places that it writes to are ours.
        #[expect(unsafe_code, reason = "nothing safe tells the free space")]
        let told =
            unsafe { GetDiskFreeSpaceExW(name.as_ptr(), &raw mut free, &raw mut size, ptr::null_mut()) };
        (told != 0).then_some(Volume { free, size })
    })
}
