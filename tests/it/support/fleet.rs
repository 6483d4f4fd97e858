//! Agents by the thousand: the loops of the real agent, in one process, each with an identity and a connection
//! of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use planasonix_agent::{
    client::Client,
    config::{Config, Lines, Options, TokenSource},
    host::Host,
    identity::Store,
    run,
    runtimes::Folder,
    secret::Token,
    systemd::Notifier,
    timing::Timing,
};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{actors::Agent, database};

/// Loops that run until they are dropped.
pub struct Fleet {
    _loops: JoinSet<()>,
    _folders: TempDir,
}

impl Fleet {
    /// Starts the loops of enrolled agents, evenly over `spread`. They count time in `second`s, but are as
    /// patient with a request as ever.
    pub fn start(agents: &[Agent], at: SocketAddr, second: Duration, spread: Duration) -> Self {
        let patience = Timing::default();
        let timing =
            Timing { connect: patience.connect, request: patience.request, ..Timing::scaled(second) };
        // Where the databases lie, since a thousand identities are flushed to the disk.
        let folders = tempfile::tempdir_in(database::base()).unwrap();
        let host = Arc::new(Host::new(folders.path()));
        let pause = spread / u32::try_from(agents.len()).unwrap();
        let mut loops = JoinSet::new();
        for (agent, place) in agents.iter().zip(0..) {
            let folder = folders.path().join(agent.id.to_string());
            let agent = running(agent, at, &folder, &host, &timing);
            loops.spawn(async move {
                sleep(pause * place).await;
                agent.run(CancellationToken::new()).await;
            });
        }
        Self { _loops: loops, _folders: folders }
    }
}

/// A host's disk with the identity of an agent.
pub struct Disk(TempDir);

impl Disk {
    pub fn of(agent: &Agent) -> Self {
        let folder = tempfile::tempdir_in(database::base()).unwrap();
        settle(agent, &Store::new(&folder.path().join("state")));
        Self(folder)
    }

    /// A copy, as of a machine's image.
    pub fn copy(&self) -> Self {
        let folder = tempfile::tempdir_in(database::base()).unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        let identity = "state/identity.json";
        fs::copy(self.0.path().join(identity), folder.path().join(identity)).unwrap();
        Self(folder)
    }

    /// Runs the agent's loop until the answer is dropped, which is like `kill -9`.
    pub fn run(&self, at: SocketAddr, second: Duration) -> JoinSet<()> {
        let host = Arc::new(Host::new(self.0.path()));
        let agent = in_folder(at, self.0.path(), &host, &Timing::scaled(second));
        let mut running = JoinSet::new();
        running.spawn(agent.run(CancellationToken::new()));
        running
    }
}

fn running(agent: &Agent, at: SocketAddr, folder: &Path, host: &Arc<Host>, timing: &Timing) -> run::Agent {
    let running = in_folder(at, folder, host, timing);
    settle(agent, &running.store);
    running
}

fn settle(agent: &Agent, store: &Store) {
    let credential = Token::parse(agent.me.token.as_deref().unwrap()).unwrap();
    store.update(|identity| identity.settle(credential, None)).unwrap();
}

/// The loop of the agent whose identity is in a folder.
fn in_folder(at: SocketAddr, folder: &Path, host: &Arc<Host>, timing: &Timing) -> run::Agent {
    let options = Options {
        api_host: Some(format!("http://{at}")),
        state_dir: Some(folder.join("state")),
        runtime_dir: Some(folder.join("runtime")),
        ..Options::default()
    };
    let config = Config::resolve(&options, PathBuf::new(), &Lines::default(), |_| None).unwrap();
    let store = Store::new(&config.state_dir);
    run::Agent {
        client: Client::new(&config, timing).unwrap(),
        store,
        host: Arc::clone(host),
        runtimes: Folder::new(&config.runtime_dir),
        tokens: TokenSource::None,
        expected: None,
        timing: timing.clone(),
        notifier: Notifier::off(),
    }
}
