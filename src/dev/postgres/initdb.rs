//! Making the cluster's data, once and whole.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{self, Stdio};

use nix::sys::signal::Signal;

use super::account::Account;
use super::folder::{Folder, new_log, tail};
use super::{Durability, Error, GuardSettings};

/// How an unfinished data folder's name begins.
const UNFINISHED: &str = "new.";

/// Under plain C, trigrams of text that is not ASCII are lost; but not every system has C.UTF-8.
const LOCALES: [&[&str]; 2] = [&["--locale=C", "--lc-ctype=C.UTF-8"], &["--locale=C"]];

/// Whoever gets to the socket is let in; the socket's folder is what keeps others out.
const OPTIONS: [&str; 4] = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"];

/// Makes the data folder if there is none.
///
/// It grows under another name and is renamed when it is whole: an interrupted `initdb` can never
/// be taken for a cluster.
pub(super) fn ensure_data(settings: &GuardSettings, folder: &Folder, account: &Account) -> Result<(), Error> {
    remove_unfinished(folder);
    let data = folder.data();
    if data.exists() {
        return Ok(());
    }
    let unfinished = folder.root().join(format!("{UNFINISHED}{}", process::id()));
    fs::DirBuilder::new().mode(0o700).create(&unfinished).map_err(Error::file("create", &unfinished))?;
    account.own(&unfinished)?;
    let [with_utf8, plain] = LOCALES;
    initdb(settings, folder, account, &unfinished, with_utf8)
        .or_else(|_| initdb(settings, folder, account, &unfinished, plain))?;
    fs::rename(&unfinished, &data).map_err(Error::file("rename", &unfinished))
}

/// What stays is in nobody's way: the next one has another name.
fn remove_unfinished(folder: &Folder) {
    for entry in fs::read_dir(folder.root()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn initdb(
    settings: &GuardSettings,
    folder: &Folder,
    account: &Account,
    into: &Path,
    locale: &[&str],
) -> Result<(), Error> {
    let path = folder.server_log();
    let log = new_log(&path)?;
    let program = settings.programs.join("initdb");
    let mut command = account.command(&program, Signal::SIGKILL);
    command.current_dir(folder.root()).stderr(Stdio::from(log)).arg("-D").arg(into);
    command.args(OPTIONS).args(locale);
    if settings.durability == Durability::Fast {
        command.arg("--no-sync");
    }
    let status = command.status().map_err(Error::file("run", &program))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { program: "initdb", status, log: tail(&path) })
}
