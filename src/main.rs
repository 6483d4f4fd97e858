//! The program: reads the command line, does what it asks, says in one line what stood in the way.

use std::{io::Write, process::ExitCode};

use clap::{Parser, error::ErrorKind};
use planasonix::{cli, config::Cli};
use planasonix_wire::terminal;

fn main() -> ExitCode {
    forbid_core_dumps();
    return_large_blocks();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("planasonix: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Forbids core dumps: API keys and agents' credentials are in memory. On Linux this also keeps debuggers of the same
/// user out and gives the files of `/proc/PID` to root; elsewhere the size limit of core files becomes 0.
fn forbid_core_dumps() {
    #[cfg(target_os = "linux")]
    let result = nix::sys::prctl::set_dumpable(false);
    #[cfg(not(target_os = "linux"))]
    let result = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    if let Err(error) = result {
        say(&format!("planasonix: core dumps stay possible: {error}"));
    }
}

/// Has glibc map every block of 4 MiB or more on its own, and unmap it when it is freed. Without a fixed threshold it
/// raises its own to the largest block that was freed, so the 19 MiB of each hash of an API key would stay in the heaps.
fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it sets a parameter of the allocator, and no other thread runs yet.
        #[expect(unsafe_code, reason = "the standard library does not offer it")]
        let _ = unsafe { nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 4 * 1024 * 1024) };
    }
}

/// Help as it is; of an error its first paragraph, on one line.
fn usage(error: &clap::Error) -> ExitCode {
    // Help shows what the environment sets, so it is escaped too, and not coloured.
    let text = error.to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody is left to tell if standard output is closed.
        let _ = cli::output::line(text.trim_end());
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say(text.trim_end());
        return ExitCode::from(2);
    }
    let told = text.split("\n\n").next().unwrap_or_default();
    let told: Vec<_> = told.split_whitespace().collect();
    say(&format!("planasonix: {}", told.join(" ").trim_start_matches("error: ")));
    ExitCode::from(2)
}

fn say(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{}", terminal::lines(text));
}
