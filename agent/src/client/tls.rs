//! Whom the client believes: the system's authorities, and those of one more file.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder, Url};

use crate::{authorities, config::ConfigError};

/// Makes ring the process's one provider of cryptography. Again does nothing.
pub fn install_provider() {
    // An error means that one is installed: this one, as the tree holds no other.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Trusts the system's authorities and those in `extra` (PEM). A host without TLS asks for none, so that
/// it works where the system has none. Also answers what is wrong with single certificates of `extra`.
pub(super) fn trust(
    builder: ClientBuilder,
    host: &Url,
    extra: Option<&Path>,
) -> Result<(ClientBuilder, Vec<String>), ConfigError> {
    let (extra, unusable) = extra.map(read).transpose()?.unwrap_or_default();
    let without_tls = host.scheme() == "http";
    Ok((if without_tls { builder.tls_certs_only(extra) } else { builder.tls_certs_merge(extra) }, unusable))
}

fn read(path: &Path) -> Result<(Vec<Certificate>, Vec<String>), ConfigError> {
    let found =
        authorities::read(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    if found.certificates.is_empty() {
        let why = found.unusable.first().map(|why| format!(" ({why})")).unwrap_or_default();
        return Err(ConfigError::Value {
            name: "PLANASONIX_CA_FILE",
            issue: format!("{}: holds no usable certificate in PEM form{why}", path.display()),
        });
    }
    let certificates = found.certificates.iter().filter_map(|der| Certificate::from_der(der).ok());
    Ok((certificates.collect(), found.unusable))
}
