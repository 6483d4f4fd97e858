//! Agents' programs as a server finds them. What is in them is no program: these are for tests of archives and
//! answers, not of agents.

use std::{fs, path::Path, sync::OnceLock};

use planasonix::installer::{Installers, binaries::in_folder};

/// Where the tests' servers are said to be.
pub const PUBLIC_URL: &str = "https://api.example.test";

/// What the tests' servers have: a platform with two programs, and two with one.
pub const PROGRAMS: [(&str, &str, &[u8]); 4] = [
    ("linux-aarch64", "planasonix-agent", b"a program for one kind of Linux"),
    ("linux-x86_64", "planasonix-agent", b"a program for another kind of Linux"),
    ("macos-aarch64", "planasonix-agent", b"a program for a Mac"),
    ("windows-x86_64", "planasonix-agent.exe", b"a program for Windows"),
];

/// Puts a program where a server looks for it.
pub fn put(folder: &Path, target: &str, name: &str, bytes: &[u8]) {
    fs::create_dir_all(folder.join(target)).unwrap();
    fs::write(folder.join(target).join(name), bytes).unwrap();
}

/// Installers of what is in a folder, packed.
pub fn stocked(folder: &Path) -> Installers {
    let installers = Installers::new(Some(PUBLIC_URL.parse().unwrap()));
    installers.stock(&in_folder(folder).unwrap());
    installers
}

/// Installers for every platform, the same for every test.
pub fn installers() -> Installers {
    static SHARED: OnceLock<Installers> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        for (target, name, bytes) in PROGRAMS {
            put(folder.path(), target, name, bytes);
        }
        stocked(folder.path())
    };
    SHARED.get_or_init(make).clone()
}
