//! A real proxy in front of a control plane, or of another proxy.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::process::die_with_the_test;

/// A running haproxy. It is killed when dropped.
pub struct Haproxy {
    pub address: SocketAddr,
    child: Child,
    _config: TempDir,
}

impl Haproxy {
    /// Passes on what it gets, from an address of its own, and says in both headers whom it speaks for.
    /// `None` where it is not installed.
    pub fn before(server: SocketAddr, own: &str) -> Option<Self> {
        Self::as_told(&naming(server, own))
    }

    /// Spreads what it gets over these servers; API keys, whose requests each server counts for itself, are kept
    /// on the first. `None` where it is not installed.
    pub fn among(servers: &[SocketAddr]) -> Option<Self> {
        Self::as_told(&spreading(servers))
    }

    /// As these settings say, of which one binds `fd@0`. `None` where it is not installed.
    pub fn as_told(settings: &str) -> Option<Self> {
        let program = program()?;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("haproxy.cfg");
        fs::write(&file, settings).unwrap();
        let mut command = Command::new(program);
        // It inherits the listener as its standard input: no port to be taken in between.
        command.arg("-db").arg("-f").arg(file).stdin(Stdio::from(OwnedFd::from(listener)));
        die_with_the_test(&mut command);
        Some(Self { address, child: command.spawn().unwrap(), _config: config })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn program() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "it is installed or not")]
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join("haproxy")).find(|file| file.is_file())
}

const DEFAULTS: &str = "
defaults
    mode http
    timeout connect 20s
    timeout client 60s
    timeout server 60s
";

fn naming(server: SocketAddr, own: &str) -> String {
    format!(
        "{DEFAULTS}
listen proxy
    bind fd@0
    option forwardfor
    http-request add-header Forwarded for=%[src];proto=http
    server next {server} source {own}
"
    )
}

/// As large as the servers' own limits on headers, so that theirs are the ones that are met.
fn spreading(servers: &[SocketAddr]) -> String {
    let lines = |servers: &[SocketAddr]| {
        let lines: Vec<_> = servers.iter().map(|at| format!("    server s{} {at}\n", at.port())).collect();
        lines.concat()
    };
    format!(
        "
global
    tune.bufsize 262144
    tune.http.maxhdr 1000
{DEFAULTS}
frontend proxy
    bind fd@0
    option http-no-delay
    acl by_key req.hdr(authorization) -i -m beg \"bearer plnx_live_\"
    acl by_key req.hdr(x-planasonix-api-key) -m found
    acl by_key req.hdr(x-planasonix-key) -m found
    use_backend first if by_key
    default_backend all
backend first
{}
backend all
    balance roundrobin
{}",
        lines(&servers[..1]),
        lines(servers),
    )
}
