//! `planasonix-agent uninstall [--deregister]`: takes away what the agent itself made. Service and program
//! go with the installer's own script, which calls this.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use planasonix_wire::AgentId;

use crate::{
    client::{Client, Outcome, Refusal},
    config::{Config, ConfigError},
    identity::{IdentityError, Store},
    output, runtimes,
    secret::Token,
    timing::Timing,
};

/// The flags of `uninstall`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Options {
    /// Also delete the agent's record at the control plane; if that fails, nothing is removed.
    #[arg(long)]
    pub deregister: bool,
}

/// The arguments of `remove-folders`.
#[derive(Debug, Clone, Args)]
pub struct Folders {
    /// Folders to remove with all that is in them. One that is absent is no error; of a link only the link goes.
    #[arg(required = true)]
    pub folders: Vec<PathBuf>,
}

/// Removes folders in which other accounts can write: no link is followed, nor one that takes a folder's place
/// meanwhile, which the `rm` of small systems does not promise. 0 when all are gone, else 1.
pub fn remove_folders(arguments: &Folders) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for folder in &arguments.folders {
        if let Err(error) = remove_folder(folder) {
            output::complain(&folder_error(folder, error).to_string());
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn remove_folder(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(about) => about.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if kind.is_dir() {
        fs::remove_dir_all(path)
    } else {
        // A link to a folder is a folder itself for Windows.
        fs::remove_file(path).or_else(|error| fs::remove_dir(path).map_err(|_| error))
    }
}

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings do not say where to deregister.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity cannot be read or removed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A folder cannot be cleared.
    #[error("{path}: {error}")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The control plane could not be told.
    #[error(
        "the agent {agent} remains registered: {why}. Nothing was removed. Try again; or have an operator delete it \
         ({delete}, with an API key) and run this without --deregister"
    )]
    Remains {
        /// The agent.
        agent: AgentId,
        /// What stood in the way.
        why: String,
        /// The request that deletes it.
        delete: String,
    },
}

/// Deregisters when asked to, removes, prints; 0 when nothing is left, else 1.
pub async fn run(config: &Config, options: Options) -> ExitCode {
    match uninstall(config, options).await {
        Ok(lines) => {
            for line in lines {
                output::line(&line);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Deregisters when asked to, then removes; answers what was done. Again finds nothing left to do.
pub async fn uninstall(config: &Config, options: Options) -> Result<Vec<String>, Error> {
    let store = Store::new(&config.state_dir);
    let mut done = Vec::new();
    if options.deregister {
        done.push(deregister(config, &store).await?);
    }
    store.remove()?;
    runtimes::withdraw(&config.runtime_dir).map_err(|error| folder_error(&config.runtime_dir, error))?;
    for folder in [&config.state_dir, &config.runtime_dir] {
        remove_if_empty(folder).map_err(|error| folder_error(folder, error))?;
    }
    done.push("the agent's identity was removed from this host".to_owned());
    Ok(done)
}

fn folder_error(path: &Path, error: io::Error) -> Error {
    Error::Folder { path: path.display().to_string(), error }
}

async fn deregister(config: &Config, store: &Store) -> Result<String, Error> {
    const NOTHING: &str = "this host is not enrolled: there is nothing to deregister";
    let Some(identity) = store.load()? else { return Ok(NOTHING.to_owned()) };
    let client = Client::new(config, &Timing::default())?;
    let mut said = Ok(NOTHING.to_owned());
    // A new credential that waits may be refused; then the old one still speaks for the agent.
    let credentials = [identity.next.map(|next| next.credential), identity.credential];
    for credential in credentials.into_iter().flatten() {
        let agent = credential.agent();
        said = match client.deregister(&credential).await.outcome {
            Outcome::Accepted(()) => return Ok(format!("the agent {agent} was deregistered")),
            Outcome::Refused(refusal) if is_unknown(&refusal) => {
                Ok(format!("the agent {agent} is not registered any more"))
            }
            Outcome::Refused(refusal) => Err(remains(config, &credential, refusal.to_string())),
            Outcome::Retry(retry) => return Err(remains(config, &credential, retry.why)),
        };
    }
    said
}

fn remains(config: &Config, credential: &Token, why: String) -> Error {
    let host = config.api_host.as_ref().map_or("", |host| host.as_str()).trim_end_matches('/');
    let agent = credential.agent();
    Error::Remains { agent, why, delete: format!("DELETE {host}/api/agents/{agent}") }
}

/// The control plane knows neither the credential nor the agent. A revoked agent, or a credential that was
/// replaced, is another matter: the record is there.
fn is_unknown(refusal: &Refusal) -> bool {
    matches!(refusal.code.as_str(), "unauthenticated" | "agent_not_found")
}

/// What others keep in the folder is theirs; a folder that is mounted or the service manager's stays.
fn remove_if_empty(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound, PermissionDenied, ResourceBusy};
    match fs::remove_dir(folder) {
        Err(error)
            if !matches!(error.kind(), DirectoryNotEmpty | NotFound | PermissionDenied | ResourceBusy) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}
