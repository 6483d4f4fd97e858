//! The process that owns Postgres: makes its data, runs it, restarts it, stops it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{self, Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::account::Account;
use super::folder::{Folder, Lock, PORT, new_log, open_log, tail, try_lock};
use super::{Durability, Error, GuardSettings, initdb, leftover};

/// How often the guard looks whether Postgres still runs and somebody still wants it.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A server that ran for this long had started well.
const STEADY: Duration = Duration::from_secs(10);

/// So many deaths in a row before [`STEADY`] mean that another try is pointless. Some are normal
/// after a `kill -9` of Postgres: its orphans hold the shared memory until they notice.
const MAX_EARLY_DEATHS: u32 = 8;

/// The same for `dev` and tests. No network: the socket's folder is the only way in.
const SERVER_OPTIONS: [&str; 5] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "wal_level=minimal",
    "max_wal_senders=0",
    "log_checkpoints=off",
];

/// For data that nobody wants back. Little WAL is kept, since it may lie in memory.
const FAST_OPTIONS: [&str; 3] = ["fsync=off", "full_page_writes=off", "max_wal_size=128MB"];

/// The body of [`guard_main`](super::guard_main).
pub(super) fn run(settings: &GuardSettings) -> Result<(), Error> {
    let folder = Folder::open(&settings.dir)?;
    let lock = inherited_lock(&folder)?;
    let account = Account::find()?;
    let guard = Guard { settings, folder, account, lock };
    guard.note(None)?;
    guard.folder.prepare_socket_dir(&guard.account)?;
    leftover::retire(&guard.folder)?;
    initdb::ensure_data(settings, &guard.folder, &guard.account)?;
    // Once taken, kept until this process ends: a starter that comes meanwhile waits for that.
    let users = guard.folder.lock_file(Lock::Users)?;
    let outcome = guard.keep_running(&users);
    guard.folder.remove_short_socket_dir();
    outcome
}

/// The starter took the guard's lock and passed it on as standard input.
fn inherited_lock(folder: &Folder) -> Result<File, Error> {
    let failed = |error| Error::file("lock", folder.root())(error);
    let inherited = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    let expected = folder.lock_file(Lock::Guard)?.metadata().map_err(failed)?;
    let found = inherited.metadata().map_err(failed)?;
    let is_the_file = (found.dev(), found.ino()) == (expected.dev(), expected.ino());
    if is_the_file && try_lock(&inherited).map_err(failed)? {
        return Ok(inherited);
    }
    Err(Error::NotAStarter)
}

struct Guard<'a> {
    settings: &'a GuardSettings,
    folder: Folder,
    account: Account,
    lock: File,
}

impl Guard<'_> {
    /// Notes this process and its server in the lock file, for starters and for people who look.
    fn note(&self, server: Option<&Child>) -> Result<(), Error> {
        let server = server.map(|server| server.id().to_string()).unwrap_or_default();
        let note = format!("{}\n{server}\n", process::id());
        let written = self.lock.set_len(0).and_then(|()| self.lock.write_all_at(note.as_bytes(), 0));
        written.map_err(Error::file("write a lock file in", self.folder.root()))
    }

    /// Runs Postgres until its last user is gone, again and again if it dies.
    fn keep_running(&self, users: &File) -> Result<(), Error> {
        let log = self.folder.server_log();
        new_log(&log)?;
        let mut early_deaths = 0;
        loop {
            let started = Instant::now();
            let mut server = self.spawn_server()?;
            self.note(Some(&server))?;
            let watched = watch(&mut server, users);
            let Watched::Died(status) = watched.map_err(Error::file("watch", self.folder.root()))? else {
                stop(&mut server);
                return Ok(());
            };
            early_deaths = if started.elapsed() < STEADY { early_deaths + 1 } else { 1 };
            if early_deaths > MAX_EARLY_DEATHS {
                return Err(Error::Failed { program: "postgres", status, log: tail(&log) });
            }
            // A failure to write the log must not end the server.
            let _ = writeln!(io::stderr(), "postgres ended ({status}) and is started again");
            thread::sleep(WATCH_INTERVAL * early_deaths);
        }
    }

    fn spawn_server(&self) -> Result<Child, Error> {
        let program = self.settings.programs.join("postgres");
        let log = open_log(&self.folder.server_log())?;
        // SIGINT is Postgres's fast shutdown.
        let mut command = self.account.command(&program, Signal::SIGINT);
        command.current_dir(self.folder.root()).stderr(Stdio::from(log));
        command.arg("-D").arg(self.folder.data());
        command.args(["-k", self.folder.socket_dir(), "-p", PORT]);
        command.args(["-N", &self.settings.max_connections.to_string()]);
        let fast: &[&str] = match self.settings.durability {
            Durability::Durable => &[],
            Durability::Fast => &FAST_OPTIONS,
        };
        for option in SERVER_OPTIONS.iter().chain(fast) {
            command.args(["-c", option]);
        }
        command.spawn().map_err(Error::file("run", &program))
    }
}

/// Why the guard stopped watching.
enum Watched {
    Abandoned,
    Died(ExitStatus),
}

fn watch(server: &mut Child, users: &File) -> io::Result<Watched> {
    loop {
        if let Some(status) = server.try_wait()? {
            return Ok(Watched::Died(status));
        }
        if try_lock(users)? {
            return Ok(Watched::Abandoned);
        }
        thread::sleep(WATCH_INTERVAL);
    }
}

fn stop(server: &mut Child) {
    if let Ok(pid) = i32::try_from(server.id()) {
        leftover::stop(Pid::from_raw(pid), || !matches!(server.try_wait(), Ok(None)));
    }
}
