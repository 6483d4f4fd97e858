//! What is said of faults that no test of a connection makes.

use std::sync::Arc;

use super::*;

const SERVER: Subject<'_> = Subject { host: "[2001:db8::1]", self_signed: true };

fn form(error: webpki::Error) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

#[test]
fn lines_name_the_host_as_a_name_or_an_address() {
    assert!(SERVER.line().ends_with("-addext subjectAltName=IP:2001:db8::1"), "{}", SERVER.line());
    let issued = Subject { host: "api.example", self_signed: false };
    assert!(issued.line().contains(r"\nsubjectAltName=DNS:api.example\n"), "{}", issued.line());
}

#[test]
fn error_of_tls_is_found_within_an_error_of_input() {
    let error = io::Error::other(io::Error::other(form(webpki::Error::CaUsedAsEndEntity)));
    assert!(brief(&error).unwrap().contains("CA:TRUE"));
    assert_eq!(brief(&io::Error::other("refused")), None);
}

#[test]
fn forms_that_are_seldom_seen_have_advice_too() {
    for (error, problem) in [
        (form(webpki::Error::UnsupportedCriticalExtension), "critical extension"),
        (form(webpki::Error::NameConstraintViolation), "may not issue"),
        (form(webpki::Error::InvalidSerialNumber), "RFC 5280"),
        (form(webpki::Error::EndEntityUsedAsCa), "lacks CA:TRUE"),
        (Error::AlertReceived(AlertDescription::ProtocolVersion), "older versions"),
        (Error::AlertReceived(AlertDescription::CertificateRequired), "of its clients"),
        (Error::General("other".to_owned()), "not accepted"),
    ] {
        let explained = explain(&error, SERVER);
        assert!(explained.problem.contains(problem) && !explained.advice.is_empty(), "{explained:?}");
    }
}
