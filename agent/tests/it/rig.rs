//! An agent's loop under test, against a [`Rough`] control plane, with seconds that are shorter than real ones.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use planasonix_agent::{
    client::Client,
    config::{Config, Lines, Options, TokenSource},
    host::Host,
    identity::{Identity, Store},
    run::Agent,
    runtimes::{AgentFile, Folder, read_agent_file},
    secret::Token,
    systemd::Notifier,
    timing::Timing,
};
use planasonix_wire::{
    AgentId,
    token::{self, Kind, SECRET_CHARS},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::sleep};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use tokio_util::sync::CancellationToken;
use tracing::subscriber::DefaultGuard;

use crate::rough::{Faces, Request, Rough};

/// How long a second lasts here.
pub const SECOND: Duration = Duration::from_millis(20);

const CA_FILE: &str = "ca.pem";
const OTHER_AUTHORITY: &str = "other.pem";

/// A well-formed token of the one agent of these tests.
pub fn token(kind: Kind, seed: u8) -> Token {
    let agent: AgentId = "agt_01jq8x5g2m4n6p8r0s2t4v6w8y".parse().unwrap();
    Token::parse(&token::assemble(kind, agent.ulid(), &[seed; SECRET_CHARS])).unwrap()
}

/// The credentials of that agent, by number; the first is the one it starts with, if it is enrolled.
pub fn credential(number: u8) -> Token {
    token(Kind::Agent, number)
}

/// A server, an agent that runs against it, and all that the agent logged.
pub struct Rig {
    pub server: Rough,
    pub store: Store,
    pub token_file: PathBuf,
    folder: TempDir,
    stop: CancellationToken,
    agent: JoinHandle<()>,
    log: Log,
    _guard: DefaultGuard,
}

impl Rig {
    /// An agent that is enrolled with the first credential.
    pub async fn enrolled() -> Self {
        Self::start(false, patient(), enrolled).await
    }

    /// An agent that is enrolled, over TLS.
    pub async fn enrolled_over_tls() -> Self {
        Self::start(true, patient(), enrolled).await
    }

    /// An agent that is enrolled, over TLS, and reads authorities anew every half a minute.
    pub async fn enrolled_over_tls_renewing() -> Self {
        Self::start(true, Timing { renew: SECOND * 30, ..patient() }, enrolled).await
    }

    /// An agent that is enrolled and waits for answers no longer than its shorter seconds say.
    pub async fn enrolled_in_a_hurry() -> Self {
        Self::start(false, Timing::scaled(SECOND), enrolled).await
    }

    /// An agent without an identity, which looks for a token in a file that is not there yet.
    pub async fn fresh() -> Self {
        Self::start(false, patient(), |_| {}).await
    }

    async fn start(tls: bool, timing: Timing, identity: impl FnOnce(&mut Identity)) -> Self {
        let (log, guard) = Log::capture();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join(CA_FILE);
        let faces = tls.then(|| faces(folder.path()));
        let store = Store::new(&folder.path().join("state"));
        let enrolled = store.update(identity).unwrap().credential.is_some();
        let server = Rough::start(faces, 1 + u8::from(enrolled)).await;
        let scheme = if tls { "https" } else { "http" };
        let options = Options {
            api_host: Some(format!("{scheme}://{}", server.address)),
            state_dir: Some(folder.path().join("state")),
            runtime_dir: Some(folder.path().join("runtime")),
            ca_file: tls.then_some(ca_file),
            ..Options::default()
        };
        let config = Config::resolve(&options, PathBuf::new(), &Lines::default(), |_| None).unwrap();
        let token_file = folder.path().join("token");
        let agent = Agent {
            client: Client::new(&config, &timing).unwrap(),
            store: store.clone(),
            host: Arc::new(Host::new(folder.path())),
            runtimes: Folder::new(&config.runtime_dir),
            tokens: TokenSource::File(token_file.clone()),
            expected: None,
            timing,
            notifier: Notifier::off(),
        };
        let stop = CancellationToken::new();
        let agent = tokio::spawn(agent.run(stop.clone()));
        Self { server, store, token_file, folder, stop, agent, log, _guard: guard }
    }

    /// What the pipeline runtimes are told.
    pub fn told(&self) -> Option<AgentFile> {
        read_agent_file(&self.folder.path().join("runtime"))
    }

    /// From now on the agent's file of authorities holds this.
    pub fn authorities(&self, text: &str) {
        let (new, file) = (self.folder.path().join("new.pem"), self.folder.path().join(CA_FILE));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// The authority that the server shows in some moods and that the agent does not know at first.
    pub fn other_authority(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(OTHER_AUTHORITY)).unwrap()
    }

    /// Has the disk refuse every change of the identity, or take it again. Whoever runs this, even root, cannot put a
    /// file where a folder is.
    pub fn disk_refuses(&self, refuses: bool) {
        let in_the_way = self.store.path().with_extension("json.new");
        if refuses {
            std::fs::create_dir_all(in_the_way.join("folder")).unwrap();
        } else {
            std::fs::remove_dir_all(in_the_way).unwrap();
        }
    }

    /// Waits until this was logged.
    pub async fn wait_for_log(&self, text: &str) {
        for _ in 0..1_500 {
            if self.log().contains(text) {
                return;
            }
            sleep(SECOND).await;
        }
        panic!("never logged {text}: {}", self.log());
    }

    /// Waits until the pipeline runtimes are told this status.
    pub async fn wait_for(&self, status: &str) {
        for _ in 0..1_500 {
            if self.told().is_some_and(|told| told.status == status) {
                return;
            }
            sleep(SECOND).await;
        }
        panic!("never {status}: {:?}; {}", self.told(), self.log());
    }

    /// What the agent is on the disk.
    pub fn identity(&self) -> Identity {
        self.store.load().unwrap().unwrap()
    }

    /// What was logged, down to the last detail, by the agent and by all it is made of.
    pub fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    /// Ends the agent as a signal does: it was running until now, and it told no secret. Answers all that
    /// the server saw, and what the runtimes were told last.
    pub async fn stop(self) -> (Vec<Request>, AgentFile) {
        assert!(!self.agent.is_finished(), "the loop ended by itself: {}", self.log());
        self.stop.cancel();
        let told = self.folder.path().join("runtime");
        self.agent.await.unwrap();
        let log = String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap();
        for kind in [Kind::Agent, Kind::Enrollment] {
            let told = (1..=9).map(|seed| token(kind, seed)).find(|token| log.contains(token.expose()));
            assert_eq!(told, None, "a secret in the log");
        }
        (self.server.seen(), read_agent_file(&told).unwrap())
    }
}

/// Shorter seconds, but for what waits on the network: a busy machine must not look like a broken one.
fn patient() -> Timing {
    let Timing { connect, request, farewell, .. } = Timing::default();
    Timing { connect, request, farewell, ..Timing::scaled(SECOND) }
}

fn enrolled(identity: &mut Identity) {
    identity.settle(credential(1), None);
}

/// A trusted certificate, and one of an authority that nobody knows; both authorities are written to the folder.
fn faces(folder: &std::path::Path) -> Faces {
    let (known, unknown) = (authority(), authority());
    std::fs::write(folder.join(CA_FILE), known.pem()).unwrap();
    std::fs::write(folder.join(OTHER_AUTHORITY), unknown.pem()).unwrap();
    Faces { trusted: acceptor(&known), wrong: acceptor(&unknown) }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(authority: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    planasonix_agent::client::install_provider();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap()))
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Of this thread, which runs the test's whole runtime.
    fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
