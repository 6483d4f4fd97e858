//! The TLS handshake, seen from within: what was agreed, what was shown, whether it is believed.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::authorities;

/// Why no handshake could even be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error("the file of authorities cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("the file of authorities holds no usable certificate in PEM form")]
    Empty,
    #[error("this host has no certificate authorities: {0}")]
    NoRoots(Error),
}

/// What is believed: the system's authorities, and those of one more file.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
    /// Those of the file.
    pub(super) extra: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// The same trust as the agent's own client has.
    pub(super) fn new(extra: Option<&Path>) -> Result<Self, TrustError> {
        let extra = match extra {
            Some(path) => certificates(&std::fs::read(path).map_err(TrustError::Unreadable)?)?,
            None => Vec::new(),
        };
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(extra.clone(), Arc::clone(&provider))
            .map_err(TrustError::NoRoots)?;
        Ok(Self { provider, verifier: Arc::new(verifier), extra })
    }

    /// Shakes hands and looks, without judging: the caller reads the verdict, and sends nothing.
    pub(super) async fn look<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
    ) -> Result<Seen, BrokenOff> {
        let witness = Arc::new(Witness { trust: Arc::clone(&self.verifier), shown: Mutex::new(None) });
        let shaken = self.shake(stream, host, Arc::clone(&witness) as _).await;
        let (chain, verdict) = witness.take();
        match shaken {
            Ok(stream) => {
                let version = stream.get_ref().1.protocol_version();
                let protocol = version.and_then(|version| version.as_str()).unwrap_or("unknown");
                Ok(Seen { protocol, chain, verdict })
            }
            Err(error) => Err(BrokenOff { error, chain }),
        }
    }

    /// Shakes hands with one who is believed, as on the way to a proxy that shall get its password.
    pub(super) async fn shake_believed<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
    ) -> io::Result<TlsStream<S>> {
        self.shake(stream, host, Arc::clone(&self.verifier) as _).await
    }

    async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> io::Result<TlsStream<S>> {
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let name =
            ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found = authorities::parse(pem).certificates;
    if found.is_empty() { Err(TrustError::Empty) } else { Ok(found) }
}

/// What a handshake showed.
#[derive(Debug)]
pub(super) struct Seen {
    /// The version that both sides agreed on.
    pub(super) protocol: &'static str,
    /// The server's certificate first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether the chain is believed.
    pub(super) verdict: Result<(), Error>,
}

/// A handshake that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct BrokenOff {
    pub(super) error: io::Error,
    /// What the server had shown by then.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// The server's chain, and whether it is believed.
type Shown = (Vec<CertificateDer<'static>>, Result<(), Error>);

/// Remembers what the system's verifier said, and lets the handshake go on, so that a connection that the
/// agent would refuse can be described. Nothing is ever sent over it.
#[derive(Debug)]
struct Witness {
    trust: Arc<Verifier>,
    shown: Mutex<Option<Shown>>,
}

impl Witness {
    fn take(&self) -> Shown {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        shown.unwrap_or((Vec::new(), Err(Error::NoCertificatesPresented)))
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let said = self
            .trust
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map(drop);
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain.map(|shown| shown.clone().into_owned()).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain, said));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.supported_verify_schemes()
    }
}
