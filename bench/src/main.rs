//! Measures the control plane's heart beside what it might have been, on one machine in one run. See
//! `README.md` for what the figures mean and what they do not.

#![expect(unreachable_pub, reason = "a program exports nothing")]

mod attack;
mod connected;
mod contenders;
mod database;
mod fill;
mod flood;
mod heartbeat;
mod installer;
mod load;
mod nginx;
mod overload;
mod process;
mod reaper;
mod report;
mod statement;

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};
use planasonix::{cli::output, config::PostgresGuardArgs, dev::postgres::guard_main, lifecycle::stop_signal};
use tokio::runtime::Builder;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "Measures the control plane's heart beside what it might have been")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The group commit, beside one UPDATE a heartbeat and a handler that stores nothing
    Heartbeat(heartbeat::Args),
    /// Good heartbeats beside a flood of bogus ones
    Flood(flood::Args),
    /// The view of who is connected
    Connected(connected::Args),
    /// A flush of heartbeats and the search for silent agents, among very many agents
    Reaper(reaper::Args),
    /// Downloads of an agent's bundle, beside the same file from nginx
    Installer(installer::Args),
    /// Attacks on the real program, and what a neighbour in another workspace notices
    Attack(attack::Args),
    /// Heartbeats beyond what the database takes
    Overload(overload::Args),
    #[command(hide = true)]
    Act(attack::ActorArgs),
    #[command(hide = true)]
    Serve(contenders::Args),
    #[command(hide = true)]
    Load(load::Args),
    #[command(hide = true)]
    PostgresGuard(PostgresGuardArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code tells too.
            let _ = output::line(&format!("planasonix-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    // The guard forks: it must run on the main thread, before there are others.
    if let Command::PostgresGuard(args) = command {
        return Ok(guard_main(&args.into())?);
    }
    let mut runtime = match command {
        Command::Load(_) | Command::Act(_) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        match command {
            Command::Heartbeat(args) => heartbeat::run(args).await,
            Command::Flood(args) => flood::run(args).await,
            Command::Connected(args) => connected::run(args).await,
            Command::Reaper(args) => reaper::run(args).await,
            Command::Installer(args) => installer::run(args).await,
            Command::Attack(args) => unless_stopped(attack::run(args)).await,
            Command::Overload(args) => unless_stopped(overload::run(args)).await,
            Command::Act(args) => attack::act(args).await,
            Command::Serve(args) => contenders::serve(args).await,
            Command::Load(args) => load::run(args).await,
            Command::PostgresGuard(_) => Ok(()),
        }
    })
}

/// Ends early on a signal, so that what was started is ended too: the program under test does not end by itself.
async fn unless_stopped(work: impl Future<Output = Result<()>>) -> Result<()> {
    let stop = stop_signal()?;
    tokio::select! {
        done = work => done,
        () = stop => Err("stopped by a signal".into()),
    }
}
