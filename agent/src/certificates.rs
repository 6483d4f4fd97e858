//! Why a server's certificate is not accepted, and what mends it.
//!
//! OpenSSL, and so curl, takes certificates that this agent does not: of an authority, of X.509 version 1, without a
//! subject alternative name. Whoever fetched the bundle with curl has such a one working, so each is named together
//! with the line that makes a better one from the same key.

use std::{io, net::IpAddr};

use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) problem: String,
    pub(crate) advice: String,
}

impl Explanation {
    pub(crate) fn new(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { problem: problem.into(), advice: advice.into() }
    }
}

/// What the verifier makes of a certificate whose extended key usage lacks serverAuth.
const NOT_FOR_SERVERS: &str = "certificate had invalid extensions";

/// The keys that the agent can check signatures of.
pub(crate) const KEYS: &str = "RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, Ed25519";

/// The server that is meant, for the lines that mend its certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// As it stands in the URL.
    pub(crate) host: &'a str,
    /// Whether its certificate is signed by its own key.
    pub(crate) self_signed: bool,
}

impl Subject<'_> {
    fn bare(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    fn alternative_name(&self) -> String {
        let kind = if self.bare().parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
        format!("subjectAltName={kind}:{}", self.bare())
    }

    /// The line that makes a certificate that is accepted from the same key.
    pub(crate) fn line(&self) -> String {
        let name = self.alternative_name();
        if self.self_signed {
            format!(
                "openssl req -x509 -key server.key -out server.crt -days 365 -subj /CN=planasonix -extensions usr_cert \
                 -addext {name}"
            )
        } else {
            format!(
                "printf 'basicConstraints=CA:FALSE\\nextendedKeyUsage=serverAuth\\n{name}\\n' | openssl x509 -req -in \
                 server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out server.crt -extfile /dev/stdin"
            )
        }
    }

    /// The same with another key.
    pub(crate) fn line_with_new_key(&self) -> String {
        let new = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out server.key";
        if self.self_signed {
            format!("{new} && {}", self.line())
        } else {
            let request = "openssl req -new -key server.key -subj /CN=planasonix -out server.csr";
            format!("{new} && {request} && {}", self.line())
        }
    }

    fn reissue(&self) -> String {
        let trust = if self.self_signed {
            "; put the new certificate in its place here too, in the file that PLANASONIX_CA_FILE names"
        } else {
            ""
        };
        format!("have the server use another certificate, made by: {}{trust}", self.line())
    }
}

/// Why a chain is not accepted, as far as the error alone says.
pub(crate) fn explain(error: &Error, server: Subject<'_>) -> Explanation {
    match error {
        Error::InvalidCertificate(error) => explain_certificate(error, server),
        _ => explain_handshake(error).unwrap_or_else(|| unknown(error)),
    }
}

fn unknown(error: &Error) -> Explanation {
    Explanation::new(
        format!("the certificate is not accepted: {error}"),
        "name the authority to trust as PLANASONIX_CA_FILE (PEM), or have the chain repaired",
    )
}

fn explain_certificate(error: &CertificateError, server: Subject<'_>) -> Explanation {
    use CertificateError as E;

    match error {
        E::UnknownIssuer => Explanation::new(
            "the certificate's issuer is not known to this host",
            "if your network inspects TLS, or the control plane has your company's own certificate: write that \
             authority's certificate (PEM) into a file and name it as PLANASONIX_CA_FILE",
        ),
        E::BadSignature => Explanation::new(
            "the authority that this host knows by the issuer's name has another key",
            "the authority was renewed: put its present certificate (PEM) into the file that PLANASONIX_CA_FILE names",
        ),
        E::NotValidForName => other_name(server),
        E::NotValidForNameContext { presented, .. } => wrong_name(presented, server),
        E::BadEncoding => Explanation::new(
            "a certificate of the chain is not encoded as RFC 5280 wants it (a date, a number, bytes at its end)",
            server.reissue(),
        ),
        E::UnsupportedSignatureAlgorithmContext { .. } => Explanation::new(
            "a certificate of the chain is signed in a way that is not accepted, such as with SHA-1",
            format!("have it signed with SHA-256. {}", server.reissue()),
        ),
        E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            unsupported_key("an issuer's key", server)
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => no_server_purpose(server),
        E::Other(OtherError(other)) => {
            if let Some(error) = other.downcast_ref::<webpki::Error>() {
                explain_form(error, server)
            } else if other.to_string() == NOT_FOR_SERVERS {
                no_server_purpose(server)
            } else {
                unknown(&Error::InvalidCertificate(error.clone()))
            }
        }
        other => out_of_time(other).unwrap_or_else(|| unknown(&Error::InvalidCertificate(other.clone()))),
    }
}

