//! Joining a server, starting it first where it does not run.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::absolute;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::account::Account;
use super::folder::{Folder, Lock, new_log, tail, try_lock};
use super::programs::Programs;
use super::{Cluster, Durability, Error, Settings};

/// Generous: it covers an `initdb` with fsync on a slow disk, and the recovery of a crashed server.
const START_DEADLINE: Duration = Duration::from_mins(2);

/// Short beside the tens of milliseconds that Postgres takes to start.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Joins the server of the settings' folder; the body of [`Cluster::start`].
pub(super) fn start(settings: &Settings) -> Result<Cluster, Error> {
    let programs = settings.search.find()?;
    let account = Account::find()?;
    account.check_reach(&programs.dir)?;
    let dir = absolute(&settings.dir).map_err(Error::file("resolve", &settings.dir))?;
    let dir = dir.join(format!("postgres-{}", programs.version.major));
    let folder = Folder::create(&dir, &account)?;

    let turn = folder.lock_file(Lock::Start)?;
    turn.lock().map_err(Error::file("lock", &dir))?;
    // Taken before the server is looked at: from here on no guard can decide to stop it. One that
    // has decided already holds the lock until it has ended.
    let lease = folder.lock_file(Lock::Users)?;
    lease.lock_shared().map_err(Error::file("lock", &dir))?;
    ensure_running(settings, &programs, &folder)?;

    let socket_dir = folder.socket_dir().to_owned();
    Ok(Cluster { socket_dir, programs: programs.dir, _lease: lease })
}

/// Waits until a guarded server accepts connections, and starts one guard if there is none.
fn ensure_running(settings: &Settings, programs: &Programs, folder: &Folder) -> Result<(), Error> {
    let deadline = Instant::now() + START_DEADLINE;
    let mut spawned = false;
    while Instant::now() < deadline {
        let guard_lock = folder.lock_file(Lock::Guard)?;
        if try_lock(&guard_lock).map_err(Error::file("lock", folder.root()))? {
            if spawned {
                return Err(not_started(folder, "ended before it accepted connections"));
            }
            spawn_guard(settings, programs, folder, guard_lock)?;
            spawned = true;
        } else if folder.accepts_connections() {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Err(not_started(folder, "does not accept connections after two minutes"))
}

/// Spawns the guard with its lock as standard input: a lock belongs to the open file, so there is
/// no moment at which neither of us holds it.
fn spawn_guard(
    settings: &Settings,
    programs: &Programs,
    folder: &Folder,
    guard_lock: File,
) -> Result<(), Error> {
    // Its predecessor's note must not vouch for a server that is on its way out.
    guard_lock.set_len(0).map_err(Error::file("empty", folder.root()))?;
    let log = new_log(&folder.guard_log())?;
    let program = &settings.guard.program;
    let mut command = Command::new(program);
    command.args(&settings.guard.args).arg("--dir").arg(folder.root());
    command.arg("--programs").arg(&programs.dir);
    command.args(["--max-connections", &settings.max_connections.to_string()]);
    if settings.durability == Durability::Fast {
        command.arg("--fast");
    }
    command.stdin(Stdio::from(guard_lock)).stdout(Stdio::null()).stderr(Stdio::from(log));
    // Ctrl-C in our terminal must not reach it, and it must not pin our working directory.
    command.process_group(0).current_dir(folder.root());
    let mut guard = command.spawn().map_err(Error::file("run", program))?;
    // It may end before we do, and a dead child stays in the process table until it is waited for.
    thread::spawn(move || guard.wait());
    Ok(())
}

fn not_started(folder: &Folder, what: &'static str) -> Error {
    let words = tail(&folder.guard_log());
    let log = if words.is_empty() { tail(&folder.server_log()) } else { words };
    Error::NotStarted { dir: folder.root().to_path_buf(), what, log }
}
