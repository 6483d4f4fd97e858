//! The commands, one noun a file. A command's answer goes to standard output, all else to standard error.

pub mod agent_programs;
pub mod api_key;
pub mod dev;
pub mod failure;
pub mod healthcheck;
pub mod migrate;
pub mod openapi;
pub mod output;
pub mod serve;
pub mod workspace;

use crate::{
    config::{Cli, Command},
    dev::postgres::guard_main,
    telemetry,
};
use failure::Failure;

/// Does what the command line asks for.
///
/// # Errors
/// One clear text of what stood in the way.
pub fn run(cli: Cli) -> Result<(), Failure> {
    // The guard forks: it must run on the main thread, before there are others.
    if let Command::PostgresGuard(args) = cli.command {
        return guard_main(&args.into()).map_err(Failure::from);
    }
    telemetry::start(&cli.logs).map_err(|error| Failure::new(format!("--log: {error}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Dev(args) => dev::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Migrate(database) => migrate::run(&database).await,
            Command::Workspace(command) => workspace::run(command).await,
            Command::ApiKey(command) => api_key::run(command).await,
            Command::Openapi(args) => openapi::run(&args),
            Command::Healthcheck(args) => healthcheck::run(&args),
            Command::PostgresGuard(_) => Ok(()),
        }
    });
    // A blocking call that a stopped start-up left behind, such as waiting for `initdb`, must not delay the end.
    runtime.shutdown_background();
    result
}
