//! Files of certificate authorities (PEM), as people put them together.
//!
//! One certificate that is of no use does not take the others along: it is named, and left out.

use std::{fs, io, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::text;

/// What a file of authorities holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Authorities {
    /// Those that can be trusted.
    pub certificates: Vec<CertificateDer<'static>>,
    /// A sentence for each that cannot: which it is, and why.
    pub unusable: Vec<String>,
}

/// Reads a file of authorities.
pub fn read(path: &Path) -> io::Result<Authorities> {
    Ok(parse(&fs::read(path)?))
}

/// Reads authorities from PEM text in any encoding. Private keys, parameters and text between the blocks are passed
/// over.
pub fn parse(bytes: &[u8]) -> Authorities {
    let text = text::decode(bytes).replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Authorities::default();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if let Some(label) = line.strip_prefix("-----BEGIN ") {
            let cut = open.replace(Block { line: index + 1, label: label.to_owned(), body: String::new() });
            found.take(cut, false);
        } else if line.starts_with("-----END ") {
            found.take(open.take(), true);
        } else if let Some(block) = &mut open {
            block.body.push_str(line);
            block.body.push('\n');
        }
    }
    found.take(open, false);
    found
}

/// A block of the file, from its BEGIN line on.
struct Block {
    line: usize,
    label: String,
    body: String,
}

impl Authorities {
    fn take(&mut self, block: Option<Block>, ended: bool) {
        let Some(block) = block else { return };
        let certificate = match block.label.trim_end_matches('-') {
            "CERTIFICATE" | "X509 CERTIFICATE" if !ended => Err("it has no END line"),
            "CERTIFICATE" | "X509 CERTIFICATE" => block.certificate(),
            "TRUSTED CERTIFICATE" => {
                Err("it is in a form of OpenSSL's own: convert it with `openssl x509 -in FILE`")
            }
            _ => return,
        };
        match certificate {
            Ok(certificate) => self.certificates.push(certificate),
            Err(why) => {
                let nth = self.certificates.len() + self.unusable.len() + 1;
                self.unusable.push(format!("certificate {nth}, from line {} on: {why}", block.line));
            }
        }
    }
}

impl Block {
    fn certificate(&self) -> Result<CertificateDer<'static>, &'static str> {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", self.body);
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "it is not Base64")?;
        let usable = RootCertStore::empty().add(certificate.clone());
        usable.map(|()| certificate).map_err(|_| "it cannot be read as a certificate")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::text::tests::encodings;

    fn authority(name: &str) -> String {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_bundle_is_read_in_every_encoding() {
        let text = format!("# our café's authorities\n{}{}", authority("a.example"), authority("b.example"));
        for (name, bytes) in encodings(&text) {
            let found = parse(&bytes);
            assert_eq!((found.certificates.len(), found.unusable.len()), (2, 0), "{name}");
        }
    }

    #[test]
    fn one_bad_certificate_is_named_and_the_others_are_used() {
        let good = authority("a.example");
        let block = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        for (bad, why) in [
            (block("not+base64!"), "it is not Base64"),
            (block("AAAA"), "it cannot be read as a certificate"),
            (block(""), "it cannot be read as a certificate"),
            ("-----BEGIN CERTIFICATE-----\nMIIB\n".to_owned(), "it has no END line"),
            (good.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), "it is in a form of OpenSSL's own"),
        ] {
            let found = parse(format!("{good}{bad}{}", good.replace('\n', "\r\n  ")).as_bytes());
            let line = good.lines().count() + 1;
            assert_eq!(found.certificates.len(), 2, "{bad}");
            assert!(found.unusable[0].starts_with(&format!("certificate 2, from line {line} on: {why}")));
        }
    }

    #[test]
    fn what_is_no_certificate_is_passed_over() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(parse(key.as_bytes()), Authorities::default());
        assert_eq!(parse(b"\x30\x82\x01\x00 not PEM at all"), Authorities::default());
    }
}
