//! The agent as a Windows service: `planasonix-agent service`, started by the service control manager.

use std::{
    ffi::OsString, fmt::Display, io, path::PathBuf, process::ExitCode, sync::OnceLock, time::Duration,
};

use tokio::runtime;
use tokio_util::sync::CancellationToken;
use windows_service::{
    Error, define_windows_service,
    service::{
        ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
    },
    service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
    service_dispatcher,
};

use crate::{
    config::Config,
    output,
    run::{self, RunError},
    telemetry,
};

/// The name that the installer registers the service under.
pub const NAME: &str = "planasonix-agent";

/// What the manager is asked to wait for a leave-taking, which is shorter.
const FAREWELL: Duration = Duration::from_secs(10);
/// The service's own exit code for settings that cannot be used, as the command's for wrong usage.
const USAGE: u32 = 2;
/// Its code for all else.
const FAILED: u32 = 1;

// The manager calls a plain function, which can be handed nothing. Without settings there is nothing to run.
static CONFIG: OnceLock<Config> = OnceLock::new();

define_windows_service!(enter, serve);

/// Where the service logs unless a setting says otherwise: the folder that the installer makes for it.
pub fn log_file(config: &Config) -> PathBuf {
    config.state_dir.with_file_name("logs").join("planasonix-agent.log")
}

/// Hands the process over to the service control manager until the service has stopped.
pub fn run(config: Config) -> ExitCode {
    let _ = CONFIG.set(config);
    dispatch()
}

/// Says in the log why there is nothing to run, and has the service control manager told that it ended: it would
/// wait for a process that is gone, and nobody sees its standard error.
pub fn refuse(error: &dyn Display) -> ExitCode {
    // What a setting says of the log may be what is wrong.
    if let Ok(config) = Config::without_settings() {
        let _ = telemetry::init("info", Some(&log_file(&config)));
    }
    tracing::error!(%error, "the settings cannot be used");
    output::complain(&error.to_string());
    dispatch()
}

fn dispatch() -> ExitCode {
    match service_dispatcher::start(NAME, enter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!(
                "only the service control manager starts this: Start-Service {NAME}; by hand, use `run` ({})",
                causes(&error)
            ));
            ExitCode::FAILURE
        }
    }
}

fn serve(_: Vec<OsString>) {
    if let Err(error) = CONFIG.get().cloned().map_or_else(refused, controlled) {
        tracing::error!(error = causes(&error), "the service control manager cannot be told");
    }
}

fn refused() -> Result<(), Error> {
    let manager = service_control_handler::register(NAME, |_| ServiceControlHandlerResult::NotImplemented)?;
    tell(manager, ServiceState::Stopped, USAGE)
}

fn controlled(config: Config) -> Result<(), Error> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let manager = service_control_handler::register(NAME, move |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            stopping.cancel();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    })?;
    tell(manager, ServiceState::Running, 0)?;
    let code = match until_stopped(config, &stop, manager) {
        Ok(Ok(())) => 0,
        Ok(Err(RunError::Config(error))) => {
            tracing::error!(%error, "the settings cannot be used");
            USAGE
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the agent cannot run");
            FAILED
        }
        Err(error) => {
            tracing::error!(%error, "the agent cannot run");
            FAILED
        }
    };
    tell(manager, ServiceState::Stopped, code)
}

/// Runs the agent; while it takes its leave, the manager knows that it does.
fn until_stopped(
    config: Config,
    stop: &CancellationToken,
    manager: ServiceStatusHandle,
) -> io::Result<Result<(), RunError>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let leave = async {
            stop.cancelled().await;
            // The manager then thinks that the service still runs, and waits no shorter.
            let _ = tell(manager, ServiceState::StopPending, 0);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = run::run(config, stop.clone()) => ended,
            () = leave => Ok(()),
        }
    }))
}

fn tell(manager: ServiceStatusHandle, state: ServiceState, code: u32) -> Result<(), Error> {
    let accepted =
        ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN | ServiceControlAccept::PRESHUTDOWN;
    let running = state == ServiceState::Running;
    let pending = state == ServiceState::StopPending;
    manager.set_service_status(ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: if running { accepted } else { ServiceControlAccept::empty() },
        exit_code: if code == 0 { ServiceExitCode::NO_ERROR } else { ServiceExitCode::ServiceSpecific(code) },
        checkpoint: u32::from(pending),
        wait_hint: if pending { FAREWELL } else { Duration::ZERO },
        process_id: None,
    })
}

/// The crate's errors keep the system's own reason to themselves.
fn causes(error: &Error) -> String {
    match error {
        Error::Winapi(error) => error.to_string(),
        other => other.to_string(),
    }
}
