//! What a certificate says of itself.

use chrono::{DateTime, Utc};
use rustls::{CertificateError, Error, pki_types::CertificateDer};
use x509_parser::{
    oid_registry::asn1_rs::oid,
    prelude::{FromDer, GeneralName, X509Certificate, X509Version},
    public_key::PublicKey,
};

use crate::certificates::{self, Explanation, Subject};

/// One line: whom it is for, who issued it, how long it is good.
pub(super) fn describe(certificate: &CertificateDer<'_>, now: DateTime<Utc>) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return "cannot be read".to_owned();
    };
    let names = names(&parsed);
    let names = if names.is_empty() { String::new() } else { format!(" ({names})") };
    let old = if parsed.version() == X509Version::V1 { "; X.509 version 1" } else { "" };
    let authority = if parsed.is_ca() { "; CA:TRUE" } else { "" };
    let expiry = expiry(parsed.validity().not_after.timestamp(), now);
    format!("{}{names}; issued by {}; {expiry}{old}{authority}", parsed.subject(), parsed.issuer())
}

fn names(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return String::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect::<Vec<_>>().join(", ")
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string())).ok()
}

fn expiry(not_after: i64, now: DateTime<Utc>) -> String {
    let Some(end) = DateTime::from_timestamp(not_after, 0) else {
        return "never expires".to_owned();
    };
    let days = (end - now).num_days();
    let day = end.format("%Y-%m-%d");
    if end < now {
        format!("EXPIRED on {day}, {} days ago", -days)
    } else {
        format!("expires on {day}, {days} days left")
    }
}

/// Why a chain is not believed, and what to do. `trusted` are the certificates of the file that `PLANASONIX_CA_FILE`
/// names.
pub(super) fn explain(
    error: &Error,
    host: &str,
    chain: &[CertificateDer<'_>],
    trusted: &[CertificateDer<'_>],
) -> Explanation {
    let Some(leaf) = chain.first().and_then(parse) else {
        return certificates::explain(error, Subject { host, self_signed: false });
    };
    let server = Subject { host, self_signed: leaf.subject() == leaf.issuer() };
    if is_about_keys(error)
        && let Some(odd) = chain.iter().chain(trusted).filter_map(parse).find(has_odd_key)
    {
        return certificates::unsupported_key(&format!("the key of {}", odd.subject()), server);
    }
    if matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer)) {
        return unknown_issuer(chain, trusted, &leaf, server);
    }
    certificates::explain(error, server)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed)
}

/// The verifier says alike of a key that it cannot use and of a signature that does not fit.
const fn is_about_keys(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        )
    )
}

fn has_odd_key(certificate: &X509Certificate<'_>) -> bool {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => !(2_048..=8_192).contains(&rsa.key_size()),
        Ok(PublicKey::EC(point)) => !matches!(point.key_size(), 256 | 384),
        // Ed25519.
        _ => key.algorithm.algorithm != oid!(1.3.101.112),
    }
}

fn unknown_issuer(
    chain: &[CertificateDer<'_>],
    trusted: &[CertificateDer<'_>],
    leaf: &X509Certificate<'_>,
    server: Subject<'_>,
) -> Explanation {
    let known = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    if !server.self_signed && chain.first().is_some_and(|first| trusted.contains(first)) {
        return Explanation::new(
            "the certificate's issuer is not known to this host: PLANASONIX_CA_FILE holds the server's own certificate",
            format!("put the certificate (PEM) of its issuer there, which is {}", leaf.issuer()),
        );
    }
    if trusted.is_empty() {
        return certificates::explain(&known, server);
    }
    let issuer = chain.last().and_then(parse).map_or_else(String::new, |last| last.issuer().to_string());
    Explanation::new(
        format!(
            "the certificate's issuer is not known to this host: nor is it in PLANASONIX_CA_FILE ({issuer})"
        ),
        format!(
            "add the certificate (PEM) of {issuer} to the file that PLANASONIX_CA_FILE names, or have the server send \
             the certificates between its own and an authority's"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_tells_its_days() {
        let now = DateTime::from_timestamp(1_743_087_600, 0).unwrap();
        let day = 86_400;
        assert_eq!(expiry(now.timestamp() + 12 * day, now), "expires on 2025-04-08, 12 days left");
        assert_eq!(expiry(now.timestamp() - 12 * day, now), "EXPIRED on 2025-03-15, 12 days ago");
    }

    #[test]
    fn what_is_no_certificate_is_told_as_such() {
        assert_eq!(describe(&CertificateDer::from(vec![1, 2, 3]), DateTime::UNIX_EPOCH), "cannot be read");
    }
}
