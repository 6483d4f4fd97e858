//! What a certificate says of itself.

use chrono::{DateTime, Utc};
use rustls::{CertificateError, Error, pki_types::CertificateDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// One line: whom it is for, who issued it, how long it is good.
pub(super) fn describe(certificate: &CertificateDer<'_>, now: DateTime<Utc>) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return "cannot be read".to_owned();
    };
    let names = names(&parsed);
    let names = if names.is_empty() { String::new() } else { format!(" ({names})") };
    let expiry = expiry(parsed.validity().not_after.timestamp(), now);
    format!("{}{names}; issued by {}; {expiry}", parsed.subject(), parsed.issuer())
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

/// Why a chain is not believed, and what to do.
pub(super) fn explain(error: &Error, host: &str) -> (String, String) {
    let (problem, advice) = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "the certificate's issuer is not known to this host",
            "if your network inspects TLS, or the control plane has your company's own certificate: write that \
             authority's certificate (PEM) into a file and name it as PLANASONIX_CA_FILE"
                .to_owned(),
        ),
        Error::InvalidCertificate(CertificateError::BadSignature) => (
            "the authority that this host knows by the issuer's name has another key",
            "the authority was renewed: put its present certificate (PEM) into the file that PLANASONIX_CA_FILE names"
                .to_owned(),
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            "the certificate is for another name",
            format!("set PLANASONIX_API_HOST to a name that the certificate bears; {host} is none"),
        ),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => (
            "a certificate of the chain has expired, by this host's clock",
            "check this host's clock first; if it is right, the control plane's (or the proxy's) administrators \
             have to renew the certificate"
                .to_owned(),
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => (
            "a certificate of the chain is not valid yet, by this host's clock",
            "set this host's clock".to_owned(),
        ),
        _ => {
            let advice = "name the authority to trust as PLANASONIX_CA_FILE (PEM), or have the chain repaired";
            return (format!("the certificate is not accepted: {error}"), advice.to_owned());
        }
    };
    (problem.to_owned(), advice)
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
