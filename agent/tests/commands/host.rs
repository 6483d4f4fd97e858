//! A host with settings and folders of its own.

use planasonix_agent::{
    config::{Config, Lines, Options},
    identity::Store,
    secret::Token,
};
use planasonix_wire::{
    AgentId,
    token::{Kind, SECRET_CHARS, assemble},
};
use tempfile::TempDir;

/// A host: its settings, and the folders that they name.
pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) folder: TempDir,
}

impl Host {
    /// A host with these lines in its configuration file, and with folders of its own.
    pub(crate) fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name).display().to_string();
        let (state, runtime) = (path("state"), path("runtime"));
        let text = format!("PLANASONIX_STATE_DIR={state}\nPLANASONIX_RUNTIME_DIR={runtime}\n{settings}\n");
        let file = folder.path().join("agent.conf");
        std::fs::write(&file, &text).unwrap();
        let lines = Lines::parse(&text, &file).unwrap();
        Self { config: Config::resolve(&Options::default(), file, &lines, |_| None).unwrap(), folder }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.config.state_dir)
    }

    /// Gives the host an identity, and answers its credential.
    pub(crate) fn enrolled(&self) -> Token {
        let credential = credential(1);
        self.store().update(|identity| identity.settle(credential.clone(), None)).unwrap();
        credential
    }
}

/// A well-formed credential; another `seed`, another credential of the same agent.
pub(crate) fn credential(seed: u8) -> Token {
    let agent: AgentId = "agt_01jq8x5g2m4n6p8r0s2t4v6w8y".parse().unwrap();
    Token::parse(&assemble(Kind::Agent, agent.ulid(), &[seed; SECRET_CHARS])).unwrap()
}
