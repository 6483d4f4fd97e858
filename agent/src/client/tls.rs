//! Whom the client believes: the system's authorities, and those of one more file.

use std::{fs, path::Path};

use reqwest::{Certificate, ClientBuilder, Url};

use crate::config::ConfigError;

/// Makes ring the process's one provider of cryptography. Again does nothing.
pub fn install_provider() {
    // An error means that one is installed: this one, as the tree holds no other.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Trusts the system's authorities and those in `extra` (PEM). A host without TLS asks for none, so that
/// it works where the system has none.
pub(super) fn trust(
    builder: ClientBuilder,
    host: &Url,
    extra: Option<&Path>,
) -> Result<ClientBuilder, ConfigError> {
    let extra = extra.map(read).transpose()?.unwrap_or_default();
    Ok(if host.scheme() == "http" { builder.tls_certs_only(extra) } else { builder.tls_certs_merge(extra) })
}

fn read(path: &Path) -> Result<Vec<Certificate>, ConfigError> {
    let pem = fs::read(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
    certificates.ok_or_else(|| ConfigError::Value {
        name: "PLANASONIX_CA_FILE",
        issue: format!("{}: holds no certificate in PEM form", path.display()),
    })
}
