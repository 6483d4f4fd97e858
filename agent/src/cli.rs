//! The commands, and what each of them starts.

use std::{fmt::Display, io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

#[cfg(windows)]
use crate::service;
use crate::{
    client,
    config::{Config, ConfigError, Options, TokenArgs},
    diagnose,
    enroll::{self, EnrollError},
    output, privileges,
    run::{self, RunError},
    signals, status, telemetry, uninstall,
};

/// Wrong usage, as shells and service managers know it.
const USAGE: u8 = 2;

/// The Planasonix pipeline agent: keeps this host connected with the control plane.
///
/// A setting is a flag, else a variable, else a line KEY=value of the configuration file. From the
/// environment and the file also come `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
#[derive(Debug, Parser)]
#[command(name = "planasonix-agent", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or Ctrl-C. Without an identity it enrolls itself if it has a token.
    Run(TokenArgs),
    /// Enroll this host, unless it is enrolled.
    Enroll(TokenArgs),
    /// Tell how the agent of this host stands; exits 0 when it is connected, 4 when only root may know, else 1.
    Status(status::Options),
    /// Print the id of this host's agent, for scripts; exits 0 when the host is enrolled, 4 when only root may know,
    /// else 1.
    Identity,
    /// Examine the way to the control plane step by step, for support; exits 0 when all is well, 4 when only root may
    /// know, else 1.
    Diagnose(diagnose::Options),
    /// Remove the agent's identity from this host. Service and program go with the installer's script.
    Uninstall(uninstall::Options),
    /// Remove folders with all that is in them, following no link, for the uninstall scripts.
    #[command(hide = true)]
    RemoveFolders(uninstall::Folders),
    /// Run under the service control manager of Windows, which alone starts this.
    #[cfg(windows)]
    #[command(hide = true)]
    Service(TokenArgs),
}

impl Command {
    /// Where this command logs. The file is the agent's own: a command that root runs once would make one
    /// that the agent cannot write.
    fn log_file(&self, config: &Config) -> Option<PathBuf> {
        match self {
            Self::Run(_) => config.log_file.clone(),
            // Nobody sees a Windows service's standard error.
            #[cfg(windows)]
            Self::Service(_) => Some(config.log_file.clone().unwrap_or_else(|| service::log_file(config))),
            _ => None,
        }
    }
}

/// The program.
pub fn main() -> ExitCode {
    client::install_provider();
    match Cli::try_parse() {
        Ok(cli) => start(cli),
        Err(error) => usage(&error),
    }
}

fn start(cli: Cli) -> ExitCode {
    // It needs no setting, and must not fail for one.
    if let Command::RemoveFolders(folders) = &cli.command {
        return uninstall::remove_folders(folders);
    }
    let config = match settle(&cli) {
        Ok(config) => config,
        #[cfg(windows)]
        Err(error) if matches!(cli.command, Command::Service(_)) => return service::refuse(&error),
        Err(error) => return refused(&error, &cli.command),
    };
    if let Err(code) = give_up_root(&config, &cli.command) {
        return code;
    }
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(dispatch(config, cli.command));
            // A resolver that still waits for a dead network is not waited for.
            runtime.shutdown_background();
            code
        }
        Err(error) => failed(&error),
    }
}

/// Settings that cannot be used. What an agent's settings say may be hidden from whoever only asks how it stands.
fn refused(error: &SettingsError, command: &Command) -> ExitCode {
    match error {
        SettingsError::Config(error)
            if error.is_forbidden()
                && matches!(command, Command::Status(_) | Command::Identity | Command::Diagnose(_)) =>
        {
            output::complain(&format!("unknown: {} ({error})", privileges::RUN_AS_ROOT));
            ExitCode::from(privileges::EXIT_UNKNOWN)
        }
        error => wrong(error),
    }
}

/// Why nothing can be begun.
#[derive(Debug, thiserror::Error)]
enum SettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Log(#[from] telemetry::Error),
}

/// The settings, with the log that they want begun.
fn settle(cli: &Cli) -> Result<Config, SettingsError> {
    let config = Config::load(&cli.options)?;
    telemetry::init(&config.log, cli.command.log_file(&config).as_deref())?;
    Ok(config)
}

/// Commands of root that only touch the agent's folders become the state folder's owner. `enroll` does that itself,
/// once it has read the token and asked other programs for their versions. The agent and `diagnose` do not: programs
/// that they start would be that user's, on root's terminal.
fn give_up_root(config: &Config, command: &Command) -> Result<(), ExitCode> {
    match command {
        Command::Status(_) | Command::Identity | Command::Uninstall(_) => {
            privileges::become_owner_of(&config.state_dir).map_err(|error| failed(&error))
        }
        _ => Ok(()),
    }
}

async fn dispatch(mut config: Config, command: Command) -> ExitCode {
    match command {
        Command::Run(args) => {
            config.tokens = args.or(config.tokens);
            match stop_on_signal() {
                Ok(stop) => match run::run(config, stop).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(RunError::Config(error)) => wrong(&error),
                    Err(error) => failed(&error),
                },
                Err(error) => failed(&error),
            }
        }
        Command::Enroll(args) => {
            config.tokens = args.or(config.tokens);
            match enroll::run(&config).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(EnrollError::Config(error)) => wrong(&error),
                Err(error) => failed(&error),
            }
        }
        Command::Status(options) => status::run(&config, options),
        Command::Identity => status::identity(&config),
        // Done before there were settings.
        Command::RemoveFolders(folders) => uninstall::remove_folders(&folders),
        Command::Diagnose(options) => diagnose::run(&config, options).await,
        Command::Uninstall(options) => uninstall::run(&config, options).await,
        #[cfg(windows)]
        Command::Service(args) => {
            config.tokens = args.or(config.tokens);
            service::run(config)
        }
    }
}

/// Cancelled by the first signal; a second one is not waited for, as the leave-taking is bounded.
fn stop_on_signal() -> io::Result<CancellationToken> {
    let (stop, signal) = (CancellationToken::new(), signals::stop()?);
    let stopping = stop.clone();
    tokio::spawn(async move {
        signal.await;
        stopping.cancel();
    });
    Ok(stop)
}

fn wrong(error: &dyn Display) -> ExitCode {
    output::complain(&error.to_string());
    ExitCode::from(USAGE)
}

fn failed(error: &dyn Display) -> ExitCode {
    output::complain(&error.to_string());
    ExitCode::FAILURE
}

/// Help as it is; of an error its first paragraph, on one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        output::line(error.to_string().trim_end());
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let nothing = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    let told = if nothing.contains(&error.kind()) {
        "say what to do; --help lists the commands"
    } else {
        text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ")
    };
    wrong(&told.split_whitespace().collect::<Vec<_>>().join(" "))
}