fn out_of_time(error: &CertificateError) -> Option<Explanation> {
    use CertificateError as E;

    Some(match error {
        E::Expired | E::ExpiredContext { .. } => Explanation::new(
            "a certificate of the chain has expired, by this host's clock",
            "check this host's clock first; if it is right, the control plane's (or the proxy's) administrators have \
             to renew the certificate",
        ),
        E::NotValidYet | E::NotValidYetContext { .. } => Explanation::new(
            "a certificate of the chain is not valid yet, by this host's clock",
            "set this host's clock",
        ),
        _ => return None,
    })
}

fn other_name(server: Subject<'_>) -> Explanation {
    Explanation::new(
        "the certificate is for another name",
        format!("set PLANASONIX_API_HOST to a name that the certificate bears; {} is none", server.host),
    )
}

/// `presented` is as `DnsName("api.example")`.
fn wrong_name(presented: &[String], server: Subject<'_>) -> Explanation {
    if presented.is_empty() {
        return Explanation::new(
            "the certificate has no subject alternative name, and the name in its subject (CN) does not count",
            server.reissue(),
        );
    }
    let as_name = format!("DnsName({:?})", server.bare());
    if server.bare().parse::<IpAddr>().is_ok() && presented.contains(&as_name) {
        return Explanation::new(
            "the certificate bears the address as a name (DNS:), where an address has to stand as IP:",
            server.reissue(),
        );
    }
    other_name(server)
}

fn no_server_purpose(server: Subject<'_>) -> Explanation {
    Explanation::new(
        "the certificate is not for servers: its extended key usage lacks serverAuth",
        server.reissue(),
    )
}

/// A key that ring cannot check signatures of; `whose` begins the sentence.
pub(crate) fn unsupported_key(whose: &str, server: Subject<'_>) -> Explanation {
    Explanation::new(
        format!("{whose} is of a kind or length that is not accepted: accepted are {KEYS}"),
        format!("make another key and certificate: {}", server.line_with_new_key()),
    )
}

fn explain_form(error: &webpki::Error, server: Subject<'_>) -> Explanation {
    use webpki::Error as E;

    let problem = match error {
        E::CaUsedAsEndEntity => {
            "the server's certificate is one of an authority (CA:TRUE, as `openssl req -x509` makes it), and a server \
             may not use such a one, trusted or not"
        }
        E::UnsupportedCertVersion => {
            "a certificate of the chain is of X.509 version 1 (`openssl x509 -req` without extensions makes it)"
        }
        E::UnsupportedCriticalExtension => {
            "a certificate of the chain has a critical extension that the agent does not know"
        }
        E::NameConstraintViolation | E::PathLenConstraintViolated => {
            "the authority may not issue this certificate: its name constraints or path length forbid it"
        }
        E::EndEntityUsedAsCa => {
            return Explanation::new(
                "a certificate between the server's and the authority's is not one of an authority (it lacks CA:TRUE)",
                "put that certificate itself (PEM) into the file that PLANASONIX_CA_FILE names",
            );
        }
        _ => {
            return Explanation::new(
                format!("a certificate of the chain is not as RFC 5280 wants it: {error}"),
                server.reissue(),
            );
        }
    };
    Explanation::new(problem, server.reissue())
}

/// Why no handshake was made, if it is for what both sides can do.
pub(crate) fn explain_handshake(error: &Error) -> Option<Explanation> {
    let enable = "have TLS 1.3 enabled there, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20";
    Some(match error {
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => Explanation::new(
            "the server has no cipher or key in common with the agent",
            format!("{enable}, and a certificate whose key is {KEYS}"),
        ),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Explanation::new("the server speaks older versions of TLS only", enable),
        Error::AlertReceived(AlertDescription::CertificateRequired) => Explanation::new(
            "the server wants a certificate of its clients, which agents do not have",
            "have the address of the control plane taken out of that rule",
        ),
        Error::InvalidMessage(_) => Explanation::new(
            "what answers there does not speak TLS",
            "check the port in PLANASONIX_API_HOST, and whether it has to begin with http://",
        ),
        _ => return None,
    })
}

/// The cause that TLS has for an error of a connection.
pub(crate) fn of_connection<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = error.downcast_ref().or_else(|| inner?.downcast_ref());
        if found.is_some() {
            return found;
        }
        next = inner.map_or_else(|| error.source(), |inner| Some(inner as _));
    }
    None
}

/// The problem alone, for a line of the log.
pub(crate) fn brief(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    match of_connection(error)? {
        // The error itself says the first, and not enough of the second: a renewed authority or a key of another kind.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => None,
        error @ Error::InvalidCertificate(_) => {
            Some(explain(error, Subject { host: "", self_signed: true }).problem)
        }
        error => explain_handshake(error).map(|explanation| explanation.problem),
    }
}

#[cfg(test)]
mod tests;
